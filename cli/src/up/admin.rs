//! What operators and their tools ask on the admin port.
use std::{net::SocketAddr, sync::Arc};

use axum::{
    Json, Router,
    extract::{ConnectInfo, Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use clap::ValueEnum as _;
use headwater_otel::{Metrics, Readiness, admin_routes};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    Derived, Error, Role,
    up::{Change, Instances, services::LiveDocuments},
};

pub(crate) async fn serve(
    listener: TcpListener,
    metrics: Metrics,
    readiness: Readiness,
    instances: Arc<Instances>,
    documents: LiveDocuments,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let routes = Router::new()
        .route("/instances", get(list))
        .route("/instances/{role}/{number}/{change}", post(change))
        .with_state(instances)
        .merge(Router::new().route("/digests/{service}", get(digest)).with_state(documents))
        .merge(admin_routes(metrics, readiness))
        .into_make_service_with_connect_info::<SocketAddr>();
    let served = axum::serve(listener, routes).with_graceful_shutdown(shutdown.cancelled_owned()).await;
    served.map_err(|source| Error::Io { what: "the admin port failed".to_owned(), source })
}

async fn list(State(instances): State<Arc<Instances>>) -> Response {
    Json(json!({ "instances": instances.list().await })).into_response()
}

async fn change(
    State(instances): State<Arc<Instances>>,
    ConnectInfo(caller): ConnectInfo<SocketAddr>,
    Path((role, number, change)): Path<(String, u32, String)>,
    headers: HeaderMap,
) -> Response {
    if is_foreign(caller, &headers) {
        return refused(StatusCode::FORBIDDEN, FOREIGN);
    }
    let change = match change.as_str() {
        "start" => Change::Start,
        "stop" => Change::Stop,
        _ => return refused(StatusCode::NOT_FOUND, "an instance can be told to start or stop"),
    };
    let changed = match Role::from_str(&role, false) {
        Ok(role) => instances.change(role, number, change).await,
        Err(_) => None,
    };
    match changed {
        Some(listed) => Json(listed).into_response(),
        None => refused(StatusCode::NOT_FOUND, "no such instance; GET /instances lists them"),
    }
}

/// It reads every document, so it is not for everybody.
async fn digest(
    State(documents): State<LiveDocuments>,
    ConnectInfo(caller): ConnectInfo<SocketAddr>,
    Path(service): Path<String>,
    headers: HeaderMap,
) -> Response {
    if is_foreign(caller, &headers) {
        return refused(StatusCode::FORBIDDEN, FOREIGN);
    }
    let live = match Derived::from_str(&service, false) {
        Ok(of) => documents.digest(of).await,
        Err(_) => None,
    };
    match live {
        Some(Ok(live)) => Json(live).into_response(),
        Some(Err(error)) => refused(StatusCode::SERVICE_UNAVAILABLE, &error.story()),
        None => refused(StatusCode::NOT_FOUND, "there are digests of analytics and of fraud, where they run"),
    }
}

const FOREIGN: &str = "only from this machine, and not from a web page";

/// A web page of anybody's reaches loopback through its reader's browser, but not without saying so.
fn is_foreign(caller: SocketAddr, headers: &HeaderMap) -> bool {
    !caller.ip().to_canonical().is_loopback() || headers.contains_key(header::ORIGIN)
}

fn refused(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({ "message": message }))).into_response()
}
