//! Which records of a consumer's partitions are finished, and up to where each partition may be committed.
//!
//! No Kafka, no clock, no I/O. The laws, in any order of completion:
//! - the frontier is the contiguous prefix: every record below it is finished, the one at it is not;
//! - the frontier never moves back within one assignment;
//! - a record counts once: a repeated offset is not taken again, a repeated completion is not accepted again;
//! - what an earlier assignment handed out is never accepted under a later one.
use std::collections::{BTreeMap, VecDeque};

use crate::Position;

/// Which assignment a piece of work belongs to. Work is stamped with the ledger's epoch when it is handed over; a
/// partition that was assigned later than that has been somebody else's in between, and the stamp is too old for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Epoch(u64);

/// The partitions this consumer owns.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    epoch: Epoch,
    partitions: BTreeMap<i32, Partition>,
}

#[derive(Debug)]
struct Partition {
    assigned: Epoch,
    /// Everything from the frontier on that was taken, by offset. Offsets have gaps (markers, compaction).
    window: VecDeque<Entry>,
    /// One above the highest offset taken; before the first record the start offset, where it is known.
    next: Option<i64>,
    reported: Option<i64>,
    /// Everything below it is known to be committed, or was before the assignment.
    committed: Option<i64>,
}

#[derive(Debug)]
struct Entry {
    offset: i64,
    /// As its producer set it.
    timestamp: Option<i64>,
    finished: bool,
}

impl Ledger {
    /// The stamp for what is handed over now.
    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Begins a new epoch with these partitions beside those already owned. `start` is the first offset that will
    /// come, where it is known beforehand.
    pub(crate) fn assign(&mut self, partitions: impl IntoIterator<Item = (i32, Option<i64>)>) {
        self.epoch.0 += 1;
        for (partition, start) in partitions {
            let (next, reported, committed) = (start, start, start);
            let fresh = Partition { assigned: self.epoch, window: VecDeque::new(), next, reported, committed };
            self.partitions.insert(partition, fresh);
        }
    }

    /// Forgets these partitions and all that is open in them.
    pub(crate) fn revoke(&mut self, partitions: &[i32]) {
        for partition in partitions {
            self.partitions.remove(partition);
        }
    }

    /// Notes that this record has come. `false`: it came before, or its partition is not owned; leave it alone.
    pub(crate) fn take(&mut self, position: Position, timestamp: Option<i64>) -> bool {
        let Some(partition) = self.partitions.get_mut(&position.partition) else { return false };
        if partition.next.is_some_and(|next| position.offset < next) {
            return false;
        }
        partition.window.push_back(Entry { offset: position.offset, timestamp, finished: false });
        partition.next = Some(position.offset + 1);
        partition.committed.get_or_insert(position.offset);
        true
    }

    /// Whether work handed over in `epoch` on this record still counts.
    pub(crate) fn is_open(&self, position: Position, epoch: Epoch) -> bool {
        let partition = self.partitions.get(&position.partition).filter(|partition| partition.assigned <= epoch);
        partition.is_some_and(|p| p.index(position.offset).is_some_and(|index| !p.window[index].finished))
    }

    /// Finishes a record. `false`: it does not count, because it is finished already or the epoch is over.
    pub(crate) fn complete(&mut self, position: Position, epoch: Epoch) -> bool {
        let Some(partition) = self.partitions.get_mut(&position.partition) else { return false };
        let Some(index) = partition.index(position.offset) else { return false };
        if partition.assigned > epoch || partition.window[index].finished {
            return false;
        }
        partition.window[index].finished = true;
        while partition.window.front().is_some_and(|entry| entry.finished) {
            partition.window.pop_front();
        }
        true
    }

    /// The offset a restart would begin at. `None`: unknown, because nothing has come yet.
    pub(crate) fn frontier(&self, partition: i32) -> Option<i64> {
        self.partitions.get(&partition)?.frontier()
    }

    /// The offset that will come next. `None`: unknown, because nothing has come yet.
    pub(crate) fn next(&self, partition: i32) -> Option<i64> {
        self.partitions.get(&partition)?.next
    }

    /// The timestamp of a record that is open.
    pub(crate) fn timestamp(&self, position: Position) -> Option<i64> {
        let partition = self.partitions.get(&position.partition)?;
        partition.window[partition.index(position.offset)?].timestamp
    }

    /// The timestamp of the record at the frontier.
    pub(crate) fn oldest(&self, partition: i32) -> Option<i64> {
        self.partitions.get(&partition)?.window.front()?.timestamp
    }

    /// How many records came at or above the frontier, finished ones included.
    pub(crate) fn behind(&self, partition: i32) -> usize {
        self.partitions.get(&partition).map_or(0, |partition| partition.window.len())
    }

    /// How many of them are finished: whoever begins at the frontier gets them again.
    pub(crate) fn finished_ahead(&self, partition: i32) -> usize {
        let window = self.partitions.get(&partition).map(|partition| &partition.window);
        window.map_or(0, |window| window.iter().filter(|entry| entry.finished).count())
    }

    /// The group stands there, as the broker says.
    pub(crate) fn committed(&mut self, partition: i32, offset: i64) {
        if let Some(partition) = self.partitions.get_mut(&partition) {
            partition.committed = partition.committed.max(Some(offset));
        }
    }

    /// Offsets below the frontier that are not known to be committed: their records may come again.
    pub(crate) fn uncommitted(&self, partition: i32) -> usize {
        let Some(partition) = self.partitions.get(&partition) else { return 0 };
        let (Some(frontier), Some(committed)) = (partition.frontier(), partition.committed) else { return 0 };
        usize::try_from(frontier - committed).unwrap_or(0)
    }

    /// The partitions owned, ascending.
    pub(crate) fn partitions(&self) -> impl Iterator<Item = i32> {
        self.partitions.keys().copied()
    }

    /// Partitions whose frontier has moved since the last call, with the frontier.
    pub(crate) fn advanced(&mut self) -> impl Iterator<Item = (i32, i64)> {
        self.partitions.iter_mut().filter_map(|(&number, partition)| {
            let frontier = partition.frontier()?;
            (partition.reported.replace(frontier) != Some(frontier)).then_some((number, frontier))
        })
    }
}

impl Partition {
    fn frontier(&self) -> Option<i64> {
        self.window.front().map(|entry| entry.offset).or(self.next)
    }

    /// Where an offset stands in the window: at its distance from the front unless there are gaps before it.
    fn index(&self, offset: i64) -> Option<usize> {
        let distance = usize::try_from(offset - self.window.front()?.offset).ok()?;
        match self.window.get(distance) {
            Some(entry) if entry.offset == offset => Some(distance),
            _ => self.window.binary_search_by_key(&offset, |entry| entry.offset).ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn at(partition: i32, offset: i64) -> Position {
        Position { partition, offset }
    }

    proptest! {
        /// A plain set says what the ledger must say, over gaps, repeats and any order of completion.
        #[test]
        fn the_frontier_is_the_contiguous_prefix_in_any_order_of_completion(
            gaps in prop::collection::vec(1i64..4, 1..60),
            order in prop::collection::vec(any::<prop::sample::Index>(), 1..200),
        ) {
            let offsets: Vec<i64> = gaps.iter().scan(100, |offset, gap| { *offset += gap; Some(*offset) }).collect();
            let mut ledger = Ledger::default();
            ledger.assign([(0, None)]);
            for &offset in &offsets {
                prop_assert!(ledger.take(at(0, offset), None));
                prop_assert!(!ledger.take(at(0, offset), None), "a repeated offset was taken");
            }
            let mut open: BTreeSet<i64> = offsets.iter().copied().collect();
            let mut before = ledger.frontier(0);
            for pick in order {
                let offset = *pick.get(&offsets);
                let counted = ledger.complete(at(0, offset), ledger.epoch());
                prop_assert_eq!(counted, open.remove(&offset));
                let expected = open.first().copied().unwrap_or(offsets[offsets.len() - 1] + 1);
                prop_assert_eq!(ledger.frontier(0), Some(expected));
                prop_assert!(ledger.frontier(0) >= before);
                let ahead = offsets.iter().filter(|&&offset| offset >= expected);
                prop_assert_eq!(ledger.behind(0), ahead.clone().count());
                prop_assert_eq!(ledger.finished_ahead(0), ahead.filter(|offset| !open.contains(offset)).count());
                before = ledger.frontier(0);
            }
        }

        /// Whatever is assigned, revoked and completed when: only stamps of the present assignment count.
        #[test]
        fn completions_of_an_old_epoch_never_count(moves in prop::collection::vec((0i32..3, 0u8..4), 1..80)) {
            let mut ledger = Ledger::default();
            let mut handed: Vec<(Position, Epoch, u32)> = Vec::new();
            let mut reign = [0u32; 3];
            let mut owned = [false; 3];
            let mut offset = [0i64; 3];
            for (partition, step) in moves {
                let p = partition as usize;
                match step {
                    0 if !owned[p] => { ledger.assign([(partition, None)]); owned[p] = true; reign[p] += 1; }
                    1 if owned[p] => { ledger.revoke(&[partition]); owned[p] = false; offset[p] = 0; }
                    2 if owned[p] => {
                        prop_assert!(ledger.take(at(partition, offset[p]), None));
                        handed.push((at(partition, offset[p]), ledger.epoch(), reign[p]));
                        offset[p] += 1;
                    }
                    _ => if let Some((position, epoch, of)) = handed.pop() {
                        let owner = position.partition as usize;
                        let current = owned[owner] && reign[owner] == of;
                        prop_assert_eq!(ledger.is_open(position, epoch), current);
                        prop_assert_eq!(ledger.complete(position, epoch), current);
                    },
                }
            }
        }
    }

    #[test]
    fn an_advance_is_reported_once() {
        let mut ledger = Ledger::default();
        ledger.assign([(3, Some(7)), (5, None)]);
        assert_eq!(ledger.frontier(3), Some(7));
        assert_eq!(ledger.advanced().count(), 0, "a start offset is no advance");
        assert!(!ledger.take(at(3, 6), None), "below the start offset");
        assert!(ledger.take(at(3, 7), Some(70)) && ledger.take(at(3, 8), None) && !ledger.take(at(4, 0), None));
        assert_eq!((ledger.timestamp(at(3, 7)), ledger.oldest(3)), (Some(70), Some(70)));
        assert!(ledger.complete(at(3, 7), ledger.epoch()));
        assert_eq!((ledger.timestamp(at(3, 7)), ledger.oldest(3), ledger.next(3)), (None, None, Some(9)));
        assert_eq!(ledger.advanced().collect::<Vec<_>>(), [(3, 8)]);
        assert_eq!(ledger.advanced().count(), 0);
    }

    #[test]
    fn what_is_finished_and_not_committed_is_known() {
        let mut ledger = Ledger::default();
        ledger.assign([(0, Some(5)), (1, None)]);
        for partition in [0, 1] {
            for offset in 5..9 {
                assert!(ledger.take(at(partition, offset), None));
            }
            assert_eq!(ledger.uncommitted(partition), 0);
            for offset in [5, 6, 8] {
                assert!(ledger.complete(at(partition, offset), ledger.epoch()));
            }
            assert_eq!(ledger.uncommitted(partition), 2, "8 waits for 7, and is counted by who asks what is ahead");
            ledger.committed(partition, 6);
            assert_eq!(ledger.uncommitted(partition), 1);
            ledger.committed(partition, 4); // an answer that was overtaken
            assert_eq!(ledger.uncommitted(partition), 1);
        }
        assert_eq!(ledger.uncommitted(2), 0, "not ours");
    }
}
