//! A store with a script of troubles: it fails before or after its work, or lets somebody else go first.
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use futures::Stream;
use headwater_proto::{Day, UserId};

use crate::{
    Document, Kind, Member, Metric, Period, Revision, Segment, Session, SessionEvent, SessionKey, StoreError,
    store::{SessionWrite, Stale, Store},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    Pass,
    /// Others run before the operation does.
    Wait,
    FailBefore,
    /// The work is done, and the answer lost.
    FailAfter,
}

/// Each operation takes the next trouble; all pass when the script is over.
#[derive(Debug, Clone)]
pub(super) struct Troubled<S> {
    store: S,
    script: Arc<Mutex<VecDeque<Trouble>>>,
}

type Answer<T> = Result<T, StoreError>;

impl<S> Troubled<S> {
    pub(super) fn new(store: S, script: impl IntoIterator<Item = Trouble>) -> Self {
        Self { store, script: Arc::new(Mutex::new(script.into_iter().collect())) }
    }

    async fn perform<T>(&self, operation: &'static str, work: impl Future<Output = Answer<T>>) -> Answer<T> {
        let lost = || StoreError { operation, source: "lost".into() };
        let trouble = self.script.lock().unwrap().pop_front().unwrap_or(Trouble::Pass);
        match trouble {
            Trouble::Pass => work.await,
            Trouble::Wait => {
                tokio::task::yield_now().await;
                work.await
            }
            Trouble::FailBefore => Err(lost()),
            Trouble::FailAfter => {
                work.await?;
                Err(lost())
            }
        }
    }
}

impl<S: Store> Store for Troubled<S> {
    async fn insert_events(&self, events: &[SessionEvent]) -> Answer<Vec<Option<SessionEvent>>> {
        self.perform("insert_events", self.store.insert_events(events)).await
    }
    async fn add_members(&self, members: &[Member]) -> Answer<()> {
        self.perform("add_members", self.store.add_members(members)).await
    }
    async fn absent_members(&self, members: Vec<Member>) -> Answer<Vec<Member>> {
        self.perform("absent_members", self.store.absent_members(members)).await
    }
    async fn newest_day(&self) -> Answer<Option<Day>> {
        self.perform("newest_day", self.store.newest_day()).await
    }
    async fn sessions(&self, keys: &[SessionKey]) -> Answer<Vec<Session>> {
        self.perform("sessions", self.store.sessions(keys)).await
    }
    async fn session_events(&self, keys: &[SessionKey]) -> Answer<Vec<Vec<SessionEvent>>> {
        self.perform("session_events", self.store.session_events(keys)).await
    }
    async fn put_sessions(&self, writes: Vec<SessionWrite>) -> Answer<Vec<SessionKey>> {
        self.perform("put_sessions", self.store.put_sessions(writes)).await
    }
    async fn insert_revisions(&self, revisions: Vec<Revision>) -> Answer<()> {
        self.perform("insert_revisions", self.store.insert_revisions(revisions)).await
    }
    async fn stale(&self) -> Answer<Vec<Stale>> {
        self.perform("stale", self.store.stale()).await
    }
    async fn recount(&self, stale: Stale) -> Answer<()> {
        self.perform("recount", self.store.recount(stale)).await
    }
    async fn figures(&self, metrics: &[Metric]) -> Answer<Vec<u64>> {
        self.perform("figures", self.store.figures(metrics)).await
    }
    async fn segments_started_on(&self, day: Day) -> Answer<Vec<Segment>> {
        self.perform("segments_started_on", self.store.segments_started_on(day)).await
    }
    async fn sessions_of(&self, user_id: &UserId) -> Answer<Option<Vec<Session>>> {
        self.perform("sessions_of", self.store.sessions_of(user_id)).await
    }
    async fn revisions_of(&self, period: Period) -> Answer<Vec<Revision>> {
        self.perform("revisions_of", self.store.revisions_of(period)).await
    }
    fn documents(&self, kind: Kind) -> impl Stream<Item = Answer<Document>> + Send {
        self.store.documents(kind)
    }
}
