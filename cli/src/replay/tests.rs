//! Live services on a document store, and their history once more.
use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use headwater_documents::testing::TestDatabase;
use headwater_otel::Readiness;
use headwater_proto::{
    topics,
    v1::{EventEnvelope, Payload},
};
use headwater_stream::{
    ConsumerConfig, Patience, Producer, groups,
    testing::{RawWriter, embedded, read_topic},
};
use prost::Message as _;
use tokio::time::{interval, timeout};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{target::Broker, up::Addresses};

const DEADLINE: Duration = Duration::from_secs(60);

/// The n-th event of `user`, n seconds after a time that does not matter.
fn event(user: &str, n: i64, event_type: &str) -> EventEnvelope {
    let at = "2026-01-15T10:00:00Z".parse::<Millis>().unwrap().plus_millis(n * 1_000);
    EventEnvelope {
        event_id: headwater_proto::EventId::new(at).to_string(),
        event_type: event_type.to_owned(),
        aggregate_id: user.to_owned(),
        occurred_at: Some(at.into()),
        received_at: Some(at.into()),
        payload: Some(Payload { session_id: "s".into(), ip: format!("192.0.2.{n}"), ..Payload::default() }),
        ..EventEnvelope::default()
    }
}

async fn write(log: &RawWriter, event: &EventEnvelope) {
    let key = event.aggregate_id.as_bytes();
    log.write(topics::USER_EVENTS.name, None, Some(key), Some(&event.encode_to_vec()), &[]).await;
}

/// Until both have read everything, verdicts included.
async fn until_read(kafka: &KafkaConfig) {
    let read = async {
        let mut looks = interval(Duration::from_millis(100));
        let mut before = None;
        loop {
            looks.tick().await;
            let (mut behind, mut end) = (0, 0);
            for group in [topics::ANALYTICS, topics::FRAUD] {
                let lag = groups::lag(kafka, group.id, group.topic.name).await.unwrap();
                behind += lag.iter().map(groups::PartitionLag::records).sum::<i64>();
                end = lag.iter().map(|partition| partition.end).sum();
            }
            if behind == 0 && before.replace(end) == Some(end) {
                return;
            }
        }
    };
    timeout(DEADLINE, read).await.expect("both services read everything");
}

async fn records(kafka: &KafkaConfig) -> Vec<usize> {
    let mut records = Vec::new();
    for topic in topics::ALL {
        records.push(read_topic(kafka, topic.name).await.unwrap().len());
    }
    records
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_comes_to_the_live_documents_and_writes_to_no_topic() {
    let (_broker, kafka) = embedded();
    let (database, stop) = (TestDatabase::create().await, CancellationToken::new());
    let producer = Producer::open(&kafka, Patience::Waiting).unwrap();
    let consumer = |group, role| ConsumerConfig::new(kafka.clone(), group, role, "1");
    let ready = || Readiness::default().component("live");
    let store = headwater_analytics::MongoStore::open(&database.documents).await.unwrap();
    let (config, of_analytics) = (headwater_analytics::Config::default(), consumer(topics::ANALYTICS, "analytics"));
    let analytics = headwater_analytics::run(&config, store, of_analytics, producer.clone(), ready(), stop.clone());
    let store = headwater_fraud::MongoStore::open(&database.documents).await.unwrap();
    let (rules, of_fraud) = (headwater_fraud::Rules::default(), consumer(topics::FRAUD, "fraud"));
    let fraud = headwater_fraud::run(rules, store, of_fraud, producer.clone(), ready(), stop.clone());

    let proved = async {
        let log = RawWriter::open(&kafka);
        for user in ["ann", "bob", "cid"] {
            for (n, event_type) in [(1, "user.password_changed"), (2, "user.ip_changed"), (3, "user.logged_in")] {
                let event = event(user, n, event_type);
                write(&log, &event).await;
                write(&log, &event).await;
            }
        }
        let (key, topic) = (Some(&b"dan"[..]), topics::USER_EVENTS.name);
        log.write(topic, None, key, Some(b"not an envelope"), &[]).await;
        until_read(&kafka).await;

        let settings = Settings { mongodb_uri: Some(database.uri.clone().into()), ..Settings::default() };
        let at = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
        let addresses =
            Addresses { ingress: at, http: at, analytics: at, fraud: at, activity: at, activity_grpc: at, admin: at };
        let broker = Broker { bootstrap: kafka.brokers.clone(), embedded: true };
        let target = Target::new(None, broker, addresses, &settings);
        let again = async |of, until: Option<Name>, target: &Target| {
            let plan = Plan { of, from: From(Start::Beginning), until, keep: true };
            replay(Name::draw(), &plan, target, &settings, Audience::Nobody).await.unwrap()
        };

        let before = records(&kafka).await;
        assert!(before[0] > 19, "verdicts are on the log: {before:?}");
        let live = Comparison::Equal { with: "the live documents".to_owned() };
        let in_memory = Target { mongodb_uri: None, ..target.clone() };
        for of in [Derived::Analytics, Derived::Fraud] {
            let replayed = again(of, None, &target).await;
            assert_eq!(replayed.comparison, live, "{replayed}");
            assert_eq!(replayed.outcomes.records(), before[0] as u64, "{replayed}");
            assert_eq!(replayed.outcomes.dead.values().sum::<u64>(), 1, "{replayed}");
            assert!(replayed.digest.collections.iter().all(|collection| collection.documents > 0), "{replayed}");
            let other = again(of, None, &in_memory).await;
            assert_eq!(other.digest, replayed.digest, "in memory");
            assert!(matches!(other.comparison, Comparison::Impossible { .. }), "{other}");
        }
        assert_eq!(records(&kafka).await, before, "of each topic");

        let first = again(Derived::Analytics, None, &target).await;
        write(&log, &event("eve", 4, "user.logged_in")).await;
        let second = again(Derived::Analytics, Some(first.name.clone()), &target).await;
        assert_eq!(second.comparison, Comparison::Equal { with: format!("replay {}", first.name) }, "{second}");
        until_read(&kafka).await;
        let whole = again(Derived::Analytics, None, &target).await;
        assert_eq!(whole.comparison, live, "{whole}");
        assert_ne!(whole.digest.whole, first.digest.whole, "one event more is another digest");

        discard(&first.name, &target).await.unwrap();
        let again = discard(&first.name, &target).await;
        assert!(again.is_err_and(|error| error.to_string().contains("no collection")));
        let kept = Derived::Analytics.digest(&database.documents, &second.name.suffix()).await.unwrap();
        assert_eq!(kept.whole, second.digest.whole, "those of another replay stay");
        stop.cancel();
    };
    let (analytics, fraud, ()) = tokio::join!(analytics, fraud, proved);
    analytics.unwrap();
    fraud.unwrap();
    database.wipe().await;
}

#[test]
fn a_replay_begins_with_the_log_or_at_a_time() {
    assert_eq!("0".parse(), Ok(From(Start::Beginning)));
    let time = "2026-01-15T10:30:00Z";
    assert_eq!(time.parse(), Ok(From(Start::Time(time.parse().unwrap()))));
    for text in ["", "1", "yesterday", "2026-01-15"] {
        assert!(text.parse::<From>().is_err(), "{text}");
    }
    for (text, valid) in [("0123abcd", true), ("0123abc", false), ("0123ABCD", false), ("0123abcg", false)] {
        assert_eq!(text.parse::<Name>().is_ok(), valid, "{text}");
    }
}
