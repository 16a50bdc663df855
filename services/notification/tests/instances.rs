//! Whole instances against a broker: what goes into user.events comes out of the files, or ends in notifications.dlq.
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::Duration,
};

use headwater_notification::{ChannelConfig, Config, Error, ledger::MemoryLedger};
use headwater_otel::Readiness;
use headwater_proto::{EventId, EventType, SCHEMA_VERSION, Timestamp, topics, v1};
use headwater_stream::{
    ConsumerConfig, KafkaConfig, Patience, Producer,
    testing::{OwnedRecord, RawWriter, embedded, read_topic},
};
use prost::Message;
use tokio::{
    task::JoinHandle,
    time::{Instant, interval},
};
use tokio_util::sync::CancellationToken;

const DEADLINE: Duration = Duration::from_secs(60);

struct Instance {
    shutdown: CancellationToken,
    run: JoinHandle<Result<(), Error>>,
}

impl Instance {
    fn start(config: &Config, kafka: &KafkaConfig, name: &str, ledger: &MemoryLedger) -> Self {
        let consumer = ConsumerConfig::new(kafka.clone(), topics::NOTIFICATION, "notification", name);
        let dead_letters = Producer::open(kafka, Patience::Waiting).unwrap();
        let readiness = Readiness::default().component(name);
        let (config, ledger, shutdown) = (config.clone(), ledger.clone(), CancellationToken::new());
        let stop = shutdown.clone();
        let run = tokio::spawn(async move {
            headwater_notification::run(&config, ledger, consumer, dead_letters, readiness, stop).await
        });
        Self { shutdown, run }
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.run.await.unwrap().unwrap();
    }
}

fn config(folder: &Path) -> Config {
    Config { channel: ChannelConfig::File { folder: folder.to_owned() }, ..Config::default() }
}

/// Asks until `done`; at the deadline says what was seen last.
async fn eventually<T: std::fmt::Debug>(what: &str, mut see: impl AsyncFnMut() -> T, done: impl Fn(&T) -> bool) -> T {
    let start = Instant::now();
    let mut ticks = interval(Duration::from_millis(20));
    loop {
        ticks.tick().await;
        let seen = see().await;
        if done(&seen) {
            return seen;
        }
        assert!(start.elapsed() < DEADLINE, "waited {DEADLINE:?} for {what}, saw {seen:?}");
    }
}

fn event_id(user: usize, n: usize) -> String {
    EventId::from_bytes(((user as u128) << 64 | n as u128).to_be_bytes()).to_string()
}

fn password_changed(user: usize, n: usize) -> Vec<u8> {
    let envelope = v1::EventEnvelope {
        event_id: event_id(user, n),
        event_type: EventType::UserPasswordChanged.as_str().into(),
        aggregate_id: format!("user-{user}"),
        occurred_at: Some(Timestamp { seconds: 1_768_473_000, nanos: 0 }),
        payload: Some(v1::Payload { email: format!("user-{user}@example.org"), ..Default::default() }),
        schema_version: SCHEMA_VERSION,
        ..Default::default()
    };
    envelope.encode_to_vec()
}

/// The event ids that each user was told of, over all instances. Event ids of one user grow in the order written, so
/// must they in each file.
fn told(folder: &Path) -> BTreeMap<String, Vec<String>> {
    let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        let mut last = BTreeMap::new();
        for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            let letter: serde_json::Value = serde_json::from_str(line).unwrap();
            let word = |field: &str| letter[field].as_str().unwrap().to_owned();
            let before = last.insert(word("userId"), word("eventId"));
            assert!(
                before.as_ref().is_none_or(|before| *before < word("eventId")),
                "{before:?} was told before {line}"
            );
            told.entry(word("userId")).or_default().push(word("eventId"));
        }
    }
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn every_user_is_told_once_of_each_event_while_instances_come_and_go() {
    const USERS: usize = 40;
    const EVENTS: usize = 5;
    let (_broker, kafka) = embedded();
    let (folder, ledger) = (tempfile::tempdir().unwrap(), MemoryLedger::new());
    let start = |name| Instance::start(&config(folder.path()), &kafka, name, &ledger);

    let (first, second) = (start("1"), start("2"));
    let writer = RawWriter::open(&kafka);
    let write = async |n: usize| {
        for user in 0..USERS {
            let (key, value) = (format!("user-{user}"), password_changed(user, n));
            // each one twice: the log may repeat itself
            for _ in 0..2 {
                writer.write(topics::USER_EVENTS.name, None, Some(key.as_bytes()), Some(&value), &[]).await;
            }
        }
    };
    write(0).await;
    eventually("the first to be told", async || told(folder.path()).len(), |&users| users == USERS).await;
    first.stop().await;
    for n in 1..EVENTS {
        write(n).await;
    }
    let third = start("3");
    let total = |told: &BTreeMap<String, Vec<String>>| told.values().map(Vec::len).sum::<usize>();
    let told = eventually("all to be told", async || told(folder.path()), |told| total(told) >= USERS * EVENTS).await;
    second.stop().await;
    third.stop().await;

    for (user, events) in &told {
        let distinct: BTreeSet<_> = events.iter().collect();
        assert_eq!((events.len(), distinct.len()), (EVENTS, EVENTS), "{user} was told of {events:?}");
    }
    assert_eq!(told.len(), USERS);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_delivered_or_read_ends_in_the_dead_letters_as_it_came() {
    let (_broker, kafka) = embedded();
    let folder = tempfile::tempdir().unwrap();
    let failing = Config { fail_rate: 1.0, ..config(folder.path()) };
    let instance = Instance::start(&failing, &kafka, "1", &MemoryLedger::new());

    let writer = RawWriter::open(&kafka);
    let value = password_changed(7, 0);
    writer.write(topics::USER_EVENTS.name, None, Some(b"user-7"), Some(&value), &[("traceparent", b"t")]).await;
    writer.write(topics::USER_EVENTS.name, None, Some(b"user-8"), Some(b"\xff\xff"), &[]).await;

    let see = async || read_topic(&kafka, topics::NOTIFICATIONS_DLQ.name).await.unwrap();
    let letters = eventually("two dead letters", see, |letters| letters.len() >= 2).await;
    let of = |key: &[u8]| letters.iter().find(|letter| letter.key.as_deref() == Some(key)).unwrap();
    let header = |letter: &OwnedRecord, name: &str| String::from_utf8(letter.header(name).unwrap().to_vec()).unwrap();

    let exhausted = of(b"user-7");
    assert_eq!(exhausted.value.as_deref(), Some(value.as_slice()));
    assert_eq!(header(exhausted, "x-disposition"), "EXHAUSTED");
    assert_eq!(header(exhausted, "__dlq.errors.delivery.count"), "4");
    assert_eq!(header(exhausted, "traceparent"), "t");
    let poison = of(b"user-8");
    assert_eq!(poison.value.as_deref(), Some(b"\xff\xff".as_slice()));
    assert_eq!(header(poison, "x-disposition"), "POISON");
    assert!(told(folder.path()).is_empty());
    instance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_broker_of_its_own_nobody_is_told_again_by_a_process_that_has_forgotten() {
    let (_broker, kafka) = embedded();
    let kafka = KafkaConfig { backlog: None, ..kafka }; // so it is for whoever is not in its process
    let folder = tempfile::tempdir().unwrap();
    let writer = RawWriter::open(&kafka);
    for n in 0..2 {
        let instance = Instance::start(&config(folder.path()), &kafka, &n.to_string(), &MemoryLedger::new());
        writer.write(topics::USER_EVENTS.name, None, Some(b"user-7"), Some(&password_changed(7, n)), &[]).await;
        let seen = async || told(folder.path()).remove("user-7").unwrap_or_default();
        let seen = eventually("the user to be told", seen, |told| told.contains(&event_id(7, n))).await;
        assert_eq!(seen.len(), n + 1, "{seen:?}");
        instance.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_without_a_name_notifies_nobody_either() {
    let (_broker, kafka) = embedded();
    let folder = tempfile::tempdir().unwrap();
    let instance = Instance::start(&config(folder.path()), &kafka, "1", &MemoryLedger::new());
    let writer = RawWriter::open(&kafka);
    let topic = topics::USER_EVENTS.name;
    for (n, headers) in [&[("x-replay-id", None)][..], &[]].into_iter().enumerate() {
        writer.write_with_nulls(topic, None, Some(b"user-7"), Some(&password_changed(7, n)), headers).await;
    }
    let seen = async || told(folder.path()).remove("user-7").unwrap_or_default();
    let seen = eventually("the user to be told", seen, |told| !told.is_empty()).await;
    assert_eq!(seen, [event_id(7, 1)]);
    instance.stop().await;
}
