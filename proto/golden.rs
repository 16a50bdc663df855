//! The wire contract as bytes: golden/envelope.hex and golden/envelope.json are one event, in its two forms. The clients
//! in other languages read the same two files. A change of either breaks every reader of the log: never regenerate them.
use crate::{Decoded, Event, v1::EventEnvelope};
use prost::Message;
use serde_json::Value;

const HEX: &str = include_str!("golden/envelope.hex");
const JSON: &str = include_str!("golden/envelope.json");

fn bytes() -> Vec<u8> {
    let lines = HEX.lines().map(|line| line.split('#').next().unwrap_or_default());
    let digits: Vec<u32> = lines.flat_map(str::chars).filter_map(|c| c.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

#[test]
fn an_envelope_has_these_bytes_and_this_json() {
    let from_bytes = EventEnvelope::decode(bytes().as_slice()).unwrap();
    let from_json: EventEnvelope = serde_json::from_str(JSON).unwrap();
    assert_eq!(from_bytes, from_json);
    assert_eq!(from_json.encode_to_vec(), bytes());
    assert_eq!(serde_json::to_value(&from_bytes).unwrap(), serde_json::from_str::<Value>(JSON).unwrap());
}

#[test]
fn nothing_of_the_envelope_is_lost_in_the_event_that_the_services_work_with() {
    let Decoded::Event(event) = Event::decode(Some(b"ada"), Some(&bytes()), None, None).unwrap() else {
        panic!("a type this version does not know");
    };
    assert_eq!(EventEnvelope::from(event).encode_to_vec(), bytes());
}
