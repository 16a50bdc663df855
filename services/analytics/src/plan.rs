//! What a batch of events asks of the derived documents, each document once. Pure: no Kafka, no store, no clock.
use std::collections::BTreeMap;

use headwater_proto::{Day, EventId};

use crate::{
    activity::Member,
    event::{SessionEvent, SessionKey},
    revisions,
};

/// An event as it is stored, and whether this batch brought it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fact<'a> {
    pub(crate) event: &'a SessionEvent,
    /// Brought by this batch. Of one that was known, the derived documents may still be missing: whoever stored it
    /// can have died before it wrote them.
    pub(crate) new: bool,
}

/// Sorted by key, so that every instance writes in the same order.
#[derive(Debug, Default)]
pub(crate) struct Plan<'a> {
    pub(crate) members: BTreeMap<Member, Proof>,
    pub(crate) sessions: BTreeMap<SessionKey, Touched<'a>>,
    pub(crate) late_events: u64,
}

/// Which events of the batch prove a membership.
#[derive(Debug, Default)]
pub(crate) struct Proof {
    pub(crate) in_time: bool,
    pub(crate) late: Vec<EventId>,
}

/// Which events of the batch belong to a session.
#[derive(Debug, Default)]
pub(crate) struct Touched<'a> {
    pub(crate) new: Vec<&'a SessionEvent>,
    /// Some were known, so the stored session may lack them.
    pub(crate) doubtful: bool,
    pub(crate) late: Vec<EventId>,
}

impl<'a> Plan<'a> {
    /// `facts` in the order of arrival, each eventId once; `newest` is the newest day stored before them.
    pub(crate) fn of(facts: impl Iterator<Item = Fact<'a>> + Clone, newest: Option<Day>) -> Self {
        let late = revisions::late(facts.clone().map(|fact| fact.event), newest);
        let mut plan = Self { late_events: late.len() as u64, ..Self::default() };
        for Fact { event, new } in facts {
            let late = late.contains(&event.id).then_some(event.id);
            for member in Member::of(event) {
                let proof = plan.members.entry(member).or_default();
                proof.in_time |= late.is_none();
                proof.late.extend(late);
            }
            if let Some(key) = event.session() {
                let touched = plan.sessions.entry(key).or_default();
                touched.late.extend(late);
                if new { touched.new.push(event) } else { touched.doubtful = true }
            }
        }
        plan
    }

    /// The memberships that only late events prove.
    pub(crate) fn late_members(&self) -> Vec<Member> {
        self.members.iter().filter(|(_, proof)| !proof.in_time).map(|(member, _)| member.clone()).collect()
    }
}
