//! The loop against the embedded broker. Real time passes only while a condition is waited for.
mod bad_days;
mod batches;
mod dead_letters;
mod events;
mod members;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use headwater_otel::{Readiness, names};
use headwater_proto::topics::{ANALYTICS, ANALYTICS_DLQ, Group, USER_EVENTS};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinHandle,
    time::interval,
};
use tokio_util::sync::CancellationToken;

use crate::{
    BatchHandler, ConsumerConfig, Decoded, Delivery, EmbeddedKafka, Error, EventHandler, KafkaConfig, OutboundRecord,
    Outcome, Patience, Poison, Position, Positions, Producer, Record, Unavailable, Verdict, run_batches, run_events,
    testing::embedded,
};

const GROUP: Group = ANALYTICS;
const DEADLINE: Duration = Duration::from_secs(25);

/// Waits until the condition holds; says what it was told to say where it does not.
async fn eventually<S: std::fmt::Debug>(what: &str, seen: impl Fn() -> S, holds: impl Fn(&S) -> bool) -> S {
    let start = Instant::now();
    let mut ticks = interval(Duration::from_millis(10));
    loop {
        ticks.tick().await;
        let now = seen();
        if holds(&now) {
            return now;
        }
        assert!(start.elapsed() < DEADLINE, "{what}: not within {DEADLINE:?}, last seen {now:?}");
    }
}

/// A broker, a writer, and the members of one group.
struct Stage {
    broker: EmbeddedKafka,
    kafka: KafkaConfig,
    producer: Producer,
    readiness: Readiness,
    group_suffix: String,
}

impl Stage {
    fn new() -> Self {
        static ONE: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let (broker, kafka) = embedded();
        let producer = Producer::open(&kafka, Patience::Waiting).unwrap();
        let group_suffix = format!("-{}", ONE.fetch_add(1, Ordering::Relaxed)); // one group of counters per test
        metrics(); // before any counter is made
        Self { broker, kafka, producer, readiness: Readiness::default(), group_suffix }
    }

    fn config(&self, instance: &str) -> ConsumerConfig {
        let mut config = ConsumerConfig::new(self.kafka.clone(), GROUP, "test", instance);
        config.group_suffix.clone_from(&self.group_suffix);
        config
    }

    /// Writes (partition, key, value) in order.
    async fn write(&self, records: &[(i32, &str, &str)]) -> Vec<Position> {
        let records: Vec<_> = records.iter().map(|(p, key, value)| outbound(*p, key, value.as_bytes())).collect();
        let reports = self.producer.enqueue(records).await.unwrap().await;
        reports.into_iter().map(|report| report.unwrap()).collect()
    }

    fn batches(&self, config: ConsumerConfig, handler: Recorder) -> Member {
        let stop = CancellationToken::new();
        let component = self.readiness.component(config.instance.clone());
        let run = run_batches(config, handler, self.producer.clone(), component, stop.clone());
        Member { stop, run: tokio::spawn(run) }
    }

    fn events(&self, config: ConsumerConfig, handler: &Arc<Judge>) -> Member {
        let stop = CancellationToken::new();
        let component = self.readiness.component(config.instance.clone());
        let run = run_events(config, handler.clone(), self.producer.clone(), component, stop.clone());
        Member { stop, run: tokio::spawn(run) }
    }

    /// How many records ended so, by reason; "" is the reason of done.
    fn ended(&self, outcome: &str) -> BTreeMap<String, u64> {
        self.counted(names::CONSUMER_OUTCOMES, &[("outcome", outcome)])
    }

    fn counted(&self, counter: &str, labels: &[(&str, &str)]) -> BTreeMap<String, u64> {
        let text = metrics().render();
        let group = format!("messaging_consumer_group_name=\"{}{}\"", GROUP.id, self.group_suffix);
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
        let lines = text.lines().filter(|line| {
            let named = line.split('{').next().is_some_and(|name| name == counter.replace('.', "_"));
            named && line.contains(&group) && line.contains("role=\"test\"") && labels.iter().all(|l| line.contains(l))
        });
        let reason = |line: &str| {
            let after = line.split("reason=\"").nth(1).unwrap_or_default();
            after.split('"').next().unwrap_or_default().to_owned()
        };
        lines.map(|line| (reason(line), line.rsplit(' ').next().unwrap().parse().unwrap())).collect()
    }

    async fn ready(&self) {
        eventually("ready", || self.readiness.waiting(), |waiting| waiting.is_empty()).await;
    }
}

fn metrics() -> &'static PrometheusHandle {
    static HANDLE: std::sync::OnceLock<PrometheusHandle> = std::sync::OnceLock::new();
    HANDLE.get_or_init(|| PrometheusBuilder::new().install_recorder().unwrap())
}

fn outbound<'a>(partition: i32, key: &'a str, value: &'a [u8]) -> OutboundRecord<'a> {
    let (key, value, partition) = (key.as_bytes(), Some(value), Some(partition));
    OutboundRecord { topic: USER_EVENTS.name, key, value, headers: &[], timestamp: None, partition }
}

/// One running consumer.
struct Member {
    stop: CancellationToken,
    run: JoinHandle<Result<(), Error>>,
}

impl Member {
    async fn stop(self) {
        self.stop.cancel();
        self.end().await.unwrap();
    }

    async fn end(self) -> Result<(), Error> {
        tokio::time::timeout(DEADLINE, self.run).await.expect("the run ends in time").expect("the run does not panic")
    }
}

/// What handlers saw, in their order, over all members.
#[derive(Clone, Default, Debug)]
struct Log(Arc<Mutex<Vec<Seen>>>);

#[derive(Clone, Debug, PartialEq)]
struct Seen {
    member: &'static str,
    position: Position,
    attempt: u32,
    item: String,
}

impl Log {
    fn add(&self, member: &'static str, delivery: &Delivery<String>) {
        let Delivery { position, attempt, item, .. } = delivery.clone();
        self.0.lock().unwrap().push(Seen { member, position, attempt, item });
    }

    fn all(&self) -> Vec<Seen> {
        self.0.lock().unwrap().clone()
    }

    fn items(&self) -> Vec<String> {
        self.all().into_iter().map(|seen| seen.item).collect()
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

/// A null value is poison and one that begins with `!`, one with `?` is skipped, with `*` panics; any other is an item.
fn decode(record: &Record<'_>) -> Result<Decoded<String>, Poison> {
    let value = record.value.ok_or_else(|| Poison { reason: "nothing", message: "no value".to_owned() })?;
    match value.first() {
        Some(b'!') => Err(Poison { reason: "garbage", message: "the value begins with !".to_owned() }),
        Some(b'?') => Ok(Decoded::Skip("question")),
        Some(b'*') => panic!("as the test wants it"),
        _ => Ok(Decoded::Item(String::from_utf8_lossy(value).into_owned())),
    }
}

/// A store in memory with what can be wrong with one.
#[derive(Clone, Default)]
struct Recorder {
    member: &'static str,
    log: Log,
    down: Arc<AtomicBool>,
    /// Where there is one, each batch takes a permit, and waits for it.
    turns: Option<Arc<Semaphore>>,
    panics_at: Option<&'static str>,
    revoked: Arc<Mutex<Vec<i32>>>,
}

impl BatchHandler for Recorder {
    type Item = String;

    fn decode(record: &Record<'_>) -> Result<Decoded<String>, Poison> {
        decode(record)
    }

    async fn apply(&mut self, batch: &[Delivery<String>]) -> Result<Vec<Outcome>, Unavailable> {
        if self.down.load(Ordering::SeqCst) {
            return Err(Unavailable { dependency: "store", source: "connection refused".into() });
        }
        assert!(!batch.iter().any(|delivery| Some(delivery.item.as_str()) == self.panics_at), "as the test wants it");
        if let Some(turns) = &self.turns {
            turns.acquire().await.unwrap().forget();
        }
        for delivery in batch {
            self.log.add(self.member, delivery);
        }
        Ok(vec![Outcome::Done; batch.len()])
    }

    fn revoked(&mut self, partitions: &[i32]) {
        self.revoked.lock().unwrap().extend(partitions);
    }
}

type Decide = dyn Fn(&Delivery<String>) -> Verdict + Send + Sync;

/// Gives each record the verdict that the test decides.
struct Judge {
    log: Log,
    verdict: Box<Decide>,
    /// No verdict before it says `true`.
    gate: Option<watch::Receiver<bool>>,
}

impl Judge {
    fn new(verdict: impl Fn(&Delivery<String>) -> Verdict + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { log: Log::default(), verdict: Box::new(verdict), gate: None })
    }
}

impl EventHandler for Judge {
    type Item = String;

    fn decode(&self, record: &Record<'_>) -> Result<Decoded<String>, Poison> {
        decode(record)
    }

    async fn handle(&self, delivery: &Delivery<String>) -> Verdict {
        self.log.add("judge", delivery);
        if let Some(mut gate) = self.gate.clone() {
            gate.wait_for(|open| *open).await.unwrap();
        }
        (self.verdict)(delivery)
    }
}
