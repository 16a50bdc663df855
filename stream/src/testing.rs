//! What tests need of a broker: a reader and a writer that share no code with the platform's own.
use std::{sync::Arc, time::Duration};

use headwater_proto::topics::{self, Topic};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
    types::RDKafkaErrorCode,
};

pub use crate::reader::{OwnedRecord, read_topic};
use crate::{EmbeddedKafka, KafkaConfig, Position};

/// For one answer of the broker; tests wait on conditions, so this is only reached where something is wrong.
const TIMEOUT: Duration = Duration::from_secs(30);

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

/// Removes what there is of these topics, with all their records.
pub async fn delete_topics(kafka: &KafkaConfig, topics: &[Topic]) {
    let admin: AdminClient<DefaultClientContext> = kafka.admin().create().expect("an admin client opens");
    let names: Vec<&str> = topics.iter().map(|topic| topic.name).collect();
    let options = AdminOptions::new().request_timeout(Some(TIMEOUT)).operation_timeout(Some(TIMEOUT));
    for deleted in admin.delete_topics(&names, &options).await.expect("the broker answers") {
        match deleted {
            Ok(_) | Err((_, RDKafkaErrorCode::UnknownTopicOrPartition)) => {}
            Err((topic, error)) => panic!("{topic} is not deleted: {error}"),
        }
    }
    // letting a client go waits for its threads
    tokio::task::spawn_blocking(move || drop(admin));
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
