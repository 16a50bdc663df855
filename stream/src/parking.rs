//! Records on their way to an event handler: in order per key, at most one of a key in flight, and a failed one keeps
//! back only its own key. No Kafka, no clock, no I/O.
//!
//! A key is in exactly one of three states while it has records: ready (its first record may go), in flight, or parked
//! until a due time. Keys become ready in the order their first record came, so none is starved.
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Instant,
};

/// A record key, shared between the queue, the handler and back.
pub(crate) type Key = Arc<[u8]>;

/// Per-key queues.
#[derive(Debug)]
pub(crate) struct Parking<T> {
    lanes: HashMap<Key, Lane<T>>,
    ready: VecDeque<Key>,
    due: BTreeSet<(Instant, Key)>,
    /// Records that wait for their own key, by partition: all in queues but the first of each ready key. Kept as counts
    /// because they are asked for at every turn.
    held_back: BTreeMap<i32, usize>,
    in_flight: BTreeMap<i32, usize>,
}

#[derive(Debug)]
struct Lane<T> {
    state: State,
    queue: VecDeque<(i32, T)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ready,
    InFlight,
    Parked(Instant),
}

/// What [`Parking::next`] hands out. Give it back with [`Parking::done`] or [`Parking::park`].
#[derive(Debug)]
pub(crate) struct Next<T> {
    pub(crate) key: Key,
    pub(crate) item: T,
}

impl<T> Default for Parking<T> {
    fn default() -> Self {
        Self {
            lanes: HashMap::new(),
            ready: VecDeque::new(),
            due: BTreeSet::new(),
            held_back: BTreeMap::new(),
            in_flight: BTreeMap::new(),
        }
    }
}

impl<T> Parking<T> {
    /// Queues a record behind the earlier ones of its key.
    pub(crate) fn push(&mut self, key: &[u8], partition: i32, item: T) {
        if let Some(lane) = self.lanes.get_mut(key) {
            lane.queue.push_back((partition, item));
            *self.held_back.entry(partition).or_default() += 1;
            return;
        }
        let key = Key::from(key);
        self.ready.push_back(key.clone());
        self.lanes.insert(key, Lane { state: State::Ready, queue: VecDeque::from([(partition, item)]) });
    }

    /// The next record that may be handled; from now on its key is in flight.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Next<T>> {
        self.wake(now);
        let key = self.ready.pop_front()?;
        let lane = self.lanes.get_mut(&key)?;
        let (partition, item) = lane.queue.pop_front()?;
        lane.state = State::InFlight;
        *self.in_flight.entry(partition).or_default() += 1;
        Some(Next { key, item })
    }

    /// The record in flight has ended: the next of its key may go.
    pub(crate) fn done(&mut self, key: &Key, partition: i32) {
        self.landed(partition);
        let Some(lane) = self.lanes.get_mut(key) else { return };
        match lane.queue.front() {
            None => _ = self.lanes.remove(key),
            Some(&(first, _)) => {
                lane.state = State::Ready;
                decrement(&mut self.held_back, first);
                self.ready.push_back(key.clone());
            }
        }
    }

    /// The record in flight has failed: it stays the first of its key, which waits until `due`.
    pub(crate) fn park(&mut self, key: &Key, partition: i32, item: T, due: Instant) {
        self.landed(partition);
        let Some(lane) = self.lanes.get_mut(key) else { return };
        lane.queue.push_front((partition, item));
        lane.state = State::Parked(due);
        *self.held_back.entry(partition).or_default() += 1;
        self.due.insert((due, key.clone()));
    }

    /// Drops what waits of these partitions. What is in flight stays until it comes back.
    pub(crate) fn withdraw(&mut self, partitions: &[i32]) {
        let gone = |partition: &i32| partitions.contains(partition);
        self.held_back.clear();
        self.lanes.retain(|_, lane| {
            lane.queue.retain(|(partition, _)| !gone(partition));
            for &(partition, _) in lane.queue.iter().skip(usize::from(lane.state == State::Ready)) {
                *self.held_back.entry(partition).or_default() += 1;
            }
            lane.state == State::InFlight || !lane.queue.is_empty()
        });
        self.ready.retain(|key| self.lanes.contains_key(key));
        self.due.retain(|(_, key)| self.lanes.contains_key(key));
    }

    /// How many records could go as soon as there is capacity: one of each ready key.
    pub(crate) fn waiting(&self) -> usize {
        self.ready.len()
    }

    /// How many records of a partition wait for their own key: it is parked, or an earlier one of it is to go first.
    pub(crate) fn held_back(&self, partition: i32) -> usize {
        self.held_back.get(&partition).copied().unwrap_or(0)
    }

    pub(crate) fn in_flight(&self, partition: i32) -> usize {
        self.in_flight.get(&partition).copied().unwrap_or(0)
    }

    pub(crate) fn total_in_flight(&self) -> usize {
        self.in_flight.values().sum()
    }

    /// When the next parked key is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    fn wake(&mut self, now: Instant) {
        while self.due.first().is_some_and(|(due, _)| *due <= now) {
            let Some((_, key)) = self.due.pop_first() else { return };
            let Some(lane) = self.lanes.get_mut(&key) else { continue };
            lane.state = State::Ready;
            if let Some(&(first, _)) = lane.queue.front() {
                decrement(&mut self.held_back, first);
            }
            self.ready.push_back(key);
        }
    }

    fn landed(&mut self, partition: i32) {
        decrement(&mut self.in_flight, partition);
    }
}

fn decrement(counts: &mut BTreeMap<i32, usize>, partition: i32) {
    if let Some(count) = counts.get_mut(&partition) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&partition);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Push(u8),
        Start,
        Done(prop::sample::Index),
        Fail(prop::sample::Index, u64),
        Pass(u64),
        Withdraw(i32),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0u8..6).prop_map(Step::Push),
            4 => Just(Step::Start),
            3 => any::<prop::sample::Index>().prop_map(Step::Done),
            2 => (any::<prop::sample::Index>(), 1u64..50).prop_map(|(i, ms)| Step::Fail(i, ms)),
            2 => (1u64..40).prop_map(Step::Pass),
            1 => (0i32..3).prop_map(Step::Withdraw),
        ]
    }

    proptest! {
        /// Under any interleaving: first completions per key are in order, one of a key is in flight at most, a parked
        /// record is never handed out early, the counts are true, and nothing is lost.
        #[test]
        fn order_per_key_holds_through_failures(steps in prop::collection::vec(step(), 1..300)) {
            let mut parking = Parking::default();
            let mut now = Instant::now();
            let mut flying: Vec<(Next<u32>, Option<Instant>)> = Vec::new();
            let mut due: HashMap<u32, Instant> = HashMap::new();
            let mut queued: BTreeMap<u8, VecDeque<u32>> = BTreeMap::new();
            let mut sequence = 0;
            let partition_of = |key: u8| i32::from(key) % 3;
            for step in steps {
                match step {
                    Step::Push(key) => {
                        parking.push(&[key], partition_of(key), sequence);
                        queued.entry(key).or_default().push_back(sequence);
                        sequence += 1;
                    }
                    Step::Start => if let Some(next) = parking.next(now) {
                        let key = next.key[0];
                        prop_assert!(flying.iter().all(|(other, _)| other.key != next.key), "two of one key in flight");
                        prop_assert_eq!(queued.get(&key).and_then(|q| q.front()), Some(&next.item), "out of order");
                        prop_assert!(due.get(&next.item).is_none_or(|due| *due <= now), "handed out too early");
                        flying.push((next, None));
                    },
                    Step::Done(pick) if !flying.is_empty() => {
                        let (next, _) = flying.swap_remove(pick.index(flying.len()));
                        parking.done(&next.key, partition_of(next.key[0]));
                        let queue = queued.get_mut(&next.key[0]).unwrap();
                        if queue.front() == Some(&next.item) { queue.pop_front(); }
                    }
                    Step::Fail(pick, wait) if !flying.is_empty() => {
                        let (next, _) = flying.swap_remove(pick.index(flying.len()));
                        let queue = queued.get_mut(&next.key[0]).unwrap();
                        if queue.front() == Some(&next.item) {
                            due.insert(next.item, now + Duration::from_millis(wait));
                            parking.park(&next.key, partition_of(next.key[0]), next.item, now + Duration::from_millis(wait));
                        } else {
                            parking.done(&next.key, partition_of(next.key[0])); // withdrawn meanwhile: its owner lets it go
                        }
                    }
                    Step::Pass(millis) => now += Duration::from_millis(millis),
                    Step::Withdraw(partition) => {
                        parking.withdraw(&[partition]);
                        for (&key, queue) in &mut queued {
                            if partition_of(key) == partition { queue.clear(); }
                        }
                    }
                    _ => {}
                }
                let all: usize = queued.values().map(VecDeque::len).sum();
                let live = flying.iter().filter(|(n, _)| queued[&n.key[0]].front() == Some(&n.item)).count();
                let held_back: usize = (0..3).map(|partition| parking.held_back(partition)).sum();
                prop_assert_eq!(parking.waiting() + held_back + live, all);
                prop_assert_eq!(parking.total_in_flight(), flying.len());
            }
            // everything left comes out once its time has come
            for (next, _) in flying.drain(..) {
                parking.done(&next.key, partition_of(next.key[0]));
                let queue = queued.get_mut(&next.key[0]).unwrap();
                if queue.front() == Some(&next.item) { queue.pop_front(); }
            }
            now += Duration::from_secs(1);
            while let Some(next) = parking.next(now) {
                prop_assert_eq!(queued.get_mut(&next.key[0]).unwrap().pop_front(), Some(next.item));
                parking.done(&next.key, partition_of(next.key[0]));
            }
            prop_assert!(queued.values().all(VecDeque::is_empty), "left behind: {:?}", queued);
            prop_assert_eq!(parking.next_due(), None);
        }
    }

    #[test]
    fn a_failing_key_keeps_back_only_itself() {
        let start = Instant::now();
        let later = start + Duration::from_millis(200);
        let mut parking = Parking::default();
        for (key, item) in [("ann", 1), ("bob", 2), ("ann", 3)] {
            parking.push(key.as_bytes(), 0, item);
        }
        let failed = parking.next(start).unwrap();
        parking.park(&failed.key, 0, failed.item, later);
        assert_eq!(parking.next(start).unwrap().item, 2);
        assert!(parking.next(start).is_none());
        assert_eq!((parking.held_back(0), parking.waiting(), parking.next_due()), (2, 0, Some(later)));
        assert_eq!(parking.next(later).unwrap().item, 1);
        assert!(parking.next(later).is_none(), "the second of a key waits for the first");
    }
    #[test]
    fn what_waits_for_its_own_key_is_told_apart_from_what_waits_for_room() {
        let now = Instant::now();
        let mut parking = Parking::default();
        for (key, item) in [("ann", 1), ("ann", 2), ("ann", 3), ("bob", 4)] {
            parking.push(key.as_bytes(), 0, item);
        }
        let counts = |parking: &Parking<i32>| (parking.waiting(), parking.held_back(0));
        assert_eq!(counts(&parking), (2, 2));
        let first = parking.next(now).unwrap();
        assert_eq!(counts(&parking), (1, 2), "behind a record in flight");
        parking.park(&first.key, 0, first.item, now);
        assert_eq!(counts(&parking), (1, 3), "parked");
        assert_eq!(parking.next(now).unwrap().item, 4);
        assert_eq!(counts(&parking), (1, 2), "due");
        parking.withdraw(&[0]);
        assert_eq!(counts(&parking), (0, 0));
    }
}
