//! The one layer around everything: which protocol a request speaks, whether there is room, how long it may take,
//! and that a panic fails one request, not its connection.
//!
//! It stands in place of tonic's own timeout and load shedding because their errors are gRPC's, whatever the caller
//! speaks, and without a reason. A deadline ends at the first byte of the answer: a stream is never cut.
use std::{
    collections::HashMap,
    convert::Infallible,
    future::Future,
    net::IpAddr,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures::{FutureExt as _, StreamExt as _};
use headwater_otel::{TraceContext, names};
use http::{HeaderValue, Method, StatusCode, header};
use http_body_util::{BodyStream, StreamBody};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, body::Body, transport::server::TcpConnectInfo};
use tower::{Layer, Service};
use tracing::{Instrument as _, Span, debug_span};

use crate::{
    Reason,
    call_span::CallSpan,
    connect,
    json::{self, Handler},
    rate::RateLimit,
    refuse_for_now,
    trace::trace_in,
};

/// When to come back after load shedding: a request takes a few milliseconds, so room is there soon.
const RETRY_AFTER: Duration = Duration::from_millis(100);

#[derive(Clone)]
pub(crate) struct Door {
    /// By path; at the same time the list of unary RPCs.
    pub(crate) json: Arc<HashMap<&'static str, Handler>>,
    /// A permit per call in flight.
    pub(crate) room: Arc<Semaphore>,
    /// The deadline of a unary call.
    pub(crate) longest: Duration,
    pub(crate) rate: Option<RateLimit>,
    pub(crate) shutdown: CancellationToken,
}

#[derive(Clone)]
pub(crate) struct Guarded<S> {
    door: Door,
    grpc: S,
}

impl<S> Layer<S> for Door {
    type Service = Guarded<S>;

    fn layer(&self, grpc: S) -> Guarded<S> {
        Guarded { door: self.clone(), grpc }
    }
}

impl<S> Service<http::Request<Body>> for Guarded<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.grpc.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let path = self.door.json.get_key_value(request.uri().path()).map(|(path, handler)| (*path, handler.clone()));
        match (spoken(&request), path) {
            (Spoken::Grpc, _) if is_about_the_server(&request) => {
                Box::pin(self.grpc.call(request.map(|body| until(self.door.shutdown.clone(), body))))
            }
            (Spoken::Grpc, path) => {
                let span = CallSpan::of_rpc(&mut request);
                let (path, trace, client) = (path.map(|(path, _)| path), trace_in(request.headers()), client(&request));
                Box::pin(self.door.clone().grpc(path, trace, client, span, self.grpc.call(request)).map(Ok))
            }
            (Spoken::Json, Some((path, handler))) => Box::pin(self.door.clone().json(path, handler, request).map(Ok)),
            (_, path) => Box::pin(std::future::ready(Ok(turned_away(&request, path.is_some())))),
        }
    }
}

impl Door {
    async fn grpc(
        self,
        path: Option<&'static str>,
        trace: Option<TraceContext>,
        client: Option<IpAddr>,
        span: Option<CallSpan>,
        answer: impl Future<Output = Result<http::Response<Body>, Infallible>>,
    ) -> http::Response<Body> {
        let started = Instant::now();
        let answer = answer.map(|Ok(response)| Ok::<_, Status>(response));
        let answer = self.admit(client, self.longest, answer).instrument(call(path, trace)).await;
        let response = answer.unwrap_or_else(Status::into_http);
        let code = match response.headers().get(Status::GRPC_STATUS) {
            Some(code) => Code::from_bytes(code.as_bytes()),
            None => Code::Ok,
        };
        measure("grpc", path, code, started);
        if let Some(span) = span {
            span.end_rpc("grpc", code);
        }
        response
    }

    async fn json(
        self,
        path: &'static str,
        handler: Handler,
        mut request: http::Request<Body>,
    ) -> http::Response<Body> {
        let started = Instant::now();
        let span = CallSpan::of_rpc(&mut request);
        let answer = match json::time_allowed(request.headers(), self.longest) {
            Ok(allowed) => {
                let call = call(Some(path), trace_in(request.headers()));
                self.admit(client(&request), allowed, handler(request)).instrument(call).await
            }
            Err(refused) => Err(refused),
        };
        let code = answer.as_ref().map_or_else(json::Refused::code, |_| Code::Ok);
        measure("connectrpc", Some(path), code, started);
        if let Some(span) = span {
            span.end_rpc("connectrpc", code);
        }
        answer.unwrap_or_else(json::Refused::into_response)
    }

    /// Runs `answer` if the client's rate allows it and there is room, for as long as is allowed.
    async fn admit<T, E: From<Status>>(
        &self,
        client: Option<IpAddr>,
        allowed: Duration,
        answer: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        if let (Some(rate), Some(client)) = (&self.rate, client) {
            rate.admit(client, Instant::now())
                .map_err(|wait| refuse_for_now(Reason::RateLimited, "too many requests from your address", wait))?;
        }
        let Ok(_room) = self.room.try_acquire() else {
            return Err(
                refuse_for_now(Reason::Overloaded, "too many requests in flight; come again", RETRY_AFTER).into()
            );
        };
        match tokio::time::timeout(allowed, AssertUnwindSafe(answer).catch_unwind()).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_panic)) => {
                tracing::error!("a request handler panicked; its caller got INTERNAL");
                Err(Status::internal("the server failed on this request").into())
            }
            Err(_elapsed) => {
                let allowed = allowed.as_millis();
                Err(Status::deadline_exceeded(format!("not answered within {allowed} ms; the outcome is unknown"))
                    .into())
            }
        }
    }
}

enum Spoken {
    Grpc,
    Json,
    Other,
}

fn spoken<B>(request: &http::Request<B>) -> Spoken {
    let content_type = request.headers().get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let essence = content_type.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
    match essence {
        b"application/grpc" | b"application/grpc+proto" => Spoken::Grpc,
        _ if request.method() == Method::POST && essence.eq_ignore_ascii_case(b"application/json") => Spoken::Json,
        _ => Spoken::Other,
    }
}

fn client<B>(request: &http::Request<B>) -> Option<IpAddr> {
    Some(request.extensions().get::<TcpConnectInfo>()?.remote_addr()?.ip())
}

/// The span of a call; streaming RPCs are not in the table and go without a name.
fn call(path: Option<&'static str>, trace: Option<TraceContext>) -> Span {
    debug_span!(names::SPAN_CALL, { names::RPC_METHOD } = path, { names::TRACE_PARENT } = trace.map(display))
}

/// Health and reflection: never shed, never counted.
fn is_about_the_server<B>(request: &http::Request<B>) -> bool {
    request.uri().path().starts_with("/grpc.")
}

fn turned_away<B>(request: &http::Request<B>, known: bool) -> http::Response<Body> {
    let path = request.uri().path();
    if !known {
        let message = format!("no unary RPC at {path}; paths look like /headwater.v1.UserActions/GetUser");
        return connect::error_under(StatusCode::NOT_FOUND, Status::unimplemented(message));
    }
    if request.method() != Method::POST {
        let message = format!("{path} takes POST with a JSON body");
        let mut response = connect::error_under(StatusCode::METHOD_NOT_ALLOWED, Status::unimplemented(message));
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
        return response;
    }
    let message = format!("{path} takes content-type application/json or application/grpc");
    let mut response = connect::error_under(StatusCode::UNSUPPORTED_MEDIA_TYPE, Status::unimplemented(message));
    response.headers_mut().insert("accept-post", HeaderValue::from_static("application/json, application/grpc"));
    response
}

/// The request, but for what comes after shutdown: clients keep a reflection stream open for as long as they live, and
/// it must not hold up the drain.
fn until(shutdown: CancellationToken, request: Body) -> Body {
    Body::new(StreamBody::new(BodyStream::new(request).take_until(shutdown.cancelled_owned())))
}

/// Unary RPCs only: for a stream the time to its first answer says nothing.
fn measure(system: &'static str, path: Option<&'static str>, code: Code, started: Instant) {
    let Some(path) = path else { return };
    metrics::histogram!(
        names::RPC_SERVER_DURATION,
        names::RPC_SYSTEM => system,
        names::RPC_METHOD => path.trim_start_matches('/'),
        names::RPC_STATUS => connect::code(code).0,
    )
    .record(started.elapsed());
}
