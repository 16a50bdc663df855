//! The one table of topics and groups (SPEC.md, 3). No other place names one.

/// A topic as it is created where missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Topic {
    pub name: &'static str,
    pub partitions: i32,
    /// Whether one that is there already must have so many partitions: records are put into them by number.
    pub fixed: bool,
    /// Beside the replication factor, which is configuration.
    pub config: &'static [(&'static str, &'static str)],
}

/// Far above an event from a request of 1 MiB.
const LOG: &[(&str, &str)] = &[
    ("cleanup.policy", "delete"),
    ("retention.ms", "-1"),
    ("message.timestamp.type", "CreateTime"),
    ("max.message.bytes", "2097152"),
];
/// Above the log's limit: whatever lies there must fit in here with a dead letter's headers, or its consumer is stuck.
const KEEP_FOR_EVER: &[(&str, &str)] =
    &[("cleanup.policy", "delete"), ("retention.ms", "-1"), ("max.message.bytes", "4194304")];

/// The log: every event of every user, keyed by user id. The record timestamp is receivedAt.
pub const USER_EVENTS: Topic = Topic { name: "user.events", partitions: 12, fixed: true, config: LOG };
pub const NOTIFICATIONS_DLQ: Topic =
    Topic { name: "notifications.dlq", partitions: 3, fixed: true, config: KEEP_FOR_EVER };
pub const ANALYTICS_DLQ: Topic =
    Topic { name: "user.events.analytics-consumer-group.dlq", partitions: 3, fixed: true, config: KEEP_FOR_EVER };
pub const FRAUD_DLQ: Topic =
    Topic { name: "user.events.fraud-detection-group.dlq", partitions: 3, fixed: true, config: KEEP_FOR_EVER };
pub const ACCOUNT_STATUS_DLQ: Topic =
    Topic { name: "user.events.ingress-account-status-group.dlq", partitions: 3, fixed: true, config: KEEP_FOR_EVER };

/// Of a service whose document leaves the rest to the broker; an event from a request of 1 MiB fits.
const AS_THE_BROKER_HAS_IT: &[(&str, &str)] = &[("max.message.bytes", "2097152")];

/// What users do in the product, keyed by user id; JSON, as the User Activity Service's document has it.
pub const USER_ACTIVITY_EVENTS: Topic =
    Topic { name: "user-activity-events", partitions: 6, fixed: false, config: AS_THE_BROKER_HAS_IT };

/// Everything that is created at start where missing.
pub const ALL: &[Topic] =
    &[USER_EVENTS, NOTIFICATIONS_DLQ, ANALYTICS_DLQ, FRAUD_DLQ, ACCOUNT_STATUS_DLQ, USER_ACTIVITY_EVENTS];

/// A consumer group: what it reads and where its dead letters go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    pub id: &'static str,
    pub topic: Topic,
    /// `None`: what cannot be used is logged and skipped, and that is all.
    pub dead_letters: Option<Topic>,
}

pub const ANALYTICS: Group =
    Group { id: "analytics-consumer-group", topic: USER_EVENTS, dead_letters: Some(ANALYTICS_DLQ) };
pub const NOTIFICATION: Group =
    Group { id: "notification-consumer-group", topic: USER_EVENTS, dead_letters: Some(NOTIFICATIONS_DLQ) };
pub const FRAUD: Group = Group { id: "fraud-detection-group", topic: USER_EVENTS, dead_letters: Some(FRAUD_DLQ) };
pub const ACCOUNT_STATUS: Group =
    Group { id: "ingress-account-status-group", topic: USER_EVENTS, dead_letters: Some(ACCOUNT_STATUS_DLQ) };

pub const USER_ACTIVITY: Group =
    Group { id: "user-activity-consumer-group", topic: USER_ACTIVITY_EVENTS, dead_letters: None };

/// Every group of the platform.
pub const GROUPS: &[Group] = &[ANALYTICS, NOTIFICATION, FRAUD, ACCOUNT_STATUS, USER_ACTIVITY];
