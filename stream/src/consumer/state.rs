use std::{
    collections::BTreeSet,
    sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError},
    time::Instant,
};

use tracing::debug;

use super::{
    ConsumerConfig,
    books::Books,
    work::{Message, Work},
};
use crate::{
    Decoded, Delivery, Error, Outcome, Record,
    dead_letter::{Disposition, Failure, Raw},
    headers,
};

/// All that a consumer knows, owned by its thread. The client's callbacks run on that thread too, inside a poll, and
/// the trait they implement asks for a lock; nobody ever waits for it.
///
/// A circuit breaker belongs here, as another reason to be `held`; so does what is known of the log's
/// start, to tell lost records from read ones when a partition is assigned.
pub(crate) struct State<W: Work> {
    pub(crate) books: Books,
    pub(crate) work: W,
    messages: Receiver<Message<W::Report>>,
    /// Why the run is over.
    failed: Option<Error>,
    joined: bool,
    /// Nothing more is waited for.
    closing: bool,
    /// The client has been left alone for too long: everything is paused, so that it can be asked without giving.
    held: bool,
    paused: BTreeSet<i32>,
    behind_records: usize,
}

/// What a consumer is, for readiness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Joining,
    Ready,
    Waiting { dependency: &'static str },
}

/// Partitions to pause and to resume.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Flow {
    pub(crate) pause: Vec<i32>,
    pub(crate) resume: Vec<i32>,
}

impl<W: Work> State<W> {
    pub(crate) fn new(books: Books, work: W, messages: Receiver<Message<W::Report>>, config: &ConsumerConfig) -> Self {
        Self {
            books,
            work,
            messages,
            failed: None,
            joined: false,
            closing: false,
            held: false,
            paused: BTreeSet::new(),
            behind_records: config.behind_records,
        }
    }

    /// A record has come: what cannot be used ends here, the rest waits for the handler.
    pub(crate) fn receive(&mut self, record: &Record<'_>, now: Instant) {
        let (position, epoch) = (record.position, self.books.ledger.epoch());
        if !self.books.ledger.take(position) {
            return;
        }
        match self.work.decode(record) {
            Ok(Decoded::Item(item)) => {
                let trace = headers::trace_context(record);
                let delivery = Delivery { position, trace, timestamp: record.timestamp, attempt: 1, item };
                self.work.accept(delivery, record, now);
            }
            Ok(Decoded::Skip(reason)) => self.books.finish(position, epoch, Outcome::Skip(reason)),
            Err(poison) => {
                debug!(?position, reason = poison.reason, "poison");
                let failure = Failure {
                    disposition: Disposition::Poison,
                    reason: poison.reason,
                    message: poison.message,
                    attempts: 0,
                    first_failed_at: self.books.now(),
                };
                self.books.bury(position, epoch, Raw::from(record), failure);
            }
        }
    }

    /// Takes in what has been said meanwhile; whether there was anything.
    pub(crate) fn settle(&mut self, now: Instant) -> bool {
        let mut settled = false;
        loop {
            match self.messages.try_recv() {
                Ok(message) => self.take_in(message, now),
                Err(TryRecvError::Empty) => return settled,
                Err(TryRecvError::Disconnected) => {
                    self.abandoned();
                    return settled;
                }
            }
            settled = true;
        }
    }

    /// Waits until nothing of these partitions is in flight, at most until the deadline; how many records are left.
    /// What cannot end before something that is down is up again is not waited for.
    pub(crate) fn drain(&mut self, partitions: &[i32], deadline: Instant) -> usize {
        loop {
            let handled = self.work.in_flight(partitions);
            let letters = self.books.letters(partitions);
            let worth_waiting_for = (if self.work.waits_for().is_some() { 0 } else { handled })
                + (if self.books.dead_letters_down() { 0 } else { letters });
            if worth_waiting_for == 0 || self.closing || self.failed.is_some() {
                return handled + letters;
            }
            match self.messages.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(message) => self.take_in(message, Instant::now()),
                Err(RecvTimeoutError::Timeout) => return handled + letters,
                Err(RecvTimeoutError::Disconnected) => self.abandoned(),
            }
        }
    }

    fn take_in(&mut self, message: Message<W::Report>, now: Instant) {
        match message {
            Message::Work(report) => {
                if let Err(error) = self.work.settle(report, now, &mut self.books) {
                    self.failed.get_or_insert(error);
                }
            }
            Message::Burial(burial) => self.books.settle(burial),
            Message::Failed(error) => _ = self.failed.get_or_insert(error),
        }
    }

    /// The tasks are gone without a word: their runtime has ended.
    fn abandoned(&mut self) {
        self.failed.get_or_insert(Error::Closed);
    }

    pub(crate) fn feed(&mut self, now: Instant, drained: bool) {
        let epoch = self.books.ledger.epoch();
        self.work.feed(now, drained, epoch);
    }

    /// Whether the client may be asked for more.
    pub(crate) fn may_poll(&self) -> bool {
        self.held || !self.work.is_full()
    }

    /// Which partitions to pause and resume so that what waits stays bounded. `left_alone`: the client has not been
    /// asked for so long that it must be, whether there is room or not.
    pub(crate) fn flow(&mut self, left_alone: bool) -> Flow {
        self.held = if self.held { !self.work.has_room_again() } else { left_alone && self.work.is_full() };
        let mut flow = Flow::default();
        for partition in self.books.ledger.partitions() {
            let paused = self.paused.contains(&partition);
            let behind = if paused { self.behind_records / 2 } else { self.behind_records };
            let stop = self.held
                || self.books.ledger.behind(partition) > behind
                || self.books.overflows(partition, paused)
                || self.work.overflows(partition, paused);
            match (paused, stop) {
                (false, true) => flow.pause.push(partition),
                (true, false) => flow.resume.push(partition),
                _ => {}
            }
        }
        self.paused.extend(&flow.pause);
        for partition in &flow.resume {
            self.paused.remove(partition);
        }
        flow
    }

    pub(crate) fn assign(&mut self, partitions: Vec<(i32, Option<i64>)>) {
        self.joined = true;
        for (partition, _) in &partitions {
            self.paused.remove(partition);
        }
        self.books.ledger.assign(partitions);
        self.books.outcomes.partitions(self.books.ledger.partitions().count());
    }

    /// Drops what waits of these partitions, so that nothing more of them is handed over.
    pub(crate) fn withdraw(&mut self, partitions: &[i32]) {
        self.work.withdraw(partitions);
    }

    /// They are somebody else's from now on.
    pub(crate) fn revoke(&mut self, partitions: &[i32]) {
        self.work.withdraw(partitions); // what failed during the drain waits again
        self.work.revoked(partitions);
        self.books.revoke(partitions);
        self.paused.retain(|partition| !partitions.contains(partition));
        self.books.outcomes.partitions(self.books.ledger.partitions().count());
    }

    /// From here on nothing is waited for.
    pub(crate) fn close(&mut self) {
        self.closing = true;
    }

    pub(crate) fn take_failure(&mut self) -> Option<Error> {
        self.failed.take()
    }

    pub(crate) fn standing(&self, dead_letters: &'static str) -> Standing {
        if !self.joined {
            return Standing::Joining;
        }
        let down = self.books.dead_letters_down().then_some(dead_letters);
        match self.work.waits_for().or(down) {
            Some(dependency) => Standing::Waiting { dependency },
            None => Standing::Ready,
        }
    }
}

#[cfg(test)]
mod tests {
    use headwater_proto::topics::ANALYTICS;
    use tokio::sync::mpsc;

    use super::*;
    use crate::{
        Headers, KafkaConfig, Poison, Position,
        consumer::{outcomes::Outcomes, work::Desk},
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
                books.finish(position, epoch, Outcome::Done);
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
            let books = Books::new(Outcomes::new("group", "test", "1"), letters, task);
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
            bench.state.books.finish(Position { partition: 0, offset }, epoch, Outcome::Done);
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
        bench.state.close();
        assert_eq!(bench.state.drain(&[0], Instant::now() + std::time::Duration::from_secs(20)), 1, "closing waits");
    }

    #[tokio::test]
    async fn the_end_of_every_task_ends_the_run() {
        let mut bench = Bench::with(100, &[0]);
        bench.desk.say(Message::Failed(Error::Panicked { what: "batch handler" }));
        bench.state.settle(Instant::now());
        assert!(matches!(bench.state.take_failure(), Some(Error::Panicked { what: "batch handler" })));
    }
}
