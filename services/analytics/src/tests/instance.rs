//! A whole instance against a broker.
use std::time::Duration;

use headwater_otel::Readiness;
use headwater_proto::{EventType, topics, v1};
use headwater_stream::{
    ConsumerConfig, KafkaConfig, Patience, Producer,
    testing::{self, RawWriter},
};
use prost::Message as _;
use tokio::{
    task::JoinHandle,
    time::{Instant, interval},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Config, Error, MemoryStore, Period, Store,
    store::conformance::{active_users, day, event, user_id},
};

fn record(id: u128, event_type: EventType, user: &str, at: &str) -> Vec<u8> {
    let event = event(id, event_type, user, "s", at);
    v1::EventEnvelope {
        event_id: event.id.to_string(),
        event_type: event_type.as_str().into(),
        aggregate_id: user.into(),
        occurred_at: Some(event.occurred_at.into()),
        payload: Some(v1::Payload { session_id: "s".into(), ..Default::default() }),
        ..Default::default()
    }
    .encode_to_vec()
}

struct Instance {
    running: JoinHandle<Result<(), Error>>,
    stop: CancellationToken,
}

impl Instance {
    fn start(kafka: &KafkaConfig, store: &MemoryStore, dead_letters: &Producer) -> Self {
        let stop = CancellationToken::new();
        let consumer = ConsumerConfig::new(kafka.clone(), topics::ANALYTICS, "analytics", "analytics-1");
        let readiness = Readiness::default().component("analytics-1");
        let (store, dead_letters, shutdown) = (store.clone(), dead_letters.clone(), stop.clone());
        let run =
            async move { crate::run(&Config::default(), store, consumer, dead_letters, readiness, shutdown).await };
        Self { running: tokio::spawn(run), stop }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.running.await.expect("an instance does not panic").expect("an instance ends well");
    }
}

/// Looks again and again until it is as expected.
async fn eventually<T: PartialEq + std::fmt::Debug>(expected: T, look: impl AsyncFn() -> T) {
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut ticks = interval(Duration::from_millis(10));
    loop {
        ticks.tick().await;
        let seen = look().await;
        if seen == expected {
            return;
        }
        assert!(Instant::now() < deadline, "expected {expected:?}, last seen {seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_turns_the_log_into_documents_and_its_successor_goes_on_where_it_stopped() {
    let (_broker, kafka) = testing::embedded();
    let log = RawWriter::open(&kafka);
    let dead_letters = Producer::open(&kafka, Patience::Forever).unwrap();
    let store = MemoryStore::new();
    let write = async |user: &str, value: &[u8]| {
        log.write(topics::USER_EVENTS.name, Some(0), Some(user.as_bytes()), Some(value), &[]).await;
    };
    let login = record(1, EventType::UserLoggedIn, "ann", "2026-01-15T10:00:00Z");
    write("ann", &login).await;
    write("bob", b"not an envelope").await;
    write("ann", &login).await;
    write("ann", &record(2, EventType::UserLoggedOut, "ann", "2026-01-15T10:05:00Z")).await;

    let first = Instance::start(&kafka, &store, &dead_letters);
    let next = || store.positions().map(|positions| positions.next(0));
    eventually(Some(4), async || next()).await;
    first.stop().await;
    let active = async || active_users(&store, &[Period::Day(day("2026-01-15"))]).await;
    let sessions = async |user: &str| store.sessions_of(&user_id(user)).await.unwrap().unwrap_or_default();
    assert_eq!(active().await, [1]);
    let segments = sessions("ann").await.remove(0).segments;
    assert_eq!(segments.iter().map(|segment| segment.events).collect::<Vec<_>>(), [2]);
    let dead = testing::read_topic(&kafka, topics::ANALYTICS_DLQ.name).await.unwrap();
    assert_eq!(dead.iter().map(|record| record.key_text()).collect::<Vec<_>>(), ["bob"]);

    write("cid", &record(3, EventType::UserLoggedIn, "cid", "2026-01-15T11:00:00Z")).await;
    let second = Instance::start(&kafka, &store, &dead_letters);
    eventually(vec![2], active).await;
    eventually(0, async || store.stale().await.unwrap().len()).await;
    assert_eq!(active().await, [2], "recounted");
    second.stop().await;
    let dead = testing::read_topic(&kafka, topics::ANALYTICS_DLQ.name).await.unwrap();
    assert_eq!(dead.len(), 1, "the successor does not start over");
}
