//! What tests need of a broker: a reader and a writer that share no code with the platform's own.
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use headwater_proto::topics::{self, Topic};
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    message::{Header, Headers as _, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
};

use crate::{EmbeddedKafka, Error, KafkaConfig, Position};

/// For one answer of the broker; tests wait on conditions, so this is only reached where something is wrong.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A record with its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedRecord {
    pub topic: String,
    pub position: Position,
    pub timestamp: Option<i64>,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl OwnedRecord {
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(key, _)| key == name).and_then(|(_, value)| value.as_deref())
    }

    /// The key as text, lossily: for messages of failed tests and for grouping.
    pub fn key_text(&self) -> String {
        self.key.as_deref().map(String::from_utf8_lossy).unwrap_or_default().into_owned()
    }
}

/// An embedded broker with all topics, and a configuration with the short session of tests.
pub fn embedded() -> (EmbeddedKafka, KafkaConfig) {
    embedded_with(topics::ALL)
}

/// An embedded broker with these topics, and a configuration with the short session of tests.
pub fn embedded_with(topics: &[Topic]) -> (EmbeddedKafka, KafkaConfig) {
    let kafka = EmbeddedKafka::start(topics).expect("the embedded broker starts");
    let config = KafkaConfig { session_timeout: Duration::from_secs(2), ..kafka.config() };
    (kafka, config)
}

/// Everything in the topic from its beginning to what is its end now, by partition and offset.
pub async fn read_topic(kafka: &KafkaConfig, topic: &str) -> Result<Vec<OwnedRecord>, Error> {
    let (config, topic) = (kafka.reader(), topic.to_owned());
    let brokers = kafka.brokers.clone();
    let read = tokio::task::spawn_blocking(move || read_to_the_end(&config, &topic, &brokers));
    read.await.expect("reading does not panic")
}

fn read_to_the_end(config: &ClientConfig, topic: &str, brokers: &str) -> Result<Vec<OwnedRecord>, Error> {
    let consumer: BaseConsumer = config.create().map_err(|source| Error::Client { client: "reader", source })?;
    let unreachable = |source| Error::Unreachable { brokers: brokers.to_owned(), source };
    let failed = |source| Error::Read { topic: topic.to_owned(), source };
    let metadata = consumer.fetch_metadata(Some(topic), TIMEOUT).map_err(unreachable)?;
    let partitions = metadata.topics().first().map(|topic| topic.partitions().len()).unwrap_or_default();

    let mut assignment = TopicPartitionList::new();
    let mut ends = BTreeMap::new();
    for partition in 0..partitions as i32 {
        let (low, high) = consumer.fetch_watermarks(topic, partition, TIMEOUT).map_err(failed)?;
        if low < high {
            assignment.add_partition_offset(topic, partition, Offset::Offset(low)).map_err(failed)?;
            ends.insert(partition, high);
        }
    }
    consumer.assign(&assignment).map_err(failed)?;
    let mut records = Vec::new();
    let mut deadline = Instant::now() + TIMEOUT;
    while !ends.is_empty() {
        assert!(Instant::now() < deadline, "{topic}: nothing for {TIMEOUT:?}, still to read (partition: end) {ends:?}");
        let Some(message) = consumer.poll(Duration::from_millis(100)) else { continue };
        let message = message.map_err(failed)?;
        deadline = Instant::now() + TIMEOUT;
        let position = Position { partition: message.partition(), offset: message.offset() };
        let Some(&end) = ends.get(&position.partition) else { continue };
        if position.offset < end {
            records.push(owned(&message, position));
        }
        if position.offset + 1 >= end {
            ends.remove(&position.partition);
        }
    }
    records.sort_by_key(|record| record.position);
    Ok(records)
}

fn owned(message: &rdkafka::message::BorrowedMessage<'_>, position: Position) -> OwnedRecord {
    let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
    OwnedRecord {
        topic: message.topic().to_owned(),
        position,
        timestamp: message.timestamp().to_millis(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers.map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect(),
    }
}

/// A producer of another make: librdkafka's defaults but for the partitioner, any bytes, any headers.
#[derive(Clone)]
pub struct RawWriter(Arc<FutureProducer>);

impl RawWriter {
    pub fn open(kafka: &KafkaConfig) -> Self {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &kafka.brokers).set("partitioner", "murmur2_random").set("linger.ms", "0");
        config.set("message.max.bytes", "100000000");
        Self(Arc::new(config.create().expect("a raw writer opens")))
    }

    /// Where it lies. `partition` `None` means by key.
    pub async fn write(
        &self,
        topic: &str,
        partition: Option<i32>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, &[u8])],
    ) -> Position {
        let headers: Vec<_> = headers.iter().map(|&(name, value)| (name, Some(value))).collect();
        self.write_with_nulls(topic, partition, key, value, &headers).await
    }

    /// As [`RawWriter::write`], with headers whose value may be null.
    pub async fn write_with_nulls(
        &self,
        topic: &str,
        partition: Option<i32>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
    ) -> Position {
        let headers = headers.iter().fold(OwnedHeaders::new(), |all, &(key, value)| all.insert(Header { key, value }));
        let record = FutureRecord { topic, partition, key, payload: value, timestamp: None, headers: Some(headers) };
        let delivery = self.0.send(record, TIMEOUT).await.map_err(|(error, _)| error).expect("a raw record is written");
        Position { partition: delivery.partition, offset: delivery.offset }
    }
}
