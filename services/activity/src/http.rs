//! The document's routes: bodies, status codes and texts are its.
use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Instant};

use axum::{
    Json, Router,
    body::{Body, to_bytes},
    extract::{ConnectInfo, Query, Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bytes::Bytes;
use futures::stream;
use headwater_otel::{Span, TraceContext, begin_trace, names, span::Kind};
use headwater_rpc::{MAX_MESSAGE_BYTES, RateLimit};
use serde_json::json;
use tracing::warn;

use crate::{
    event::ActivityEvent,
    publish::{Publisher, Unpublished},
    request::{Filter, Wanted},
    store::Store,
};

const OPENAPI: &str = include_str!("../openapi.json");
/// Bytes of an answer that are made at a time.
const CHUNK: usize = 64 * 1024;

pub(crate) struct Routes {
    pub(crate) publisher: Publisher,
    pub(crate) store: Store,
    pub(crate) rate_limit: Option<RateLimit>,
}

impl Routes {
    pub(crate) fn router(self) -> Router {
        let generate = match self.rate_limit.clone() {
            Some(limit) => post(generate).layer(middleware::from_fn_with_state(limit, limited)),
            None => post(generate),
        };
        Router::new()
            .route("/events/generate", generate)
            .route("/events/processed", get(processed))
            .route("/health", get(async || Json(json!({ "status": "ok" }))))
            .route("/openapi.json", get(async || ([(header::CONTENT_TYPE, "application/json")], OPENAPI)))
            .fallback(async || refused(StatusCode::NOT_FOUND, "Not found"))
            .method_not_allowed_fallback(async || refused(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed"))
            .with_state(Arc::new(self))
    }
}

fn refused(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({ "message": message }))).into_response()
}

fn invalid(message: &str, errors: &[&str]) -> Response {
    (StatusCode::BAD_REQUEST, Json(json!({ "message": message, "errors": errors }))).into_response()
}

async fn generate(State(routes): State<Arc<Routes>>, headers: HeaderMap, body: Body) -> Response {
    let caller = headers.get(TraceContext::HEADER).and_then(|value| TraceContext::from_header(value.as_bytes()));
    let call = begin_trace(caller);
    let span =
        call.and_then(|call| Span::start(names::SERVICE_ACTIVITY, "POST /events/generate", Kind::Server, call, caller));
    let Ok(body) = to_bytes(body, MAX_MESSAGE_BYTES).await else {
        return refused(StatusCode::PAYLOAD_TOO_LARGE, "Request body must be at most 1 MiB");
    };
    let wanted = match Wanted::read(&body) {
        Ok(wanted) => wanted,
        Err(errors) => return invalid("Invalid request payload", &errors),
    };
    // published even where the client goes away meanwhile: half a request is none
    match routes.publisher.publish(wanted, call).await {
        Ok(id) => {
            if let Some(span) = span {
                span.with(names::MESSAGE_ID, id.to_string()).end();
            }
            (StatusCode::CREATED, Json(json!({ "eventId": id.to_string() }))).into_response()
        }
        Err(error) => {
            told(&error);
            if let Some(span) = span {
                span.failed("publish").end();
            }
            refused(StatusCode::INTERNAL_SERVER_ERROR, "Failed to publish event")
        }
    }
}

pub(crate) fn told(error: &Unpublished) {
    warn!(error = error as &(dyn std::error::Error + 'static), "an event was not published");
}

async fn processed(State(routes): State<Arc<Routes>>, Query(query): Query<HashMap<String, String>>) -> Response {
    let filter = match Filter::read(&query) {
        Ok(filter) => filter,
        Err(errors) => return invalid("Invalid request query", &errors),
    };
    let found = routes.store.find(filter.user_id.as_deref(), filter.event_type, 0, usize::MAX);
    let older = filter.limit.map_or(0, |limit| found.len().saturating_sub(limit));
    let events = found.into_iter().skip(older).map(|(_, event)| event);
    let body = Body::from_stream(stream::iter(array(events).map(Ok::<_, std::convert::Infallible>)));
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// The JSON array of the events, a part at a time.
fn array(events: impl Iterator<Item = Arc<ActivityEvent>>) -> impl Iterator<Item = Bytes> {
    let mut events = events.enumerate().peekable();
    let mut is_open = true;
    let mut part = b"[".to_vec();
    std::iter::from_fn(move || {
        while part.len() < CHUNK
            && let Some((number, event)) = events.next()
        {
            if number > 0 {
                part.push(b',');
            }
            event.write_json(&mut part);
        }
        if is_open && events.peek().is_none() {
            is_open = false;
            part.push(b']');
        }
        let part = std::mem::replace(&mut part, Vec::with_capacity(CHUNK));
        (!part.is_empty()).then(|| part.into())
    })
}

async fn limited(State(limit): State<RateLimit>, request: Request, next: Next) -> Response {
    let client = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|client| client.0.ip());
    if let Some(client) = client
        && let Err(wait) = limit.admit(client, Instant::now())
    {
        let seconds = wait.as_secs_f64().ceil().to_string();
        let mut response = refused(StatusCode::TOO_MANY_REQUESTS, "Too many requests");
        if let Ok(seconds) = seconds.parse() {
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        return response;
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use headwater_proto::{EventId, Millis};
    use serde_json::Value;

    use super::*;
    use crate::event::empty;

    #[test]
    fn an_array_of_any_length_is_one_array() {
        let events = |count: u64| {
            (0..count).map(|n| {
                let id = EventId::from_bytes(u128::from(n).to_be_bytes());
                let (event_type, timestamp) = ("PRODUCT_VIEW", Millis::from_millis(0));
                Arc::new(ActivityEvent { id, user_id: "ada".into(), event_type, timestamp, payload: empty() })
            })
        };
        for count in [0, 1, 2, 2_000] {
            let parts: Vec<Bytes> = array(events(count)).collect();
            let all: Vec<Value> = serde_json::from_slice(&parts.concat()).unwrap();
            assert_eq!(all.len() as u64, count);
            assert_eq!(parts.len() > 1, count == 2_000, "{} parts", parts.len());
        }
        let one: Value = serde_json::from_slice(&array(events(1)).next().unwrap()).unwrap();
        let expected = json!([{"eventId": "00000000-0000-0000-0000-000000000000", "userId": "ada",
            "eventType": "PRODUCT_VIEW", "timestamp": "1970-01-01T00:00:00.000Z", "payload": {}}]);
        assert_eq!(one, expected);
    }
}
