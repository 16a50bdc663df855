//! How a notification reaches its user: one trait, one form, two ways.
mod file;
mod webhook;

use std::{error::Error, future::Future, time::Duration};

use headwater_proto::{Millis, Timestamp};
use serde::Serialize;

use crate::decide::Notification;

pub use file::FileChannel;
pub use webhook::WebhookChannel;

/// After which a delivery counts as [`Failure::Unknown`]. Well below the ledger's lease.
pub const DELIVERY_TIMEOUT: Duration = Duration::from_secs(10);

pub trait Channel: Send + Sync + 'static {
    /// For metrics.
    const NAME: &'static str;

    /// `Ok` once the notification is out of our hands. May be dropped half-way: then nobody knows.
    fn deliver(&self, notification: &Notification) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// Why a delivery failed, told apart by what may be done next.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The channel itself is away, whatever the notification: nothing was handed over, and none is to blame.
    #[error("not delivered, the channel is away: {reason}")]
    Away { reason: &'static str, source: Option<Box<dyn Error + Send + Sync>> },
    /// Nothing was handed over; another attempt may work.
    #[error("not delivered: {reason}")]
    NotDelivered { reason: &'static str, source: Option<Box<dyn Error + Send + Sync>> },
    /// It was handed over and no answer came: another attempt may repeat it.
    #[error("perhaps delivered: {reason}")]
    Unknown { reason: &'static str, source: Option<Box<dyn Error + Send + Sync>> },
    /// The receiver will never take it.
    #[error("refused: {reason}")]
    Refused { reason: &'static str },
}

impl Failure {
    /// For metrics and verdicts; a word of a closed set.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Away { reason, .. }
            | Self::NotDelivered { reason, .. }
            | Self::Unknown { reason, .. }
            | Self::Refused { reason } => reason,
        }
    }
}

/// The one form of a notification, a line in a file or the body of a request.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Letter<'a> {
    email: &'a str,
    /// Of writing.
    timestamp: Timestamp,
    kind: &'static str,
    subject: &'a str,
    body: &'a str,
    event_id: String,
    user_id: &'a str,
    instance: &'a str,
}

/// JSON without line breaks.
fn letter(notification: &Notification, instance: &str, written_at: Millis) -> Vec<u8> {
    let letter = Letter {
        email: &notification.email,
        timestamp: written_at.into(),
        kind: notification.key.kind.as_str(),
        subject: notification.subject,
        body: &notification.body,
        event_id: notification.key.event_id.to_string(),
        user_id: notification.user_id.as_str(),
        instance,
    };
    serde_json::to_vec(&letter).expect("strings and a time within the calendar are always JSON")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::notification;

    #[test]
    fn a_letter_is_one_line_whatever_its_fields_hold() {
        let mut notification = notification(7);
        notification.email = "ada@example.org\r\n{\"".into();
        let letter = letter(&notification, "2", "2026-01-15T10:30:00.5Z".parse().unwrap());
        let text = String::from_utf8(letter).unwrap();
        assert_eq!(
            text,
            r#"{"email":"ada@example.org\r\n{\"","timestamp":"2026-01-15T10:30:00.500Z","kind":"WELCOME","subject":"Welcome","body":"Hello.","eventId":"07070707-0707-0707-0707-070707070707","userId":"user-7","instance":"2"}"#
        );
    }
}
