//! The whole service on the embedded broker: events in, verdicts out, and nothing twice after a restart.
use std::time::{Duration, Instant};

use headwater_otel::Readiness;
use headwater_proto::{
    Event,
    EventType::{UserLoggedIn, UserPasswordChanged},
    v1::EventEnvelope,
};
use headwater_stream::{
    ConsumerConfig, KafkaConfig, Patience, Position,
    testing::{OwnedRecord, RawWriter, embedded, read_topic},
};
use prost::Message;

use super::*;
use crate::testing::{at, event, id, ip_changed, user};

const DEADLINE: Duration = Duration::from_secs(30);

/// An instance that runs until it is stopped.
struct Instance {
    shutdown: CancellationToken,
    running: tokio::task::JoinHandle<Result<(), Error>>,
}

impl Instance {
    fn start(kafka: &KafkaConfig, store: &MemoryStore) -> Self {
        let shutdown = CancellationToken::new();
        let producer = Producer::open(kafka, Patience::Waiting).unwrap();
        let consumer = ConsumerConfig::new(kafka.clone(), topics::FRAUD, "fraud", "1");
        let readiness = Readiness::default().component("fraud-1");
        let work = run(Rules::default(), store.clone(), consumer, producer, readiness, shutdown.clone());
        Self { running: tokio::spawn(work), shutdown }
    }

    async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(DEADLINE, self.running).await.expect("stops in time").unwrap().unwrap();
    }
}

/// Until the store stands after this record.
async fn until_read(store: &MemoryStore, position: Position) {
    let positions = store.positions().unwrap();
    let (started, mut look) = (Instant::now(), tokio::time::interval(Duration::from_millis(10)));
    while positions.next(position.partition) <= position.offset {
        let next = positions.next(position.partition);
        assert!(started.elapsed() < DEADLINE, "{position:?} is not read, the next is {next}");
        look.tick().await;
    }
}

async fn write(writer: &RawWriter, event: Event) -> Position {
    let key = event.user_id.clone();
    let value = EventEnvelope::from(event).encode_to_vec();
    let headers: [(&str, &[u8]); 2] = [
        ("content-type", b"application/protobuf"),
        ("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ];
    writer.write(topics::USER_EVENTS.name, None, Some(key.as_bytes()), Some(&value), &headers).await
}

async fn verdicts(kafka: &KafkaConfig) -> Vec<OwnedRecord> {
    let records = read_topic(kafka, topics::USER_EVENTS.name).await.unwrap();
    records.into_iter().filter(|record| record.header("ce_source") == Some(SOURCE.as_bytes())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_takeover_on_the_log_is_answered_on_the_log_once() {
    let (_broker, kafka) = embedded();
    let (store, writer) = (MemoryStore::new(), RawWriter::open(&kafka));
    let instance = Instance::start(&kafka, &store);
    write(&writer, event(1, UserPasswordChanged, at(0))).await;
    write(&writer, ip_changed(2, at(1), "203.0.113.9")).await;
    let login = write(&writer, event(3, UserLoggedIn, at(2))).await;
    let reset = Position { offset: login.offset + 2, ..login };
    until_read(&store, reset).await;

    let announced = verdicts(&kafka).await;
    let types: Vec<_> = announced.iter().map(|record| record.header("ce_type").unwrap()).collect();
    assert_eq!(types, [b"user.flagged".as_slice(), b"user.password_reset_required"]);
    for (record, kind) in announced.iter().zip(["user.flagged", "user.password_reset_required"]) {
        let event = EventEnvelope::decode(record.value.as_deref().unwrap()).unwrap();
        assert_eq!((event.event_id, event.causation_id), (id(3).derive(kind).to_string(), id(3).to_string()));
        assert_eq!((record.position.partition, record.key_text()), (login.partition, user("ada").to_string()));
        let received_at = headwater_proto::Millis::try_from(event.received_at.unwrap()).unwrap();
        assert_eq!(record.timestamp, Some(received_at.as_millis()), "the record timestamp is receivedAt");
        assert!(record.header("traceparent").unwrap().starts_with(b"00-4bf92f3577b34da6a3ce929d0e0e4736-"));
        assert_eq!(record.header("content-type"), Some(b"application/protobuf".as_slice()));
    }
    let profile = store.profiles(&[user("ada")]).await.unwrap().remove(0).1;
    assert_eq!((profile.score(), profile.position), (50, Some(login)), "its own verdicts are not folded");
    instance.stop().await;

    // the next instance goes on behind what the store has
    let instance = Instance::start(&kafka, &store);
    let last = write(&writer, event(4, UserLoggedIn, at(3))).await;
    until_read(&store, last).await;
    assert_eq!(verdicts(&kafka).await.len(), 2);
    instance.stop().await;
}
