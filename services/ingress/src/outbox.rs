//! The outbox: accepted events on their way to the log. What a transaction writes for one shard is one row.
//!
//! A row is a version byte and then its records in their order; numbers are LEB128, but for the timestamp:
//!
//! ```text
//! record = timestamp (i64, little endian) key value header-count header*
//! header = name value                     key, value, name = length bytes
//! ```
//!
//! Rows are read back by another process, perhaps of another version: decoding trusts no length in it.
use std::future::Future;

use bytes::Bytes;
use headwater_proto::{Millis, topics::USER_EVENTS};
use headwater_stream::partition_for;
use tokio::time::Instant;
use uuid::Uuid;

use crate::StoreError;

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

    /// The rows of the shard that are not in flight, lowest id first, as many as stay within the limit; at least one
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
    /// Unless renewed; `None` lasts.
    pub until: Option<Instant>,
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

const VERSION: u8 = 1;

/// Packs records for the log, those of a shard in their order.
#[derive(Debug, Default)]
pub struct Packer {
    /// A group has few shards, and mostly the one of its lane.
    shards: Vec<Shard>,
}

#[derive(Debug)]
struct Shard {
    partition: i32,
    records: u32,
    bytes: Vec<u8>,
}

impl Packer {
    pub fn new() -> Self {
        Self::default()
    }

    /// `timestamp` is the record's: milliseconds since the Unix epoch.
    pub fn push(&mut self, key: &[u8], value: &[u8], timestamp: i64, headers: &[(&str, &[u8])]) {
        let shard = self.shard(partition_for(key, USER_EVENTS.partitions));
        shard.records += 1;
        let out = &mut shard.bytes;
        out.extend_from_slice(&timestamp.to_le_bytes());
        put_bytes(out, key);
        put_bytes(out, value);
        put_len(out, headers.len());
        for (name, value) in headers {
            put_bytes(out, name.as_bytes());
            put_bytes(out, value);
        }
    }

    /// One row for each shard that has records.
    pub fn finish(self) -> Vec<PackedRow> {
        let rows = self.shards.into_iter();
        rows.map(|Shard { partition, records, bytes }| PackedRow { partition, records, bytes: bytes.into() }).collect()
    }

    fn shard(&mut self, partition: i32) -> &mut Shard {
        let known = self.shards.iter().position(|shard| shard.partition == partition);
        let index = known.unwrap_or_else(|| {
            self.shards.push(Shard { partition, records: 0, bytes: vec![VERSION] });
            self.shards.len() - 1
        });
        &mut self.shards[index]
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_len(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn put_len(out: &mut Vec<u8>, len: usize) {
    prost::encoding::encode_varint(len as u64, out);
}

/// A row that is not what [`Packer`] writes: made by a newer version, or damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Corrupt {
    #[error("the row is of a version that is not known here")]
    Version,
    #[error("the row ends inside a record")]
    Truncated,
    #[error("a length in the row is not a number")]
    Length,
    #[error("the name of a header is not UTF-8")]
    HeaderName,
    #[error("the row has another number of records than it says")]
    Records,
}

/// One record of a row, borrowed from it.
#[derive(Debug, Clone)]
pub struct PackedRecord<'a> {
    pub key: &'a [u8],
    pub timestamp: i64,
    pub value: &'a [u8],
    pub headers: PackedHeaders<'a>,
}

/// The headers of one record; they were checked when the record was read.
#[derive(Debug, Clone)]
pub struct PackedHeaders<'a> {
    left: usize,
    bytes: Reader<'a>,
}

impl<'a> Iterator for PackedHeaders<'a> {
    type Item = (&'a str, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        self.bytes.header().ok()
    }
}

/// The records of a row, in their order. Ends after an error.
pub fn unpack(row: &[u8]) -> Unpack<'_> {
    Unpack { bytes: Reader(row), started: false }
}

#[derive(Debug, Clone)]
pub struct Unpack<'a> {
    bytes: Reader<'a>,
    started: bool,
}

impl<'a> Iterator for Unpack<'a> {
    type Item = Result<PackedRecord<'a>, Corrupt>;

    fn next(&mut self) -> Option<Self::Item> {
        if !self.started {
            self.started = true;
            if self.bytes.take(1) != Ok(&[VERSION]) {
                self.bytes = Reader(&[]);
                return Some(Err(Corrupt::Version));
            }
        }
        if self.bytes.0.is_empty() {
            return None;
        }
        let record = self.bytes.record();
        if record.is_err() {
            self.bytes = Reader(&[]);
        }
        Some(record)
    }
}

/// What is left to read.
#[derive(Debug, Clone)]
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn record(&mut self) -> Result<PackedRecord<'a>, Corrupt> {
        let timestamp = self.0.split_first_chunk().ok_or(Corrupt::Truncated).map(|(bytes, rest)| {
            self.0 = rest;
            i64::from_le_bytes(*bytes)
        })?;
        let (key, value) = (self.bytes()?, self.bytes()?);
        let left = self.len()?;
        let headers = PackedHeaders { left, bytes: self.clone() };
        for _ in 0..left {
            self.header()?;
        }
        Ok(PackedRecord { key, timestamp, value, headers })
    }

    fn header(&mut self) -> Result<(&'a str, &'a [u8]), Corrupt> {
        let name = std::str::from_utf8(self.bytes()?).map_err(|_| Corrupt::HeaderName)?;
        Ok((name, self.bytes()?))
    }

    fn bytes(&mut self) -> Result<&'a [u8], Corrupt> {
        let len = self.len()?;
        self.take(len)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Corrupt> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Corrupt::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    fn len(&mut self) -> Result<usize, Corrupt> {
        if self.0.is_empty() {
            return Err(Corrupt::Truncated);
        }
        let len = prost::encoding::decode_varint(&mut self.0).map_err(|_| Corrupt::Length)?;
        usize::try_from(len).map_err(|_| Corrupt::Length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Owned = (Vec<u8>, i64, Vec<(String, Vec<u8>)>, Vec<u8>);

    fn record() -> impl Strategy<Value = Owned> {
        let headers = prop::collection::vec((".{0,20}", prop::collection::vec(any::<u8>(), 0..40)), 0..4);
        (prop::collection::vec(any::<u8>(), 1..200), any::<i64>(), headers, prop::collection::vec(any::<u8>(), 0..300))
    }

    fn pack(records: &[Owned]) -> Vec<PackedRow> {
        let mut packer = Packer::new();
        for (key, timestamp, headers, value) in records {
            let headers: Vec<(&str, &[u8])> = headers.iter().map(|(name, value)| (name.as_str(), &value[..])).collect();
            packer.push(key, value, *timestamp, &headers);
        }
        packer.finish()
    }

    fn read(row: &[u8]) -> Result<Vec<Owned>, Corrupt> {
        let owned = |record: PackedRecord<'_>| {
            let headers = record.headers.map(|(name, value)| (name.to_owned(), value.to_vec())).collect();
            (record.key.to_vec(), record.timestamp, headers, record.value.to_vec())
        };
        unpack(row).map(|record| record.map(owned)).collect()
    }

    proptest! {
        #[test]
        fn rows_bring_the_records_of_their_shard_back_in_order(records in prop::collection::vec(record(), 0..9)) {
            let rows = pack(&records);
            prop_assert_eq!(rows.iter().map(|row| row.records as usize).sum::<usize>(), records.len());
            for row in rows {
                let of_shard = |record: &&Owned| partition_for(&record.0, USER_EVENTS.partitions) == row.partition;
                prop_assert_eq!(read(&row.bytes), Ok(records.iter().filter(of_shard).cloned().collect()));
            }
        }

        #[test]
        fn no_bytes_make_unpacking_panic_or_read_more_than_there_is(row: Vec<u8>, at: prop::sample::Index, byte: u8) {
            let mut damaged = pack(&[(vec![1], 2, vec![("a".into(), row.clone())], row.clone())])[0].bytes.to_vec();
            let index = at.index(damaged.len());
            damaged[index] = byte;
            for bytes in [&row, &damaged] {
                for record in unpack(bytes).flatten() {
                    let headers: usize = record.headers.map(|(name, value)| name.len() + value.len()).sum();
                    prop_assert!(record.key.len() + record.value.len() + headers <= bytes.len());
                }
            }
        }

        #[test]
        fn a_row_cut_inside_its_record_says_so(record in record(), cut: prop::sample::Index) {
            let bytes = &pack(&[record])[0].bytes;
            let cut = 2 + cut.index(bytes.len() - 2); // the version alone is an empty row
            prop_assert!(read(&bytes[..cut]).is_err());
        }
    }

    #[test]
    fn a_row_of_another_version_is_refused() {
        assert_eq!(read(&[VERSION + 1, 0]), Err(Corrupt::Version));
        assert_eq!(read(&[]), Err(Corrupt::Version));
        assert_eq!(read(&[VERSION]), Ok(vec![]));
    }
}
