use std::collections::BTreeMap;

use headwater_proto::Millis;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

use super::outcomes::Outcomes;
use crate::{
    Clock as _, INJECTED, Outcome, Position, SystemClock,
    breaker::Tally,
    dead_letter::{Burial, Failure, Letter, Order, Raw},
    ledger::{Epoch, Ledger},
};

/// Letters of one partition that wait for the dead-letter topic; more bytes, and the partition is paused. They are
/// kept in memory until they are reported, and an outage of the topic may be long.
const LETTER_BYTES: usize = 1024 * 1024;

/// What is known of every record that was taken: open, set aside, or finished and counted.
#[derive(Debug)]
pub(crate) struct Books {
    pub(crate) ledger: Ledger,
    pub(crate) outcomes: Outcomes,
    /// `None` where the group keeps no dead letters.
    burying: Option<Burying>,
    /// Letters on their way, by partition.
    on_their_way: BTreeMap<i32, Waiting>,
    dead_letters_down: bool,
    /// What has ended since the breaker was told. A dead record counts when that is decided, not when its letter is
    /// reported: until then many more could follow it.
    pub(crate) ended: Tally,
}

/// The task that sends letters, and the way to it.
#[derive(Debug)]
pub(crate) struct Burying {
    pub(crate) letters: mpsc::UnboundedSender<Order>,
    pub(crate) _task: AbortOnDropHandle<()>,
}

#[derive(Debug, Default)]
struct Waiting {
    letters: usize,
    bytes: usize,
}

impl Books {
    pub(crate) fn new(outcomes: Outcomes, burying: Option<Burying>) -> Self {
        Self {
            ledger: Ledger::default(),
            outcomes,
            burying,
            on_their_way: BTreeMap::new(),
            dead_letters_down: false,
            ended: Tally::default(),
        }
    }

    pub(crate) fn now(&self) -> Millis {
        SystemClock.now()
    }

    /// The record has ended well, at this time. Counted once, and only by whoever owns its partition.
    pub(crate) fn finish(&mut self, position: Position, epoch: Epoch, outcome: Outcome, now: Millis) {
        let timestamp = self.ledger.timestamp(position);
        if self.ledger.complete(position, epoch) {
            self.outcomes.ended(outcome);
            self.ended.records += 1;
            if let Some(timestamp) = timestamp {
                self.outcomes.took(now.since(Millis::from_millis(timestamp)));
            }
        }
    }

    /// The record is dead; it ends when its letter is reported. Without dead letters it is skipped.
    pub(crate) fn bury(&mut self, position: Position, epoch: Epoch, raw: Raw, failure: Failure) {
        if !self.ledger.is_open(position, epoch) {
            return; // its next owner decides
        }
        let Some(burying) = &self.burying else {
            let Failure { disposition, reason, message, .. } = failure;
            warn!(?position, disposition = disposition.as_str(), reason, message, "skipped: no dead letters are kept");
            return self.finish(position, epoch, Outcome::Skip(reason), self.now());
        };
        if failure.reason != INJECTED {
            self.ended.records += 1;
            self.ended.dead += 1;
        }
        let letter = Letter { position, epoch, raw, failure };
        let waiting = self.on_their_way.entry(position.partition).or_default();
        waiting.letters += 1;
        waiting.bytes += letter.bytes();
        // where the task is gone its last word is a failure, which ends the run
        let _ = burying.letters.send(Order::Bury(letter));
    }

    pub(crate) fn settle(&mut self, burial: Burial) {
        match burial {
            Burial::Down => self.dead_letters_down = true,
            Burial::Up => self.dead_letters_down = false,
            Burial::Done { position, epoch, bytes, disposition, reason } => {
                if !self.ledger.complete(position, epoch) {
                    return;
                }
                self.outcomes.dead(disposition, reason);
                if let Some(waiting) = self.on_their_way.get_mut(&position.partition) {
                    waiting.letters -= 1;
                    waiting.bytes -= bytes;
                }
            }
        }
    }

    /// The dead-letter topic takes nothing.
    pub(crate) fn dead_letters_down(&self) -> bool {
        self.dead_letters_down
    }

    pub(crate) fn letters(&self, partitions: &[i32]) -> usize {
        partitions.iter().filter_map(|partition| self.on_their_way.get(partition)).map(|waiting| waiting.letters).sum()
    }

    /// This partition alone has too many letters waiting; once paused, until half of them are gone.
    pub(crate) fn overflows(&self, partition: i32, paused: bool) -> bool {
        let limit = if paused { LETTER_BYTES / 2 } else { LETTER_BYTES };
        self.on_their_way.get(&partition).is_some_and(|waiting| waiting.bytes > limit)
    }

    pub(crate) fn revoke(&mut self, partitions: &[i32]) {
        self.ledger.revoke(partitions);
        self.on_their_way.retain(|partition, _| !partitions.contains(partition));
        if let Some(burying) = &self.burying {
            let _ = burying.letters.send(Order::Withdraw(partitions.to_vec()));
        }
    }
}
