//! Who and which: newtypes that exist only when valid.
use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};
use uuid::Uuid;

use crate::{Millis, Text};

/// The identity of an event, everywhere: never topic, partition and offset.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(Uuid);

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("must be a UUID, like 0190b6c5-6d0e-7c3a-9f0e-1f2d3c4b5a69")]
pub struct InvalidEventId;

impl EventId {
    /// A version 7 UUID: ids made later sort later, to the millisecond.
    pub fn new(now: Millis) -> Self {
        let millis = now.as_millis().max(0) as u64;
        let random = *Uuid::new_v4().as_bytes();
        let mut tail = [0; 10];
        tail.copy_from_slice(&random[..10]);
        Self(uuid::Builder::from_unix_timestamp_millis(millis, &tail).into_uuid())
    }

    /// The id of an event that follows from this one: UUIDv5 with this id as namespace, the same at every attempt.
    pub fn derive(self, name: &str) -> Self {
        Self(Uuid::new_v5(&self.0, name.as_bytes()))
    }

    /// Hyphenated, in lower case.
    pub fn text(self) -> Text<36> {
        let mut text = [0; 36];
        self.0.hyphenated().encode_lower(&mut text);
        Text(text)
    }

    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }
}

impl FromStr for EventId {
    type Err = InvalidEventId;

    /// Takes any form of UUID; shows the hyphenated lower-case one.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::try_parse(text).map(Self).map_err(|_| InvalidEventId)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A user: 1 to 128 bytes of UTF-8 without control characters. The Kafka record key. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(Arc<str>);

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidUserId {
    #[error("must not be empty")]
    Empty,
    #[error("must be at most 128 bytes")]
    TooLong,
    #[error("must not contain control characters")]
    ControlCharacter,
}

impl UserId {
    pub const MAX_BYTES: usize = 128;

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl TryFrom<&str> for UserId {
    type Error = InvalidUserId;

    fn try_from(text: &str) -> Result<Self, Self::Error> {
        match text {
            "" => Err(InvalidUserId::Empty),
            _ if text.len() > Self::MAX_BYTES => Err(InvalidUserId::TooLong),
            _ if text.chars().any(char::is_control) => Err(InvalidUserId::ControlCharacter),
            _ => Ok(Self(text.into())),
        }
    }
}

impl Borrow<str> for UserId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_id_has_1_to_128_bytes_and_no_control_characters() {
        assert_eq!(UserId::try_from(""), Err(InvalidUserId::Empty));
        assert_eq!(UserId::try_from("a\nb"), Err(InvalidUserId::ControlCharacter));
        assert_eq!(UserId::try_from("é".repeat(65).as_str()), Err(InvalidUserId::TooLong));
        assert_eq!(UserId::try_from("é".repeat(64).as_str()).unwrap().as_bytes().len(), 128);
    }

    #[test]
    fn an_event_id_is_version_7_and_sorts_by_its_millisecond() {
        let (earlier, later) = (EventId::new(Millis::from_millis(1_000)), EventId::new(Millis::from_millis(2_000)));
        assert!(earlier < later);
        assert_eq!(earlier.0.get_version_num(), 7);
    }

    #[test]
    fn a_derived_event_id_is_the_same_at_every_attempt_and_differs_by_name() {
        let id: EventId = "0190B6C5-6D0E-7C3A-9F0E-1F2D3C4B5A69".parse().unwrap();
        assert_eq!(id.to_string(), "0190b6c5-6d0e-7c3a-9f0e-1f2d3c4b5a69");
        assert_eq!(id.derive("user.flagged"), id.derive("user.flagged"));
        assert_ne!(id.derive("user.flagged"), id.derive("user.suspended"));
    }
}
