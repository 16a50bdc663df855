//! A row of the outbox: a version byte and then its records in their order. Numbers are LEB128, but for the timestamp.
//!
//! ```text
//! record = timestamp (i64, little endian) key value header-count header*
//! header = place [value]                  of [`KNOWN`], counted from 1; a value only where the place has none
//!        | 0 name value                   key, value, name = length bytes
//! ```
//!
//! What every record repeats is not stored: PostgreSQL pays for each byte in its log, its table, the way back and the
//! clean-up. Rows are read back by another process, perhaps of another version: decoding trusts no length in it.
use headwater_otel::TraceContext;
use headwater_proto::topics::USER_EVENTS;
use headwater_stream::{headers, partition_for};

use super::PackedRow;

const VERSION: u8 = 2;

/// What the value of a known header is.
enum Value {
    /// This: then it is not stored.
    Text(&'static str),
    /// The record's key: then it is not stored.
    Key,
    /// Anything.
    Any,
}

/// Part of the format: a place keeps its meaning, new ones are added at the end with a new version.
static KNOWN: [(&str, Value); 12] = [
    (headers::CONTENT_TYPE, Value::Text("application/protobuf")),
    (headers::CE_SPEC_VERSION, Value::Text("1.0")),
    (headers::CE_DATA_SCHEMA, Value::Text("urn:protobuf:headwater.v1.EventEnvelope")),
    (headers::CE_SUBJECT, Value::Key),
    (headers::CE_PARTITION_KEY, Value::Key),
    (headers::CE_ID, Value::Any),
    (headers::CE_SOURCE, Value::Any),
    (headers::CE_TYPE, Value::Any),
    (headers::CE_TIME, Value::Any),
    (headers::CE_RECORDED_TIME, Value::Any),
    (TraceContext::HEADER, Value::Any),
    (TraceContext::STATE_HEADER, Value::Any),
];

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
            put_header(out, key, name, value);
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

fn put_header(out: &mut Vec<u8>, key: &[u8], name: &str, value: &[u8]) {
    let place = KNOWN.iter().position(|(known, _)| *known == name).map(|index| (index + 1, &KNOWN[index].1));
    match place {
        Some((place, Value::Text(text))) if text.as_bytes() == value => put_len(out, place),
        Some((place, Value::Key)) if key == value => put_len(out, place),
        Some((place, Value::Any)) => {
            put_len(out, place);
            put_bytes(out, value);
        }
        _ => {
            put_len(out, 0);
            put_bytes(out, name.as_bytes());
            put_bytes(out, value);
        }
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
    #[error("the name of a header is not UTF-8, or of a version that is not known here")]
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
    key: &'a [u8],
    left: usize,
    bytes: Reader<'a>,
}

impl<'a> Iterator for PackedHeaders<'a> {
    type Item = (&'a str, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        self.bytes.header(self.key).ok()
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
        let headers = PackedHeaders { key, left, bytes: self.clone() };
        for _ in 0..left {
            self.header(key)?;
        }
        Ok(PackedRecord { key, timestamp, value, headers })
    }

    fn header(&mut self, key: &'a [u8]) -> Result<(&'a str, &'a [u8]), Corrupt> {
        let Some(index) = self.len()?.checked_sub(1) else {
            let name = str::from_utf8(self.bytes()?).map_err(|_| Corrupt::HeaderName)?;
            return Ok((name, self.bytes()?));
        };
        let (name, value) = KNOWN.get(index).ok_or(Corrupt::HeaderName)?;
        Ok(match value {
            Value::Text(text) => (name, text.as_bytes()),
            Value::Key => (name, key),
            Value::Any => (name, self.bytes()?),
        })
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
        let name = prop_oneof![
            ".{0,20}",
            prop::sample::select(KNOWN.iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>())
        ];
        let values = ["application/protobuf", "1.0", "urn:protobuf:headwater.v1.EventEnvelope", "the key"];
        let value = prop_oneof![
            prop::collection::vec(any::<u8>(), 0..40),
            prop::sample::select(values.map(|value| value.as_bytes().to_vec()).to_vec()),
        ];
        let headers = prop::collection::vec((name, value), 0..9);
        let key = prop_oneof![prop::collection::vec(any::<u8>(), 1..200), Just(b"the key".to_vec())];
        (key, any::<i64>(), headers, prop::collection::vec(any::<u8>(), 0..300))
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
                    prop_assert!(record.key.len() + record.value.len() <= bytes.len());
                    prop_assert!(record.headers.count() <= bytes.len());
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
    fn what_every_event_repeats_is_not_stored() {
        let headers = [
            (headers::CONTENT_TYPE, headers::PROTOBUF.as_bytes()),
            (headers::CE_SUBJECT, b"ada"),
            (headers::CE_PARTITION_KEY, b"ada"),
            (headers::CE_ID, b"1"),
        ];
        let mut packer = Packer::new();
        packer.push(b"ada", b"value", 0, &headers);
        // version, timestamp, key, value, count, three places, a place with its value
        assert_eq!(packer.finish()[0].bytes.len(), 1 + 8 + 4 + 6 + 1 + 3 + 3);
    }

    #[test]
    fn a_row_of_another_version_is_refused() {
        assert_eq!(read(&[VERSION + 1, 0]), Err(Corrupt::Version));
        assert_eq!(read(&[]), Err(Corrupt::Version));
        assert_eq!(read(&[VERSION]), Ok(vec![]));
    }
}
