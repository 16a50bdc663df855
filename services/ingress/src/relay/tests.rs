use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::{
        Mutex,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
};

use headwater_proto::Millis;
use headwater_stream::{
    EmbeddedKafka, FixedClock, Positions,
    testing::{embedded, read_topic},
};
use tokio::task::JoinHandle;

use super::*;
use crate::outbox::{PackedRow, Packer, Waiting};

const DEADLINE: Duration = Duration::from_secs(30);

/// Of one reading.
const ROWS: usize = 200;

/// An outbox that shows what it was asked, and fails where it is told to.
#[derive(Clone, Default)]
struct Rows(Arc<Inner>);

#[derive(Default)]
struct Inner {
    rows: Mutex<BTreeMap<i64, PackedRow>>,
    deleted: Mutex<Vec<i64>>,
    asked: AtomicU32,
    most_in_flight: AtomicUsize,
    failures: AtomicU32,
}

impl Rows {
    fn insert(&self, id: i64, row: PackedRow) {
        self.0.rows.lock().unwrap().insert(id, row);
    }

    fn ids(&self) -> Vec<i64> {
        self.0.rows.lock().unwrap().keys().copied().collect()
    }

    fn fails(&self) -> Result<(), StoreError> {
        let failing = self.0.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        failing.map_or(Ok(()), |_| Err(StoreError::unavailable("told to")))
    }
}

impl Outbox for Rows {
    async fn lease(&self, _relay: Uuid) -> Result<Vec<Lease>, StoreError> {
        Ok((0..12).map(|partition| Lease { partition, token: 1, surplus: false }).collect())
    }

    async fn release(&self, _leases: &[Lease]) -> Result<(), StoreError> {
        Ok(())
    }

    async fn resign(&self, _relay: Uuid) -> Result<(), StoreError> {
        Ok(())
    }

    async fn unsent(&self, lease: &Lease, in_flight: &[i64], limit: usize) -> Result<Vec<OutboxRow>, StoreError> {
        self.fails()?;
        self.0.most_in_flight.fetch_max(in_flight.len(), Ordering::SeqCst);
        let partition = lease.partition;
        let rows = self.0.rows.lock().unwrap();
        let unsent = rows.iter().filter(|(id, row)| row.partition == partition && !in_flight.contains(id)).take(ROWS);
        let mut bytes = 0;
        let within = unsent.take_while(|(_, row)| {
            let first = bytes == 0;
            bytes += row.bytes.len();
            first || bytes <= limit
        });
        Ok(within
            .map(|(&id, PackedRow { partition, records, bytes })| OutboxRow {
                id,
                partition: *partition,
                records: *records,
                bytes: bytes.clone(),
            })
            .collect())
    }

    async fn delete(&self, sent: &[SentRow]) -> Result<(), StoreError> {
        self.fails()?;
        let mut rows = self.0.rows.lock().unwrap();
        for SentRow { id, .. } in sent {
            assert!(rows.remove(id).is_some(), "row {id} is deleted twice");
        }
        self.0.deleted.lock().unwrap().extend(sent.iter().map(|row| row.id));
        Ok(())
    }

    async fn occupied(&self) -> Result<Vec<i32>, StoreError> {
        self.0.asked.fetch_add(1, Ordering::SeqCst);
        let partitions: BTreeSet<i32> = self.0.rows.lock().unwrap().values().map(|row| row.partition).collect();
        Ok(partitions.into_iter().collect())
    }

    async fn waiting(&self) -> Result<Waiting, StoreError> {
        Ok(Waiting::default())
    }
}

struct Running {
    kafka: EmbeddedKafka,
    config: KafkaConfig,
    rows: Rows,
    committed: Arc<Notify>,
    shutdown: CancellationToken,
    relay: JoinHandle<Result<(), Error>>,
}

fn start((kafka, config): (EmbeddedKafka, KafkaConfig), rows: Rows) -> Running {
    let (committed, shutdown) = (Arc::new(Notify::new()), CancellationToken::new());
    let clock = FixedClock::at(Millis::from_millis(0));
    let relay = tokio::spawn(run(rows.clone(), config.clone(), clock, committed.clone(), shutdown.clone()));
    Running { kafka, config, rows, committed, shutdown, relay }
}

impl Running {
    async fn until(&self, what: &str, reached: impl Fn() -> bool) {
        let deadline = Instant::now() + DEADLINE;
        let mut look = interval(Duration::from_millis(5));
        while !reached() {
            assert!(Instant::now() < deadline, "not {what} within {DEADLINE:?}; rows left: {:?}", self.rows.ids());
            look.tick().await;
        }
    }

    async fn empty(&self) {
        self.until("an empty outbox", || self.rows.ids().is_empty()).await;
    }

    /// The values of each key in the log, where they stand first.
    async fn log(&self) -> BTreeMap<String, Vec<String>> {
        let mut log = BTreeMap::<String, Vec<String>>::new();
        let mut seen = HashSet::new();
        for record in read_topic(&self.config, USER_EVENTS.name).await.unwrap() {
            let value = String::from_utf8(record.value.clone().unwrap()).unwrap();
            if seen.insert((record.key_text(), value.clone())) {
                log.entry(record.key_text()).or_default().push(value);
            }
        }
        log
    }

    async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(DEADLINE, self.relay).await.expect("the relay ends").unwrap().unwrap();
    }
}

/// Rows of some records each, every user's values counting up over the rows.
fn fill(rows: &Rows, users: i64, rounds: i64) -> BTreeMap<String, Vec<String>> {
    let mut expected = BTreeMap::<String, Vec<String>>::new();
    let mut id = 0;
    for round in 0..rounds {
        let mut packer = Packer::new();
        for user in 0..users {
            let (key, value) = (format!("user-{user}"), format!("{round:04}"));
            packer.push(key.as_bytes(), value.as_bytes(), 1_768_473_000_000, &[("ce_id", value.as_bytes())]);
            expected.entry(key).or_default().push(value);
        }
        for row in packer.finish() {
            id += 1;
            rows.insert(id, row);
        }
    }
    expected
}

fn row(key: &str, value: &str) -> PackedRow {
    let mut packer = Packer::new();
    packer.push(key.as_bytes(), value.as_bytes(), 0, &[]);
    packer.finish().remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_reach_the_log_in_the_order_of_each_user_and_leave_the_outbox() {
    let rows = Rows::default();
    let expected = fill(&rows, 40, 50);
    let running = start(embedded(), rows);
    running.empty().await;
    assert_eq!(running.log().await, expected);
    let records = read_topic(&running.config, USER_EVENTS.name).await.unwrap();
    assert_eq!(records.len(), 40 * 50, "each once");
    assert!(records.iter().all(|record| record.timestamp == Some(1_768_473_000_000)
        && record.header("ce_id") == record.value.as_deref()
        && record.position.partition == headwater_stream::partition_for(record.key.as_deref().unwrap(), 12)));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_batch_costs_repetitions_but_no_record_and_no_order() {
    let rows = Rows::default();
    let expected = fill(&rows, 40, 50);
    let broker = embedded();
    broker.0.refuse_next_produce();
    let running = start(broker, rows);
    running.empty().await;
    assert_eq!(running.log().await, expected);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_row_overtakes_one_whose_failure_is_not_yet_read() {
    let rows = Rows::default();
    let (kafka, config) = embedded();
    let mut relay = Relay::open(rows.clone(), &config).unwrap();
    relay.leases.changed().await.unwrap();
    relay.leased().unwrap();
    kafka.refuse_next_produce();
    rows.insert(1, row("ada", "1"));
    relay.step().await.unwrap();
    let refused = async {
        let mut look = interval(Duration::from_millis(5));
        while relay.producer.in_flight() > 0 {
            look.tick().await;
        }
    };
    tokio::time::timeout(DEADLINE, refused).await.expect("the broker's answer");

    rows.insert(2, row("ada", "2"));
    let failure = relay.step().await.expect_err("a producer with a failure to tell");
    relay.recover(failure).await;
    let running = start((kafka, config), rows);
    running.empty().await;
    assert_eq!(running.log().await["ada"], ["1", "2"]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_leaves_the_rows_where_they_are_until_the_broker_is_back() {
    let rows = Rows::default();
    let running = start(embedded(), rows.clone());
    running.kafka.go_down();
    let mut expected = fill(&rows, 40, 5);
    let many: Vec<String> = (0..4 * WINDOW_ROWS).map(|n| n.to_string()).collect();
    for (id, value) in (1_000..).zip(&many) {
        rows.insert(id, row("ada", value));
    }
    expected.insert("ada".to_owned(), many);
    running.committed.notify_one();
    let asked = rows.0.asked.load(Ordering::SeqCst);
    running.until("asked again and again", || rows.0.asked.load(Ordering::SeqCst) > asked + 5).await;
    assert!(rows.0.deleted.lock().unwrap().is_empty());
    let most = rows.0.most_in_flight.load(Ordering::SeqCst);
    assert!((ROWS..WINDOW_ROWS).contains(&most), "{most} rows in flight were named to the store");
    running.kafka.come_back();
    running.empty().await;
    assert_eq!(running.log().await, expected);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_is_asked_again_and_nothing_repeats() {
    let rows = Rows::default();
    let expected = fill(&rows, 40, 5);
    rows.0.failures.store(5, Ordering::SeqCst);
    let running = start(embedded(), rows);
    running.empty().await;
    assert_eq!(running.log().await, expected);
    assert_eq!(read_topic(&running.config, USER_EVENTS.name).await.unwrap().len(), 40 * 5);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lower_id_that_is_committed_late_is_published_too() {
    let rows = Rows::default();
    rows.insert(8, row("ada", "later id"));
    let running = start(embedded(), rows.clone());
    running.empty().await;
    rows.insert(3, row("ada", "earlier id"));
    running.committed.notify_one();
    running.empty().await;
    assert_eq!(running.log().await["ada"], ["later id", "earlier id"]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_nobody_can_read_stops_its_shard_and_no_other() {
    let rows = Rows::default();
    let damaged = PackedRow { records: 2, ..row("ada", "1") };
    let shard = damaged.partition;
    rows.insert(1, damaged);
    rows.insert(2, row("ada", "2"));
    let others = (0..20).map(|n| row(&format!("user-{n}"), "1")).filter(|row| row.partition != shard);
    (10..).zip(others).for_each(|(id, row)| rows.insert(id, row));
    let running = start(embedded(), rows.clone());
    running.until("down to the stopped shard", || rows.ids() == [1, 2]).await;
    assert!(!running.log().await.contains_key("ada"), "never skipped");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_relay_waits_while_the_embedded_broker_holds_too_much_unread() {
    let rows = Rows::default();
    let value = "v".repeat(100_000);
    (0..100).for_each(|id| rows.insert(id, row("ada", &value)));
    let partition = row("ada", "").partition;
    let (kafka, config) = embedded();
    let (positions, backlog) = (Positions::new(), kafka.backlog());
    backlog.register(positions.clone());
    let running = start((kafka, config), rows.clone());
    running.until("at the limit", || backlog.outstanding(partition) >= Backlog::LIMIT).await;
    let asked = rows.0.asked.load(Ordering::SeqCst);
    running.until("asked again and again", || rows.0.asked.load(Ordering::SeqCst) > asked + 5).await;
    let (outstanding, left) = (backlog.outstanding(partition), rows.ids().len());
    assert!(outstanding < Backlog::LIMIT + 500_000 && left > 50, "{outstanding} bytes unread, {left} rows left");

    let next = AtomicU32::new(0);
    running
        .until("empty while somebody reads", || {
            positions.advance(partition, i64::from(next.fetch_add(1, Ordering::SeqCst)));
            rows.ids().is_empty()
        })
        .await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_shutdown_what_is_committed_is_read_window_by_window_and_arrives() {
    let rows = Rows::default();
    let value = "v".repeat(100_000);
    (1..=30).for_each(|id| rows.insert(id, row("ada", &value)));
    let running = start(embedded(), rows.clone());
    running.until("reading", || !rows.0.deleted.lock().unwrap().is_empty()).await;
    running.shutdown.cancel();
    let config = running.config.clone();
    let Running { kafka: _kafka, relay, .. } = running;
    tokio::time::timeout(DEADLINE, relay).await.expect("the relay ends").unwrap().unwrap();
    assert!(rows.ids().is_empty(), "left: {:?}", rows.ids());
    assert_eq!(read_topic(&config, USER_EVENTS.name).await.unwrap().len(), 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn at_shutdown_what_is_in_flight_arrives_and_is_deleted() {
    let rows = Rows::default();
    let (kafka, config) = embedded();
    // a linger that outlasts the test: only the drain makes the record leave
    let running = start((kafka, KafkaConfig { linger: DEADLINE * 4, ..config }), rows.clone());
    rows.insert(1, row("ada", "1"));
    let asked = rows.0.asked.load(Ordering::SeqCst);
    running.until("read", || rows.0.asked.load(Ordering::SeqCst) > asked + 3).await;
    assert_eq!(rows.ids(), [1]);
    let Running { kafka: _kafka, config, shutdown, relay, .. } = running;
    shutdown.cancel();
    tokio::time::timeout(DEADLINE, relay).await.expect("the relay ends").unwrap().unwrap();
    assert!(rows.ids().is_empty(), "delivered and deleted");
    assert_eq!(read_topic(&config, USER_EVENTS.name).await.unwrap().len(), 1);
}
