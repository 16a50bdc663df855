//! The document's routes: bodies, status codes and texts are its.
use std::{collections::HashMap, sync::Arc};

use axum::{
    Json, Router,
    body::{Body, to_bytes},
    extract::{Query, State},
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bytes::Bytes;
use futures::stream;
use headwater_otel::names;
use headwater_rpc::{MAX_MESSAGE_BYTES, RateLimit, limited, trace_in, traced};
use serde_json::json;

use crate::{
    event::ActivityEvent,
    grpc::Api,
    publish::UNPUBLISHED,
    request::{Filter, Wanted},
};

const JSON: [(HeaderName, &str); 1] = [(header::CONTENT_TYPE, "application/json")];
const OPENAPI: &str = include_str!("../openapi.json");
/// Bytes of an answer that are made at a time.
const CHUNK: usize = 64 * 1024;

pub(crate) fn routes(api: Api, limit: Option<RateLimit>) -> Router {
    let too_many = || refused(StatusCode::TOO_MANY_REQUESTS, "Too many requests");
    let generate = limited(limit, too_many, post(generate));
    Router::new()
        .route("/events/generate", traced(names::SERVICE_ACTIVITY, generate))
        .route("/events/processed", get(processed))
        .route("/health", get(async || Json(json!({ "status": "ok" }))))
        .route("/openapi.json", get(async || (JSON, OPENAPI)))
        .fallback(async || refused(StatusCode::NOT_FOUND, "Not found"))
        .method_not_allowed_fallback(async || refused(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed"))
        .with_state(Arc::new(api))
}

fn refused(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({ "message": message }))).into_response()
}

fn invalid(message: &str, errors: &[&str]) -> Response {
    (StatusCode::BAD_REQUEST, Json(json!({ "message": message, "errors": errors }))).into_response()
}

async fn generate(State(api): State<Arc<Api>>, headers: HeaderMap, body: Body) -> Response {
    let Ok(body) = to_bytes(body, MAX_MESSAGE_BYTES).await else {
        return refused(StatusCode::PAYLOAD_TOO_LARGE, "Request body must be at most 1 MiB");
    };
    let wanted = match Wanted::read(&body) {
        Ok(wanted) => wanted,
        Err(errors) => return invalid("Invalid request payload", &errors),
    };
    // published even where the client goes away meanwhile: half a request is none
    match api.publisher.publish(wanted, trace_in(&headers)).await {
        Ok(id) => (StatusCode::CREATED, JSON, format!("{{\"eventId\":\"{id}\"}}")).into_response(),
        Err(_told) => refused(StatusCode::INTERNAL_SERVER_ERROR, UNPUBLISHED),
    }
}

async fn processed(State(api): State<Arc<Api>>, Query(query): Query<HashMap<String, String>>) -> Response {
    let filter = match Filter::read(&query) {
        Ok(filter) => filter,
        Err(errors) => return invalid("Invalid request query", &errors),
    };
    let found = api.store.find(filter.user_id.as_deref(), filter.event_type, 0, usize::MAX);
    let older = filter.limit.map_or(0, |limit| found.len().saturating_sub(limit));
    let events = found.into_iter().skip(older).map(|(_, event)| event);
    let body = Body::from_stream(stream::iter(array(events).map(Ok::<_, std::convert::Infallible>)));
    (JSON, body).into_response()
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
