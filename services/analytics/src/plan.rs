//! What a batch of events asks of the derived documents, each document once. Pure: no Kafka, no store, no clock.
use std::collections::{BTreeMap, HashSet};

use headwater_proto::{Day, EventId};

use crate::{
    activity::{Member, Period},
    event::{SessionEvent, SessionKey},
    revisions,
    sessions::{Session, Timeout},
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
    /// How many of the new events are late.
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
        let mut plan = Self::default();
        for Fact { event, new } in facts {
            let late = late.contains(&event.id).then_some(event.id);
            plan.late_events += u64::from(new && late.is_some());
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

    pub(crate) fn has_late(&self) -> bool {
        self.members.values().any(|proof| !proof.late.is_empty())
    }

    /// The memberships of every period that has some which only late events prove.
    pub(crate) fn members_of_late_periods(&self) -> Vec<Member> {
        let late = self.members.iter().filter(|(_, proof)| !proof.in_time);
        let late: HashSet<Period> = late.map(|(member, _)| member.period).collect();
        self.members.keys().filter(|member| late.contains(&member.period)).cloned().collect()
    }
}

/// A session before and after a batch.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) before: Session,
    pub(crate) after: Session,
    /// All its events, where they had to be read.
    pub(crate) events: Vec<SessionEvent>,
}

impl Touched<'_> {
    /// The late events that a step brings in, and the session as it would be without them: the rest of the batch may
    /// change it too. `None` if none is late.
    pub(crate) fn without_late(&self, step: &Step, timeout: Timeout) -> Option<(Vec<EventId>, Session)> {
        if self.late.is_empty() {
            return None;
        }
        let is_new = |id: &EventId| self.new.iter().any(|event| event.id == *id);
        // unless the step brings in more than is new, the known ones were there before
        let all_new = step.after.n - step.before.n == self.new.len() as u64;
        let late: Vec<EventId> = self.late.iter().copied().filter(|id| !all_new || is_new(id)).collect();
        let in_time = |event: &&SessionEvent| !late.contains(&event.id);
        let session = if step.events.is_empty() {
            let mut rest: Vec<&SessionEvent> = self.new.iter().copied().filter(in_time).collect();
            step.before.extended(&mut rest, timeout).unwrap_or_else(|| step.before.clone())
        } else {
            Session::build(step.before.key.clone(), step.events.iter().filter(in_time), timeout)
        };
        (!late.is_empty()).then_some((late, session))
    }
}
