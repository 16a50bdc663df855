//! What analytics asks of its store, as bulk operations that every Mongo-protocol server has: insert-only documents,
//! upserts of facts that cannot change, and a compare-and-set on a session's version. No transaction is needed.
//!
//! Events go in first. What is derived from them goes in after, by writes that may be repeated. After a crash in
//! between, the log delivers the batch again, the events are known, and what is missing is derived then: so each
//! operation promises only to be complete when it returns `Ok`, and a failed one may have done any part of its work.
mod memory;
mod mongo;

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;

use std::{future::Future, sync::Arc};

use headwater_proto::{Day, UserId};
use headwater_stream::Positions;

use crate::{
    StoreError,
    activity::{Member, Period},
    event::{SessionEvent, SessionKey},
    metric::Metric,
    revisions::Revision,
    sessions::{Segment, Session},
};

pub use memory::MemoryStore;
pub use mongo::MongoStore;

type Answer<T> = Result<T, StoreError>;

/// A session's next version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionWrite {
    /// The `n` of the version it was made from; 0 where there was none.
    pub replaces: u64,
    pub session: Session,
}

/// A period whose stored count may be too low.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stale {
    pub period: Period,
    /// Every write that marks the period draws a new one: a recount takes back only the marks that stood before it.
    pub marks: Vec<u64>,
}

/// A handle on the collections. Clones share them. Each slice names a document at most once.
pub trait Store: Clone + Send + Sync + 'static {
    /// Where a store that forgets at exit stands in the log; `None` for one that the group's commits are true of.
    fn positions(&self) -> Option<Arc<Positions>> {
        None
    }

    /// Inserts each event that is not stored yet. One answer per event: `None` where it is new, else the event as it
    /// was stored first, which stays the truth even if the second one differs.
    fn insert_events(&self, events: &[SessionEvent]) -> impl Future<Output = Answer<Vec<Option<SessionEvent>>>> + Send;

    /// Upserts the memberships, and after them marks every period among them stale. In this order: a recount between
    /// the two then takes back no mark that stands for a membership it has not counted.
    fn add_members(&self, members: &[Member]) -> impl Future<Output = Answer<()>> + Send;

    /// Those of `members` that are not stored.
    fn absent_members(&self, members: Vec<Member>) -> impl Future<Output = Answer<Vec<Member>>> + Send;

    /// The newest day that has a member.
    fn newest_day(&self) -> impl Future<Output = Answer<Option<Day>>> + Send;

    /// One per key, in their order; an empty one where none is stored.
    fn sessions(&self, keys: &[SessionKey]) -> impl Future<Output = Answer<Vec<Session>>> + Send;

    /// All stored events of each session, in any order.
    fn session_events(&self, keys: &[SessionKey]) -> impl Future<Output = Answer<Vec<Vec<SessionEvent>>>> + Send;

    /// Writes each session whose stored `n` is still the one it replaces. The keys of the others are returned; a
    /// store that cannot tell which of a bulk were refused may return more.
    fn put_sessions(&self, writes: Vec<SessionWrite>) -> impl Future<Output = Answer<Vec<SessionKey>>> + Send;

    /// Inserts each revision whose id is not stored yet.
    fn insert_revisions(&self, revisions: Vec<Revision>) -> impl Future<Output = Answer<()>> + Send;

    /// The periods that wait for a recount, each once.
    fn stale(&self) -> impl Future<Output = Answer<Vec<Stale>>> + Send;

    /// Counts the members of the period, raises the stored count to it (never lowers: members only come), and takes
    /// back those marks; a mark that another write has drawn since stands.
    fn recount(&self, stale: Stale) -> impl Future<Output = Answer<()>> + Send;

    /// What each metric stands at, in their order; active users of a stale period are counted on the spot.
    fn figures(&self, metrics: &[Metric]) -> impl Future<Output = Answer<Vec<u64>>> + Send;

    /// Every segment that starts on the day, in any order.
    fn segments_started_on(&self, day: Day) -> impl Future<Output = Answer<Vec<Segment>>> + Send;

    /// A user's sessions, in any order. `None` for a user never seen: one for whom analytics has stored nothing at
    /// all. An event without a session is enough to be seen, a failed login is not.
    fn sessions_of(&self, user_id: &UserId) -> impl Future<Output = Answer<Option<Vec<Session>>>> + Send;

    /// The journal of a period, in any order.
    fn revisions_of(&self, period: Period) -> impl Future<Output = Answer<Vec<Revision>>> + Send;
}
