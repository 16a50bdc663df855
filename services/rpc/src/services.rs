use std::{collections::HashMap, convert::Infallible, future::Future, sync::Arc};

use axum::response::IntoResponse;
use serde::{Serialize, de::DeserializeOwned};
use tonic::{
    Request, Response, Status,
    body::Body,
    server::NamedService,
    service::{Routes, RoutesBuilder},
};
use tower::Service;

use crate::json::{self, Handler};

/// What one port serves: gRPC services, and their unary RPCs once more as Connect/JSON.
#[derive(Default)]
pub struct Services {
    routes: RoutesBuilder,
    json: HashMap<&'static str, Handler>,
    names: Vec<&'static str>,
}

impl Services {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a tonic server. Set its `max_decoding_message_size` to [`crate::MAX_MESSAGE_BYTES`] first.
    pub fn grpc<S>(mut self, service: S) -> Self
    where
        S: Service<http::Request<Body>, Error = Infallible> + NamedService + Clone + Send + Sync + 'static,
        S::Response: IntoResponse,
        S::Future: Send + 'static,
    {
        self.routes.add_service(service);
        self.names.push(S::NAME);
        self
    }

    /// One unary RPC as JSON, one line each; `path` is gRPC's:
    /// `services.json("/headwater.v1.Analytics/ListSessions", api.clone(), |api, request| async move { api.list_sessions(request).await })`
    pub fn json<Req, Res, A, F, Fut>(mut self, path: &'static str, api: A, call: F) -> Self
    where
        Req: DeserializeOwned + Send + 'static,
        Res: Serialize + Send + 'static,
        A: Clone + Send + Sync + 'static,
        F: Fn(A, Request<Req>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<Response<Res>, Status>> + Send + 'static,
    {
        self.json.insert(path, json::handler(api, call));
        self
    }

    /// The full names of the gRPC services, in the order they were added.
    pub fn names(&self) -> &[&'static str] {
        &self.names
    }

    pub(crate) fn into_parts(self) -> (Routes, Arc<HashMap<&'static str, Handler>>) {
        (self.routes.routes(), Arc::new(self.json))
    }
}
