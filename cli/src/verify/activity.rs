//! Who was active and in which sessions, counted the plain way: everything sorted, nothing incremental.
use std::collections::{BTreeMap, BTreeSet};

use headwater_proto::{Millis, v1::EndReason};

use super::facts::Fact;

const DAY: i64 = 24 * 3_600_000;
const SESSION_TYPES: [&str; 2] = ["user.logged_in", "user.logged_out"];

/// One session as ListSessions must show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Session {
    pub started_at: i64,
    pub last_activity_at: i64,
    pub session_id: String,
    pub segment: i32,
    pub events: i32,
    pub logged_out: bool,
    /// It begins with user.logged_in, so it counts as started.
    pub counted: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Activity {
    /// Days since the Unix epoch -> users.
    pub days: BTreeMap<i64, BTreeSet<String>>,
    /// "2026-01" -> users.
    pub months: BTreeMap<String, BTreeSet<String>>,
    /// User -> sessions by start.
    pub sessions: BTreeMap<String, Vec<Session>>,
    /// Session-related ones.
    pub events: usize,
}

fn concerns_sessions(fact: &Fact) -> bool {
    SESSION_TYPES.contains(&fact.event_type.as_str())
        || (!fact.session_id.is_empty() && fact.event_type != "user.login_failed")
}

pub(crate) fn activity(events: &BTreeMap<String, Vec<Fact>>, timeout: i64) -> Activity {
    let mut activity = Activity::default();
    for (user, events) in events {
        let mut by_session: BTreeMap<&str, Vec<&Fact>> = BTreeMap::new();
        for fact in events.iter().filter(|fact| concerns_sessions(fact)) {
            activity.events += 1;
            let day = fact.occurred_at.div_euclid(DAY);
            activity.days.entry(day).or_default().insert(user.clone());
            let month = Millis::from_millis(fact.occurred_at).month().to_string();
            activity.months.entry(month).or_default().insert(user.clone());
            if !fact.session_id.is_empty() {
                by_session.entry(&fact.session_id).or_default().push(fact);
            }
        }
        let mut sessions: Vec<Session> =
            by_session.into_iter().flat_map(|(session, events)| segments(session, events, timeout)).collect();
        sessions
            .sort_by(|a, b| (a.started_at, &a.session_id, a.segment).cmp(&(b.started_at, &b.session_id, b.segment)));
        activity.sessions.insert(user.clone(), sessions);
    }
    activity
}

fn segments(session_id: &str, mut events: Vec<&Fact>, timeout: i64) -> Vec<Session> {
    let logout = |fact: &Fact| fact.event_type == "user.logged_out";
    events.sort_by_key(|fact| (fact.occurred_at, logout(fact), fact.event_id.clone()));
    let mut sessions: Vec<Session> = Vec::new();
    for fact in events {
        let joins = sessions.last().filter(|s| !s.logged_out && fact.occurred_at - s.last_activity_at <= timeout);
        if joins.is_none() {
            sessions.push(Session {
                started_at: fact.occurred_at,
                last_activity_at: fact.occurred_at,
                session_id: session_id.to_owned(),
                segment: sessions.len() as i32 + 1,
                events: 0,
                logged_out: false,
                counted: fact.event_type == "user.logged_in",
            });
        }
        if let Some(session) = sessions.last_mut() {
            session.last_activity_at = fact.occurred_at;
            session.events += 1;
            session.logged_out = logout(fact);
        }
    }
    sessions
}

impl Session {
    /// LOGOUT, TIMEOUT or OPEN, as of then.
    pub(crate) fn end(&self, as_of: i64, timeout: i64) -> EndReason {
        if self.logged_out {
            EndReason::Logout
        } else if as_of - self.last_activity_at > timeout {
            EndReason::Timeout
        } else {
            EndReason::Open
        }
    }
}

/// What GetSessionStats must answer for a day.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Stats {
    pub started: i64,
    pub ended_by_logout: i64,
    pub timed_out: i64,
    pub open: i64,
    pub median_seconds: f64,
    pub p95_seconds: f64,
}

/// By day of start, against `as_of`.
pub(crate) fn stats(activity: &Activity, day: i64, as_of: i64, timeout: i64) -> Stats {
    let mut stats = Stats::default();
    let mut lengths = Vec::new();
    let all = activity.sessions.values().flatten();
    for session in all.filter(|s| s.counted && s.started_at.div_euclid(DAY) == day) {
        stats.started += 1;
        match session.end(as_of, timeout) {
            EndReason::Logout => stats.ended_by_logout += 1,
            EndReason::Timeout => stats.timed_out += 1,
            _ => {
                stats.open += 1;
                continue;
            }
        }
        lengths.push(session.last_activity_at - session.started_at);
    }
    lengths.sort_unstable();
    let rank = |percent: usize| match (percent * lengths.len()).div_ceil(100) {
        0 => 0.0,
        rank => lengths[rank - 1] as f64 / 1_000.0,
    };
    (stats.median_seconds, stats.p95_seconds) = (rank(50), rank(95));
    stats
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;
    const TIMEOUT: i64 = 30 * MINUTE;

    /// (type, minutes, session)
    fn of(events: &[(&str, i64, &str)]) -> Activity {
        let facts = events.iter().enumerate().map(|(n, &(event_type, minutes, session))| Fact {
            event_id: uuid::Uuid::from_u128(n as u128).to_string(),
            event_type: format!("user.{event_type}"),
            user_id: "ada".into(),
            occurred_at: minutes * MINUTE,
            email: String::new(),
            ip: String::new(),
            session_id: session.into(),
            failures: 0,
        });
        activity(&[("ada".to_owned(), facts.collect())].into(), TIMEOUT)
    }

    /// session, segment, start, last activity, events, logged out, counted
    fn told(activity: &Activity) -> Vec<(&str, i32, i64, i64, i32, bool, bool)> {
        let sessions = activity.sessions["ada"].iter();
        let told = sessions.map(|s| {
            let (start, last) = (s.started_at / MINUTE, s.last_activity_at / MINUTE);
            (s.session_id.as_str(), s.segment, start, last, s.events, s.logged_out, s.counted)
        });
        told.collect()
    }

    #[test]
    fn sessions_are_cut_after_a_logout_and_at_a_pause_longer_than_the_timeout() {
        const I: &str = "logged_in";
        const O: &str = "logged_out";
        assert_eq!(
            told(&of(&[(O, 31, "s"), (I, 0, "s"), ("ip_changed", 30, "s"), (I, 31, "s")])),
            [("s", 1, 0, 31, 4, true, true)],
            "any order; a logout is the last of its moment; exactly the timeout joins"
        );
        assert_eq!(
            told(&of(&[(I, 0, "s"), (O, 1, "s"), ("password_changed", 2, "s"), (I, 33, "s")])),
            [("s", 1, 0, 1, 2, true, true), ("s", 2, 2, 2, 1, false, false), ("s", 3, 33, 33, 1, false, true)]
        );
        assert!(told(&of(&[(I, 0, ""), ("login_failed", 1, "s"), ("ip_changed", 2, "")])).is_empty());
    }

    #[test]
    fn active_is_who_was_in_a_session_or_logged_in_or_out() {
        let day = 24 * 60;
        let activity = of(&[
            ("logged_in", 0, ""),
            ("login_failed", day, "s"),
            ("ip_changed", 2 * day, ""),
            ("ip_changed", 3 * day, "s"),
            ("logged_out", 31 * day, ""),
        ]);
        assert_eq!(activity.days.keys().copied().collect::<Vec<_>>(), [0, 3, 31]);
        assert_eq!(activity.months.keys().map(String::as_str).collect::<Vec<_>>(), ["1970-01", "1970-02"]);
    }

    #[test]
    fn statistics_are_by_day_of_start_and_lengths_of_the_ended_only() {
        let activity = of(&[
            ("logged_in", 0, "a"),
            ("logged_out", 10, "a"),
            ("logged_in", 0, "b"),
            ("logged_in", 20, "b"),
            ("logged_in", 60, "c"),
            ("ip_changed", 60, "d"),
            ("logged_in", 25 * 60, "e"),
        ]);
        let expected = Stats {
            started: 3,
            ended_by_logout: 1,
            timed_out: 1,
            open: 1,
            median_seconds: 600.0,
            p95_seconds: 1_200.0,
        };
        assert_eq!(stats(&activity, 0, 90 * MINUTE, TIMEOUT), expected);
        assert_eq!(stats(&activity, 1, 90 * MINUTE, TIMEOUT).open, 1);
        assert_eq!(stats(&activity, 2, 90 * MINUTE, TIMEOUT), Stats::default());
    }
}
