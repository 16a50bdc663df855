//! Every metric, span and attribute name, with what it means. OpenTelemetry's names where it has one.
//! Prometheus shows dots as underscores; units are seconds and bytes.

/// Counter: records that a consumer is finished with, by [`GROUP`], [`OUTCOME`] and [`REASON`].
pub const CONSUMER_OUTCOMES: &str = "headwater.consumer.outcomes";
/// Counter: attempts that ended in a retry, by [`GROUP`] and [`REASON`].
pub const CONSUMER_RETRIES: &str = "headwater.consumer.retries";
/// Counter: dead letters, by [`GROUP`], [`DISPOSITION`] and [`REASON`].
pub const CONSUMER_DEAD_LETTERS: &str = "headwater.consumer.dead_letters";

/// Consumer group id.
pub const GROUP: &str = "messaging.consumer.group.name";
/// done, skipped or dead.
pub const OUTCOME: &str = "outcome";
/// A word of a closed set: why.
pub const REASON: &str = "reason";
/// POISON, EXHAUSTED or REJECTED.
pub const DISPOSITION: &str = "disposition";

// the server

/// Histogram, seconds: time to answer a unary call, by [`RPC_SYSTEM`], [`RPC_METHOD`] and [`RPC_STATUS`].
pub const RPC_SERVER_DURATION: &str = "rpc.server.call.duration";
/// grpc or connectrpc.
pub const RPC_SYSTEM: &str = "rpc.system.name";
/// Full name, like headwater.v1.UserActions/Login.
pub const RPC_METHOD: &str = "rpc.method";
/// Connect's word for the code: ok, invalid_argument, ...
pub const RPC_STATUS: &str = "rpc.response.status_code";

// the consumer, beside the outcomes above

/// Counter: records that were in flight when their partition was handed over, lost or given up, so that the next owner
/// may apply them a second time; by [`GROUP`].
pub const CONSUMER_POSSIBLE_DUPLICATES: &str = "headwater.consumer.possible_duplicates";
/// Gauge: partitions that this consumer owns, by [`GROUP`] and [`INSTANCE`].
pub const CONSUMER_PARTITIONS: &str = "headwater.consumer.partitions";
/// Gauge: records between the end of the owned partitions and what is finished, by [`GROUP`] and [`INSTANCE`].
pub const CONSUMER_LAG: &str = "headwater.consumer.lag";
/// Counter: errors that the client reported and survived, by [`GROUP`] and [`REASON`].
pub const CONSUMER_ERRORS: &str = "headwater.consumer.errors";
/// What the process does, like analytics.
pub const ROLE: &str = "role";
/// Which instance of a role, like 1 or a host name.
pub const INSTANCE: &str = "instance";
