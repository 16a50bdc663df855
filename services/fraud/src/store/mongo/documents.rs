//! The documents as they are stored. Names as in our JSON; times are dates of whole milliseconds. Every field is always
//! there, null where it has no value: a profile is replaced by setting all of its fields.
use std::{net::IpAddr, sync::Arc};

use headwater_documents::{
    Error,
    bson::{Bson, DateTime, deserialize_from_bson, serialize_to_bson},
    identity,
};
use headwater_proto::{EventId, EventType, Millis, UserId};
use headwater_stream::Position;
use serde::{Deserialize, Serialize};

use crate::{
    findings::{Evaluation, Report, Trace},
    profile::{Kept, KnownEmail, Match, Profile},
    rules::Level,
};

/// `_id` = user.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ProfileDocument {
    #[serde(rename = "_id")]
    user_id: String,
    partition: Option<i32>,
    offset: Option<i64>,
    newest: Option<DateTime>,
    events: Vec<KeptDocument>,
    matches: Vec<MatchDocument>,
    announced: Vec<String>,
    status_epoch: i64,
    reinstated_at: Option<DateTime>,
    reinstatements: Vec<String>,
    email: Option<EmailDocument>,
}

/// `_id` = user U+001F event.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EvaluationDocument {
    #[serde(rename = "_id")]
    id: String,
    user_id: String,
    event_id: String,
    event_type: String,
    occurred_at: DateTime,
    offset: i64,
    score: i32,
    level: Option<String>,
    matches: Vec<MatchDocument>,
    announced: Vec<String>,
}

/// `_id` = announcing event.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ReportDocument {
    #[serde(rename = "_id")]
    id: String,
    user_id: String,
    /// The trigger.
    event_id: String,
    action: String,
    /// Orders what one trigger announced.
    gravity: i32,
    decided_at: DateTime,
    /// In the JSON form of the contract.
    verdict: Bson,
}

/// `_id` = user U+001F event.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TraceDocument {
    #[serde(rename = "_id")]
    id: String,
    user_id: String,
    #[serde(flatten)]
    event: KeptDocument,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeptDocument {
    event_id: String,
    event_type: String,
    occurred_at: DateTime,
    offset: i64,
    ip: Option<String>,
    cleared: bool,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct MatchDocument {
    rule: String,
    points: i32,
    matched_at: DateTime,
    evidence: Vec<KeptDocument>,
    shadow: bool,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct EmailDocument {
    address: String,
    occurred_at: DateTime,
    offset: i64,
}

impl ProfileDocument {
    pub(super) fn of(user_id: &UserId, profile: &Profile) -> Self {
        Self {
            user_id: user_id.to_string(),
            partition: profile.position.map(|position| position.partition),
            offset: profile.position.map(|position| position.offset),
            newest: profile.newest.map(date),
            events: profile.events.iter().map(KeptDocument::of).collect(),
            matches: profile.matches.iter().map(|found| MatchDocument::of(found)).collect(),
            announced: actions(&profile.announced),
            status_epoch: profile.status_epoch,
            reinstated_at: profile.reinstated_at.map(date),
            reinstatements: profile.reinstatements.iter().map(EventId::to_string).collect(),
            email: profile.email.as_ref().map(|email| EmailDocument {
                address: email.address.to_string(),
                occurred_at: date(email.occurred_at),
                offset: email.offset,
            }),
        }
    }

    pub(super) fn read(&self) -> Result<(UserId, Arc<Profile>), Error> {
        let position = self.partition.zip(self.offset).map(|(partition, offset)| Position { partition, offset });
        let profile = Profile {
            position,
            newest: self.newest.map(millis),
            events: self.events.iter().map(KeptDocument::read).collect::<Result<_, _>>()?,
            matches: matches(&self.matches)?,
            announced: levels(&self.announced)?,
            status_epoch: self.status_epoch,
            reinstated_at: self.reinstated_at.map(millis),
            reinstatements: self.reinstatements.iter().map(|id| event_id(id)).collect::<Result<_, _>>()?,
            email: self.email.as_ref().map(|email| KnownEmail {
                address: email.address.as_str().into(),
                occurred_at: millis(email.occurred_at),
                offset: email.offset,
            }),
        };
        Ok((user_id(&self.user_id)?, Arc::new(profile)))
    }
}

impl EvaluationDocument {
    pub(super) fn of(evaluation: &Evaluation) -> Self {
        let (user_id, event_id) = (evaluation.user_id.to_string(), evaluation.event_id.to_string());
        Self {
            id: identity([&user_id, &event_id]),
            user_id,
            event_id,
            event_type: evaluation.event_type.to_string(),
            occurred_at: date(evaluation.occurred_at),
            offset: evaluation.offset,
            score: evaluation.score,
            level: evaluation.level.map(action),
            matches: evaluation.matches.iter().map(|found| MatchDocument::of(found)).collect(),
            announced: actions(&evaluation.announced),
        }
    }

    pub(super) fn read(&self) -> Result<Evaluation, Error> {
        Ok(Evaluation {
            user_id: user_id(&self.user_id)?,
            event_id: event_id(&self.event_id)?,
            event_type: event_type(&self.event_type)?,
            occurred_at: millis(self.occurred_at),
            offset: self.offset,
            score: self.score,
            level: self.level.as_deref().map(level).transpose()?,
            matches: matches(&self.matches)?,
            announced: levels(&self.announced)?,
        })
    }
}

impl ReportDocument {
    pub(super) fn of(report: &Report) -> Result<Self, Error> {
        Ok(Self {
            id: report.id.to_string(),
            user_id: report.user_id.to_string(),
            event_id: report.trigger.to_string(),
            action: action(report.level),
            gravity: gravity(report.level),
            decided_at: date(report.decided_at),
            verdict: serialize_to_bson(&report.verdict).map_err(|_| unreadable("verdict"))?,
        })
    }

    pub(super) fn read(&self) -> Result<Report, Error> {
        Ok(Report {
            id: event_id(&self.id)?,
            user_id: user_id(&self.user_id)?,
            trigger: event_id(&self.event_id)?,
            level: level(&self.action)?,
            decided_at: millis(self.decided_at),
            verdict: deserialize_from_bson(self.verdict.clone()).map_err(|_| unreadable("verdict"))?,
        })
    }
}

impl TraceDocument {
    pub(super) fn of(Trace { user_id, event }: &Trace) -> Self {
        let id = identity([user_id.as_str(), &event.id.to_string()]);
        Self { id, user_id: user_id.to_string(), event: KeptDocument::of(event) }
    }

    pub(super) fn read(&self) -> Result<Kept, Error> {
        self.event.read()
    }
}

impl KeptDocument {
    fn of(kept: &Kept) -> Self {
        Self {
            event_id: kept.id.to_string(),
            event_type: kept.event_type.to_string(),
            occurred_at: date(kept.occurred_at),
            offset: kept.offset,
            ip: kept.ip.as_ref().map(IpAddr::to_string),
            cleared: kept.cleared,
        }
    }

    fn read(&self) -> Result<Kept, Error> {
        Ok(Kept {
            id: event_id(&self.event_id)?,
            event_type: event_type(&self.event_type)?,
            occurred_at: millis(self.occurred_at),
            offset: self.offset,
            ip: self.ip.as_ref().map(|ip| ip.parse()).transpose().map_err(|_| unreadable("ip"))?,
            cleared: self.cleared,
        })
    }
}

impl MatchDocument {
    fn of(found: &Match) -> Self {
        Self {
            rule: found.rule.to_string(),
            points: found.points,
            matched_at: date(found.matched_at),
            evidence: found.evidence.iter().map(KeptDocument::of).collect(),
            shadow: found.shadow,
        }
    }

    fn read(&self) -> Result<Match, Error> {
        Ok(Match {
            rule: self.rule.as_str().into(),
            points: self.points,
            matched_at: millis(self.matched_at),
            evidence: self.evidence.iter().map(KeptDocument::read).collect::<Result<_, _>>()?,
            shadow: self.shadow,
        })
    }
}

/// Graver is greater.
pub(super) fn gravity(level: Level) -> i32 {
    match level {
        Level::Flagged => 1,
        Level::PasswordResetRequired => 2,
        Level::Suspended => 3,
    }
}

fn date(at: Millis) -> DateTime {
    DateTime::from_millis(at.as_millis())
}

fn millis(date: DateTime) -> Millis {
    Millis::from_millis(date.timestamp_millis())
}

fn matches(documents: &[MatchDocument]) -> Result<Vec<Arc<Match>>, Error> {
    documents.iter().map(|document| document.read().map(Arc::new)).collect()
}

fn action(level: Level) -> String {
    level.event_type().to_string()
}

fn actions(levels: &[Level]) -> Vec<String> {
    levels.iter().copied().map(action).collect()
}

fn level(action: &str) -> Result<Level, Error> {
    let level = Level::ALL.into_iter().find(|level| level.event_type().as_str() == action);
    level.ok_or_else(|| unreadable("level"))
}

fn levels(actions: &[String]) -> Result<Vec<Level>, Error> {
    actions.iter().map(|action| level(action)).collect()
}

fn user_id(text: &str) -> Result<UserId, Error> {
    UserId::try_from(text).map_err(|_| unreadable("user id"))
}

fn event_id(text: &str) -> Result<EventId, Error> {
    text.parse().map_err(|_| unreadable("event id"))
}

fn event_type(text: &str) -> Result<EventType, Error> {
    EventType::parse(text).ok_or_else(|| unreadable("event type"))
}

/// Somebody else wrote into the collection, or another version of this program did.
fn unreadable(what: &str) -> Error {
    Error::Refused { operation: "find", cause: format!("a document of the fraud service has no valid {what}") }
}
