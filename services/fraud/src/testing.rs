//! Logs of one user, written as tables.
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use futures::Stream;
use headwater_proto::{Detail, Event, EventId, EventType, Millis, UserId, v1};
use headwater_stream::{Delivery, Outcome, Position, Unavailable};

use crate::{
    Announcer, Arrival, Document, Emitted, Evaluation, EvaluationPlace, Findings, Kept, Kind, Level, Profile, Report,
    ReportPlace, Rules, StoreError,
    decide::{Decision, decide},
    store::{ProfileWrite, Store},
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

/// When calls fail, and which were made.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults(Arc<Mutex<Plan>>);

#[derive(Debug, Default)]
struct Plan {
    failing: BTreeSet<usize>,
    done_before_failing: bool,
    calls: Vec<&'static str>,
}

impl Faults {
    /// Calls of these numbers fail, all before they do anything or all after it.
    pub(crate) fn at(failing: BTreeSet<usize>, done_before_failing: bool) -> Self {
        Self(Arc::new(Mutex::new(Plan { failing, done_before_failing, calls: Vec::new() })))
    }

    pub(crate) fn stop(&self) {
        self.0.lock().unwrap().failing.clear();
    }

    pub(crate) fn called(&self, operation: &str) -> usize {
        self.0.lock().unwrap().calls.iter().filter(|call| **call == operation).count()
    }

    async fn call<T>(&self, operation: &'static str, work: impl Future<Output = T>) -> Result<T, StoreError> {
        let (fails, done) = {
            let mut plan = self.0.lock().unwrap();
            plan.calls.push(operation);
            (plan.failing.contains(&(plan.calls.len() - 1)), plan.done_before_failing)
        };
        let failure = || StoreError { operation, source: "pulled the plug".into() };
        if fails && !done {
            return Err(failure());
        }
        let answer = work.await;
        if fails { Err(failure()) } else { Ok(answer) }
    }
}

/// A store that fails as planned.
#[derive(Debug, Clone)]
pub(crate) struct Faulty<S> {
    store: S,
    faults: Faults,
}

impl<S> Faulty<S> {
    pub(crate) fn new(store: S, faults: &Faults) -> Self {
        Self { store, faults: faults.clone() }
    }
}

impl<S: Store> Store for Faulty<S> {
    async fn profiles(&self, users: &[UserId]) -> Result<Vec<(UserId, Arc<Profile>)>, StoreError> {
        self.faults.call("profiles", self.store.profiles(users)).await?
    }

    async fn record(&self, findings: Findings) -> Result<(), StoreError> {
        let traces: BTreeSet<_> = findings.traces.iter().map(|trace| (&trace.user_id, trace.event.id)).collect();
        assert_eq!(traces.len(), findings.traces.len(), "a write names each document once");
        self.faults.call("record", self.store.record(findings)).await?
    }

    async fn save(&self, writes: Vec<ProfileWrite>) -> Result<Vec<UserId>, StoreError> {
        self.faults.call("save", self.store.save(writes)).await?
    }

    async fn reports(
        &self,
        user: Option<&UserId>,
        before: Option<ReportPlace>,
        limit: usize,
    ) -> Result<Vec<Arc<Report>>, StoreError> {
        self.faults.call("reports", self.store.reports(user, before, limit)).await?
    }

    async fn evaluations(
        &self,
        user: &UserId,
        before: Option<EvaluationPlace>,
        limit: usize,
    ) -> Result<Vec<Arc<Evaluation>>, StoreError> {
        self.faults.call("evaluations", self.store.evaluations(user, before, limit)).await?
    }

    async fn decision(&self, event_id: EventId) -> Result<Option<Arc<Report>>, StoreError> {
        self.faults.call("decision", self.store.decision(event_id)).await?
    }

    async fn traces(&self, user: &UserId, events: &[EventId]) -> Result<Vec<Kept>, StoreError> {
        self.faults.call("traces", self.store.traces(user, events)).await?
    }

    fn documents(&self, kind: Kind) -> impl Stream<Item = Result<Document, StoreError>> + Send {
        self.store.documents(kind)
    }
}

/// Keeps what would go to the log.
#[derive(Debug, Clone, Default)]
pub(crate) struct Announced {
    verdicts: Arc<Mutex<Vec<Emitted>>>,
    faults: Faults,
}

impl Announced {
    pub(crate) fn failing(faults: &Faults) -> Self {
        Self { faults: faults.clone(), ..Self::default() }
    }

    pub(crate) fn verdicts(&self) -> Vec<Emitted> {
        self.verdicts.lock().unwrap().clone()
    }
}

impl Announcer for Announced {
    async fn announce(&self, verdicts: &[Emitted]) -> Result<(), Unavailable> {
        let told = self.faults.call("announce", async { self.verdicts.lock().unwrap().extend_from_slice(verdicts) });
        told.await.map_err(|error| Unavailable { dependency: "kafka", source: error.into() })
    }
}
