//! The routes over an embedded broker.
use std::time::Duration;

use axum::{
    body::Body,
    http::{Request, StatusCode},
};
use headwater_proto::Encoding;
use headwater_stream::{EmbeddedKafka, SystemClock, testing::embedded};
use serde_json::{Value, json};
use tokio::time::timeout;
use tower::ServiceExt as _;

use super::*;

fn config() -> Config {
    Config {
        client_id: "test".to_owned(),
        topic: "user-activity-events".to_owned(),
        consumer_group: "user-activity-consumer-group".to_owned(),
        producer_retries: 2,
        producer_retry_backoff: Duration::from_millis(20),
        connection_timeout: Duration::from_secs(1),
        request_timeout: Duration::from_millis(600),
        encoding: Encoding::Json,
        store_limit: NonZeroUsize::new(10).unwrap(),
        rate_limit: None,
    }
}

fn router(config: &Config) -> (EmbeddedKafka, Router) {
    let (broker, kafka) = embedded();
    let service = Service::open(config, &kafka, Arc::new(SystemClock)).unwrap();
    (broker, service.routes())
}

async fn generate(router: &Router) -> (StatusCode, Value) {
    let body = Body::from(json!({"userId": "ada", "eventType": "LOGIN"}).to_string());
    let answer = router.clone().oneshot(Request::post("/events/generate").body(body).unwrap()).await.unwrap();
    let (head, body) = answer.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    (head.status, serde_json::from_slice(&body).unwrap())
}

/// As soon as the broker takes one.
async fn published(router: &Router) {
    let taken = async { while generate(router).await.0 != StatusCode::CREATED {} };
    timeout(Duration::from_secs(30), taken).await.expect("the broker takes an event");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_the_broker_does_not_take_in_time_was_not_published_and_the_next_one_is() {
    for retries in [2, 0] {
        let (broker, router) = router(&Config { producer_retries: retries, ..config() });
        published(&router).await; // a slow machine may need longer than one event has
        broker.go_down();
        let (status, answer) = generate(&router).await;
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(answer, json!({"message": "Failed to publish event"}));
        broker.come_back();
        published(&router).await;
    }
}

#[test]
fn names_that_are_set_are_those_of_the_topic_and_the_group() {
    let set = Config { topic: "other".to_owned(), consumer_group: "others".to_owned(), ..config() };
    let group = set.group();
    assert_eq!((group.id, group.topic.name, group.topic.partitions), ("others", "other", 6));
    assert_eq!(group.dead_letters, None);
    assert_eq!(config().group(), headwater_proto::topics::USER_ACTIVITY);
}
