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
/// Attribute: of a request that is no RPC.
pub const HTTP_METHOD: &str = "http.request.method";
/// Attribute: the route that answered, like /events/generate.
pub const HTTP_ROUTE: &str = "http.route";
/// Attribute: a number.
pub const HTTP_STATUS: &str = "http.response.status_code";

// the consumer, beside the outcomes above

/// Counter: records that were in flight when their partition was handed over, lost or given up, or finished beyond one
/// that was not, or finished and not known to be committed, so that they may come a second time; by [`GROUP`].
pub const CONSUMER_POSSIBLE_DUPLICATES: &str = "headwater.consumer.possible_duplicates";
/// Counter: times that partitions were handed over, by [`GROUP`] and [`REASON`]: clean (drained and committed),
/// undrained, uncommitted (the broker refused), lost (taken away first), abandoned (the broker did not let go in time).
/// After a clean one only what was counted in [`CONSUMER_POSSIBLE_DUPLICATES`] comes twice.
pub const CONSUMER_HAND_OVERS: &str = "headwater.consumer.hand_overs";
/// Gauge: partitions that this consumer owns, by [`GROUP`] and [`INSTANCE`].
pub const CONSUMER_PARTITIONS: &str = "headwater.consumer.partitions";
/// Gauge: records between the end of an owned partition and what is finished, by [`GROUP`] and [`PARTITION`]; 0 once the
/// partition is somebody else's.
pub const CONSUMER_LAG: &str = "headwater.consumer.lag";
/// Gauge, seconds: age of the first record of an owned partition that is not finished, by [`GROUP`] and [`PARTITION`].
pub const CONSUMER_LAG_AGE: &str = "headwater.consumer.lag.age";
/// Histogram, seconds: from a record's timestamp (receivedAt) to its end as done or skipped, by [`GROUP`].
pub const CONSUMER_END_TO_END_DURATION: &str = "headwater.consumer.end_to_end.duration";
/// Gauge: 1 while too many dead records keep a consumer from going on, by [`GROUP`] and [`INSTANCE`].
pub const CONSUMER_BREAKER_OPEN: &str = "headwater.consumer.breaker.open";
/// Counter: times that a consumer's breaker opened, by [`GROUP`].
pub const CONSUMER_BREAKER_TRIPS: &str = "headwater.consumer.breaker.trips";
/// Counter: records that were gone from the log before they were read, by [`GROUP`] and [`REASON`]: truncated (the log
/// begins above the next one) or restarted (it ends below it; then these are the offsets that are no more).
pub const LOG_TRUNCATED_RECORDS: &str = "headwater.log_truncated_records";
/// Counter: kafka clients that got nowhere and were replaced, by [`CLIENT`] and [`REASON`]: disconnected, unreported,
/// starved, failed.
pub const CLIENT_REBUILDS: &str = "headwater.kafka.client.rebuilds";
/// Counter: times that a kafka client had no broker left and got its bootstrap addresses again, by [`CLIENT`].
pub const CLIENT_BOOTSTRAPS: &str = "headwater.kafka.client.bootstraps";
/// Counter: kafka clients that the broker did not let go of in time, so that they were left to end by themselves, by
/// [`CLIENT`].
pub const CLIENT_ABANDONED: &str = "headwater.kafka.client.abandoned";
/// consumer or producer.
pub const CLIENT: &str = "client";
/// Partition of a topic, from 0.
pub const PARTITION: &str = "messaging.destination.partition.id";
/// Counter: errors that the client reported and survived, by [`GROUP`] and [`REASON`].
pub const CONSUMER_ERRORS: &str = "headwater.consumer.errors";
/// Which service it is about, like analytics: on everything that a service measures of itself, since several may share a
/// process.
pub const ROLE: &str = "role";
/// Which instance of a role, like 1 or a host name.
pub const INSTANCE: &str = "instance";

// the producer

/// Counter: records that the broker reported as written.
pub const PRODUCER_SENT: &str = "messaging.client.sent.messages";
/// Counter: records that were refused or not reported in time, by [`REASON`].
pub const PRODUCER_FAILED: &str = "headwater.producer.failed";
/// Gauge: records enqueued and not yet reported.
pub const PRODUCER_QUEUED: &str = "headwater.producer.queued";

// spans: their contexts travel as `traceparent`, in gRPC metadata and Kafka headers

/// Counter: spans that were lost, by [`REASON`]: queue_full (they ended faster than they could leave) or not_exported (the
/// collector was away or refused them).
pub const TRACES_DROPPED_SPANS: &str = "headwater.traces.dropped_spans";
/// Resource of a span: which platform.
pub const SERVICE_NAMESPACE: &str = "service.namespace";
/// Resource of a span: which process.
pub const SERVICE_INSTANCE: &str = "service.instance.id";
/// Service of what a call does at the doors of UserActions, and of what comes of it up to the log.
pub const SERVICE_INGRESS: &str = "ingress";
/// Service of calls about active users and sessions.
pub const SERVICE_ANALYTICS: &str = "analytics";
/// Service of calls about risk, and of verdicts.
pub const SERVICE_FRAUD: &str = "fraud";
/// Service of calls and events of the activity service.
pub const SERVICE_ACTIVITY: &str = "activity";
/// One call at a door in the logs, unary or a stream up to its first answer; its attribute [`RPC_METHOD`] tells which,
/// and is the name of its span.
pub const SPAN_CALL: &str = "call";
/// One item of a stream of actions, in a trace of its own.
pub const SPAN_ACTION: &str = "record action";
/// One transaction of an ingress lane.
pub const SPAN_COMMIT: &str = "commit";
/// One event on its way into the log; in the logs one outbox row. Of another topic the name ends with that.
pub const SPAN_SEND: &str = "send user.events";
/// One attempt at one record in a consumer; in the logs one batch, or one attempt at one record.
pub const SPAN_PROCESS: &str = "process user.events";
/// One batch in a consumer, in a trace of its own; its records' spans are linked to it.
pub const SPAN_BATCH: &str = "process user.events batch";
/// Analytics' write of what a batch came to.
pub const SPAN_WRITE_SESSIONS: &str = "write sessions";
/// Fraud's write of decisions and their evidence.
pub const SPAN_WRITE_FINDINGS: &str = "write risk_evaluations";
/// Fraud's write of the users' new state.
pub const SPAN_WRITE_PROFILES: &str = "write risk_profiles";
/// Notification's mark that a user was told.
pub const SPAN_WRITE_LEDGER: &str = "write notifications";
/// The ingress's write of what verdicts came to.
pub const SPAN_WRITE_STATUS: &str = "write users";
/// Attribute: records in a batch.
pub const BATCH_MESSAGE_COUNT: &str = "messaging.batch.message_count";
/// Attribute: the W3C trace context that the work belongs to.
pub const TRACE_PARENT: &str = crate::TraceContext::HEADER;
/// Attribute: eventId.
pub const MESSAGE_ID: &str = "messaging.message.id";
/// Attribute: kafka.
pub const MESSAGING_SYSTEM: &str = "messaging.system";
/// Attribute: the topic.
pub const MESSAGING_DESTINATION: &str = "messaging.destination.name";
/// Attribute: send or process.
pub const MESSAGING_OPERATION: &str = "messaging.operation.type";
/// Attribute: offset of a record in its partition.
pub const MESSAGING_OFFSET: &str = "messaging.kafka.offset";

// the relay

/// Gauge: rows in the outbox.
pub const OUTBOX_ROWS: &str = "headwater.outbox.rows";
/// Gauge, seconds: age of the oldest row in the outbox; 0 where it is empty.
pub const OUTBOX_OLDEST_AGE: &str = "headwater.outbox.oldest.age";
/// Gauge: shards of the outbox that this relay publishes.
pub const RELAY_SHARDS: &str = "headwater.relay.shards";
/// Counter: times that the relay gave up what was in flight and read the outbox anew, by [`REASON`].
pub const RELAY_RESTARTS: &str = "headwater.relay.restarts";

// notification

/// Counter: notifications handed to their channel, by [`NOTIFICATION_KIND`] and [`NOTIFICATION_CHANNEL`].
pub const NOTIFICATIONS_DELIVERED: &str = "headwater.notification.delivered";
/// Counter: those of them that an earlier holder of the claim may have delivered too, by [`NOTIFICATION_KIND`].
pub const NOTIFICATION_POSSIBLE_DUPLICATES: &str = "headwater.notification.possible_duplicates";
/// Counter: delivery attempts that failed on purpose, by [`NOTIFICATION_KIND`].
pub const NOTIFICATION_INJECTED_FAILURES: &str = "headwater.notification.injected_failures";
/// Histogram, seconds: time a channel took for one attempt, delivered or not, by [`NOTIFICATION_CHANNEL`].
pub const NOTIFICATION_DELIVERY_DURATION: &str = "headwater.notification.delivery.duration";
/// WELCOME, SECURITY_ALERT, LOGIN_WARNING or ACCOUNT_NOTICE.
pub const NOTIFICATION_KIND: &str = "kind";
/// file or webhook.
pub const NOTIFICATION_CHANNEL: &str = "channel";

// analytics

/// Counter: events of a day before the newest day stored when they arrived.
pub const ANALYTICS_LATE_EVENTS: &str = "headwater.analytics.late_events";
/// Counter: sessions that were built anew from all their events, because one did not come at the end.
pub const ANALYTICS_SESSION_REBUILDS: &str = "headwater.analytics.session_rebuilds";
/// Counter: days and months whose active users were recounted.
pub const ANALYTICS_RECOUNTS: &str = "headwater.analytics.recounts";

// the ingress

/// Counter: events committed with their outbox rows.
pub const INGRESS_EVENTS: &str = "headwater.ingress.events";
/// Counter: requests and stream items that were refused, by [`REASON`].
pub const INGRESS_REFUSALS: &str = "headwater.ingress.refusals";
/// Histogram: actions in one transaction.
pub const INGRESS_GROUP_SIZE: &str = "headwater.ingress.group.size";
/// Histogram, seconds: one transaction, from its first statement to the end of its commit.
pub const INGRESS_COMMIT_DURATION: &str = "headwater.ingress.commit.duration";

// fraud

/// Histogram: a user's score after each event that changed matches, score or announcements.
pub const FRAUD_SCORE: &str = "headwater.fraud.score";
/// Counter: patterns found, by [`RULE`] and [`RULE_MODE`].
pub const FRAUD_MATCHES: &str = "headwater.fraud.matches";
/// Counter: verdicts announced, by [`VERDICT`].
pub const FRAUD_VERDICTS: &str = "headwater.fraud.verdicts";
/// Counter: profiles that another owner had moved on, so that their records were folded anew.
pub const FRAUD_CONFLICTS: &str = "headwater.fraud.conflicts";
/// Name of a fraud rule, like takeover_sequence.
pub const RULE: &str = "rule";
/// enforce or shadow.
pub const RULE_MODE: &str = "mode";
/// Type of the announcing event, like user.flagged.
pub const VERDICT: &str = "verdict";
