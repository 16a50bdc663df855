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
