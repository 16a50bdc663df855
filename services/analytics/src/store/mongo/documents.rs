//! The documents as they lie in their collections: names as in our JSON, times as dates of BSON, which count
//! milliseconds as we do. Pure: no server.
use std::collections::BTreeSet;

use headwater_documents::{SEPARATOR, bson::DateTime, identity};
use headwater_proto::{EventType, Millis, UserId};
use serde::{Deserialize, Serialize};

use crate::{
    activity::{Member, Period},
    canonical::Kind,
    event::{SessionEvent, SessionKey},
    metric::Metric,
    revisions::Revision,
    sessions::{Segment, Session},
};

/// A document that no version of this program wrote.
#[derive(Debug, thiserror::Error)]
#[error("a document of {collection} holds no valid {field}; it was changed by another program")]
pub(super) struct Foreign {
    collection: &'static str,
    field: &'static str,
}

fn valid<T, E>(read: Result<T, E>, collection: &'static str, field: &'static str) -> Result<T, Foreign> {
    read.map_err(|_| Foreign { collection, field })
}

fn date(millis: Millis) -> DateTime {
    DateTime::from_millis(millis.as_millis())
}

fn millis(date: DateTime) -> Millis {
    Millis::from_millis(date.timestamp_millis())
}

/// Of `session_events`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EventDocument {
    #[serde(rename = "_id")]
    id: String,
    user_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<String>,
    event_type: String,
    occurred_at: DateTime,
}

impl From<&SessionEvent> for EventDocument {
    fn from(event: &SessionEvent) -> Self {
        Self {
            id: event.id.to_string(),
            user_id: event.user_id.to_string(),
            session_id: event.session_id.as_deref().map(str::to_owned),
            event_type: event.event_type.as_str().to_owned(),
            occurred_at: date(event.occurred_at),
        }
    }
}

impl TryFrom<EventDocument> for SessionEvent {
    type Error = Foreign;

    fn try_from(document: EventDocument) -> Result<Self, Foreign> {
        const COLLECTION: &str = Kind::SessionEvents.name();
        Ok(Self {
            id: valid(document.id.parse(), COLLECTION, "_id")?,
            user_id: valid(UserId::try_from(document.user_id.as_str()), COLLECTION, "userId")?,
            session_id: document.session_id.map(Into::into),
            event_type: valid(EventType::parse(&document.event_type).ok_or(()), COLLECTION, "eventType")?,
            occurred_at: millis(document.occurred_at),
        })
    }
}

/// Of `sessions`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SessionDocument {
    #[serde(rename = "_id")]
    id: String,
    user_id: String,
    session_id: String,
    n: i64,
    /// The days on which a segment starts, each once: what a day's segments are found by.
    start_days: Vec<String>,
    segments: Vec<SegmentDocument>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SegmentDocument {
    started_at: DateTime,
    last_activity_at: DateTime,
    events: i64,
    logged_in: bool,
    logged_out: bool,
}

/// In order, each once.
pub(super) fn start_days(segments: &[Segment]) -> Vec<String> {
    let days: BTreeSet<_> = segments.iter().map(|segment| segment.started_at.day()).collect();
    days.iter().map(ToString::to_string).collect()
}

impl From<&Segment> for SegmentDocument {
    fn from(segment: &Segment) -> Self {
        Self {
            started_at: date(segment.started_at),
            last_activity_at: date(segment.last_activity_at),
            events: segment.events.into(),
            logged_in: segment.logged_in,
            logged_out: segment.logged_out,
        }
    }
}

impl From<&Session> for SessionDocument {
    fn from(session: &Session) -> Self {
        Self {
            id: session.key.id(),
            user_id: session.key.user_id.to_string(),
            session_id: session.key.session_id.to_string(),
            n: whole(session.n),
            start_days: start_days(&session.segments),
            segments: session.segments.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<SessionDocument> for Session {
    type Error = Foreign;

    fn try_from(document: SessionDocument) -> Result<Self, Foreign> {
        const COLLECTION: &str = Kind::Sessions.name();
        let segment = |segment: SegmentDocument| {
            Ok(Segment {
                started_at: millis(segment.started_at),
                last_activity_at: millis(segment.last_activity_at),
                events: valid(segment.events.try_into(), COLLECTION, "segments.events")?,
                logged_in: segment.logged_in,
                logged_out: segment.logged_out,
            })
        };
        Ok(Self {
            key: SessionKey {
                user_id: valid(UserId::try_from(document.user_id.as_str()), COLLECTION, "userId")?,
                session_id: document.session_id.into(),
            },
            n: valid(document.n.try_into(), COLLECTION, "n")?,
            segments: document.segments.into_iter().map(segment).collect::<Result<_, _>>()?,
        })
    }
}

/// Of `daily_activity` and `monthly_activity`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct MemberDocument {
    #[serde(rename = "_id")]
    id: String,
    user_id: String,
    /// The day or the month.
    period: String,
}

impl From<&Member> for MemberDocument {
    fn from(member: &Member) -> Self {
        Self { id: member.id(), user_id: member.user_id.to_string(), period: member.period.to_string() }
    }
}

impl TryFrom<MemberDocument> for Member {
    type Error = Foreign;

    fn try_from(document: MemberDocument) -> Result<Self, Foreign> {
        const COLLECTION: &str = "daily_activity or monthly_activity";
        Ok(Self {
            user_id: valid(UserId::try_from(document.user_id.as_str()), COLLECTION, "userId")?,
            period: valid(document.period.parse(), COLLECTION, "period")?,
        })
    }
}

/// Of `daily_aggregates` and `monthly_aggregates`. There is one as soon as its period has a member.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AggregateDocument {
    #[serde(rename = "_id")]
    id: String,
    active_users: i64,
}

impl AggregateDocument {
    /// Before the first count.
    pub(super) fn uncounted(period: Period) -> Self {
        Self { id: period.to_string(), active_users: 0 }
    }

    pub(super) fn read(self) -> Result<(Period, u64), Foreign> {
        const COLLECTION: &str = "daily_aggregates or monthly_aggregates";
        let period = valid(self.id.parse(), COLLECTION, "_id")?;
        Ok((period, valid(self.active_users.try_into(), COLLECTION, "activeUsers")?))
    }
}

/// Of `stale_periods`: somebody came into the period, and who counts must begin after this was written. Whoever has
/// counted deletes the marks that stood before. Each is inserted once and deleted once, so that no server can lose one
/// between two writers, as a field of the aggregate could be.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct MarkDocument {
    /// Period and number.
    #[serde(rename = "_id")]
    id: String,
}

impl MarkDocument {
    pub(super) fn new(period: Period, mark: u64) -> Self {
        Self { id: Self::id(period, mark) }
    }

    pub(super) fn id(period: Period, mark: u64) -> String {
        identity([&period.to_string(), &mark.to_string()])
    }

    pub(super) fn read(&self) -> Result<(Period, u64), Foreign> {
        let parts = || {
            let (period, mark) = self.id.split_once(SEPARATOR)?;
            Some((period.parse().ok()?, mark.parse().ok()?))
        };
        valid(parts().ok_or(()), super::STALE_PERIODS, "_id")
    }
}

/// Of `metric_revisions`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RevisionDocument {
    #[serde(rename = "_id")]
    id: String,
    metric: String,
    /// The day or the month.
    day: String,
    old: i64,
    new: i64,
    event_ids: Vec<String>,
}

impl From<&Revision> for RevisionDocument {
    fn from(revision: &Revision) -> Self {
        Self {
            id: revision.id(),
            metric: revision.metric.name().to_owned(),
            day: revision.metric.period().to_string(),
            old: whole(revision.old),
            new: whole(revision.new),
            event_ids: revision.event_ids.iter().map(ToString::to_string).collect(),
        }
    }
}

impl TryFrom<RevisionDocument> for Revision {
    type Error = Foreign;

    fn try_from(document: RevisionDocument) -> Result<Self, Foreign> {
        const COLLECTION: &str = super::METRIC_REVISIONS;
        let period = valid(document.day.parse(), COLLECTION, "day")?;
        let event_id = |id: String| valid(id.parse(), COLLECTION, "eventIds");
        Ok(Self {
            metric: valid(Metric::named(&document.metric, period).ok_or(()), COLLECTION, "metric")?,
            old: valid(document.old.try_into(), COLLECTION, "old")?,
            new: valid(document.new.try_into(), COLLECTION, "new")?,
            event_ids: document.event_ids.into_iter().map(event_id).collect::<Result<_, _>>()?,
        })
    }
}

/// BSON counts with a sign.
pub(super) fn whole(count: u64) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}
