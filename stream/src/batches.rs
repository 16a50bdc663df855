//! The open batches of one client: which records of which call still wait for their delivery report. No Kafka, no clock.
//!
//! A report finds its record by a number that travels through librdkafka as the message's opaque: slot in the upper,
//! index in the lower half. So a record costs no allocation and no future of its own. A slot is used again only after
//! every record in it was reported, and each record is reported once.
use tokio::sync::oneshot;

use crate::{Position, SendError};

/// Per record, in the order of the call.
pub(crate) type Outcomes = Vec<Result<Position, SendError>>;

/// The half of a record's number that says which of its batch it is.
const INDEX: usize = 0xffff_ffff;

#[derive(Debug, Default)]
pub(crate) struct Batches {
    slots: Vec<Option<Batch>>,
    free: Vec<u32>,
    stopped: bool,
}

#[derive(Debug)]
struct Batch {
    outcomes: Outcomes,
    /// What each record holds of the byte budget; 0 once it is reported.
    bytes: Vec<u32>,
    unreported: usize,
    /// No record will be added.
    sealed: bool,
    done: oneshot::Sender<Outcomes>,
}

impl Batches {
    pub(crate) fn open(&mut self, done: oneshot::Sender<Outcomes>) -> u32 {
        let batch = Batch { outcomes: Vec::new(), bytes: Vec::new(), unreported: 0, sealed: false, done };
        match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = Some(batch);
                slot
            }
            None => {
                self.slots.push(Some(batch));
                (self.slots.len() - 1) as u32
            }
        }
    }

    /// Adds a record that is about to be sent; `bytes` above 0. `None` after [`Batches::stop`]: it must not be sent.
    pub(crate) fn add(&mut self, slot: u32, bytes: u32) -> Option<usize> {
        let batch = self.slots.get_mut(slot as usize)?.as_mut()?;
        batch.outcomes.push(Err(SendError::Purged));
        if self.stopped {
            batch.bytes.push(0);
            return None;
        }
        batch.bytes.push(bytes);
        batch.unreported += 1;
        Some((slot as usize) << 32 | (batch.bytes.len() - 1))
    }

    /// Takes back the record that was added last and not sent. False where [`Batches::stop`] came between: then it
    /// stays, as purged.
    pub(crate) fn retract(&mut self, record: usize) -> bool {
        let Some(batch) = self.slots.get_mut(record >> 32).and_then(Option::as_mut) else { return false };
        if self.stopped {
            return false;
        }
        batch.outcomes.pop();
        batch.bytes.pop();
        batch.unreported -= 1;
        true
    }

    /// Adds a record that will not be sent.
    pub(crate) fn refuse(&mut self, slot: u32, error: SendError) {
        if let Some(batch) = self.slots.get_mut(slot as usize).and_then(Option::as_mut) {
            batch.outcomes.push(Err(error));
            batch.bytes.push(0);
        }
    }

    /// Only the first report of a record counts; with it the record holds nothing of the budget any more.
    pub(crate) fn report(&mut self, record: usize, outcome: Result<Position, SendError>) {
        if self.bytes(record) == 0 {
            return;
        }
        let (slot, index) = (record >> 32, record & INDEX);
        if let Some(batch) = &mut self.slots[slot] {
            batch.bytes[index] = 0;
            batch.outcomes[index] = outcome;
            batch.unreported -= 1;
            self.complete(slot);
        }
    }

    /// What the record holds of the byte budget; 0 once it is reported.
    pub(crate) fn bytes(&self, record: usize) -> u32 {
        let batch = self.slots.get(record >> 32).and_then(Option::as_ref);
        batch.and_then(|batch| batch.bytes.get(record & INDEX)).copied().unwrap_or(0)
    }

    /// The call is over: the batch is done as soon as all its records are reported.
    pub(crate) fn seal(&mut self, slot: u32) {
        if let Some(batch) = self.slots.get_mut(slot as usize).and_then(Option::as_mut) {
            batch.sealed = true;
            self.complete(slot as usize);
        }
    }

    /// Reports everything unreported as purged and lets nothing new in. Returns the bytes given back.
    pub(crate) fn stop(&mut self) -> usize {
        self.stopped = true;
        let mut freed = 0;
        for slot in 0..self.slots.len() {
            let Some(batch) = &mut self.slots[slot] else { continue };
            freed += batch.bytes.iter_mut().map(|bytes| std::mem::take(bytes) as usize).sum::<usize>();
            batch.unreported = 0;
            self.complete(slot);
        }
        freed
    }

    /// Records that wait for their report.
    pub(crate) fn unreported(&self) -> usize {
        self.slots.iter().flatten().map(|batch| batch.unreported).sum()
    }

    fn complete(&mut self, slot: usize) {
        if let Some(batch) = self.slots[slot].take_if(|batch| batch.sealed && batch.unreported == 0) {
            self.free.push(slot as u32);
            let _ = batch.done.send(batch.outcomes); // a caller that no longer waits does not want to know
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn at(offset: i64) -> Result<Position, SendError> {
        Ok(Position { partition: 0, offset })
    }

    #[test]
    fn a_batch_is_done_when_it_is_sealed_and_every_record_is_reported() {
        let mut batches = Batches::default();
        let (done, mut outcomes) = oneshot::channel();
        let slot = batches.open(done);
        let records = [10, 20].map(|bytes| batches.add(slot, bytes).unwrap());
        batches.refuse(slot, SendError::AfterRefused);
        assert_eq!(records.map(|record| batches.bytes(record)), [10, 20]);
        batches.report(records[1], at(8));
        batches.report(records[1], at(9)); // a second report changes nothing
        batches.report(records[0], at(7));
        assert_eq!(records.map(|record| batches.bytes(record)), [0, 0]);
        assert!(outcomes.try_recv().is_err(), "not sealed yet");
        batches.seal(slot);
        assert_eq!(outcomes.try_recv().unwrap(), [at(7), at(8), Err(SendError::AfterRefused)]);
    }

    #[test]
    fn stopping_reports_what_waits_and_lets_nothing_in() {
        let mut batches = Batches::default();
        let (done, mut outcomes) = oneshot::channel();
        let slot = batches.open(done);
        let records = [10, 20].map(|bytes| batches.add(slot, bytes).unwrap());
        batches.report(records[0], at(7));
        assert_eq!(batches.stop(), 20);
        assert_eq!(batches.add(slot, 30), None);
        batches.report(records[1], at(8)); // too late: it counts as purged
        batches.seal(slot);
        assert_eq!(outcomes.try_recv().unwrap(), [at(7), Err(SendError::Purged), Err(SendError::Purged)]);
    }

    proptest! {
        #[test]
        fn every_record_gets_its_own_report_whatever_the_order(
            sizes in prop::collection::vec(0..5_usize, 1..6),
            keys in prop::collection::vec(any::<u32>(), 30),
        ) {
            let mut batches = Batches::default();
            // twice, so that slots are used again
            for round in 0..2 {
                let mut records = Vec::new();
                let mut waiting = Vec::new();
                for &size in &sizes {
                    let (done, outcomes) = oneshot::channel();
                    let slot = batches.open(done);
                    let first = records.len();
                    records.extend((0..size).map(|_| batches.add(slot, 1).unwrap()));
                    batches.seal(slot);
                    waiting.push((first, size, outcomes));
                }
                let mut order: Vec<usize> = (0..records.len()).collect();
                order.sort_by_key(|&index| keys[index]);
                for index in order {
                    batches.report(records[index], at(index as i64));
                }
                for (first, size, mut outcomes) in waiting {
                    let expected: Outcomes = (first..first + size).map(|index| at(index as i64)).collect();
                    prop_assert_eq!(outcomes.try_recv().unwrap(), expected, "round {}", round);
                }
                prop_assert_eq!(batches.unreported(), 0);
            }
        }
    }
}
