//! How events move: the only crate that names rdkafka.

mod handler;
mod record;

pub use handler::{BatchHandler, Decoded, Delivery, EventHandler, Outcome, Poison, Unavailable, Verdict};
pub use record::{Headers, Position, Record};
