//! How events move: the only crate that names rdkafka.

mod batches;
mod bootstrap;
mod breaker;
mod clock;
mod commit;
mod connection;
mod consumer;
mod dead_letter;
mod decode;
mod embedded;
mod error;
pub mod groups;
mod handler;
pub mod headers;
mod kafka;
mod ledger;
mod parking;
mod partition;
mod positions;
mod producer;
mod reach;
pub mod reader;
mod rebalance;
mod record;
mod retry;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod topic_admin;
mod truncation;
mod watchdog;

pub use clock::{Clock, FixedClock, SystemClock};
pub use consumer::{ConsumerConfig, run_batches, run_events};
pub use dead_letter::{Disposition, header as dead_letter_header};
pub use decode::{UNKNOWN_TYPE, decode_event};
pub use embedded::{Backlog, EmbeddedKafka};
pub use error::{Error, SendError};
pub use handler::{BatchHandler, Decoded, Delivery, EventHandler, INJECTED, Outcome, Poison, Unavailable, Verdict};
pub use kafka::{KafkaConfig, Patience};
pub use partition::partition_for;
pub use positions::Positions;
pub use producer::{Full, OutboundRecord, Producer, Reports};
pub use record::{Headers, Position, Record};
pub use retry::RetryPolicy;
pub use topic_admin::{Applied, apply_topics};
pub use watchdog::Watch;
