use std::{sync::Arc, time::Duration};

use headwater_proto::topics::Group;

use crate::{KafkaConfig, Positions, RetryPolicy};

/// How a consumer behaves. The defaults are those of RELIABILITY.md; most callers set only what `new` asks for.
#[derive(Debug, Clone)]
pub struct ConsumerConfig {
    pub kafka: KafkaConfig,
    /// What is read, and where dead letters go.
    pub group: Group,
    /// Appended to the group id: a group of one's own beside the live one.
    pub group_suffix: String,
    /// What the process does, like "analytics"; a label of every metric.
    pub role: &'static str,
    /// Tells the members of a group apart.
    pub instance: String,
    /// Where a store in memory stands. With it an assignment starts at the store's own position instead of the
    /// group's commit; what is finished goes to both.
    pub positions: Option<Arc<Positions>>,
    /// Go on where the log begins where it no longer has the records to be read next; otherwise their partition stops.
    pub accept_truncation: bool,
    /// Of single records; only event handlers have any.
    pub retry: RetryPolicy,
    /// How long a consumer of user.events that found too much of it dead leaves it alone.
    pub breaker_pause: Duration,
    /// Records per batch, at most.
    pub batch_records: usize,
    /// How long a batch may fill while records keep coming.
    pub batch_fill: Duration,
    /// Records that an event handler works on at a time, each of another key.
    pub concurrency: usize,
    /// Records that wait for an event handler, those not counted that wait for an earlier one of their key.
    pub waiting_records: usize,
    /// Records of one partition that wait for their key, parked or busy; more, and the partition is paused.
    pub parked_records: usize,
    /// Records of one partition above its frontier; more, and the partition is paused.
    pub behind_records: usize,
    /// How long the client is left alone with what it has fetched, before the partitions are paused so that it can be
    /// asked again. Well below the interval after which the group gives up on this member.
    pub quiet: Duration,
    /// How long a revoked partition may take to finish what is in flight.
    pub drain: Duration,
    /// How long what is in flight may take at shutdown.
    pub last_drain: Duration,
    /// How long the broker may take after that for the last commit and for letting go of the client. Then the client is
    /// left to end by itself, and the group notices by its silence. Longer than a heartbeat interval: while the group
    /// rebalances a broker answers only when every member has heard of it.
    pub parting: Duration,
}

impl ConsumerConfig {
    pub fn new(kafka: KafkaConfig, group: Group, role: &'static str, instance: impl Into<String>) -> Self {
        Self {
            kafka,
            group,
            group_suffix: String::new(),
            role,
            instance: instance.into(),
            positions: None,
            accept_truncation: false,
            retry: RetryPolicy::default(),
            breaker_pause: Duration::from_secs(60),
            batch_records: 1_000,
            batch_fill: Duration::from_millis(20),
            concurrency: 64,
            waiting_records: 1_000,
            parked_records: 1_000,
            behind_records: 50_000,
            quiet: Duration::from_secs(5),
            drain: Duration::from_secs(10),
            last_drain: Duration::from_secs(20),
            parting: Duration::from_secs(4),
        }
    }

    /// The group as the broker knows it.
    pub fn group_id(&self) -> String {
        format!("{}{}", self.group.id, self.group_suffix)
    }
}
