//! What can go wrong between this process and the broker.
use rdkafka::{error::KafkaError, types::RDKafkaErrorCode};

/// Errors of a client as a whole; those of a single record are [`SendError`]s.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("could not make a kafka {client}")]
    Client {
        /// "producer", "consumer", "admin client", "reader".
        client: &'static str,
        #[source]
        source: KafkaError,
    },
    #[error("no answer from the kafka broker at {brokers}; check KAFKA_BROKERS and that the broker runs")]
    Unreachable {
        brokers: String,
        #[source]
        source: KafkaError,
    },
    #[error("could not start the embedded kafka broker")]
    Embedded(#[source] KafkaError),
    #[error("could not create topic {topic}")]
    CreateTopic {
        topic: String,
        #[source]
        source: RDKafkaErrorCode,
    },
    #[error("topic {topic} does not exist; create it with `headwater topics apply`")]
    TopicMissing { topic: String },
    #[error(
        "topic {topic} has {found} partitions, expected {expected}: keys would change their partition and users lose \
         their order; create it anew with {expected}"
    )]
    Partitions { topic: String, expected: i32, found: i32 },
    #[error("the producer is closed")]
    Closed,
    #[error("a record is not known to be in the log")]
    Send(#[from] SendError),
    #[error("a record failed and nothing may overtake it; purge the producer, then send again from that record on")]
    Broken,
    #[error("{unsent} records were not delivered before the deadline of closing the producer")]
    Undelivered { unsent: usize },
    #[error(
        "{reason}, although a broker at {brokers} takes connections, and {rebuilds} new clients in a row got no \
         further; start the process anew, and look at the broker"
    )]
    Stalled { reason: &'static str, brokers: String, rebuilds: u32 },
    #[error("the {what} panicked; the log above says where. what it had in hand is replayed from the last commit")]
    Panicked {
        /// "batch handler", "event handler", "dead letter task", "consumer thread".
        what: &'static str,
    },
    #[error(
        "the batch handler gave {found} outcomes for {expected} records; it must give one for each, in their order"
    )]
    Outcomes { expected: usize, found: usize },
    #[error("could not start the {of}'s thread")]
    Thread {
        /// "producer", "consumer".
        of: &'static str,
        #[source]
        source: std::io::Error,
    },
    #[error("could not ask the kafka broker about group {group}")]
    Group {
        group: String,
        #[source]
        source: KafkaError,
    },
    #[error("nothing more came from topic {topic}, although partitions {partitions:?} are not at their end")]
    Silent { topic: String, partitions: Vec<i32> },
    #[error(
        "topic {topic} has lost what was below offset {first} of partition {partition}: the rest makes another state than \
         the whole; --accept-truncation goes on with it"
    )]
    Truncated { topic: String, partition: i32, first: i64 },
    #[error("could not read topic {topic}")]
    Read {
        topic: String,
        #[source]
        source: KafkaError,
    },
}

impl Error {
    /// Whether the broker is away, as opposed to refusing something.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

/// Why one record is not known to be in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    #[error("the record has an empty key; it must be the user id")]
    EmptyKey,
    #[error("not sent, because an earlier record of the same call was refused")]
    AfterRefused,
    #[error("not sent, because the producer's queue was full")]
    QueueFull,
    #[error("the producer gave up before the broker's report; the record may or may not be in the log")]
    Purged,
    #[error("the broker did not take the record in time; it may or may not be in the log")]
    TimedOut,
    #[error("the record was refused: {0}")]
    Refused(RDKafkaErrorCode),
}

impl SendError {
    /// For metrics.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::EmptyKey => "empty_key",
            Self::AfterRefused => "after_refused",
            Self::QueueFull => "queue_full",
            Self::Purged => "purged",
            Self::TimedOut => "timed_out",
            Self::Refused(RDKafkaErrorCode::MessageSizeTooLarge) => "too_large",
            Self::Refused(_) => "refused",
        }
    }
}

impl From<RDKafkaErrorCode> for SendError {
    fn from(code: RDKafkaErrorCode) -> Self {
        match code {
            RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight => Self::Purged,
            RDKafkaErrorCode::MessageTimedOut | RDKafkaErrorCode::RequestTimedOut => Self::TimedOut,
            RDKafkaErrorCode::QueueFull => Self::QueueFull,
            code => Self::Refused(code),
        }
    }
}
