//! Logs of one user, written as tables.
use std::sync::{Arc, Mutex};

use headwater_proto::{Detail, Event, EventId, EventType, Millis, UserId, v1};
use headwater_stream::{Delivery, Outcome, Position, Unavailable};

use crate::{
    Announcer, Arrival, Emitted, Level,
    decide::{Decision, decide},
    profile::Profile,
    rules::Rules,
};

pub(crate) const NOON: Millis = Millis::from_millis(1_768_474_800_000);

/// A time of day of tests: seconds after [`NOON`].
pub(crate) fn at(seconds: i64) -> Millis {
    NOON.plus_millis(seconds * 1_000)
}

/// The id of the n-th event of a test.
pub(crate) fn id(n: u64) -> EventId {
    EventId::from_bytes(u128::from(n).to_be_bytes())
}

pub(crate) fn user(name: &str) -> UserId {
    UserId::try_from(name).unwrap()
}

/// An event of ada; its moment is also its receivedAt.
pub(crate) fn event(n: u64, event_type: EventType, occurred_at: Millis) -> Event {
    Event {
        id: id(n),
        event_type,
        user_id: user("ada"),
        occurred_at,
        received_at: occurred_at,
        email: None,
        ip: None,
        user_agent: None,
        session_id: None,
        causation_id: None,
        correlation_id: None,
        source: "/ingress".into(),
        detail: None,
    }
}

pub(crate) fn ip_changed(n: u64, occurred_at: Millis, ip: &str) -> Event {
    Event { ip: Some(ip.into()), ..event(n, EventType::UserIpChanged, occurred_at) }
}

pub(crate) fn reinstated(n: u64, occurred_at: Millis, status_epoch: i64) -> Event {
    let detail = v1::Reinstatement { status_epoch, reason: "a mistake".into() };
    Event { detail: Some(Detail::Reinstatement(detail)), ..event(n, EventType::UserReinstated, occurred_at) }
}

pub(crate) fn delivery(offset: i64, event: Event) -> Delivery<Arrival> {
    Delivery {
        position: Position { partition: 0, offset },
        trace: None,
        timestamp: None,
        attempt: 1,
        item: Arrival { event, trace_state: None },
    }
}

/// A user's log as it is folded.
pub(crate) struct Fold {
    pub(crate) profile: Profile,
    pub(crate) rules: Rules,
    pub(crate) offset: i64,
}

impl Fold {
    pub(crate) fn new() -> Self {
        Self::with(Rules::default())
    }

    pub(crate) fn with(rules: Rules) -> Self {
        Self { profile: Profile::default(), rules, offset: 0 }
    }

    pub(crate) fn step(&mut self, event: &Event) -> Decision {
        let position = Position { partition: 0, offset: self.offset };
        self.offset += 1;
        decide(&mut self.profile, event, position, &self.rules)
    }

    pub(crate) fn outcome(&mut self, event: &Event) -> Outcome {
        self.step(event).outcome
    }

    /// The rules that the event completes.
    pub(crate) fn found(&mut self, event: &Event) -> Vec<String> {
        self.step(event).found.iter().map(|found| found.rule.to_string()).collect()
    }

    pub(crate) fn announced(&mut self, event: &Event) -> Vec<Level> {
        self.step(event).announcements.iter().map(|announcement| announcement.report.level).collect()
    }
}

/// Keeps what would go to the log.
#[derive(Debug, Clone, Default)]
pub(crate) struct Announced(pub(crate) Arc<Mutex<Vec<Emitted>>>);

impl Announcer for Announced {
    async fn announce(&self, verdicts: &[Emitted]) -> Result<(), Unavailable> {
        self.0.lock().unwrap().extend_from_slice(verdicts);
        Ok(())
    }
}
