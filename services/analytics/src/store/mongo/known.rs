//! What this process has seen in the store, so that it need not ask or write again. Never an answer by itself: a
//! membership stays once it is stored, and a session is written only over the version that is held here. So what is
//! out of date costs a refusal, and nothing else.
use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{
    activity::{Member, Period},
    event::SessionKey,
    sessions::Session,
};

/// Some 25 MB each.
const MAX_MEMBERS: usize = 200_000;
const MAX_SEGMENTS: usize = 200_000;

#[derive(Debug, Default)]
pub(super) struct Known(Mutex<Memory>);

#[derive(Debug, Default)]
struct Memory {
    members: HashSet<Member>,
    /// That have an aggregate.
    periods: HashSet<Period>,
    sessions: HashMap<SessionKey, Session>,
    /// How many segments the sessions have, and one for each session.
    segments: usize,
}

impl Known {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn unknown_members(&self, members: impl IntoIterator<Item = Member>) -> Vec<Member> {
        let memory = self.memory();
        members.into_iter().filter(|member| !memory.members.contains(member)).collect()
    }

    pub(super) fn unknown_periods(&self, periods: impl IntoIterator<Item = Period>) -> Vec<Period> {
        let memory = self.memory();
        periods.into_iter().filter(|period| !memory.periods.contains(period)).collect()
    }

    /// They are stored, their periods have an aggregate, and what stands for them in a count is a mark.
    pub(super) fn joined(&self, members: Vec<Member>) {
        let mut memory = self.memory();
        if memory.members.len() + members.len() > MAX_MEMBERS {
            memory.members.clear();
            memory.periods.clear();
        }
        memory.periods.extend(members.iter().map(|member| member.period));
        memory.members.extend(members);
    }

    pub(super) fn session(&self, key: &SessionKey) -> Option<Session> {
        self.memory().sessions.get(key).cloned()
    }

    /// They are stored so.
    pub(super) fn stored(&self, sessions: impl IntoIterator<Item = Session>) {
        let mut memory = self.memory();
        for session in sessions {
            memory.forget(&session.key);
            memory.segments += weight(&session);
            if memory.segments > MAX_SEGMENTS {
                memory.sessions.clear();
                memory.segments = weight(&session);
            }
            memory.sessions.insert(session.key.clone(), session);
        }
    }

    /// The version that a write replaces, out of the memory: whether the write is done is not known until its answer.
    pub(super) fn take_session(&self, key: &SessionKey, n: u64) -> Option<Session> {
        self.memory().forget(key).filter(|session| session.n == n)
    }
}

impl Memory {
    fn forget(&mut self, key: &SessionKey) -> Option<Session> {
        let session = self.sessions.remove(key)?;
        self.segments -= weight(&session);
        Some(session)
    }
}

fn weight(session: &Session) -> usize {
    1 + session.segments.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sessions::Segment;
    use crate::store::conformance::{day, millis, user_id};

    fn session(id: &str, n: u64, segments: usize) -> Session {
        let at = millis("2026-01-15T10:00:00Z");
        let segment = Segment { started_at: at, last_activity_at: at, events: 1, logged_in: true, logged_out: false };
        let key = SessionKey { user_id: user_id("ann"), session_id: id.into() };
        Session { key, n, segments: vec![segment; segments] }
    }

    #[test]
    fn a_session_is_known_until_it_is_being_written_and_only_in_the_version_that_is_replaced() {
        let known = Known::default();
        let (old, new) = (session("s", 1, 1), session("s", 2, 3));
        known.stored([old, new.clone()]);
        assert_eq!(known.session(&new.key), Some(new.clone()));
        assert_eq!(known.memory().segments, 4);
        assert_eq!(known.take_session(&new.key, 1), None, "another version");
        assert_eq!((known.session(&new.key), known.memory().segments), (None, 0));
        known.stored([new.clone()]);
        assert_eq!(known.take_session(&new.key, 2), Some(new));
    }

    #[test]
    fn a_full_memory_starts_anew() {
        let known = Known::default();
        known.stored([session("a", 1, 1), session("b", 1, MAX_SEGMENTS - 1)]);
        assert_eq!(known.memory().sessions.len(), 1);
        assert_eq!(known.memory().segments, MAX_SEGMENTS);

        let period = Period::Day(day("2026-01-15"));
        let members = |from: usize, to: usize| -> Vec<_> {
            (from..to).map(|n| Member { period, user_id: user_id(&n.to_string()) }).collect()
        };
        known.joined(members(0, MAX_MEMBERS));
        assert_eq!(known.unknown_members(members(0, 2)), []);
        assert_eq!(known.unknown_periods([period]), []);
        known.joined(members(MAX_MEMBERS, MAX_MEMBERS + 1));
        assert_eq!(known.unknown_members(members(0, 2)), members(0, 2));
        assert_eq!(known.unknown_periods([period]), [], "the last ones are known");
    }
}
