//! The outbox: accepted events on their way to the log. What a transaction writes for one shard is one row.
mod packed;

use std::future::Future;

use bytes::Bytes;
use headwater_proto::Millis;
use uuid::Uuid;

use crate::StoreError;

pub use packed::{Corrupt, PackedHeaders, PackedRecord, Packer, Unpack, unpack};

/// The rows of all shards; a shard is a partition of user.events. Ids grow with each user's events, and nothing else
/// is promised of them: a lower id may appear after a higher one was read, of other users.
///
/// Of several relays each publishes the shards that it holds a lease of, and proves it whenever it reads or deletes.
pub trait Outbox: Send + Sync + 'static {
    /// Renews what this relay holds and takes what it is due; all that it holds now. Asked about once a second.
    fn lease(&self, relay: Uuid) -> impl Future<Output = Result<Vec<Lease>, StoreError>> + Send;

    /// Lets go of shards of which nothing is in flight.
    fn release(&self, leases: &[Lease]) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// This relay ends: others may take all it holds.
    fn resign(&self, relay: Uuid) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The rows of the shard that are not in flight, lowest id first, no more than stay within the limit; at least one
    /// where there is any. None where the lease is no longer valid.
    fn unsent(
        &self,
        lease: &Lease,
        in_flight: &[i64],
        limit_bytes: usize,
    ) -> impl Future<Output = Result<Vec<OutboxRow>, StoreError>> + Send;

    /// [`Outbox::unsent`] of many shards, by partition. One statement where each costs a round trip.
    fn unsent_of_all(&self, readings: Vec<Reading>) -> impl Future<Output = Result<Vec<OutboxRow>, StoreError>> + Send {
        async move {
            let occupied = self.occupied().await?;
            let mut rows = Vec::new();
            for Reading { lease, in_flight, limit_bytes } in readings {
                if occupied.contains(&lease.partition) {
                    rows.extend(self.unsent(&lease, &in_flight, limit_bytes).await?);
                }
            }
            Ok(rows)
        }
    }

    /// Forgets rows that are in the log, but for those of leases that are no longer valid. An id that is not there is
    /// no error.
    fn delete(&self, sent: &[SentRow]) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The shards that have rows, in flight or not. Cheap however many rows there are: it is asked all the time.
    fn occupied(&self) -> impl Future<Output = Result<Vec<i32>, StoreError>> + Send;

    /// For the gauges.
    fn waiting(&self) -> impl Future<Output = Result<Waiting, StoreError>> + Send;
}

/// The right to publish a shard, fenced: whoever takes the shard over has another, higher token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    pub partition: i32,
    pub token: i64,
    /// Another relay is due it: read no more of it, and release it when nothing is in flight.
    pub surplus: bool,
}

/// What may be read of a shard now: see [`Outbox::unsent`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    pub lease: Lease,
    pub in_flight: Vec<i64>,
    pub limit_bytes: usize,
}

/// A row that is in the log, with the lease it was read under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SentRow {
    pub id: i64,
    pub lease: Lease,
}

/// A row to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackedRow {
    pub partition: i32,
    pub records: u32,
    pub bytes: Bytes,
}

/// A row as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxRow {
    pub id: i64,
    pub partition: i32,
    pub records: u32,
    pub bytes: Bytes,
}

/// What is in the outbox.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waiting {
    pub rows: u64,
    /// When the oldest row was written; `None` where there is none.
    pub oldest_at: Option<Millis>,
}
