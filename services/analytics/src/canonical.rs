//! The documents in the form of which the digest is taken: what they say, without what a store keeps beside it to do
//! its work. The journal of late events is not among them: it depends on the order of arrival. Pure: no store, no clock.
use headwater_documents::Canonical;
use serde::Serialize;

use crate::{
    activity::{Member, Period},
    event::SessionEvent,
    sessions::{Segment, Session},
};

/// A collection that is a function of the log, under its name in SPEC.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    SessionEvents,
    Sessions,
    DailyActivity,
    MonthlyActivity,
    DailyAggregates,
    MonthlyAggregates,
}

impl Kind {
    /// In the order of the digest.
    pub const ALL: [Self; 6] = [
        Self::SessionEvents,
        Self::Sessions,
        Self::DailyActivity,
        Self::MonthlyActivity,
        Self::DailyAggregates,
        Self::MonthlyAggregates,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::SessionEvents => "session_events",
            Self::Sessions => "sessions",
            Self::DailyActivity => "daily_activity",
            Self::MonthlyActivity => "monthly_activity",
            Self::DailyAggregates => "daily_aggregates",
            Self::MonthlyAggregates => "monthly_aggregates",
        }
    }
}

/// A document of any of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    Event(SessionEvent),
    Session(Session),
    Member(Member),
    /// As it is read: counted on the spot where the stored count may be too low.
    ActiveUsers {
        period: Period,
        users: u64,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase", untagged)]
enum Form<'a> {
    #[serde(rename_all = "camelCase")]
    Event {
        #[serde(rename = "_id")]
        id: String,
        user_id: &'a str,
        session_id: Option<&'a str>,
        event_type: &'a str,
        occurred_at: String,
    },
    #[serde(rename_all = "camelCase")]
    Session {
        #[serde(rename = "_id")]
        id: String,
        user_id: &'a str,
        session_id: &'a str,
        n: u64,
        segments: Vec<SegmentForm>,
    },
    #[serde(rename_all = "camelCase")]
    Member {
        #[serde(rename = "_id")]
        id: String,
        user_id: &'a str,
        period: String,
    },
    #[serde(rename_all = "camelCase")]
    ActiveUsers {
        #[serde(rename = "_id")]
        id: String,
        active_users: u64,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SegmentForm {
    started_at: String,
    last_activity_at: String,
    events: u32,
    logged_in: bool,
    logged_out: bool,
}

impl From<&Segment> for SegmentForm {
    fn from(segment: &Segment) -> Self {
        Self {
            started_at: segment.started_at.to_string(),
            last_activity_at: segment.last_activity_at.to_string(),
            events: segment.events,
            logged_in: segment.logged_in,
            logged_out: segment.logged_out,
        }
    }
}

impl Canonical for Document {
    fn id(&self) -> String {
        match self {
            Self::Event(event) => event.id.to_string(),
            Self::Session(session) => session.key.id(),
            Self::Member(member) => member.id(),
            Self::ActiveUsers { period, .. } => period.to_string(),
        }
    }

    fn canonical(&self) -> impl Serialize {
        let id = self.id();
        match self {
            Self::Event(event) => Form::Event {
                id,
                user_id: event.user_id.as_str(),
                session_id: event.session_id.as_deref(),
                event_type: event.event_type.as_str(),
                occurred_at: event.occurred_at.to_string(),
            },
            Self::Session(session) => Form::Session {
                id,
                user_id: session.key.user_id.as_str(),
                session_id: &session.key.session_id,
                n: session.n,
                segments: session.segments.iter().map(Into::into).collect(),
            },
            Self::Member(member) => {
                Form::Member { id, user_id: member.user_id.as_str(), period: member.period.to_string() }
            }
            Self::ActiveUsers { users, .. } => Form::ActiveUsers { id, active_users: *users },
        }
    }
}

#[cfg(test)]
mod tests {
    use headwater_proto::EventType;

    use super::*;
    use crate::{
        sessions::Timeout,
        store::conformance::{day, event, user_id},
    };

    #[test]
    fn a_document_reads_as_in_its_collection() {
        let event = event(1, EventType::UserLoggedIn, "ann", "s", "2026-01-15T10:00:00Z");
        let timeout = Timeout::new(std::time::Duration::from_secs(60)).unwrap();
        let session = Session::build(event.session().unwrap(), [&event], timeout);
        let period = Period::Day(day("2026-01-15"));
        for (document, expected) in [
            (
                Document::Event(SessionEvent { session_id: None, ..event.clone() }),
                r#"{"_id":"00000000-0000-0000-0000-000000000001","userId":"ann","sessionId":null,"eventType":"user.logged_in","occurredAt":"2026-01-15T10:00:00.000Z"}"#,
            ),
            (
                Document::Session(session),
                r#"{"_id":"ann\u001fs","userId":"ann","sessionId":"s","n":1,"segments":[{"startedAt":"2026-01-15T10:00:00.000Z","lastActivityAt":"2026-01-15T10:00:00.000Z","events":1,"loggedIn":true,"loggedOut":false}]}"#,
            ),
            (
                Document::Member(Member { period, user_id: user_id("ann") }),
                r#"{"_id":"ann\u001f2026-01-15","userId":"ann","period":"2026-01-15"}"#,
            ),
            (Document::ActiveUsers { period, users: 7 }, r#"{"_id":"2026-01-15","activeUsers":7}"#),
        ] {
            assert_eq!(serde_json::to_string(&document.canonical()).unwrap(), expected);
        }
    }
}
