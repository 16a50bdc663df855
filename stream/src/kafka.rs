//! How to reach the broker: the one place with librdkafka's settings. Their reasons are in RELIABILITY.md.
use std::{sync::Arc, time::Duration};

use rdkafka::ClientConfig;

use crate::{Backlog, Watch};

/// How long a producer tries to deliver a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// 15 s: somebody waits for the report and will decide anew.
    Waiting,
    /// For ever: an expired record would be overtaken by a later one of the same user. A failed batch stops the
    /// producer until its owner purges it, so nothing behind a gap is written.
    Forever,
    /// As somebody has set it.
    Set {
        /// A record that is not in the log by then has failed; 1 ms at least.
        within: Duration,
        /// How often a request that fails is repeated meanwhile. With 0 a record may be in the log although it failed,
        /// and nothing keeps the order of what follows it.
        retries: u32,
        /// Before the first repetition; it grows from there.
        backoff: Duration,
    },
}

/// A broker and how to talk to it. The embedded one differs only in these values: the code path is the same.
#[derive(Debug, Clone)]
pub struct KafkaConfig {
    /// Bootstrap addresses, separated by commas.
    pub brokers: String,
    /// Shown in the broker's logs and quotas.
    pub client_id: String,
    /// Of topics that are created here.
    pub replication_factor: i32,
    /// Of topics that are created here.
    pub min_insync_replicas: i32,
    /// A member that is silent for so long loses its partitions.
    pub session_timeout: Duration,
    /// How soon a member hears of a rebalance: well below the session.
    pub heartbeat_interval: Duration,
    /// A member whose thread asks for nothing so long leaves the group.
    pub max_poll_interval: Duration,
    /// How often a member commits what is finished.
    pub auto_commit: Duration,
    /// For a connection to a broker, authentication included.
    pub connection_timeout: Duration,
    /// How long a record waits for company before it is sent.
    pub linger: Duration,
    /// Of what is produced: a codec of Kafka's, or none.
    pub compression: &'static str,
    /// How long the broker holds an empty fetch.
    pub fetch_wait: Duration,
    /// When a client that gets nowhere is replaced.
    pub watch: Watch,
    /// Set where the broker is the embedded one, which keeps only so many bytes.
    pub backlog: Option<Arc<Backlog>>,
}

impl KafkaConfig {
    pub fn new(brokers: impl Into<String>) -> Self {
        Self {
            brokers: brokers.into(),
            client_id: "headwater".to_owned(),
            replication_factor: 1,
            min_insync_replicas: 1,
            session_timeout: Duration::from_secs(10),
            heartbeat_interval: Duration::from_secs(3),
            max_poll_interval: Duration::from_secs(60),
            auto_commit: Duration::from_secs(1),
            connection_timeout: Duration::from_secs(30),
            linger: Duration::from_millis(5),
            compression: "lz4",
            fetch_wait: Duration::from_millis(100),
            watch: Watch::default(),
            backlog: None,
        }
    }

    /// Whether the broker is librdkafka's mock cluster in this process.
    pub fn is_embedded(&self) -> bool {
        self.backlog.is_some()
    }

    /// What the embedded broker still holds for a consumer in this process; a real broker needs none.
    pub fn backlog(&self) -> Option<&Arc<Backlog>> {
        self.backlog.as_ref()
    }

    pub(crate) fn producer(&self, patience: Patience) -> ClientConfig {
        let mut config = self.client();
        config
            .set("enable.idempotence", "true")
            .set("partitioner", "murmur2_random") // Java's; the default CRC32 is not
            .set("compression.type", self.compression)
            .set("linger.ms", millis(self.linger))
            .set("queue.buffering.max.kbytes", "131072")
            .set("queue.buffering.max.messages", "0") // the byte budget of `Producer` bounds them
            .set("request.timeout.ms", millis(REQUEST_TIMEOUT))
            .set("topic.metadata.refresh.interval.ms", "20000")
            .set("statistics.interval.ms", millis(self.watch.statistics));
        match patience {
            Patience::Waiting => {
                config.set("delivery.timeout.ms", "15000").set("message.max.bytes", LETTER_MAX_BYTES.to_string())
            }
            // without the guarantee, a batch that the broker refuses for good leaves a gap: the epoch is raised and what
            // is queued behind it is written all the same, so that a user's later event comes before the earlier one
            Patience::Forever => config
                .set("message.timeout.ms", "0")
                .set(GAPLESS, "true")
                .set("message.max.bytes", EVENT_MAX_BYTES.to_string()),
            Patience::Set { within, retries, backoff } => config
                .set("delivery.timeout.ms", millis(within.max(Duration::from_millis(1))))
                .set("request.timeout.ms", millis(within.clamp(Duration::from_millis(1), REQUEST_TIMEOUT)))
                .set("linger.ms", millis(self.linger.min(within / 2)))
                .set("enable.idempotence", if retries == 0 { "false" } else { "true" })
                .set("message.send.max.retries", retries.to_string())
                .set("retry.backoff.ms", millis(backoff.clamp(Duration::from_millis(1), LONGEST_BACKOFF)))
                .set("retry.backoff.max.ms", millis((2 * backoff).clamp(Duration::from_secs(1), LONGEST_BACKOFF)))
                .set("message.max.bytes", EVENT_MAX_BYTES.to_string()),
        };
        config
    }

    /// For a member of the group; `instance` tells the members apart in the broker's logs.
    pub(crate) fn consumer(&self, group_id: &str, instance: &str) -> ClientConfig {
        let mut config = self.client();
        config
            .set("client.id", self.client_id_of(instance))
            .set("group.id", group_id)
            .set("group.protocol", "classic")
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("enable.auto.commit", "true")
            .set("enable.auto.offset.store", "false") // stored by hand, after the durable effect
            .set("auto.commit.interval.ms", millis(self.auto_commit))
            // a new group begins at the beginning because its assignment says so; who would have to jump later stops
            // instead, and is looked after
            .set("auto.offset.reset", "error")
            .set("check.crcs", "true")
            .set("session.timeout.ms", millis(self.session_timeout))
            .set("heartbeat.interval.ms", millis(self.heartbeat_interval))
            .set("max.poll.interval.ms", millis(self.max_poll_interval))
            .set("queued.min.messages", "10000")
            .set("queued.max.messages.kbytes", "16384")
            // how long nobody fetches once so much is queued, which takes a fast consumer 10 ms: with 50 it waited most of
            // the time (docs/measurements.md)
            .set("fetch.queue.backoff.ms", "5")
            .set("fetch.wait.max.ms", millis(self.fetch_wait))
            .set("statistics.interval.ms", millis(self.watch.statistics));
        config
    }

    /// For a reader that joins no group; librdkafka wants an id even where nothing is committed.
    pub(crate) fn reader(&self, group_id: &str) -> ClientConfig {
        let mut config = self.client();
        config
            .set("group.id", group_id)
            .set("enable.partition.eof", "true")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("check.crcs", "true")
            .set("fetch.wait.max.ms", millis(self.fetch_wait));
        config
    }

    pub(crate) fn admin(&self) -> ClientConfig {
        self.client()
    }

    fn client_id_of(&self, instance: &str) -> String {
        format!("{}-{instance}", self.client_id)
    }

    /// The instance whose client has this id; `None` where it is nobody's of ours.
    pub(crate) fn instance_of<'a>(&self, client_id: &'a str) -> Option<&'a str> {
        client_id.strip_prefix(self.client_id.as_str())?.strip_prefix('-')
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", &self.client_id)
            .set("socket.timeout.ms", "15000")
            .set("socket.keepalive.enable", "true")
            .set("socket.connection.setup.timeout.ms", millis(self.connection_timeout))
            .set("reconnect.backoff.max.ms", "2000")
            .set("allow.auto.create.topics", "false");
        config
    }
}

/// For one answer to a producer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(8);
/// The most that librdkafka takes.
const LONGEST_BACKOFF: Duration = Duration::from_secs(300);

pub(crate) const GAPLESS: &str = "enable.gapless.guarantee";

/// Of one record of the relay, before compression: a request of 1 MiB and its envelope fit. The log is created with the
/// same limit.
pub(crate) const EVENT_MAX_BYTES: usize = 2 * 1024 * 1024;
/// Of one record of whoever writes dead letters, before compression: brokers measure what is compressed, so a record of
/// another producer may be larger than the log's limit. Whether a letter fits is for the broker to say.
pub(crate) const LETTER_MAX_BYTES: usize = 64 * 1024 * 1024;

fn millis(duration: Duration) -> String {
    duration.as_millis().to_string()
}
