//! The event as the services know it: an [`EventEnvelope`] that has been checked once, at the door or off the log.
use crate::{EventId, Millis, Timestamp, UserId, v1, v1::EventEnvelope};
use prost::Message;
use std::fmt;

pub use v1::event_envelope::Detail;

/// Of every event written by this version.
pub const SCHEMA_VERSION: u32 = 1;

/// How far occurredAt may be ahead of the clock that received it: 5 minutes, in milliseconds (SPEC.md, 2).
pub const MAX_CLOCK_AHEAD: i64 = 5 * 60 * 1_000;

/// The longest each field may be, in bytes; at the door and off the log alike. What is derived from an event and written
/// again is bounded by them.
pub mod limit {
    pub const EMAIL: usize = 254;
    /// An IPv6 address with an IPv4 one in its end, written out.
    pub const IP: usize = 45;
    pub const USER_AGENT: usize = 1_024;
    pub const SESSION_ID: usize = 128;
    pub const CORRELATION_ID: usize = 128;
}

/// The types this version knows. A consumer skips any other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventType {
    UserCreated,
    UserLoggedIn,
    UserLoggedOut,
    UserLoginFailed,
    UserPasswordChanged,
    UserIpChanged,
    UserFlagged,
    UserPasswordResetRequired,
    UserSuspended,
    UserReinstated,
}

impl EventType {
    pub const ALL: [Self; 10] = [
        Self::UserCreated,
        Self::UserLoggedIn,
        Self::UserLoggedOut,
        Self::UserLoginFailed,
        Self::UserPasswordChanged,
        Self::UserIpChanged,
        Self::UserFlagged,
        Self::UserPasswordResetRequired,
        Self::UserSuspended,
        Self::UserReinstated,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UserCreated => "user.created",
            Self::UserLoggedIn => "user.logged_in",
            Self::UserLoggedOut => "user.logged_out",
            Self::UserLoginFailed => "user.login_failed",
            Self::UserPasswordChanged => "user.password_changed",
            Self::UserIpChanged => "user.ip_changed",
            Self::UserFlagged => "user.flagged",
            Self::UserPasswordResetRequired => "user.password_reset_required",
            Self::UserSuspended => "user.suspended",
            Self::UserReinstated => "user.reinstated",
        }
    }

    /// `None` for a type of a newer producer.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == text)
    }

    /// What a user did, as RecordAction takes it; the others are decisions about a user.
    pub const fn is_user_action(self) -> bool {
        !self.is_verdict() && !matches!(self, Self::UserReinstated)
    }

    /// What the fraud service announces.
    pub const fn is_verdict(self) -> bool {
        matches!(self, Self::UserFlagged | Self::UserPasswordResetRequired | Self::UserSuspended)
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A valid event. Empty strings of the envelope are `None` here.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub id: EventId,
    pub event_type: EventType,
    pub user_id: UserId,
    pub occurred_at: Millis,
    pub received_at: Millis,
    pub email: Option<String>,
    pub ip: Option<String>,
    pub user_agent: Option<String>,
    pub session_id: Option<String>,
    pub causation_id: Option<EventId>,
    pub correlation_id: Option<String>,
    /// "/ingress", "/fraud"; empty where a foreign producer left it out.
    pub source: String,
    pub detail: Option<Detail>,
}

/// How a record's value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    Protobuf,
    Json,
}

impl Encoding {
    /// By the `content-type` header; without one, a value that starts with `{` is JSON (SPEC.md, 1).
    pub fn of(content_type: Option<&[u8]>, value: &[u8]) -> Result<Self, DecodeError> {
        let Some(content_type) = content_type else {
            return Ok(if value.first() == Some(&b'{') { Self::Json } else { Self::Protobuf });
        };
        let media_type = content_type.split(|&b| b == b';').next().unwrap_or_default().trim_ascii();
        match media_type {
            t if t.eq_ignore_ascii_case(b"application/protobuf") => Ok(Self::Protobuf),
            t if t.eq_ignore_ascii_case(b"application/x-protobuf") => Ok(Self::Protobuf),
            t if t.eq_ignore_ascii_case(b"application/json") => Ok(Self::Json),
            _ => Err(DecodeError::ContentType),
        }
    }
}

/// What came off the log.
#[derive(Debug, Clone, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every record is an event: a box would cost each one an allocation"
)]
pub enum Decoded {
    Event(Event),
    /// Well-formed, of a type that a newer producer introduced: skip and count it.
    UnknownType,
}

/// Why a record is poison. The text never repeats the record's data.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("the record has no key; it must be the user id")]
    NoKey,
    #[error("the record has no value; it must be an EventEnvelope")]
    NoValue,
    #[error("content-type must be application/protobuf or application/json")]
    ContentType,
    #[error("the value is not an EventEnvelope in protobuf: {0}")]
    Protobuf(#[source] prost::DecodeError),
    #[error("the value is not an EventEnvelope in JSON (line {}, column {})", .0.line(), .0.column())]
    Json(#[source] serde_json::Error),
    #[error("{field}: {problem}")]
    Field { field: &'static str, problem: String },
    #[error("aggregate_id differs from the record key")]
    KeyMismatch,
    #[error("occurred_at is more than 5 minutes after received_at")]
    OccurredAfterReceived,
}

impl DecodeError {
    /// For metrics and the dead letter's headers.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NoKey => "no_key",
            Self::NoValue => "no_value",
            Self::ContentType => "content_type",
            Self::Protobuf(_) | Self::Json(_) => "undecodable",
            Self::Field { .. } => "invalid_field",
            Self::KeyMismatch => "key_mismatch",
            Self::OccurredAfterReceived => "occurred_after_received",
        }
    }
}

fn field(field: &'static str, problem: impl fmt::Display) -> DecodeError {
    DecodeError::Field { field, problem: problem.to_string() }
}

/// `None` for an empty text. What the door refuses is no better where another program wrote it: a store may be unable to
/// take it, and its consumer would try for ever.
fn at_most(max: usize, name: &'static str, text: String) -> Result<Option<String>, DecodeError> {
    match text.len() {
        0 => Ok(None),
        length if length > max => Err(field(name, format_args!("must have at most {max} bytes"))),
        _ if text.chars().any(char::is_control) => Err(field(name, "must not contain control characters")),
        _ => Ok(Some(text)),
    }
}

impl Event {
    /// Reads a record of user.events. `recorded_at` is the record timestamp: it stands in where received_at is absent.
    pub fn decode(
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        content_type: Option<&[u8]>,
        recorded_at: Option<Millis>,
    ) -> Result<Decoded, DecodeError> {
        let key = key.filter(|key| !key.is_empty()).ok_or(DecodeError::NoKey)?;
        let value = value.ok_or(DecodeError::NoValue)?;
        let envelope = match Encoding::of(content_type, value)? {
            Encoding::Protobuf => EventEnvelope::decode(value).map_err(DecodeError::Protobuf)?,
            Encoding::Json => serde_json::from_slice(value).map_err(DecodeError::Json)?,
        };
        if envelope.aggregate_id.as_bytes() != key {
            return Err(DecodeError::KeyMismatch);
        }
        Self::check(envelope, recorded_at)
    }

    fn check(envelope: EventEnvelope, recorded_at: Option<Millis>) -> Result<Decoded, DecodeError> {
        let id = envelope.event_id.parse().map_err(|e| field("event_id", e))?;
        let user_id = UserId::try_from(envelope.aggregate_id.as_str()).map_err(|e| field("aggregate_id", e))?;
        let occurred_at = envelope.occurred_at.ok_or_else(|| field("occurred_at", "is required"))?;
        let occurred_at = Millis::try_from(occurred_at).map_err(|e| field("occurred_at", e))?;
        let received_at = match envelope.received_at {
            Some(t) => Millis::try_from(t).map_err(|e| field("received_at", e))?,
            None => recorded_at.unwrap_or(occurred_at),
        };
        if occurred_at.since(received_at) > MAX_CLOCK_AHEAD {
            return Err(DecodeError::OccurredAfterReceived);
        }
        if envelope.event_type.is_empty() {
            return Err(field("event_type", "is required"));
        }
        let Some(event_type) = EventType::parse(&envelope.event_type) else { return Ok(Decoded::UnknownType) };
        let causation_id = match envelope.causation_id.as_str() {
            "" => None,
            id => Some(id.parse().map_err(|e| field("causation_id", e))?),
        };
        let payload = envelope.payload.unwrap_or_default();
        Ok(Decoded::Event(Self {
            id,
            event_type,
            user_id,
            occurred_at,
            received_at,
            email: at_most(limit::EMAIL, "email", payload.email)?,
            ip: at_most(limit::IP, "ip", payload.ip)?,
            user_agent: at_most(limit::USER_AGENT, "user_agent", payload.user_agent)?,
            session_id: at_most(limit::SESSION_ID, "session_id", payload.session_id)?,
            causation_id,
            correlation_id: at_most(limit::CORRELATION_ID, "correlation_id", envelope.correlation_id)?,
            source: envelope.source,
            detail: envelope.detail,
        }))
    }
}

impl From<Event> for EventEnvelope {
    fn from(event: Event) -> Self {
        let payload = v1::Payload {
            email: event.email.unwrap_or_default(),
            ip: event.ip.unwrap_or_default(),
            user_agent: event.user_agent.unwrap_or_default(),
            session_id: event.session_id.unwrap_or_default(),
        };
        Self {
            event_id: event.id.to_string(),
            event_type: event.event_type.as_str().to_owned(),
            aggregate_id: event.user_id.as_str().to_owned(),
            occurred_at: Some(Timestamp::from(event.occurred_at)),
            received_at: Some(Timestamp::from(event.received_at)),
            payload: (payload != v1::Payload::default()).then_some(payload),
            schema_version: SCHEMA_VERSION,
            causation_id: event.causation_id.map(|id| id.to_string()).unwrap_or_default(),
            correlation_id: event.correlation_id.unwrap_or_default(),
            source: event.source,
            detail: event.detail,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn login() -> Event {
        Event {
            id: "0190b6c5-6d0e-7c3a-9f0e-1f2d3c4b5a69".parse().unwrap(),
            event_type: EventType::UserLoggedIn,
            user_id: UserId::try_from("ada").unwrap(),
            occurred_at: "2026-01-15T10:30:00Z".parse().unwrap(),
            received_at: "2026-01-15T10:30:01Z".parse().unwrap(),
            email: None,
            ip: Some("10.0.0.1".into()),
            user_agent: None,
            session_id: Some("s1".into()),
            causation_id: None,
            correlation_id: None,
            source: "/ingress".into(),
            detail: None,
        }
    }

    fn decode(envelope: &EventEnvelope) -> Result<Decoded, DecodeError> {
        Event::decode(Some(b"ada"), Some(&envelope.encode_to_vec()), Some(b"application/protobuf"), None)
    }

    #[test]
    fn protobuf_and_json_bring_the_same_event_back() {
        let envelope = EventEnvelope::from(login());
        assert_eq!(decode(&envelope).unwrap(), Decoded::Event(login()));
        let json = serde_json::to_string(&envelope).unwrap();
        assert_eq!(
            json,
            r#"{"eventId":"0190b6c5-6d0e-7c3a-9f0e-1f2d3c4b5a69","eventType":"user.logged_in","aggregateId":"ada","occurredAt":"2026-01-15T10:30:00.000Z","receivedAt":"2026-01-15T10:30:01.000Z","payload":{"ip":"10.0.0.1","sessionId":"s1"},"schemaVersion":1,"source":"/ingress"}"#
        );
        for content_type in [None, Some(b"application/json; charset=utf-8".as_slice())] {
            let decoded = Event::decode(Some(b"ada"), Some(json.as_bytes()), content_type, None).unwrap();
            assert_eq!(decoded, Decoded::Event(login()));
        }
    }

    #[test]
    fn a_record_that_lies_about_itself_is_poison_with_the_reason() {
        let change = |f: fn(&mut EventEnvelope)| {
            let mut envelope = EventEnvelope::from(login());
            f(&mut envelope);
            decode(&envelope).map_err(|e| e.reason())
        };
        assert_eq!(change(|e| e.aggregate_id = "eve".into()), Err("key_mismatch"));
        assert_eq!(change(|e| e.event_id = "7".into()), Err("invalid_field"));
        assert_eq!(change(|e| e.occurred_at = None), Err("invalid_field"));
        assert_eq!(change(|e| e.occurred_at = Some(Timestamp { seconds: i64::MAX, nanos: 0 })), Err("invalid_field"));
        assert_eq!(
            change(|e| e.occurred_at = e.received_at.map(|t| Timestamp { seconds: t.seconds + 301, ..t })),
            Err("occurred_after_received")
        );
        assert!(change(|e| e.occurred_at = e.received_at.map(|t| Timestamp { seconds: t.seconds + 300, ..t })).is_ok());
        assert_eq!(change(|e| e.event_type = "user.teleported".into()), Ok(Decoded::UnknownType));
        assert_eq!(change(|e| e.event_type = String::new()), Err("invalid_field"));
    }

    #[test]
    fn a_field_that_the_door_would_not_take_is_poison() {
        fn payload(envelope: &mut EventEnvelope) -> &mut v1::Payload {
            envelope.payload.get_or_insert_default()
        }
        type Pick = fn(&mut EventEnvelope) -> &mut String;
        let fields: [(usize, Pick); 5] = [
            (limit::EMAIL, |e| &mut payload(e).email),
            (limit::IP, |e| &mut payload(e).ip),
            (limit::USER_AGENT, |e| &mut payload(e).user_agent),
            (limit::SESSION_ID, |e| &mut payload(e).session_id),
            (limit::CORRELATION_ID, |e| &mut e.correlation_id),
        ];
        for (max, pick) in fields {
            let mut envelope = EventEnvelope::from(login());
            *pick(&mut envelope) = "x".repeat(max);
            assert!(decode(&envelope).is_ok(), "{max}");
            *pick(&mut envelope) = "x".repeat(max + 1);
            assert_eq!(decode(&envelope).map_err(|e| e.reason()), Err("invalid_field"), "{max}");
            *pick(&mut envelope) = "a\0b".into();
            assert_eq!(decode(&envelope).map_err(|e| e.reason()), Err("invalid_field"), "{max}");
        }
    }

    #[test]
    fn the_record_timestamp_stands_in_for_an_absent_received_at() {
        let mut envelope = EventEnvelope::from(login());
        envelope.received_at = None;
        let bytes = envelope.encode_to_vec();
        let early = Some(login().occurred_at.plus_millis(-MAX_CLOCK_AHEAD - 1));
        let refused = Event::decode(Some(b"ada"), Some(&bytes), None, early);
        assert!(matches!(refused, Err(DecodeError::OccurredAfterReceived)), "{refused:?}");
        assert!(Event::decode(Some(b"ada"), Some(&bytes), None, None).is_ok());
    }

    #[test]
    fn every_type_is_read_as_it_is_written() {
        for known in EventType::ALL {
            assert_eq!(EventType::parse(known.as_str()), Some(known));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_decoding_panic(key: Vec<u8>, value: Vec<u8>, json: bool) {
            let content_type: &[u8] = if json { b"application/json" } else { b"application/protobuf" };
            let _ = Event::decode(Some(&key), Some(&value), Some(content_type), None);
        }
    }
}
