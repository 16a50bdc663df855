//! What is remembered of a user. A function of the user's own log: no clock has a say in it.
use std::{net::IpAddr, sync::Arc};

use headwater_proto::{EventId, EventType, Millis};
use headwater_stream::Position;

use crate::rules::{HORIZON, Level, MAX_EVENTS};

/// How many reinstatements are known by their id: they come by hand, and are repeated soon or never.
const MAX_REINSTATEMENTS: usize = 100;

/// A rule-relevant event as it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    pub id: EventId,
    pub event_type: EventType,
    pub occurred_at: Millis,
    /// In the user's partition: breaks ties of occurred_at.
    pub offset: i64,
    /// In canonical form, so that equal means same: 10.0.0.1 and ::ffff:10.0.0.1 are one. `None` where the event
    /// carries none that can be read.
    pub ip: Option<IpAddr>,
    /// Consumed before a reinstatement: no evidence any more, and kept only to know its id again.
    pub cleared: bool,
}

impl Kept {
    /// The order of events: by occurred_at, then as they lie in the log.
    pub fn order(&self) -> (Millis, i64) {
        (self.occurred_at, self.offset)
    }
}

/// A rule found its pattern. Never revised; forgotten when it is older than the horizon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    pub rule: Arc<str>,
    pub points: i32,
    /// occurred_at of the pattern's last event.
    pub matched_at: Millis,
    /// In their order.
    pub evidence: Vec<Kept>,
    pub shadow: bool,
}

/// An address, and how new it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownEmail {
    pub address: Arc<str>,
    pub occurred_at: Millis,
    pub offset: i64,
}

/// The state of one user.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Profile {
    /// Of the last record folded in.
    pub position: Option<Position>,
    /// The newest occurred_at folded in.
    pub newest: Option<Millis>,
    /// By [`Kept::order`]; at most [`MAX_EVENTS`].
    pub events: Vec<Kept>,
    /// By matched_at, then in the order they were found.
    pub matches: Vec<Arc<Match>>,
    /// Levels that were announced and that the score has not left since. Lowest first.
    pub announced: Vec<Level>,
    /// Of the status that verdicts are about: the one last seen in user.reinstated, 0 at first.
    pub status_epoch: i64,
    /// The latest occurred_at of any user.reinstated: what is not later is before it.
    pub reinstated_at: Option<Millis>,
    /// Ids of the last [`MAX_REINSTATEMENTS`] user.reinstated.
    pub reinstatements: Vec<EventId>,
    pub email: Option<KnownEmail>,
}

impl Profile {
    /// The sum of the points of the matches that count.
    pub fn score(&self) -> i32 {
        self.matches.iter().filter(|m| !m.shadow).fold(0, |sum, m| sum.saturating_add(m.points))
    }

    /// The events that can be evidence, in their order.
    pub fn window(&self) -> impl Iterator<Item = &Kept> {
        self.events.iter().filter(|kept| !kept.cleared)
    }

    /// Whether the record at this position was folded in. A user's partition never changes.
    pub fn has_applied(&self, position: Position) -> bool {
        self.position.is_some_and(|last| last.partition == position.partition && position.offset <= last.offset)
    }

    pub(crate) fn knows(&self, id: EventId) -> bool {
        // newest first: a repeated delivery usually follows closely
        self.events.iter().rev().any(|kept| kept.id == id) || self.reinstatements.contains(&id)
    }

    /// Whether an event at this time is beyond what the profile can judge; `kept` tells if it would be kept.
    ///
    /// What left a full profile need not be remembered to be too late for ever: as long as no room is made it is below
    /// the oldest, and room is only made by what is later, when that leaves the horizon or a reinstatement clears it.
    pub(crate) fn is_too_late(&self, occurred_at: Millis, kept: bool) -> bool {
        let full = self.events.len() >= MAX_EVENTS;
        self.newest.is_some_and(|newest| newest.since(occurred_at) > HORIZON)
            || kept && full && self.events.first().is_some_and(|oldest| occurred_at <= oldest.occurred_at)
    }

    /// Moves the window forward; what is older than the horizon leaves it.
    pub(crate) fn advance(&mut self, occurred_at: Millis) {
        if self.newest.is_some_and(|newest| occurred_at <= newest) {
            return;
        }
        self.newest = Some(occurred_at);
        let horizon = occurred_at.plus_millis(-HORIZON);
        let old = self.events.partition_point(|kept| kept.occurred_at < horizon);
        self.events.drain(..old);
    }

    /// Puts the event in its place and says where that is. When full, the oldest leaves.
    pub(crate) fn keep(&mut self, event: Kept) -> usize {
        if self.events.len() >= MAX_EVENTS {
            self.events.remove(0);
        }
        let at = self.events.partition_point(|kept| kept.order() < event.order());
        self.events.insert(at, event);
        at
    }

    /// Drops the matches that are older than the horizon.
    pub(crate) fn drop_old_matches(&mut self) -> usize {
        let Some(newest) = self.newest else { return 0 };
        let before = self.matches.len();
        self.matches.retain(|m| newest.since(m.matched_at) <= HORIZON);
        before - self.matches.len()
    }

    pub(crate) fn remember(&mut self, found: Match) -> Arc<Match> {
        let found = Arc::new(found);
        let at = self.matches.partition_point(|m| m.matched_at <= found.matched_at);
        self.matches.insert(at, found.clone());
        found
    }

    pub(crate) fn learn_email(&mut self, address: &str, occurred_at: Millis, offset: i64) {
        if self.email.as_ref().is_none_or(|known| (known.occurred_at, known.offset) < (occurred_at, offset)) {
            self.email = Some(KnownEmail { address: address.into(), occurred_at, offset });
        }
    }

    /// Forgets matches, announcements and events. Ids of events that are later than the barrier stay known: repeated,
    /// they would otherwise pass for new ones.
    pub(crate) fn reinstate(&mut self, event_id: EventId, occurred_at: Millis) {
        let barrier = self.reinstated_at.map_or(occurred_at, |earlier| earlier.max(occurred_at));
        self.reinstated_at = Some(barrier);
        if self.reinstatements.len() >= MAX_REINSTATEMENTS {
            self.reinstatements.remove(0);
        }
        self.reinstatements.push(event_id);
        self.matches.clear();
        self.announced.clear();
        self.events.retain(|kept| kept.occurred_at > barrier);
        self.events.iter_mut().for_each(|kept| kept.cleared = true);
    }
}
