//! Who has delivered what: the one memory that all instances share.
//!
//! A notification is claimed before it is handed to its channel and marked after. An instance that dies in between
//! leaves a claim behind; when its lease has ended another takes it over, not knowing whether the user was told:
//! that delivery is a possible duplicate. So nothing is lost, and what may repeat is known.
mod memory;
mod mongo;

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;

use std::{future::Future, sync::Arc, time::Duration};

use headwater_proto::Millis;
use headwater_stream::{Positions, Unavailable};

use crate::decide::Key;

pub use memory::MemoryLedger;
pub use mongo::MongoLedger;

/// How long a claim keeps the others away. Far longer than a delivery may take
/// ([`DELIVERY_TIMEOUT`](crate::channel::DELIVERY_TIMEOUT)), so that clocks may differ by the rest.
pub const LEASE: Duration = Duration::from_secs(30);

/// What a claim came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// Ours to deliver.
    Granted(Lease),
    /// Somebody's lease stands until then (exclusive): ask again.
    Held { until: Millis },
    /// Done before, by whomever.
    Delivered,
}

/// The right to deliver, until [`LEASE`] after it was claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    pub key: Key,
    /// Tells this claim from every other of the same key.
    pub token: u128,
    /// An earlier holder may have delivered: its lease ended unmarked.
    pub taken_over: bool,
}

/// `now` is the caller's clock; the clocks of all instances must agree to within a few seconds.
pub trait Ledger: Clone + Send + Sync + 'static {
    /// Where a ledger in memory stands in the log; `None` starts where the group committed.
    fn positions(&self) -> Option<Arc<Positions>> {
        None
    }

    fn claim(&self, key: Key, now: Millis) -> impl Future<Output = Result<Claim, Unavailable>> + Send;

    /// It was delivered: whoever holds the lease by now, nobody delivers it again.
    fn mark(&self, key: Key) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// Nothing was handed over, now or before: as if it had never been claimed. Nothing if the lease was taken over.
    fn withdraw(&self, lease: &Lease) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// It may have been handed over: the lease ends now, and the next claim takes it over. Nothing if that has happened.
    fn expire(&self, lease: &Lease, now: Millis) -> impl Future<Output = Result<(), Unavailable>> + Send;
}
