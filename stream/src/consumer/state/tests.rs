use headwater_proto::{Millis, topics::ANALYTICS};
use tokio::sync::mpsc;

use super::*;
use crate::{
    Headers, KafkaConfig, Poison, Position,
    consumer::{books::Burying, outcomes::Outcomes, work::Desk},
    dead_letter::Order,
    ledger::Epoch,
};

/// A queue that the test empties.
#[derive(Default)]
struct Queue(Vec<Position>);

impl Work for Queue {
    type Item = ();
    type Report = ();

    fn decode(&self, record: &Record<'_>) -> Result<Decoded<()>, Poison> {
        match record.key {
            Some(b"poison") => Err(Poison { reason: "garbage", message: String::new() }),
            _ => Ok(Decoded::Item(())),
        }
    }
    fn accept(&mut self, delivery: Delivery<()>, _: &Record<'_>, _: Instant) {
        self.0.push(delivery.position);
    }
    fn feed(&mut self, _: Instant, _: bool, _: Epoch) {}
    fn settle(&mut self, (): (), _: Instant, books: &mut Books) -> Result<(), Error> {
        for position in self.0.drain(..) {
            let epoch = books.ledger.epoch();
            books.finish(position, epoch, Outcome::Done, Millis::default());
        }
        Ok(())
    }
    fn is_full(&self) -> bool {
        self.0.len() >= 4
    }
    fn has_room_again(&self) -> bool {
        self.0.len() <= 2
    }
    fn overflows(&self, _: i32, _: bool) -> bool {
        false
    }
    fn withdraw(&mut self, partitions: &[i32]) {
        self.0.retain(|position| !partitions.contains(&position.partition));
    }
    fn in_flight(&self, partitions: &[i32]) -> usize {
        self.0.iter().filter(|position| partitions.contains(&position.partition)).count()
    }
    fn waits_for(&self) -> Option<&'static str> {
        None
    }
    fn revoked(&mut self, _: &[i32]) {}
    fn due(&self) -> Option<Instant> {
        None
    }
}

struct Bench {
    state: State<Queue>,
    desk: Desk<()>,
    orders: mpsc::UnboundedReceiver<Order>,
}

impl Bench {
    fn with(behind_records: usize, partitions: &[i32]) -> Self {
        let (desk, messages) = Desk::of_this_thread();
        let (letters, orders) = mpsc::unbounded_channel();
        let task = desk.spawn(&tokio::runtime::Handle::current(), "nothing", std::future::pending());
        let books = Books::new(Outcomes::new("group", "test", "1"), Some(Burying { letters, _task: task }));
        let mut config = ConsumerConfig::new(KafkaConfig::new("nowhere"), ANALYTICS, "test", "1");
        config.behind_records = behind_records;
        let mut state = State::new(books, Queue::default(), messages, &config);
        state.assign(partitions.iter().map(|&partition| (partition, Some(0))).collect());
        Self { state, desk, orders }
    }

    fn receive(&mut self, partition: i32, offset: i64, key: &[u8], value: &[u8]) {
        let position = Position { partition, offset };
        let (key, value) = (Some(key), Some(value));
        let record =
            Record { topic: "user.events", position, timestamp: None, key, value, headers: Headers::Slice(&[]) };
        self.state.receive(&record, Instant::now());
    }

    fn flow(&mut self, left_alone: bool) -> (Vec<i32>, Vec<i32>) {
        let Flow { pause, resume } = self.state.flow(left_alone);
        (pause, resume)
    }
}

#[tokio::test]
async fn a_full_buffer_first_stops_the_asking_then_pauses_and_goes_on_at_half() {
    let mut bench = Bench::with(100, &[0, 1]);
    for offset in 0..4 {
        bench.receive(0, offset, b"ann", b"");
    }
    assert_eq!(bench.flow(false), (vec![], vec![]), "a pause throws away what was fetched");
    assert!(!bench.state.may_poll());
    assert_eq!(bench.flow(true), (vec![0, 1], vec![]));
    assert!(bench.state.may_poll(), "paused, it can be asked");
    bench.state.assign(vec![(2, Some(0))]);
    assert_eq!(bench.flow(false), (vec![2], vec![]), "what is assigned meanwhile is paused too");
    bench.state.work.0.truncate(3);
    assert_eq!(bench.flow(false), (vec![], vec![]), "not yet half");
    bench.state.work.0.truncate(2);
    assert_eq!(bench.flow(false), (vec![], vec![0, 1, 2]));
}

#[tokio::test]
async fn a_partition_far_behind_is_paused_alone_until_half_is_gone() {
    let mut bench = Bench::with(3, &[0, 1]);
    for offset in 0..4 {
        bench.receive(0, offset, b"ann", b"");
    }
    assert_eq!(bench.flow(false), (vec![0], vec![]));
    let epoch = bench.state.books.ledger.epoch();
    for offset in 0..3 {
        assert_eq!(bench.flow(false), (vec![], vec![]), "{offset} of 4 finished");
        bench.state.books.finish(Position { partition: 0, offset }, epoch, Outcome::Done, Millis::default());
    }
    assert_eq!(bench.flow(false), (vec![], vec![0]));
}

#[tokio::test]
async fn letters_that_wait_are_bounded_by_their_bytes_and_withdrawn_with_their_partition() {
    let mut bench = Bench::with(100, &[0, 1]);
    bench.receive(0, 0, b"poison", &vec![0; 2 * 1024 * 1024]);
    bench.receive(1, 0, b"poison", b"small");
    assert_eq!(bench.flow(false), (vec![0], vec![]));
    bench.state.revoke(&[0]);
    assert_eq!(bench.flow(false), (vec![], vec![]));
    assert_eq!((bench.state.books.letters(&[0]), bench.state.books.letters(&[1])), (0, 1));
    let mut orders = Vec::new();
    while let Ok(order) = bench.orders.try_recv() {
        orders.push(order);
    }
    assert!(matches!(&orders[..], [Order::Bury(_), Order::Bury(_), Order::Withdraw(gone)] if *gone == [0]));
}

#[tokio::test]
async fn a_drain_takes_in_completions_until_nothing_is_left_or_the_deadline() {
    let mut bench = Bench::with(100, &[0, 1]);
    bench.receive(0, 0, b"ann", b"");
    bench.receive(1, 0, b"bob", b"");
    assert_eq!(bench.state.drain(&[0], Instant::now()), 1, "nobody finished it");
    bench.desk.say(Message::Work(()));
    assert_eq!(bench.state.drain(&[0], Instant::now() + std::time::Duration::from_secs(20)), 0);
    assert_eq!(bench.state.books.ledger.frontier(0), Some(1));
    bench.receive(0, 1, b"ann", b"");
    bench.state.close(Instant::now());
    assert_eq!(bench.state.drain(&[0], Instant::now() + std::time::Duration::from_secs(20)), 1, "closing waits");
}

#[tokio::test]
async fn the_end_of_every_task_ends_the_run() {
    let mut bench = Bench::with(100, &[0]);
    bench.desk.say(Message::Failed(Error::Panicked { what: "batch handler" }));
    bench.state.settle(Instant::now());
    assert!(matches!(bench.state.take_failure(), Some(Error::Panicked { what: "batch handler" })));
}

#[tokio::test]
async fn partitions_without_a_start_are_waited_for_but_not_for_ever() {
    let mut bench = Bench::with(100, &[0]);
    let seen = |bench: &mut Bench| {
        let statistics = Statistics { connected: true, partitions: vec![] };
        let hungry = bench.state.observe(&statistics, Instant::now(), Millis::from_millis(0)).hungry;
        (bench.state.standing(None, None), hungry)
    };
    assert_eq!(seen(&mut bench), (Standing::Ready, false));
    bench.state.expect_starts(&[1, 2]);
    assert_eq!(seen(&mut bench), (Standing::Joining, true), "a client that does not get them is replaced");
    bench.state.revoke(&[1]);
    bench.state.assign(vec![(2, None)]);
    assert_eq!(seen(&mut bench), (Standing::Ready, false));
    bench.state.expect_starts(&[1]);
    bench.state.rejoin();
    assert!(bench.state.unplaced().is_empty(), "the next client is assigned its own");
}
