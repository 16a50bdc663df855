//! How events move: the only crate that names rdkafka.

mod decode;
mod handler;
mod record;

pub use decode::{UNKNOWN_TYPE, decode_event};
pub use handler::{BatchHandler, Decoded, Delivery, EventHandler, Outcome, Poison, Unavailable, Verdict};
pub use record::{Headers, Position, Record};
