//! What late events change in the past: `metric_revisions`, a journal for people, outside the digest, because it
//! depends on the order of arrival. Pure: no Kafka, no store, no clock.
use std::collections::{BTreeMap, BTreeSet, HashSet};

use headwater_documents::identity;
use headwater_proto::{Day, EventId};

use crate::{activity::Member, event::SessionEvent, metric::Metric, plan::Proof, sessions::Session};

/// One document of `metric_revisions`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    pub metric: Metric,
    pub old: u64,
    pub new: u64,
    /// The late events that changed it, sorted; at least one.
    pub event_ids: Vec<EventId>,
}

impl Revision {
    /// The document's `_id`. An event changes a metric once, so the first of them names the change: a batch that is
    /// applied again after a crash finds its revision there.
    pub fn id(&self) -> String {
        let first = self.event_ids.first().map(EventId::to_string).unwrap_or_default();
        identity([self.metric.name(), &self.metric.period().to_string(), &first])
    }
}

/// Those of `events`, in the order of arrival, whose day is before the newest day stored when they arrive. `newest` is
/// the store's; each event that is not late moves it on.
pub(crate) fn late<'a>(
    events: impl IntoIterator<Item = &'a SessionEvent>,
    mut newest: Option<Day>,
) -> HashSet<EventId> {
    let mut late = HashSet::new();
    for event in events {
        let day = Some(event.occurred_at.day());
        if day < newest {
            late.insert(event.id);
        }
        newest = newest.max(day);
    }
    late
}

/// Collects what a batch changes, metric by metric: what its late events do, on top of what the others do.
#[derive(Debug, Default)]
pub(crate) struct Changes(BTreeMap<Metric, Change>);

#[derive(Debug, Default)]
struct Change {
    in_time: i64,
    by: i64,
    event_ids: BTreeSet<EventId>,
}

impl Changes {
    fn add(&mut self, metric: Metric, by: i64, late: &[EventId]) {
        let change = self.0.entry(metric).or_default();
        change.by += by;
        change.event_ids.extend(late);
    }

    fn add_in_time(&mut self, metric: Metric, by: i64) {
        self.0.entry(metric).or_default().in_time += by;
    }

    /// A membership that was not stored.
    pub(crate) fn joined(&mut self, member: &Member, proof: &Proof) {
        let metric = Metric::ActiveUsers(member.period);
        if proof.in_time { self.add_in_time(metric, 1) } else { self.add(metric, 1, &proof.late) }
    }

    /// A session without and with late events.
    pub(crate) fn session(&mut self, without: &Session, with: &Session, late: &[EventId]) {
        for (metric, by) in difference(without, with) {
            self.add(metric, by, late);
        }
    }

    /// A session before and after events that are not late.
    pub(crate) fn session_in_time(&mut self, before: &Session, after: &Session) {
        for (metric, by) in difference(before, after) {
            self.add_in_time(metric, by);
        }
    }

    /// The metrics whose figure differs in the end.
    pub(crate) fn metrics(&self) -> Vec<Metric> {
        self.0.iter().filter(|(_, change)| change.by != 0).map(|(&metric, _)| metric).collect()
    }

    /// What the late events do to a metric that stood at `stored` before the batch.
    pub(crate) fn revision(&self, metric: Metric, stored: u64) -> Option<Revision> {
        let change = self.0.get(&metric)?;
        let old = stored.saturating_add_signed(change.in_time);
        let new = old.saturating_add_signed(change.by);
        Some(Revision { metric, old, new, event_ids: change.event_ids.iter().copied().collect() })
    }
}

/// The session figures that differ, and by how much.
fn difference(before: &Session, after: &Session) -> impl Iterator<Item = (Metric, i64)> {
    let mut by = BTreeMap::<Metric, i64>::new();
    for (session, sign) in [(before, -1), (after, 1)] {
        for metric in session.segments.iter().flat_map(Metric::of_segment) {
            *by.entry(metric).or_default() += sign;
        }
    }
    by.into_iter().filter(|&(_, by)| by != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance::{day, event};
    use headwater_proto::EventType;

    #[test]
    fn an_event_is_late_if_its_day_is_before_the_newest_day_stored_when_it_arrives() {
        for (stored, arriving, expected) in [
            (None, vec!["2026-01-15T10:00:00Z"], vec![]),
            (Some("2026-01-15"), vec!["2026-01-15T00:00:00Z", "2026-01-14T23:59:59.999Z"], vec![2]),
            (None, vec!["2026-01-15T00:00:00Z", "2026-01-14T23:59:59.999Z"], vec![2]),
            (None, vec!["2026-01-14T23:59:59.999Z", "2026-01-15T00:00:00Z"], vec![]),
            (Some("2026-01-15"), vec!["2026-01-13T10:00:00Z", "2026-01-14T10:00:00Z"], vec![1, 2]),
        ] {
            let event = |(id, at): (u128, &&str)| event(id, EventType::UserLoggedIn, "ann", "s", at);
            let events: Vec<_> = (1..).zip(&arriving).map(event).collect();
            let expected = expected.into_iter().map(|id: u128| EventId::from_bytes(id.to_be_bytes())).collect();
            assert_eq!(late(&events, stored.map(day)), expected, "{stored:?} {arriving:?}");
        }
    }
}
