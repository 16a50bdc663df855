//! What is written down about decisions. Insert-only: each has an identity that is the same at every attempt.
use std::sync::Arc;

use headwater_documents::identity;
use headwater_proto::{EventId, EventType, Millis, UserId, v1};

use crate::{
    profile::{Kept, Match},
    rules::Level,
};

/// How a user stands after an event that changed matches, score or announcements. Identity: user and event.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    pub user_id: UserId,
    pub event_id: EventId,
    pub event_type: EventType,
    pub occurred_at: Millis,
    /// Of the event, in the user's partition.
    pub offset: i64,
    pub score: i32,
    pub level: Option<Level>,
    pub matches: Vec<Arc<Match>>,
    /// By this event. Lowest first.
    pub announced: Vec<Level>,
}

/// A user's evaluations in their order.
pub type EvaluationPlace = (Millis, i64);

impl Evaluation {
    /// The document's `_id`.
    pub fn document_id(&self) -> String {
        identity([self.user_id.as_str(), &self.event_id.to_string()])
    }

    pub fn place(&self) -> EvaluationPlace {
        (self.occurred_at, self.offset)
    }
}

/// A level that was announced. Identity: the id of the announcing event.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    pub id: EventId,
    pub user_id: UserId,
    /// The event that triggered it.
    pub trigger: EventId,
    pub level: Level,
    /// occurred_at of the trigger.
    pub decided_at: Millis,
    /// As the announcing event carries it.
    pub verdict: v1::Verdict,
}

/// All reports in their order: of one trigger, the gravest is the newest.
pub type ReportPlace = (Millis, Level, EventId);

impl Report {
    pub fn place(&self) -> ReportPlace {
        (self.decided_at, self.level, self.id)
    }
}

/// An event that some match rests on. Identity: user and event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    pub user_id: UserId,
    pub event: Kept,
}

impl Trace {
    /// The document's `_id`.
    pub fn document_id(&self) -> String {
        identity([self.user_id.as_str(), &self.event.id.to_string()])
    }
}

/// What a batch of events adds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Findings {
    pub evaluations: Vec<Evaluation>,
    pub reports: Vec<Report>,
    pub traces: Vec<Trace>,
}

impl Findings {
    pub fn is_empty(&self) -> bool {
        // reports and traces come with the evaluation of the event that made them
        self.evaluations.is_empty()
    }

    /// An event can be evidence of several matches.
    pub(crate) fn name_each_trace_once(&mut self) {
        self.traces.sort_by(|a, b| (&a.user_id, a.event.id).cmp(&(&b.user_id, b.event.id)));
        self.traces.dedup_by(|a, b| a.user_id == b.user_id && a.event.id == b.event.id);
    }
}
