//! What the fraud service asks of its store, as bulk operations that every Mongo-protocol server has: insert-only
//! documents, and profiles that are replaced only where nobody else has moved them on. No transaction is needed.
//!
//! Findings go in first, the profile after them: after a crash in between, the log delivers the same records again,
//! the fold gives the same findings, and those that are stored stay as they are.
mod memory;
mod mongo;

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;

use std::{future::Future, sync::Arc};

use headwater_proto::{EventId, UserId};
use headwater_stream::{Position, Positions};

use crate::{
    StoreError,
    findings::{Evaluation, EvaluationPlace, Findings, Report, ReportPlace},
    profile::{Kept, Profile},
};

pub use memory::MemoryStore;
pub use mongo::MongoStore;

type Answer<T> = Result<T, StoreError>;

/// A user's next profile.
#[derive(Debug, Clone, PartialEq)]
pub struct ProfileWrite {
    pub user_id: UserId,
    /// The position of the profile it was made from; `None` where there was none.
    pub read: Option<Position>,
    pub profile: Arc<Profile>,
}

/// A handle on the collections. Clones share them. Each slice names a document at most once.
pub trait Store: Clone + Send + Sync + 'static {
    /// Where a store that forgets at exit stands in the log; `None` for one that the group's commits are true of.
    fn positions(&self) -> Option<Arc<Positions>> {
        None
    }

    /// The stored profiles among these users', in any order.
    fn profiles(&self, users: &[UserId]) -> impl Future<Output = Answer<Vec<(UserId, Arc<Profile>)>>> + Send;

    /// Inserts each finding that is not stored yet; one that is stays as it is.
    fn record(&self, findings: Findings) -> impl Future<Output = Answer<()>> + Send;

    /// Replaces each profile whose stored position is still the one that was read. The users of the others are
    /// returned; a store that cannot tell which of a bulk were refused may return more.
    fn save(&self, writes: Vec<ProfileWrite>) -> impl Future<Output = Answer<Vec<UserId>>> + Send;

    /// Newest first, those that stand before `before`, at most `limit`; of one user or of all.
    fn reports(
        &self,
        user: Option<&UserId>,
        before: Option<ReportPlace>,
        limit: usize,
    ) -> impl Future<Output = Answer<Vec<Arc<Report>>>> + Send;

    /// Newest first, those that stand before `before`, at most `limit`.
    fn evaluations(
        &self,
        user: &UserId,
        before: Option<EvaluationPlace>,
        limit: usize,
    ) -> impl Future<Output = Answer<Vec<Arc<Evaluation>>>> + Send;

    /// The report of this announcing event, else the gravest that this event triggered.
    fn decision(&self, event_id: EventId) -> impl Future<Output = Answer<Option<Arc<Report>>>> + Send;

    /// The stored traces among these events of the user, in the order of events.
    fn traces(&self, user: &UserId, events: &[EventId]) -> impl Future<Output = Answer<Vec<Kept>>> + Send;
}
