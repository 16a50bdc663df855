//! The event of the User Activity Service: what makes one, and its two forms on the topic.
use std::{borrow::Cow, fmt};

use headwater_proto::{Encoding, EventId, Millis, v1};
use headwater_stream::{Poison, Record, headers};
use prost::Message as _;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// What users do.
pub const TYPES: [&str; 3] = ["LOGIN", "LOGOUT", "PRODUCT_VIEW"];

/// The type of this name.
pub(crate) fn known_type(name: &str) -> Option<&'static str> {
    TYPES.into_iter().find(|known| *known == name)
}

/// A JSON object, as it was written.
pub type Payload = Box<RawValue>;

/// One event, as it is published and consumed.
#[derive(Debug, Clone)]
pub struct ActivityEvent {
    pub id: EventId,
    /// Not blank; the record's key.
    pub user_id: Box<str>,
    /// One of [`TYPES`].
    pub event_type: &'static str,
    pub timestamp: Millis,
    pub payload: Payload,
}

/// The document's JSON form.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    #[serde(borrow)]
    event_id: Cow<'a, str>,
    #[serde(borrow)]
    user_id: Cow<'a, str>,
    #[serde(borrow)]
    event_type: Cow<'a, str>,
    #[serde(borrow)]
    timestamp: Cow<'a, str>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
}

/// The payload, where it is an object.
pub(crate) fn object(text: &RawValue) -> Option<Payload> {
    text.get().starts_with('{').then(|| text.to_owned())
}

/// `{}`
pub(crate) fn empty() -> Payload {
    RawValue::from_string("{}".to_owned()).expect("an empty object is JSON")
}

impl ActivityEvent {
    /// Onto `json`, in the document's form.
    pub fn write_json(&self, json: &mut Vec<u8>) {
        let (id, timestamp) = (self.id.text(), self.timestamp.text());
        let written = Written {
            event_id: (*id).into(),
            user_id: (*self.user_id).into(),
            event_type: self.event_type.into(),
            timestamp: (*timestamp).into(),
            payload: Some(&self.payload),
        };
        serde_json::to_writer(json, &written).expect("text and what was JSON before is JSON");
    }

    pub(crate) fn encode(&self, encoding: Encoding) -> (&'static str, Vec<u8>) {
        match encoding {
            Encoding::Json => {
                let mut json = Vec::with_capacity(192 + self.user_id.len() + self.payload.get().len());
                self.write_json(&mut json);
                (headers::JSON, json)
            }
            Encoding::Protobuf => (headers::PROTOBUF, v1::ActivityEvent::from(self).encode_to_vec()),
        }
    }

    /// The reason and the message of poison name what is wrong, without the record's data.
    pub(crate) fn decode(record: &Record<'_>) -> Result<Self, Poison> {
        let value = record.value.filter(|value| !value.is_empty()).ok_or_else(|| malformed("value", "is missing"))?;
        let encoding = Encoding::of(headers::content_type(record), value.trim_ascii_start());
        let encoding = encoding.map_err(|_| malformed("content-type", "is not known"))?;
        if encoding == Encoding::Json {
            let text = str::from_utf8(value).map_err(|_| malformed("value", "is no UTF-8"))?;
            let written: Written<'_> = serde_json::from_str(text).map_err(|error| {
                malformed("value", format_args!("is no event in JSON: {:?} error", error.classify()))
            })?;
            let payload = written.payload.map_or_else(|| Ok(empty()), |payload| object(payload).ok_or(NO_OBJECT));
            Self::of(&written.event_id, &written.user_id, &written.event_type, written.timestamp.parse().ok(), payload)
        } else {
            let read = v1::ActivityEvent::decode(value).map_err(|_| malformed("value", "is no event in protobuf"))?;
            let time = read.timestamp.and_then(|timestamp| Millis::try_from(timestamp).ok());
            Self::of(&read.event_id, &read.user_id, &read.event_type, time, payload_of(read.payload))
        }
    }

    fn of(
        id: &str,
        user_id: &str,
        event_type: &str,
        timestamp: Option<Millis>,
        payload: Result<Payload, &'static str>,
    ) -> Result<Self, Poison> {
        let blank = user_id.trim().is_empty();
        Ok(Self {
            id: id.parse().map_err(|_| malformed("eventId", "must be a UUID"))?,
            user_id: (!blank).then(|| user_id.into()).ok_or_else(|| malformed("userId", "must not be blank"))?,
            event_type: known_type(event_type).ok_or_else(|| malformed("eventType", "is not known"))?,
            timestamp: timestamp.ok_or_else(|| malformed("timestamp", "must be a time in ISO 8601"))?,
            payload: payload.map_err(|problem| malformed("payload", problem))?,
        })
    }
}

const NO_OBJECT: &str = "must be a JSON object";

/// From its text; none is an empty object.
pub(crate) fn payload_of(text: String) -> Result<Payload, &'static str> {
    if text.is_empty() {
        return Ok(empty());
    }
    let value = RawValue::from_string(text).map_err(|_| NO_OBJECT)?;
    object(&value).ok_or(NO_OBJECT)
}

fn malformed(field: &'static str, problem: impl fmt::Display) -> Poison {
    Poison { reason: "malformed", message: format!("{field} {problem}") }
}

impl From<&ActivityEvent> for v1::ActivityEvent {
    fn from(event: &ActivityEvent) -> Self {
        Self {
            event_id: event.id.to_string(),
            user_id: event.user_id.to_string(),
            event_type: event.event_type.to_owned(),
            timestamp: Some(event.timestamp.into()),
            payload: event.payload.get().to_owned(),
        }
    }
}
