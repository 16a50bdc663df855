//! The one table of topics and groups (SPEC.md, 3). No other place names one.

/// A topic as it is created where missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Topic {
    pub name: &'static str,
    pub partitions: i32,
    /// Beside the replication factor, which is configuration.
    pub config: &'static [(&'static str, &'static str)],
}

/// What a producer may send: an event from a request of 1 MiB, and the headers that a dead letter adds to it.
const MESSAGE_LIMIT: (&str, &str) = ("max.message.bytes", "2097152");
const KEEP_FOR_EVER: &[(&str, &str)] = &[("cleanup.policy", "delete"), ("retention.ms", "-1"), MESSAGE_LIMIT];
const LOG: &[(&str, &str)] =
    &[("cleanup.policy", "delete"), ("retention.ms", "-1"), ("message.timestamp.type", "CreateTime"), MESSAGE_LIMIT];

/// The log: every event of every user, keyed by user id. The record timestamp is receivedAt.
pub const USER_EVENTS: Topic = Topic { name: "user.events", partitions: 12, config: LOG };
pub const NOTIFICATIONS_DLQ: Topic = Topic { name: "notifications.dlq", partitions: 3, config: KEEP_FOR_EVER };
pub const ANALYTICS_DLQ: Topic =
    Topic { name: "user.events.analytics-consumer-group.dlq", partitions: 3, config: KEEP_FOR_EVER };
pub const FRAUD_DLQ: Topic =
    Topic { name: "user.events.fraud-detection-group.dlq", partitions: 3, config: KEEP_FOR_EVER };
pub const ACCOUNT_STATUS_DLQ: Topic =
    Topic { name: "user.events.ingress-account-status-group.dlq", partitions: 3, config: KEEP_FOR_EVER };

/// Everything that is created at start where missing.
pub const ALL: &[Topic] = &[USER_EVENTS, NOTIFICATIONS_DLQ, ANALYTICS_DLQ, FRAUD_DLQ, ACCOUNT_STATUS_DLQ];

/// A consumer group: what it reads and where its dead letters go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    pub id: &'static str,
    pub topic: Topic,
    pub dead_letters: Topic,
}

pub const ANALYTICS: Group = Group { id: "analytics-consumer-group", topic: USER_EVENTS, dead_letters: ANALYTICS_DLQ };
pub const NOTIFICATION: Group =
    Group { id: "notification-consumer-group", topic: USER_EVENTS, dead_letters: NOTIFICATIONS_DLQ };
pub const FRAUD: Group = Group { id: "fraud-detection-group", topic: USER_EVENTS, dead_letters: FRAUD_DLQ };
pub const ACCOUNT_STATUS: Group =
    Group { id: "ingress-account-status-group", topic: USER_EVENTS, dead_letters: ACCOUNT_STATUS_DLQ };

/// Every group of the platform.
pub const GROUPS: &[Group] = &[ANALYTICS, NOTIFICATION, FRAUD, ACCOUNT_STATUS];
