//! A topic from its beginning to its current end, outside of any group: for tools that look at the log from outside.
//! Nothing is committed, and nothing here is shared with the consumer's loop.
use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientContext, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext},
    error::KafkaError,
    types::RDKafkaErrorCode,
};
use tracing::warn;

use crate::{Error, KafkaConfig, Position, Record};

/// For one answer of the broker.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);
/// For the first thing that is asked: who has no broker wants to know soon.
const FIRST_ANSWER: Duration = Duration::from_secs(10);
/// Between two questions of the same kind.
const AGAIN: Duration = Duration::from_millis(100);

/// A record with its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedRecord {
    pub topic: String,
    pub position: Position,
    /// Milliseconds since the Unix epoch, as the producer set it.
    pub timestamp: Option<i64>,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl OwnedRecord {
    /// The first header of that name.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(key, _)| key == name).and_then(|(_, value)| value.as_deref())
    }

    /// The key as text, lossily: for messages and for grouping.
    pub fn key_text(&self) -> String {
        self.key.as_deref().map(String::from_utf8_lossy).unwrap_or_default().into_owned()
    }
}

impl From<&Record<'_>> for OwnedRecord {
    fn from(record: &Record<'_>) -> Self {
        let headers = record.headers.iter().map(|(name, value)| (name.to_owned(), value.map(<[u8]>::to_vec)));
        Self {
            topic: record.topic.to_owned(),
            position: record.position,
            timestamp: record.timestamp,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: headers.collect(),
        }
    }
}

/// Everything in the topic from its beginning to what is its end now, by partition and offset.
pub async fn read_topic(kafka: &KafkaConfig, topic: &str) -> Result<Vec<OwnedRecord>, Error> {
    let mut records = Vec::new();
    records = scan_topic(kafka, topic, records, |records, record| records.push(record.into())).await?;
    records.sort_by_key(|record: &OwnedRecord| record.position);
    Ok(records)
}

/// As [`read_topic`], without keeping the records: `fold` sees each once, those of a partition in their order, and what
/// it made of them is the result.
pub async fn scan_topic<T, F>(kafka: &KafkaConfig, topic: &str, mut into: T, mut fold: F) -> Result<T, Error>
where
    T: Send + 'static,
    F: FnMut(&mut T, &Record<'_>) + Send + 'static,
{
    let (kafka, topic) = (kafka.clone(), topic.to_owned());
    off_the_runtime(move || {
        let reader = Reader::open(&kafka, "headwater-reader")?;
        let mut ranges = BTreeMap::new();
        for partition in reader.partitions(&topic)? {
            let (low, high) = reader.watermarks(&topic, partition)?;
            ranges.insert(partition, (low, high));
        }
        let see = |record: &Record<'_>| {
            fold(&mut into, record);
            true
        };
        reader.read(&topic, ranges, see)?;
        Ok(into)
    })
    .await
}

/// Runs what blocks on the broker's answers.
pub(crate) async fn off_the_runtime<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        // it only ends early where it panicked or the runtime shuts down
        Err(ended) => match ended.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(Error::Closed),
        },
    }
}

/// To reach the end of a partition is what a reader is for, and no trouble to be told of.
pub(crate) struct Reading;

impl ClientContext for Reading {
    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::PartitionEOF) {
            warn!(%error, reason, "a reader has trouble with its broker; it keeps trying");
        }
    }
}

impl ConsumerContext for Reading {}

/// A client that never joins the group whose name it carries. Its calls block.
pub(crate) struct Reader {
    client: BaseConsumer<Reading>,
    brokers: String,
}

impl Reader {
    /// `group_id`: whose committed offsets are asked for.
    pub(crate) fn open(kafka: &KafkaConfig, group_id: &str) -> Result<Self, Error> {
        let client = kafka.reader(group_id).create_with_context(Reading);
        let client = client.map_err(|source| Error::Client { client: "reader", source })?;
        Ok(Self { client, brokers: kafka.brokers.clone() })
    }

    pub(crate) fn client(&self) -> &BaseConsumer<Reading> {
        &self.client
    }

    pub(crate) fn unreachable(&self, source: KafkaError) -> Error {
        Error::Unreachable { brokers: self.brokers.clone(), source }
    }

    pub(crate) fn partitions(&self, topic: &str) -> Result<Vec<i32>, Error> {
        let metadata =
            self.client.fetch_metadata(Some(topic), FIRST_ANSWER).map_err(|source| self.unreachable(source))?;
        let found = metadata.topics().first().map(|topic| topic.partitions()).unwrap_or_default();
        if found.is_empty() {
            return Err(Error::TopicMissing { topic: topic.to_owned() });
        }
        Ok(found.iter().map(|partition| partition.id()).collect())
    }

    /// The first offset that is there, and the one that the next record will get.
    pub(crate) fn watermarks(&self, topic: &str, partition: i32) -> Result<(i64, i64), Error> {
        patiently(|| self.client.fetch_watermarks(topic, partition, TIMEOUT)).map_err(|source| failed(topic, source))
    }

    /// Where the group stands on each of these partitions; an invalid offset where it never committed.
    pub(crate) fn committed(&self, topic: &str, partitions: &[i32]) -> Result<TopicPartitionList, KafkaError> {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for &partition in partitions {
            list.add_partition(topic, partition);
        }
        patiently(|| self.client.committed_offsets(list.clone(), TIMEOUT))
    }

    /// Reads each of these partitions from the first offset up to the second; `see` tells whether it wants more of the
    /// record's partition.
    pub(crate) fn read(
        &self,
        topic: &str,
        mut ranges: BTreeMap<i32, (i64, i64)>,
        mut see: impl FnMut(&Record<'_>) -> bool,
    ) -> Result<(), Error> {
        ranges.retain(|_, (from, end)| from < end);
        let mut assignment = TopicPartitionList::new();
        for (&partition, &(from, _)) in &ranges {
            assignment
                .add_partition_offset(topic, partition, Offset::Offset(from))
                .map_err(|source| failed(topic, source))?;
        }
        self.client.assign(&assignment).map_err(|source| failed(topic, source))?;
        let mut heard = Instant::now();
        while !ranges.is_empty() {
            if heard.elapsed() > TIMEOUT {
                return Err(Error::Silent { topic: topic.to_owned(), partitions: ranges.into_keys().collect() });
            }
            match self.client.poll(Duration::from_millis(100)) {
                None => continue,
                // the end may be a marker that is never handed out
                Some(Err(KafkaError::PartitionEOF(partition))) => _ = ranges.remove(&partition),
                Some(Err(error)) if is_passing(&error) => continue,
                Some(Err(source)) => return Err(failed(topic, source)),
                Some(Ok(message)) => {
                    let Some(&(_, end)) = ranges.get(&message.partition()) else { continue };
                    let more = message.offset() < end && see(&Record::from(&message));
                    if !more || message.offset() + 1 >= end {
                        ranges.remove(&message.partition());
                    }
                }
            }
            heard = Instant::now();
        }
        Ok(())
    }
}

/// Asks again for as long as the broker is still getting ready to answer: a topic was just made, a leader or a
/// coordinator has just moved.
fn patiently<T>(mut ask: impl FnMut() -> Result<T, KafkaError>) -> Result<T, KafkaError> {
    use rdkafka::types::RDKafkaErrorCode::{
        CoordinatorLoadInProgress, CoordinatorNotAvailable, LeaderNotAvailable, NotCoordinator, NotLeaderForPartition,
    };
    let start = Instant::now();
    loop {
        match ask() {
            Err(error)
                if start.elapsed() < TIMEOUT
                    && matches!(
                        error.rdkafka_error_code(),
                        Some(
                            CoordinatorLoadInProgress
                                | CoordinatorNotAvailable
                                | LeaderNotAvailable
                                | NotCoordinator
                                | NotLeaderForPartition
                        )
                    ) =>
            {
                thread::sleep(AGAIN);
            }
            answer => return answer,
        }
    }
}

/// What the client mends by itself, within the time that silence may take.
fn is_passing(error: &KafkaError) -> bool {
    use rdkafka::types::RDKafkaErrorCode::{AllBrokersDown, BrokerTransportFailure, OperationTimedOut, Resolve};
    let code = error.rdkafka_error_code();
    code.is_some_and(|code| matches!(code, AllBrokersDown | BrokerTransportFailure | OperationTimedOut | Resolve))
}

fn failed(topic: &str, source: KafkaError) -> Error {
    Error::Read { topic: topic.to_owned(), source }
}
