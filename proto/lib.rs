//! The contract of Headwater: the messages as generated, the event as the services know it, the one table of topics.

mod event;
#[cfg(test)]
mod golden;
mod identity;
mod text;
mod timestamp;
pub mod topics;

pub use event::{DecodeError, Decoded, Detail, Encoding, Event, EventType, MAX_CLOCK_AHEAD, SCHEMA_VERSION, limit};
pub use identity::{EventId, InvalidEventId, InvalidUserId, UserId};
pub use text::Text;
pub use timestamp::{Day, InvalidTimestamp, Millis, Month, Timestamp};

/// Generated from `proto/headwater/v1`: messages, clients, servers and the proto3 JSON form.
#[allow(clippy::all, unreachable_pub)]
pub mod v1 {
    tonic::include_proto!("headwater.v1");
    include!(concat!(env!("OUT_DIR"), "/headwater.v1.serde.rs"));
}

/// The descriptor set that gRPC reflection serves.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
