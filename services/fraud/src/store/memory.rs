use std::{
    collections::{BTreeMap, BTreeSet, HashMap, hash_map::Entry},
    ops::Bound,
    sync::{Arc, PoisonError, RwLock},
};

use futures::{Stream, stream};
use headwater_documents::Canonical;
use headwater_proto::{EventId, UserId};
use headwater_stream::Positions;

use super::{Answer, ProfileWrite, Store};
use crate::{
    canonical::{Document, Kind},
    findings::{Evaluation, EvaluationPlace, Findings, Report, ReportPlace, Trace},
    profile::{Kept, Profile},
};

/// Collections that are gone when the last handle is.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    collections: Arc<RwLock<Collections>>,
    positions: Arc<Positions>,
}

#[derive(Debug, Default)]
struct Collections {
    profiles: HashMap<UserId, Arc<Profile>>,
    evaluations: HashMap<UserId, BTreeMap<EvaluationPlace, Arc<Evaluation>>>,
    reports: BTreeMap<ReportPlace, Arc<Report>>,
    reports_of_user: HashMap<UserId, BTreeSet<ReportPlace>>,
    /// By the announcing event and by the trigger.
    reports_of_event: HashMap<EventId, BTreeSet<ReportPlace>>,
    traces: HashMap<UserId, HashMap<EventId, Kept>>,
}

impl MemoryStore {
    pub fn new() -> Self {
        Self::default()
    }

    fn read<T>(&self, read: impl FnOnce(&Collections) -> T) -> T {
        read(&self.collections.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, write: impl FnOnce(&mut Collections) -> T) -> T {
        write(&mut self.collections.write().unwrap_or_else(PoisonError::into_inner))
    }
}

fn below<T>(before: Option<T>) -> (Bound<T>, Bound<T>) {
    (Bound::Unbounded, before.map_or(Bound::Unbounded, Bound::Excluded))
}

impl Collections {
    fn record(&mut self, findings: Findings) {
        for evaluation in findings.evaluations {
            let of_user = self.evaluations.entry(evaluation.user_id.clone()).or_default();
            of_user.entry(evaluation.place()).or_insert_with(|| Arc::new(evaluation));
        }
        for report in findings.reports {
            let place = report.place();
            self.reports_of_user.entry(report.user_id.clone()).or_default().insert(place);
            self.reports_of_event.entry(report.id).or_default().insert(place);
            self.reports_of_event.entry(report.trigger).or_default().insert(place);
            self.reports.entry(place).or_insert_with(|| Arc::new(report));
        }
        for trace in findings.traces {
            self.traces.entry(trace.user_id).or_default().entry(trace.event.id).or_insert(trace.event);
        }
    }

    /// Whether nobody else has moved the profile on.
    fn save(&mut self, write: &ProfileWrite) -> bool {
        match self.profiles.entry(write.user_id.clone()) {
            Entry::Occupied(mut stored) if write.read.is_some() && stored.get().position == write.read => {
                stored.insert(write.profile.clone());
                true
            }
            Entry::Vacant(free) if write.read.is_none() => {
                free.insert(write.profile.clone());
                true
            }
            Entry::Occupied(_) | Entry::Vacant(_) => false,
        }
    }

    fn documents(&self, kind: Kind) -> Vec<Document> {
        match kind {
            Kind::Profiles => {
                let profiles = self.profiles.iter();
                profiles.map(|(user_id, profile)| Document::Profile(user_id.clone(), profile.clone())).collect()
            }
            Kind::Evaluations => {
                let evaluations = self.evaluations.values().flat_map(BTreeMap::values);
                evaluations.cloned().map(Document::Evaluation).collect()
            }
            Kind::Reports => self.reports.values().cloned().map(Document::Report).collect(),
            Kind::Traces => {
                let traces = self.traces.iter().flat_map(|(user_id, traces)| {
                    traces.values().map(|&event| Trace { user_id: user_id.clone(), event })
                });
                traces.map(Document::Trace).collect()
            }
        }
    }

    fn reports(&self, user: Option<&UserId>, before: Option<ReportPlace>, limit: usize) -> Vec<Arc<Report>> {
        let Some(user) = user else {
            return self.reports.range(below(before)).rev().take(limit).map(|(_, report)| report.clone()).collect();
        };
        let places = self.reports_of_user.get(user).into_iter().flat_map(|places| places.range(below(before)).rev());
        places.take(limit).filter_map(|place| self.reports.get(place).cloned()).collect()
    }
}

impl Store for MemoryStore {
    fn positions(&self) -> Option<Arc<Positions>> {
        Some(self.positions.clone())
    }

    async fn profiles(&self, users: &[UserId]) -> Answer<Vec<(UserId, Arc<Profile>)>> {
        Ok(self.read(|all| {
            let stored = |user: &UserId| Some((user.clone(), all.profiles.get(user)?.clone()));
            users.iter().filter_map(stored).collect()
        }))
    }

    async fn record(&self, findings: Findings) -> Answer<()> {
        self.write(|all| all.record(findings));
        Ok(())
    }

    async fn save(&self, writes: Vec<ProfileWrite>) -> Answer<Vec<UserId>> {
        Ok(self.write(|all| writes.into_iter().filter(|write| !all.save(write)).map(|write| write.user_id).collect()))
    }

    async fn reports(
        &self,
        user: Option<&UserId>,
        before: Option<ReportPlace>,
        limit: usize,
    ) -> Answer<Vec<Arc<Report>>> {
        Ok(self.read(|all| all.reports(user, before, limit)))
    }

    async fn evaluations(
        &self,
        user: &UserId,
        before: Option<EvaluationPlace>,
        limit: usize,
    ) -> Answer<Vec<Arc<Evaluation>>> {
        Ok(self.read(|all| {
            let of_user = all.evaluations.get(user).into_iter().flat_map(|places| places.range(below(before)).rev());
            of_user.take(limit).map(|(_, evaluation)| evaluation.clone()).collect()
        }))
    }

    async fn decision(&self, event_id: EventId) -> Answer<Option<Arc<Report>>> {
        Ok(self.read(|all| {
            let gravest = all.reports_of_event.get(&event_id)?.last()?;
            all.reports.get(gravest).cloned()
        }))
    }

    async fn traces(&self, user: &UserId, events: &[EventId]) -> Answer<Vec<Kept>> {
        Ok(self.read(|all| {
            let Some(of_user) = all.traces.get(user) else { return Vec::new() };
            let mut traces: Vec<Kept> = events.iter().filter_map(|id| of_user.get(id).copied()).collect();
            traces.sort_by_key(Kept::order);
            traces
        }))
    }

    fn documents(&self, kind: Kind) -> impl Stream<Item = Answer<Document>> + Send {
        let mut documents = self.read(|all| all.documents(kind));
        documents.sort_by_cached_key(Canonical::id);
        stream::iter(documents.into_iter().map(Ok))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_memory_store_keeps_what_every_store_promises() {
        crate::store::conformance::suite(async || MemoryStore::new()).await;
    }
}
