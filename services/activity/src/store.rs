//! What was consumed, in order: each event once, as many as there is room for.
use std::{
    collections::{HashSet, VecDeque},
    num::NonZeroUsize,
    sync::{Arc, PoisonError, RwLock},
};

use headwater_proto::EventId;
use headwater_stream::Positions;

use crate::event::ActivityEvent;

/// Ids are remembered for so many times the events that are kept.
const SEEN_PER_EVENT: usize = 10;

/// In memory; clones share it. It outlives its consumers and knows where in the topic it stands.
#[derive(Debug, Clone)]
pub struct Store {
    kept: Arc<RwLock<Kept>>,
    positions: Arc<Positions>,
}

#[derive(Debug, Default)]
struct Kept {
    limit: usize,
    events: VecDeque<Arc<ActivityEvent>>,
    /// How many events were forgotten: the number of the first one that is kept.
    forgotten: u64,
    seen: HashSet<EventId>,
    /// In order of consumption.
    seen_first: VecDeque<EventId>,
}

impl Store {
    /// Keeps the newest `limit` events.
    pub fn new(limit: NonZeroUsize) -> Self {
        let kept = Kept { limit: limit.get(), ..Kept::default() };
        Self { kept: Arc::new(RwLock::new(kept)), positions: Positions::new() }
    }

    pub(crate) fn positions(&self) -> Arc<Positions> {
        self.positions.clone()
    }

    /// For each event whether it is new; the others change nothing.
    pub(crate) fn add(&self, events: impl Iterator<Item = Arc<ActivityEvent>>) -> Vec<bool> {
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        events.map(|event| kept.add(event)).collect()
    }

    /// The kept events from the number `first` on that are of this user and this type, in order of consumption.
    pub(crate) fn find(
        &self,
        user_id: Option<&str>,
        event_type: Option<&str>,
        first: u64,
        at_most: usize,
    ) -> Vec<(u64, Arc<ActivityEvent>)> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        let first = first.max(kept.forgotten);
        let before = usize::try_from(first - kept.forgotten).unwrap_or(usize::MAX);
        let numbered = kept.events.iter().skip(before).zip(first..); // a client may ask for the last number there is
        let matching = numbered.filter(|(event, _)| {
            user_id.is_none_or(|user_id| *event.user_id == *user_id)
                && event_type.is_none_or(|event_type| event.event_type == event_type)
        });
        matching.take(at_most).map(|(event, number)| (number, event.clone())).collect()
    }
}

impl Kept {
    fn add(&mut self, event: Arc<ActivityEvent>) -> bool {
        if !self.seen.insert(event.id) {
            return false;
        }
        self.seen_first.push_back(event.id);
        self.events.push_back(event);
        if self.events.len() > self.limit {
            self.events.pop_front();
            self.forgotten += 1;
        }
        if self.seen_first.len() > self.limit.saturating_mul(SEEN_PER_EVENT)
            && let Some(oldest) = self.seen_first.pop_front()
        {
            self.seen.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use headwater_proto::Millis;

    use super::*;
    use crate::event::empty;

    fn event(n: u64, user_id: &str) -> Arc<ActivityEvent> {
        let id = EventId::from_bytes(u128::from(n).to_be_bytes());
        let timestamp = Millis::from_millis(0);
        Arc::new(ActivityEvent { id, user_id: user_id.into(), event_type: "LOGIN", timestamp, payload: empty() })
    }

    fn numbers(store: &Store, user_id: Option<&str>, first: u64) -> Vec<u64> {
        store.find(user_id, None, first, 10).into_iter().map(|(number, _)| number).collect()
    }

    #[test]
    fn an_event_is_kept_once_in_the_order_of_consumption_and_the_oldest_makes_room() {
        let store = Store::new(NonZeroUsize::new(3).unwrap());
        assert_eq!(store.add([event(1, "a"), event(2, "b"), event(1, "a")].into_iter()), [true, true, false]);
        assert_eq!(store.add([event(3, "a"), event(4, "b")].into_iter()), [true, true]);
        assert_eq!(numbers(&store, None, 0), [1, 2, 3]);
        assert_eq!(numbers(&store, None, 2), [2, 3]);
        assert_eq!(numbers(&store, Some("b"), 0), [1, 3]);
        assert_eq!(numbers(&store, None, u64::MAX), [0; 0]);
        assert_eq!(store.add([event(1, "a")].into_iter()), [false], "forgotten, but known");
        let later: Vec<bool> = store.add((5..40).map(|n| event(n, "a")));
        assert!(later.iter().all(|new| *new));
        assert_eq!(store.add([event(1, "a")].into_iter()), [true], "no longer known after ten times as many");
    }
}
