//! States as this process last saw them, so that a group of recorded actions reads and locks none: what it decides on is
//! a guess, and its write proves that every row is still of the version that was seen. A wrong guess undoes the
//! transaction and costs it twice, so after one the next groups do without; the pause doubles while guesses stay wrong.
//!
//! A version is the transaction that wrote the row (`xmin`), so whoever else writes it, and by whatever statement, makes
//! the guess wrong. Numbers of transactions come again after 4 billion, and a standby that takes over may give out those
//! it never heard of: everything is forgotten with the first failure of the store.
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use headwater_proto::UserId;

use super::super::Authentication;

/// Bytes of each of two generations, about: some 60,000 users with a session or two.
const GENERATION: usize = 24 * 1024 * 1024;
/// What a user takes, and each open session of theirs.
const BYTES: (usize, usize) = (256, 128);
/// Groups that do without after a wrong guess: after the first, and at most.
const PAUSE: (u32, u32) = (8, 1_024);

/// What is known of a row.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Seen {
    pub(super) state: Authentication,
    pub(super) version: i32,
}

/// Bounded: who has not acted for a generation is forgotten.
#[derive(Debug, Default)]
pub(super) struct Recent(Mutex<Memory>);

#[derive(Debug, Default)]
struct Memory {
    young: HashMap<UserId, Seen>,
    /// Of the young ones.
    bytes: usize,
    old: HashMap<UserId, Seen>,
    /// Groups that are yet to do without.
    left: u32,
    /// What `left` begins at after the next wrong guess, halved.
    pause: u32,
}

impl Recent {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the next group may be decided on a guess; asked once for each.
    pub(super) fn may_guess(&self) -> bool {
        let mut memory = self.memory();
        let may = memory.left == 0;
        memory.left = memory.left.saturating_sub(1);
        may
    }

    /// Of these users; who is not there is not known. Given away: who guesses gives back the newer ones, or nothing is
    /// known any more.
    pub(super) fn take<'u>(&self, users: impl IntoIterator<Item = &'u UserId>) -> HashMap<UserId, Seen> {
        let mut memory = self.memory();
        users.into_iter().filter_map(|user| Some((user.clone(), memory.take(user)?))).collect()
    }

    /// A guess was right: all of these are of that version now.
    pub(super) fn right(&self, states: Vec<(UserId, Authentication)>, version: i32) {
        let mut memory = self.memory();
        memory.pause /= 2;
        for (user, state) in states {
            memory.bytes += bytes(&state);
            if let Some(before) = memory.young.insert(user, Seen { state, version }) {
                memory.bytes -= bytes(&before.state);
            }
        }
        if memory.bytes >= GENERATION {
            memory.old = std::mem::take(&mut memory.young);
            memory.bytes = 0;
        }
    }

    /// A guess was wrong, or the store failed: nothing is known any more.
    pub(super) fn wrong(&self) {
        let mut memory = self.memory();
        memory.pause = (memory.pause * 2).clamp(PAUSE.0, PAUSE.1);
        memory.left = memory.pause;
        (memory.young, memory.bytes, memory.old) = (HashMap::new(), 0, HashMap::new());
    }
}

impl Memory {
    fn take(&mut self, user: &UserId) -> Option<Seen> {
        let older = self.old.remove(user);
        let Some(newer) = self.young.remove(user) else { return older };
        self.bytes -= bytes(&newer.state);
        Some(newer)
    }
}

fn bytes(state: &Authentication) -> usize {
    BYTES.0 + state.open_sessions.len() * BYTES.1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::user_id;

    fn state(failures: i32) -> Authentication {
        Authentication { failures, ..Authentication::default() }
    }

    fn failures(recent: &Recent, user: &UserId) -> Option<(i32, i32)> {
        recent.take([user]).get(user).map(|seen| (seen.state.failures, seen.version))
    }

    #[test]
    fn the_newest_is_known_until_a_failure_or_two_generations_of_others() {
        let (recent, ada) = (Recent::default(), user_id("ada"));
        let others =
            |name: &str| (0..GENERATION / BYTES.0).map(|n| (user_id(&format!("{name}{n}")), state(0))).collect();
        recent.right(vec![(ada.clone(), state(1))], 10);
        recent.right(vec![(ada.clone(), state(2))], 11);
        assert_eq!((failures(&recent, &ada), failures(&recent, &ada)), (Some((2, 11)), None), "it is given away");
        recent.right(vec![(ada.clone(), state(3))], 12);
        recent.right(others("a"), 13);
        assert_eq!(failures(&recent, &ada), Some((3, 12)), "a generation old");
        recent.right(vec![(ada.clone(), state(4))], 14);
        recent.right(others("b"), 15);
        recent.right(vec![(ada.clone(), state(5))], 16);
        assert_eq!(failures(&recent, &ada), Some((5, 16)), "the newer of two");
        assert_eq!(failures(&recent, &ada), None, "the older went with it");
        recent.right(vec![(ada.clone(), state(6))], 17);
        recent.right(others("c"), 18);
        recent.right(others("d"), 19);
        assert_eq!(failures(&recent, &ada), None);
        recent.right(vec![(ada.clone(), state(7))], 20);
        recent.wrong();
        assert_eq!(failures(&recent, &ada), None);
    }

    #[test]
    fn wrong_guesses_make_them_rare_and_right_ones_frequent_again() {
        let recent = Recent::default();
        let until_next = || (0..).take_while(|_| !recent.may_guess()).count() as u32;
        let pauses: Vec<u32> = (0..10)
            .map(|_| {
                recent.wrong();
                until_next()
            })
            .collect();
        assert_eq!(pauses, [8, 16, 32, 64, 128, 256, 512, 1_024, 1_024, 1_024]);
        (0..20).for_each(|_| recent.right(Vec::new(), 1));
        assert_eq!(until_next(), 0);
        recent.wrong();
        assert_eq!(until_next(), 8);
    }
}
