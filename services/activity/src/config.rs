//! What the document lets be set, with its defaults, and what we have added.
use std::{
    num::{NonZeroU32, NonZeroUsize},
    time::Duration,
};

use headwater_proto::{
    Encoding,
    topics::{Group, Topic, USER_ACTIVITY, USER_ACTIVITY_EVENTS},
};
use headwater_stream::{KafkaConfig, Patience};

#[derive(Debug, Clone)]
pub struct Config {
    /// `KAFKA_CLIENT_ID`
    pub client_id: String,
    /// `KAFKA_TOPIC`
    pub topic: String,
    /// `KAFKA_CONSUMER_GROUP`
    pub consumer_group: String,
    /// `KAFKA_PRODUCER_RETRIES`: how often a request that failed is repeated.
    pub producer_retries: u32,
    /// `KAFKA_PRODUCER_RETRY_BACKOFF_MS`: before the first repetition; it grows from there.
    pub producer_retry_backoff: Duration,
    /// `KAFKA_CONNECTION_TIMEOUT_MS`
    pub connection_timeout: Duration,
    /// `KAFKA_REQUEST_TIMEOUT_MS`: an event that is not in the log by then, repetitions included, was not published.
    pub request_timeout: Duration,
    /// `HEADWATER_TOPIC_ENCODING`: how records are written.
    pub encoding: Encoding,
    /// Processed events that are kept; the oldest makes room.
    pub store_limit: NonZeroUsize,
    /// POST requests per second and client address.
    pub rate_limit: Option<NonZeroU32>,
}

/// Company that an event waits for on its way out: as little as makes a batch of what is there together.
const LINGER: Duration = Duration::from_millis(1);

impl Config {
    /// What is read and written, by the names that are set.
    pub fn group(&self) -> Group {
        let topic = Topic { name: kept(&self.topic, USER_ACTIVITY_EVENTS.name), ..USER_ACTIVITY_EVENTS };
        Group { id: kept(&self.consumer_group, USER_ACTIVITY.id), topic, ..USER_ACTIVITY }
    }

    pub(crate) fn kafka(&self, kafka: &KafkaConfig) -> KafkaConfig {
        let (client_id, connection_timeout) = (self.client_id.clone(), self.connection_timeout);
        // a plain KafkaJS, which the document is about, has no codec for lz4
        KafkaConfig { client_id, connection_timeout, linger: LINGER, compression: "none", ..kafka.clone() }
    }

    pub(crate) fn patience(&self) -> Patience {
        let (retries, backoff) = (self.producer_retries, self.producer_retry_backoff);
        Patience::Set { within: self.request_timeout, retries, backoff }
    }
}

/// For as long as the process lives, as everything that names a topic is.
fn kept(name: &str, known: &'static str) -> &'static str {
    if name == known { known } else { Box::leak(name.into()) }
}
