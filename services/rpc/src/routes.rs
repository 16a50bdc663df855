//! HTTP routes that a document describes, beside what speaks gRPC: a span for a request, the rate of a client, a drain.
use std::{
    future::IntoFuture as _,
    io,
    net::SocketAddr,
    pin::pin,
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::{ConnectInfo, MatchedPath, Request},
    middleware::{self, Next},
    response::Response,
    routing::MethodRouter,
    serve::ListenerExt as _,
};
use headwater_otel::traces_are_on;
use http::header;
use tokio::{net::TcpListener, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{RateLimit, call_span::CallSpan};

/// Serves until `shutdown`, then until what is in work is answered, for `drain` at the longest.
pub async fn serve_routes(
    listener: TcpListener,
    routes: Router,
    drain: Duration,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let listener = listener.tap_io(|connection| {
        let _ = connection.set_nodelay(true); // a slower connection is one all the same
    });
    let served = axum::serve(listener, routes.into_make_service_with_connect_info::<SocketAddr>());
    let mut served = pin!(served.with_graceful_shutdown(shutdown.clone().cancelled_owned()).into_future());
    tokio::select! {
        ended = &mut served => ended,
        () = shutdown.cancelled() => timeout(drain, served).await.unwrap_or(Ok(())),
    }
}

/// A span of `service` for each request, named by its method and route. Its context is the request's
/// [`trace_in`](crate::trace_in).
pub fn traced<S>(service: &'static str, route: MethodRouter<S>) -> MethodRouter<S>
where
    S: Clone + Send + Sync + 'static,
{
    if !traces_are_on() {
        return route;
    }
    route.route_layer(middleware::from_fn(move |route: MatchedPath, mut request: Request, next: Next| async move {
        let span = CallSpan::of_route(service, route.as_str(), &mut request);
        let response = next.run(request).await;
        if let Some(span) = span {
            span.end_http(response.status());
        }
        response
    }))
}

/// Beyond its rate a client gets `refusal`, with `retry-after` in seconds.
pub fn limited<S>(limit: Option<RateLimit>, refusal: fn() -> Response, route: MethodRouter<S>) -> MethodRouter<S>
where
    S: Clone + Send + Sync + 'static,
{
    let Some(limit) = limit else { return route };
    route.route_layer(middleware::from_fn(move |client: ConnectInfo<SocketAddr>, request: Request, next: Next| {
        let admitted = limit.admit(client.ip(), Instant::now());
        async move {
            let Err(wait) = admitted else { return next.run(request).await };
            let mut response = refusal();
            response.headers_mut().insert(header::RETRY_AFTER, (wait.as_secs_f64().ceil() as u64).into());
            response
        }
    }))
}
