//! Sessions: the events of one (user, session id), cut into segments. Pure: no Kafka, no store, no clock.
//!
//! A document is a function of its set of events: sort them, then cut. Growth at the end (nearly every event) extends
//! the last segment of what is stored; anything else is rebuilt from all events. Both go through [`Session::push`], so
//! they cannot disagree.
use std::time::Duration;

use headwater_proto::{EventId, EventType, Millis};

use crate::event::{SessionEvent, SessionKey};

/// The longest pause inside a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeout(i64);

impl Timeout {
    const MAX: Duration = Duration::from_secs(365 * 86_400);

    /// `None` below a millisecond, which is how fine time is kept, and above a year.
    pub fn new(timeout: Duration) -> Option<Self> {
        let within = (Duration::from_millis(1)..=Self::MAX).contains(&timeout);
        within.then(|| i64::try_from(timeout.as_millis()).ok().map(Self)).flatten()
    }

    /// Exactly the timeout still joins.
    pub fn joins(self, earlier: Millis, later: Millis) -> bool {
        later.since(earlier) <= self.0
    }
}

/// One uninterrupted stay. Facts only: whether it is over is a question to ask at a moment, see [`Segment::end`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    pub started_at: Millis,
    pub last_activity_at: Millis,
    /// Distinct events.
    pub events: u32,
    /// Its first event is user.logged_in. Any other segment is listed but not counted as started.
    pub logged_in: bool,
    /// Its last event is user.logged_out.
    pub logged_out: bool,
}

/// How a segment stands at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Open,
    Logout,
    Timeout,
}

impl Segment {
    fn starting_with(event: &SessionEvent) -> Self {
        Self {
            started_at: event.occurred_at,
            last_activity_at: event.occurred_at,
            events: 1,
            logged_in: event.event_type == EventType::UserLoggedIn,
            logged_out: event.event_type == EventType::UserLoggedOut,
        }
    }

    /// A logout is a fact; without one the segment is open for as long as an event at `as_of` would still join it.
    pub fn end(&self, as_of: Millis, timeout: Timeout) -> End {
        match self {
            Self { logged_out: true, .. } => End::Logout,
            _ if timeout.joins(self.last_activity_at, as_of) => End::Open,
            _ => End::Timeout,
        }
    }
}

/// A document of `sessions`: everything that happened under one session id of one user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    pub key: SessionKey,
    /// How many distinct events it is made of. Only grows, and so is the document's version; 0 is one not stored yet.
    pub n: u64,
    /// By start; the segment number counts from 1.
    pub segments: Vec<Segment>,
}

/// The order of the events of a session. A logout comes last in its millisecond: what happened then was before it.
fn order(event: &SessionEvent) -> (Millis, bool, EventId) {
    (event.occurred_at, event.event_type == EventType::UserLoggedOut, event.id)
}

impl Session {
    pub fn empty(key: SessionKey) -> Self {
        Self { key, n: 0, segments: Vec::new() }
    }

    /// From all its events, in any order, each once.
    pub fn build<'a>(key: SessionKey, events: impl IntoIterator<Item = &'a SessionEvent>, timeout: Timeout) -> Self {
        let mut events: Vec<&SessionEvent> = events.into_iter().collect();
        events.sort_unstable_by_key(|event| order(event));
        let mut session = Self::empty(key);
        for event in events {
            session.push(event, timeout);
        }
        session
    }

    /// With these events at its end, in any order, each once and none in it already; `None` unless all of them are
    /// later than all of its own. Within the same millisecond the order depends on events that are not at hand.
    pub fn extended(&self, events: &mut [&SessionEvent], timeout: Timeout) -> Option<Self> {
        events.sort_unstable_by_key(|event| order(event));
        let (first, last) = (events.first()?, self.segments.last());
        if last.is_some_and(|last| first.occurred_at <= last.last_activity_at) {
            return None;
        }
        let mut session = self.clone();
        for event in events {
            session.push(event, timeout);
        }
        Some(session)
    }

    /// Takes the next event in order: a logout ends a segment, and so does a pause longer than the timeout.
    fn push(&mut self, event: &SessionEvent, timeout: Timeout) {
        self.n += 1;
        match self.segments.last_mut() {
            Some(last) if !last.logged_out && timeout.joins(last.last_activity_at, event.occurred_at) => {
                last.last_activity_at = event.occurred_at;
                last.events += 1;
                last.logged_out = event.event_type == EventType::UserLoggedOut;
            }
            _ => self.segments.push(Segment::starting_with(event)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance::{event, millis};
    use EventType::*;

    const HALF_AN_HOUR: Timeout = Timeout(30 * 60_000);

    fn built(events: &[(EventType, &str)]) -> Vec<String> {
        let at = |time: &str| format!("2026-01-15T{time}Z");
        let events: Vec<_> =
            (1..).zip(events).map(|(id, (kind, time))| event(id, *kind, "ann", "s", &at(time))).collect();
        let session = Session::build(events[0].session().unwrap(), &events, HALF_AN_HOUR);
        assert_eq!(session.n, events.len() as u64);
        session.segments.iter().map(told).collect()
    }

    fn told(segment: &Segment) -> String {
        let time = |at: Millis| at.to_string()[11..23].to_owned();
        let (start, last, events) = (time(segment.started_at), time(segment.last_activity_at), segment.events);
        let first = if segment.logged_in { "in" } else { ".." };
        let last_is = if segment.logged_out { "out" } else { ".." };
        format!("{start} {first} {events} {last_is} {last}")
    }

    #[test]
    fn a_session_is_cut_after_each_logout_and_at_each_pause_longer_than_the_timeout() {
        let (login, logout, action) = (UserLoggedIn, UserLoggedOut, UserIpChanged);
        for (sentence, events, segments) in [
            ("one event is a segment", vec![(action, "10:00:00")], vec!["10:00:00.000 .. 1 .. 10:00:00.000"]),
            (
                "a logout ends it",
                vec![(login, "10:00:00"), (action, "10:10:00"), (logout, "10:20:00")],
                vec!["10:00:00.000 in 3 out 10:20:00.000"],
            ),
            (
                "exactly the timeout still joins",
                vec![(login, "10:00:00"), (action, "10:30:00"), (logout, "11:00:00")],
                vec!["10:00:00.000 in 3 out 11:00:00.000"],
            ),
            (
                "a millisecond more does not",
                vec![(login, "10:00:00"), (action, "10:30:00.001")],
                vec!["10:00:00.000 in 1 .. 10:00:00.000", "10:30:00.001 .. 1 .. 10:30:00.001"],
            ),
            (
                "what follows a logout is a new segment, however soon",
                vec![(login, "10:00:00"), (logout, "10:01:00"), (login, "10:01:00.001")],
                vec!["10:00:00.000 in 2 out 10:01:00.000", "10:01:00.001 in 1 .. 10:01:00.001"],
            ),
            (
                "a logout comes last in its millisecond, whatever its id",
                vec![(logout, "10:00:00"), (login, "10:00:00"), (action, "10:00:00")],
                vec!["10:00:00.000 in 3 out 10:00:00.000"],
            ),
            (
                "a second logout stands alone",
                vec![(login, "10:00:00"), (logout, "10:01:00"), (logout, "10:01:00")],
                vec!["10:00:00.000 in 2 out 10:01:00.000", "10:01:00.000 .. 1 out 10:01:00.000"],
            ),
            (
                "the id decides what is first in a millisecond",
                vec![(action, "10:00:00"), (login, "10:00:00")],
                vec!["10:00:00.000 .. 2 .. 10:00:00.000"],
            ),
            (
                "a login in the middle starts nothing",
                vec![(login, "10:00:00"), (login, "10:10:00")],
                vec!["10:00:00.000 in 2 .. 10:10:00.000"],
            ),
            (
                "order of arrival does not matter",
                vec![(logout, "10:50:00"), (action, "10:25:00"), (login, "10:00:00")],
                vec!["10:00:00.000 in 3 out 10:50:00.000"],
            ),
        ] {
            assert_eq!(built(&events), segments, "{sentence}");
        }
    }

    #[test]
    fn a_session_is_extended_only_by_events_later_than_all_of_its_own() {
        let of = |id, kind, time: &str| event(id, kind, "ann", "s", &format!("2026-01-15T{time}Z"));
        let stored = [of(1, UserLoggedIn, "10:00:00"), of(2, UserIpChanged, "10:10:00")];
        let session = Session::build(stored[0].session().unwrap(), &stored, HALF_AN_HOUR);
        for (times, extends) in [
            (vec!["10:10:00.001"], true),
            (vec!["12:00:00", "10:20:00"], true),
            (vec!["10:10:00"], false),
            (vec!["10:20:00", "10:05:00"], false),
            (vec![], false),
        ] {
            let new: Vec<_> = (3..).zip(&times).map(|(id, time)| of(id, UserIpChanged, time)).collect();
            let extended = session.extended(&mut new.iter().collect::<Vec<_>>(), HALF_AN_HOUR);
            let all = stored.iter().chain(&new);
            let built = extends.then(|| Session::build(session.key.clone(), all, HALF_AN_HOUR));
            assert_eq!(extended, built, "{times:?}");
        }
    }

    #[test]
    fn a_segment_without_logout_is_open_until_the_timeout_has_passed() {
        let at = "2026-01-15T10:00:00Z";
        let open = Segment::starting_with(&event(1, UserLoggedIn, "ann", "s", at));
        let ended = Segment::starting_with(&event(1, UserLoggedOut, "ann", "s", at));
        for (as_of, end) in [
            ("2026-01-15T09:00:00Z", End::Open),
            ("2026-01-15T10:30:00Z", End::Open),
            ("2026-01-15T10:30:00.001Z", End::Timeout),
        ] {
            assert_eq!(open.end(millis(as_of), HALF_AN_HOUR), end, "{as_of}");
            assert_eq!(ended.end(millis(as_of), HALF_AN_HOUR), End::Logout, "{as_of}");
        }
    }
}
