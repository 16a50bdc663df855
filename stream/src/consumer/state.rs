#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError},
    time::{Duration, Instant},
};

use headwater_proto::{
    Millis,
    topics::{self, Topic},
};
use tracing::{debug, error, info};

use super::{
    ConsumerConfig,
    books::Books,
    work::{Message, Work},
};
use crate::{
    Decoded, Delivery, Error, Outcome, Record,
    breaker::{Breaker, Change},
    dead_letter::{Disposition, Failure, Raw},
    headers,
    rebalance::Statistics,
    spans::Spans,
    truncation::Log,
    watchdog::{Snapshot, Stall},
};

/// All that a consumer knows, owned by its thread. The client's callbacks run on that thread too, inside a poll, and
/// the trait they implement asks for a lock; nobody ever waits for it.
pub(crate) struct State<W: Work> {
    pub(crate) books: Books,
    pub(crate) work: W,
    messages: Receiver<Message<W::Report>>,
    /// Why the run is over.
    failed: Option<Error>,
    joined: bool,
    /// Nothing more is waited for but the broker, and for it until then.
    closing: Option<Instant>,
    /// Who comes next begins where the group has committed, and not where a store in memory stands.
    begins_at_commit: bool,
    /// Everything is paused, so that the client can be asked without giving: it has been left alone for too long, or
    /// the breaker is open.
    held: bool,
    paused: BTreeSet<i32>,
    /// Partitions that are ours and that the client does not have yet, because it is not known where the group stands.
    unplaced: BTreeSet<i32>,
    /// Partitions whose next records are gone from the log.
    halted: BTreeMap<i32, Log>,
    behind_records: usize,
    spans: Spans,
    /// Against a consumer that finds too much of the one log dead; other topics have none.
    breaker: Option<Breaker>,
    /// Records received so far.
    received: u64,
    /// Since when there is something to be had of partitions of which nothing is here.
    unseen: BTreeMap<i32, Instant>,
}

/// What a consumer is, for readiness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Joining,
    Ready,
    Waiting {
        dependency: &'static str,
    },
    /// Too many of so many records were dead.
    Broken {
        records: u64,
        dead: u64,
    },
    /// The records that this partition would go on with are gone.
    Halted {
        partition: i32,
        log: Log,
    },
    /// Its client gets nowhere.
    Stalled(Stall),
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
            closing: None,
            begins_at_commit: config.positions.is_none(),
            held: false,
            paused: BTreeSet::new(),
            unplaced: BTreeSet::new(),
            halted: BTreeMap::new(),
            behind_records: config.behind_records,
            spans: Spans::new(config),
            breaker: (config.group.topic == topics::USER_EVENTS).then(|| Breaker::new(config.breaker_pause)),
            received: 0,
            unseen: BTreeMap::new(),
        }
    }

    /// A record has come: what cannot be used ends here, the rest waits for the handler.
    pub(crate) fn receive(&mut self, record: &Record<'_>, now: Instant) {
        let (position, epoch) = (record.position, self.books.ledger.epoch());
        self.received += 1;
        if !self.books.ledger.take(position, record.timestamp) {
            return;
        }
        match self.work.decode(record) {
            Ok(Decoded::Item(item)) => {
                let trace = headers::trace_context(record);
                let delivery = Delivery { position, trace, timestamp: record.timestamp, attempt: 1, item };
                self.work.accept(delivery, record, now);
            }
            Ok(Decoded::Skip(reason)) => {
                self.spans.passed_over(record, reason);
                self.books.finish(position, epoch, Outcome::Skip(reason), self.books.now());
            }
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
                self.judge(now); // before the next one is taken
            }
        }
    }

    /// Takes in what has been said meanwhile; whether there was anything.
    pub(crate) fn settle(&mut self, now: Instant) -> bool {
        let mut settled = false;
        loop {
            match self.messages.try_recv() {
                Ok(message) => self.take_in(message, now),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    self.abandoned();
                    break;
                }
            }
            settled = true;
        }
        self.judge(now);
        settled
    }

    /// Tells the breaker what has ended, and that time has passed.
    fn judge(&mut self, now: Instant) {
        let ended = mem::take(&mut self.books.ended);
        match self.breaker.as_mut().and_then(|breaker| breaker.note(now, ended)) {
            None => {}
            Some(Change::Opened(seen)) => {
                let (records, dead) = (seen.records, seen.dead);
                error!(records, dead, "too many records are dead: the consumer pauses; look at the dead letters");
                self.books.outcomes.breaker(true);
            }
            Some(Change::Probing) => {
                info!("the consumer tries some records");
                self.books.outcomes.breaker(false);
            }
            Some(Change::Closed) => info!("the consumer goes on"),
        }
    }

    fn is_broken(&self) -> bool {
        self.breaker.as_ref().is_some_and(Breaker::is_open)
    }

    /// Ends what is in flight there, as [`State::drain`], and counts what will come a second time: what is left, and
    /// what is finished beyond a record that only waited, because no commit can tell of it.
    pub(crate) fn let_go(&mut self, partitions: &[i32], deadline: Instant) -> usize {
        let left = self.drain(partitions, deadline);
        let ahead = partitions.iter().map(|&partition| self.books.ledger.finished_ahead(partition)).sum::<usize>();
        if left + ahead > 0 {
            self.books.outcomes.possible_duplicates(left + ahead);
        }
        left
    }

    /// Counts what is finished there and not known to be committed.
    pub(crate) fn count_uncommitted(&mut self, partitions: &[i32]) {
        let uncommitted = partitions.iter().map(|&partition| self.books.ledger.uncommitted(partition)).sum::<usize>();
        if self.begins_at_commit && uncommitted > 0 {
            self.books.outcomes.possible_duplicates(uncommitted);
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
            if worth_waiting_for == 0 || self.is_closing() || self.failed.is_some() {
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
        if self.is_broken() {
            return;
        }
        let epoch = self.books.ledger.epoch();
        self.work.feed(now, drained, epoch);
    }

    /// Whether the client may be asked for more.
    pub(crate) fn may_poll(&self) -> bool {
        self.held || !(self.work.is_full() || self.is_broken())
    }

    /// Which partitions to pause and resume so that what waits stays bounded. `left_alone`: the client has not been
    /// asked for so long that it must be, whether there is room or not.
    pub(crate) fn flow(&mut self, left_alone: bool) -> Flow {
        let full = if self.held { !self.work.has_room_again() } else { left_alone && self.work.is_full() };
        self.held = full || self.is_broken();
        let mut flow = Flow::default();
        for partition in self.books.ledger.partitions().filter(|partition| !self.halted.contains_key(partition)) {
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

    /// These partitions are ours; they are read once they are assigned with a start.
    pub(crate) fn expect_starts(&mut self, partitions: &[i32]) {
        self.unplaced.extend(partitions);
    }

    pub(crate) const fn unplaced(&self) -> &BTreeSet<i32> {
        &self.unplaced
    }

    pub(crate) fn assign(&mut self, partitions: Vec<(i32, Option<i64>)>) {
        self.joined = true;
        for (partition, _) in &partitions {
            self.unplaced.remove(partition);
            self.paused.remove(partition);
            self.halted.remove(partition);
        }
        self.books.ledger.assign(partitions);
        self.show_owned();
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
        self.unplaced.retain(|partition| !partitions.contains(partition));
        self.halted.retain(|partition, _| !partitions.contains(partition));
        self.unseen.retain(|partition, _| !partitions.contains(partition));
        self.books.outcomes.no_lag(partitions);
        self.show_owned();
    }

    fn show_owned(&self) {
        self.books.outcomes.partitions(self.books.ledger.partitions().count() + self.unplaced.len());
    }

    /// Nothing more comes of this partition: what it would go on with is gone.
    pub(crate) fn halt(&mut self, partition: i32, log: Log) {
        self.halted.insert(partition, log);
    }

    /// The partitions that are read, and the offset each expects next.
    pub(crate) fn reading(&self) -> Vec<(i32, Option<i64>)> {
        let ledger = &self.books.ledger;
        let partitions = ledger.partitions().filter(|partition| !self.halted.contains_key(partition));
        partitions.map(|partition| (partition, ledger.next(partition))).collect()
    }

    /// What the client tells of itself: shows how far behind each partition is, and says whether the client gets on.
    pub(crate) fn observe(&mut self, statistics: &Statistics, now: Instant, time: Millis) -> Snapshot {
        let mut hungry = false;
        for partition in &statistics.partitions {
            let number = partition.number;
            let ledger = &self.books.ledger;
            let Some(frontier) = ledger.frontier(number).or(partition.stored) else { continue };
            let records = partition.end.map_or(0, |end| (end - frontier).max(0));
            let idle = ledger.behind(number) == 0;
            let seconds = match ledger.oldest(number) {
                Some(timestamp) => time.since(Millis::from_millis(timestamp)).max(0) as f64 / 1_000.0,
                None if records == 0 => 0.0,
                // what has not been read has told no time: it is at least so old
                None => now.saturating_duration_since(*self.unseen.entry(number).or_insert(now)).as_secs_f64(),
            };
            if records == 0 || !idle {
                self.unseen.remove(&number);
            }
            let kept_back = self.paused.contains(&number) || self.halted.contains_key(&number);
            hungry |= ledger.partitions().any(|owned| owned == number) && records > 0 && idle && !kept_back;
            self.books.outcomes.lag(number, records, seconds);
        }
        hungry |= !self.unplaced.is_empty(); // whose records are not told of
        hungry &= !self.held && self.may_poll();
        Snapshot { connected: statistics.connected, hungry, received: self.received, ..Snapshot::default() }
    }

    /// The client is gone with all it had; a new one joins the group, and has nothing paused.
    pub(crate) fn rejoin(&mut self) {
        self.joined = false;
        self.paused.clear();
        self.unplaced.clear();
        self.show_owned();
    }

    /// From here on nothing is waited for but the broker, and that until the deadline.
    pub(crate) fn close(&mut self, deadline: Instant) {
        self.closing = Some(deadline);
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.is_some()
    }

    /// How long the broker may take for an answer that it usually has so much time for.
    pub(crate) fn patience(&self, usual: Duration) -> Duration {
        self.closing.map_or(usual, |deadline| deadline.saturating_duration_since(Instant::now()).min(usual))
    }

    pub(crate) fn take_failure(&mut self) -> Option<Error> {
        self.failed.take()
    }

    pub(crate) fn standing(&self, dead_letters: Option<Topic>, trouble: Option<Stall>) -> Standing {
        if let Some(stall) = trouble {
            return Standing::Stalled(stall);
        }
        if !self.joined || !self.unplaced.is_empty() {
            return Standing::Joining;
        }
        if let Some(seen) = self.breaker.as_ref().and_then(Breaker::seen) {
            return Standing::Broken { records: seen.records, dead: seen.dead };
        }
        if let Some((&partition, &log)) = self.halted.first_key_value() {
            return Standing::Halted { partition, log };
        }
        let down = dead_letters.filter(|_| self.books.dead_letters_down()).map(|topic| topic.name);
        match self.work.waits_for().or(down) {
            Some(dependency) => Standing::Waiting { dependency },
            None => Standing::Ready,
        }
    }
}
