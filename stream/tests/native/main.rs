//! The stream on a real Kafka, which is killed and frozen under load. Each test has a topic and a group of its own; those
//! that harm the broker have it for themselves, the others run side by side.
//!
//! `HEADWATER_TEST_KAFKA` is the broker of the stack that `deploy/native/stack` handles, in the folder that
//! `HEADWATER_NATIVE_DIR` names.
mod faults;
mod load;
mod members;
mod truncation;

use std::{
    collections::BTreeSet,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use headwater_otel::{Readiness, names};
use headwater_proto::topics::{ALL, Group, Topic, USER_EVENTS};
use headwater_stream::{
    BatchHandler, ConsumerConfig, Decoded, Delivery, Error, KafkaConfig, Outcome, Patience, Poison, Producer, Record,
    Unavailable, apply_topics, groups::describe, run_batches,
};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::{
    sync::RwLock,
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

const STACK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/native/stack");
const BROKERS: &str = "HEADWATER_TEST_KAFKA";
/// A rebalance on a real broker takes a session, and a broker's start some seconds.
const DEADLINE: Duration = Duration::from_secs(90);
/// An idle member, whatever became of its broker (SPEC.md).
const STOP: Duration = Duration::from_secs(5);
/// The shortest that a broker allows unless it is told otherwise.
const SESSION: Duration = Duration::from_secs(6);
/// So soon a member hears that others come and go.
const HEARTBEAT: Duration = Duration::from_millis(500);
/// Written by who harms the one broker, read by who needs it whole.
static BROKER: RwLock<()> = RwLock::const_new(());

fn brokers() -> String {
    std::env::var(BROKERS).unwrap_or_else(|_| {
        panic!(
            "{BROKERS} is not set: start a real Kafka with `deploy/native/stack up kafka`, then \
             `eval \"$(deploy/native/stack env)\"; export {BROKERS}=$KAFKA_BROKERS`"
        )
    })
}

/// `deploy/native/stack <verb> kafka`: of the broker under test and no other.
async fn stack(verb: &'static str) {
    let run = |verb: &'static str| {
        let output = Command::new(STACK).args([verb, "kafka"]).output().expect("deploy/native/stack runs");
        assert!(output.status.success(), "stack {verb} kafka: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let done = tokio::task::spawn_blocking(move || {
        static CHECKED: std::sync::OnceLock<()> = std::sync::OnceLock::new();
        CHECKED.get_or_init(|| {
            let (environment, brokers) = (run("env"), brokers());
            let ours = environment.contains(&brokers);
            assert!(
                ours,
                "{BROKERS}={brokers}, but the stack says {environment}: set HEADWATER_NATIVE_DIR to its folder"
            );
        });
        run(verb);
    });
    done.await.expect("the stack obeys");
}

async fn eventually<S: std::fmt::Debug>(what: &str, mut seen: impl AsyncFnMut() -> S, holds: impl Fn(&S) -> bool) -> S {
    let start = Instant::now();
    let mut ticks = interval(Duration::from_millis(50));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now = seen().await;
        if holds(&now) {
            return now;
        }
        assert!(start.elapsed() < DEADLINE, "{what}: not within {DEADLINE:?}, last seen {now:?}");
    }
}

fn metrics() -> &'static PrometheusHandle {
    static HANDLE: std::sync::OnceLock<PrometheusHandle> = std::sync::OnceLock::new();
    HANDLE.get_or_init(|| PrometheusBuilder::new().install_recorder().unwrap())
}

/// The sum of a metric's lines that contain all of these.
fn metric(name: &str, with: &[&str]) -> f64 {
    let text = metrics().render();
    let name = name.replace('.', "_");
    let lines = text.lines().filter(|line| line.starts_with(&name) && with.iter().all(|part| line.contains(part)));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// A topic and a group that nobody else uses.
struct Stage {
    kafka: KafkaConfig,
    group: Group,
    readiness: Readiness,
}

impl Stage {
    async fn open() -> Self {
        Self::with_partitions(USER_EVENTS.partitions).await
    }

    async fn with_partitions(partitions: i32) -> Self {
        static ONE: AtomicU32 = AtomicU32::new(0);
        metrics();
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis();
        let name = format!("native.{now}.{}.{}", std::process::id(), ONE.fetch_add(1, Ordering::Relaxed));
        let mut stage = Self::of(brokers(), &name);
        stage.group.topic.partitions = partitions;
        stack("up").await;
        let topics: Vec<Topic> = [stage.group.topic].into_iter().chain(stage.group.dead_letters).collect();
        apply_topics(&stage.kafka, ALL).await.unwrap();
        apply_topics(&stage.kafka, &topics).await.unwrap();
        // what a broker has made it may for a moment not yet know
        let unknown = async || describe(&stage.kafka, stage.group.id, stage.group.topic.name).await.err();
        eventually("the topic is known", unknown, Option::is_none).await;
        stage
    }

    /// The names live as long as the process: so does a test's topic.
    fn of(brokers: String, name: &str) -> Self {
        let leak = |name: String| -> &'static str { Box::leak(name.into_boxed_str()) };
        let topic = Topic { name: leak(name.to_owned()), ..USER_EVENTS };
        let dead_letters = Topic { name: leak(format!("{name}.dlq")), partitions: 3, ..USER_EVENTS };
        let group = Group { id: leak(format!("{name}-group")), topic, dead_letters: Some(dead_letters) };
        let (session_timeout, heartbeat_interval) = (SESSION, HEARTBEAT);
        let kafka = KafkaConfig { session_timeout, heartbeat_interval, ..KafkaConfig::new(brokers) };
        Self { kafka, group, readiness: Readiness::default() }
    }

    fn member(&self, instance: &str, log: &Log) -> Member {
        self.member_that(instance, log, |_| ())
    }

    fn member_that(&self, instance: &str, log: &Log, differs: impl FnOnce(&mut ConsumerConfig)) -> Member {
        let mut config = ConsumerConfig::new(self.kafka.clone(), self.group, "native", instance);
        differs(&mut config);
        let stop = CancellationToken::new();
        let component = self.readiness.component(instance);
        let letters = Producer::open(&self.kafka, Patience::Waiting).unwrap();
        let run = run_batches(config, log.clone(), letters, component, stop.clone());
        Member { stop, run: tokio::spawn(run) }
    }

    async fn ready(&self) {
        eventually("ready", async || self.readiness.waiting(), |waiting| waiting.is_empty()).await;
    }
}

struct Member {
    stop: CancellationToken,
    run: JoinHandle<Result<(), Error>>,
}

impl Member {
    async fn stop(self) {
        assert!(!self.run.is_finished(), "it ended by itself: {:?}", self.run.await);
        self.stop.cancel();
        let told = Instant::now();
        tokio::time::timeout(DEADLINE, self.run).await.expect("the run ends in time").unwrap().unwrap();
        assert!(told.elapsed() < STOP, "an idle member took {:?} to stop", told.elapsed());
    }
}

/// A store in memory that keeps what came, in its order.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    fn distinct(&self) -> usize {
        self.0.lock().unwrap().iter().collect::<BTreeSet<_>>().len()
    }
}

impl BatchHandler for Log {
    type Item = String;

    fn decode(record: &Record<'_>) -> Result<Decoded<String>, Poison> {
        Ok(Decoded::Item(String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned()))
    }

    async fn apply(&mut self, batch: &[Delivery<String>]) -> Result<Vec<Outcome>, Unavailable> {
        self.0.lock().unwrap().extend(batch.iter().map(|delivery| delivery.item.clone()));
        Ok(vec![Outcome::Done; batch.len()])
    }
}

/// Owned partitions as the metric of an instance shows them.
fn owned(stage: &Stage, instance: &str) -> f64 {
    metric(names::CONSUMER_PARTITIONS, &[stage.group.id, &format!("instance=\"{instance}\"")])
}
