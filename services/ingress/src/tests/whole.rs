//! The ingress as it runs, over the embedded broker.
use std::{sync::Arc, time::Duration};

use headwater_otel::{Readiness, TraceContext};
use headwater_proto::{
    Decoded, Detail, Event, EventId, EventType, Millis, topics,
    v1::{self, user_actions_server::UserActions},
};
use headwater_stream::{
    ConsumerConfig, Patience, Producer, SystemClock,
    testing::{RawWriter, embedded, read_topic},
};
use prost::Message;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request};

use super::accounts::registration;
use crate::{Config, Ingress, Log, SqliteStore, outbox::Outbox, testing::user_id};

const PATIENCE: Duration = Duration::from_secs(30);

/// Asks until the answer is the one that is waited for; what was seen last where it never comes.
async fn until<T: PartialEq + std::fmt::Debug>(expected: T, mut ask: impl AsyncFnMut() -> T) {
    let mut seen = None;
    let waiting = async {
        let mut between = tokio::time::interval(Duration::from_millis(10));
        while seen.as_ref() != Some(&expected) {
            between.tick().await;
            seen = Some(ask().await);
        }
    };
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    assert!(waited.is_ok(), "waited {PATIENCE:?} for {expected:?}, saw {seen:?}");
}

fn suspension() -> Event {
    Event {
        id: EventId::from_bytes([9; 16]),
        event_type: EventType::UserSuspended,
        user_id: user_id("ada"),
        occurred_at: Millis::from_millis(1),
        received_at: Millis::from_millis(1),
        email: None,
        ip: None,
        user_agent: None,
        session_id: None,
        causation_id: None,
        correlation_id: None,
        source: "/fraud".into(),
        detail: Some(Detail::Verdict(v1::Verdict::default())),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_reaches_the_log_and_a_verdict_on_the_log_reaches_the_account() {
    let (_broker, kafka) = embedded();
    let store = SqliteStore::open().await.unwrap();
    let ingress = Ingress::open(Config::default(), store.clone(), Arc::new(SystemClock)).await.unwrap();
    let api = ingress.api();
    let (readiness, shutdown) = (Readiness::default(), CancellationToken::new());
    let log = Log {
        consumer: ConsumerConfig::new(kafka.clone(), topics::ACCOUNT_STATUS, "ingress", "1"),
        dead_letters: Producer::open(&kafka, Patience::Waiting).unwrap(),
        readiness: readiness.component("account-status-1"),
    };
    let running = tokio::spawn(ingress.run(log, readiness.component("ingress-1"), shutdown.clone()));

    let trace = TraceContext::root();
    let mut request = Request::new(registration("ada"));
    request.metadata_mut().insert(TraceContext::HEADER, trace.to_string().parse().unwrap());
    let registered = api.register_user(request).await.unwrap().into_inner();
    until(0, async || store.waiting().await.unwrap().rows).await;
    let records = read_topic(&kafka, topics::USER_EVENTS.name).await.unwrap();
    let [record] = &records[..] else { panic!("{} records", records.len()) };
    let content_type = record.header("content-type");
    let decoded = Event::decode(record.key.as_deref(), record.value.as_deref(), content_type, None).unwrap();
    let Decoded::Event(event) = decoded else { panic!("{decoded:?}") };
    assert_eq!((event.id.to_string(), event.event_type), (registered.event_id, EventType::UserCreated));
    assert_eq!(record.timestamp, Some(event.received_at.as_millis()));
    let sent = TraceContext::from_header(record.header("traceparent").unwrap()).unwrap();
    assert_eq!(sent.trace_id, trace.trace_id);
    assert_ne!(sent.span_id, trace.span_id);

    let value = v1::EventEnvelope::from(suspension()).encode_to_vec();
    RawWriter::open(&kafka).write(topics::USER_EVENTS.name, None, Some(b"ada"), Some(&value), &[]).await;
    until(v1::AccountStatus::Suspended, async || {
        let request = Request::new(v1::GetUserRequest { user_id: "ada".into() });
        api.get_user(request).await.unwrap().into_inner().status()
    })
    .await;
    until(vec![], async || readiness.waiting()).await;

    shutdown.cancel();
    tokio::time::timeout(PATIENCE, running).await.expect("the ingress ends").unwrap().unwrap();
    let refused = api.register_user(Request::new(registration("eve"))).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
}
