//! One batch off the log: decode -> store the events -> plan -> derive -> outcome.
use std::collections::HashSet;

use futures::try_join;
use headwater_otel::{names, store_write};
use headwater_proto::{Day, EventId};
use headwater_stream::{BatchHandler, Decoded, Delivery, Outcome, Poison, Record, Unavailable};

use crate::{
    StoreError,
    event::{SessionEvent, SessionKey, skip},
    plan::{Fact, Plan, Step, Touched},
    revisions::Changes,
    sessions::{Session, Timeout},
    store::{SessionWrite, Store},
};

/// Turns batches into documents.
#[derive(Debug)]
pub struct Handler<S> {
    store: S,
    timeout: Timeout,
    /// Stored by attempts that did not get to their end, so that the last attempt counts them as done.
    unfinished: HashSet<EventId>,
    /// The newest day stored before the first of those attempts: what they have written makes no event late.
    newest: Option<Day>,
}

impl From<Step> for SessionWrite {
    fn from(step: Step) -> Self {
        Self { replaces: step.before.n, session: step.after }
    }
}

impl<S: Store> BatchHandler for Handler<S> {
    type Item = SessionEvent;

    fn decode(record: &Record<'_>) -> Result<Decoded<SessionEvent>, Poison> {
        Ok(match headwater_stream::decode_event(record)? {
            Decoded::Skip(reason) => Decoded::Skip(reason),
            Decoded::Item(event) => match SessionEvent::of(event) {
                Ok(event) => Decoded::Item(event),
                Err(reason) => Decoded::Skip(reason),
            },
        })
    }

    async fn apply(&mut self, batch: &[Delivery<SessionEvent>]) -> Result<Vec<Outcome>, Unavailable> {
        let mut seen = HashSet::with_capacity(batch.len());
        let distinct = batch.iter().map(|delivery| &delivery.item).filter(|event| seen.insert(event.id));
        let events: Vec<SessionEvent> = distinct.cloned().collect();
        store_write(names::SPAN_WRITE_SESSIONS, self.store(&events))
            .await
            .map_err(|error| Unavailable { dependency: "the analytics store", source: error.into() })?;
        let mut done = std::mem::take(&mut self.unfinished);
        let outcome = |delivery: &Delivery<SessionEvent>| match done.remove(&delivery.item.id) {
            true => Outcome::Done,
            false => Outcome::Skip(skip::DUPLICATE),
        };
        Ok(batch.iter().map(outcome).collect())
    }
}

impl<S: Store> Handler<S> {
    pub fn new(store: S, timeout: Timeout) -> Self {
        Self { store, timeout, unfinished: HashSet::new(), newest: None }
    }

    /// The events, then everything that follows from them. The journal is written before what it describes: written
    /// after, a crash in between would leave a change that nobody can explain.
    async fn store(&mut self, events: &[SessionEvent]) -> Result<(), StoreError> {
        let (newest, stored) = try_join!(self.store.newest_day(), self.store.insert_events(events))?;
        if !events.iter().any(|event| self.unfinished.contains(&event.id)) {
            self.newest = newest;
        }
        self.unfinished.extend(events.iter().zip(&stored).filter(|(_, known)| known.is_none()).map(|(e, _)| e.id));

        let facts = events.iter().zip(&stored).map(|(event, known)| match known {
            Some(first) => Fact { event: first, new: false },
            None => Fact { event, new: true },
        });
        let mut plan = Plan::of(facts, self.newest);
        metrics::counter!(names::ANALYTICS_LATE_EVENTS, names::ROLE => crate::ROLE).increment(plan.late_events);
        let steps = self.steps(&mut plan).await?;
        self.write_journal(&plan, &steps).await?;

        let members: Vec<_> = plan.members.into_keys().collect();
        try_join!(self.store.add_members(&members), self.put(steps))?;
        Ok(())
    }

    /// The next version of every session in the plan that lacks an event.
    async fn steps(&self, plan: &mut Plan<'_>) -> Result<Vec<Step>, StoreError> {
        let keys: Vec<SessionKey> = plan.sessions.keys().cloned().collect();
        let stored = self.store.sessions(&keys).await?;
        let (mut steps, mut rebuild) = (Vec::with_capacity(stored.len()), Vec::new());
        for (before, touched) in stored.into_iter().zip(plan.sessions.values_mut()) {
            let Touched { new, doubtful, .. } = touched;
            match before.extended(new, self.timeout).filter(|_| !*doubtful) {
                Some(after) => steps.push(Step { before, after, events: Vec::new() }),
                None => rebuild.push(before),
            }
        }
        steps.extend(self.rebuilt(rebuild).await?);
        Ok(steps)
    }

    /// From all stored events. A version that already has as many is complete: its events are some of the stored ones,
    /// which are read after it.
    async fn rebuilt(&self, stored: Vec<Session>) -> Result<Vec<Step>, StoreError> {
        if stored.is_empty() {
            return Ok(Vec::new());
        }
        metrics::counter!(names::ANALYTICS_SESSION_REBUILDS, names::ROLE => crate::ROLE).increment(stored.len() as u64);
        let keys: Vec<SessionKey> = stored.iter().map(|session| session.key.clone()).collect();
        let events = self.store.session_events(&keys).await?;
        let steps = stored.into_iter().zip(events).map(|(before, events)| {
            let after = Session::build(before.key.clone(), &events, self.timeout);
            Step { before, after, events }
        });
        Ok(steps.filter(|step| step.after.n > step.before.n).collect())
    }

    /// Until every session is stored or complete. A refusal means that another instance, which still holds or already
    /// took over the partition, has moved the session on.
    async fn put(&self, mut steps: Vec<Step>) -> Result<(), StoreError> {
        while !steps.is_empty() {
            let refused = self.store.put_sessions(steps.into_iter().map(Into::into).collect()).await?;
            let stored = if refused.is_empty() { Vec::new() } else { self.store.sessions(&refused).await? };
            steps = self.rebuilt(stored).await?;
        }
        Ok(())
    }

    async fn write_journal(&self, plan: &Plan<'_>, steps: &[Step]) -> Result<(), StoreError> {
        let mut changes = Changes::default();
        if !plan.has_late() {
            return Ok(());
        }
        let members = plan.members_of_late_periods();
        let absent = if members.is_empty() { members } else { self.store.absent_members(members).await? };
        for member in absent {
            changes.joined(&member, &plan.members[&member]);
        }
        for step in steps {
            match plan.sessions[&step.after.key].without_late(step, self.timeout) {
                Some((late, without)) => {
                    changes.session_in_time(&step.before, &without);
                    changes.session(&without, &step.after, &late);
                }
                None => changes.session_in_time(&step.before, &step.after),
            }
        }
        let metrics = changes.metrics();
        if metrics.is_empty() {
            return Ok(());
        }
        let figures = self.store.figures(&metrics).await?;
        let revisions = metrics.into_iter().zip(figures).filter_map(|(metric, old)| changes.revision(metric, old));
        self.store.insert_revisions(revisions.collect()).await
    }
}
