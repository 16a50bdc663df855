//! A record of user.events, read as every one of its consumers reads it.
use headwater_proto::{Decoded as Read, Event, Millis};

use crate::{Decoded, Poison, Record};

/// Of a type that a newer producer introduced.
pub const UNKNOWN_TYPE: &str = "unknown_type";

pub fn decode_event(record: &Record<'_>) -> Result<Decoded<Event>, Poison> {
    let content_type = record.headers.get("content-type");
    let recorded_at = record.timestamp.map(Millis::from_millis);
    match Event::decode(record.key, record.value, content_type, recorded_at) {
        Ok(Read::Event(event)) => Ok(Decoded::Item(event)),
        Ok(Read::UnknownType) => Ok(Decoded::Skip(UNKNOWN_TYPE)),
        Err(error) => Err(Poison { reason: error.reason(), message: error.to_string() }),
    }
}
