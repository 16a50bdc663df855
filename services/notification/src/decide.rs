//! The rule: an event in, its notification or the reason for none out. No Kafka, no clock, no I/O.
use std::{fmt, net::IpAddr, num::NonZeroU32};

use headwater_proto::{Detail, Event, EventId, EventType, UserId};
use headwater_stream::Decoded;

/// The event calls for a notification, but says no email address; this service knows of no other.
pub const NO_ADDRESS: &str = "no_address";
/// The event calls for none.
pub const NOT_NOTIFIABLE: &str = "not_notifiable";

const NOT_YOU: &str = "If this was not you, change your password now.";

/// What a notification is about. With the eventId it is the notification's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Welcome,
    SecurityAlert,
    LoginWarning,
    AccountNotice,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::Welcome, Self::SecurityAlert, Self::LoginWarning, Self::AccountNotice];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Welcome => "WELCOME",
            Self::SecurityAlert => "SECURITY_ALERT",
            Self::LoginWarning => "LOGIN_WARNING",
            Self::AccountNotice => "ACCOUNT_NOTICE",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What makes two notifications the same one. Shown as `<eventId>:<kind>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    pub event_id: EventId,
    pub kind: Kind,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.event_id, self.kind)
    }
}

/// A message to a user, ready for any channel.
#[derive(Clone, PartialEq, Eq)]
pub struct Notification {
    pub key: Key,
    pub user_id: UserId,
    pub email: String,
    pub subject: &'static str,
    pub body: String,
}

/// Without address and text: neither belongs in a log.
impl fmt::Debug for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notification").field("key", &self.key).finish_non_exhaustive()
    }
}

/// A failed login warns when it is the `warning_threshold`-th in a row, and again at each multiple.
pub fn decide(event: Event, warning_threshold: NonZeroU32) -> Decoded<Notification> {
    let Some((kind, subject, body)) = content(&event, warning_threshold) else { return Decoded::Skip(NOT_NOTIFIABLE) };
    let Some(email) = event.email else { return Decoded::Skip(NO_ADDRESS) };
    Decoded::Item(Notification { key: Key { event_id: event.id, kind }, user_id: event.user_id, email, subject, body })
}

fn content(event: &Event, warning_threshold: NonZeroU32) -> Option<(Kind, &'static str, String)> {
    let at = event.occurred_at;
    Some(match event.event_type {
        EventType::UserCreated => {
            (Kind::Welcome, "Welcome to Headwater", format!("Your account was created at {at}. Good to have you here."))
        }
        EventType::UserPasswordChanged => (
            Kind::SecurityAlert,
            "Your password was changed",
            format!("Your password was changed at {at}. If this was not you, contact support now."),
        ),
        EventType::UserIpChanged => (
            Kind::SecurityAlert,
            "Your account is used from a new address",
            format!("The new address was first seen at {at}{}. {NOT_YOU}", address(event)),
        ),
        EventType::UserLoginFailed => {
            let failures = failures(event).filter(|failures| failures.get() % warning_threshold == 0)?;
            let body = format!("{failures} logins failed in a row, the last at {at}. {NOT_YOU}");
            (Kind::LoginWarning, "Failed logins to your account", body)
        }
        EventType::UserFlagged => (
            Kind::AccountNotice,
            "Unusual activity on your account",
            format!("We saw unusual activity at {at}. You can go on as before; look through your latest logins."),
        ),
        EventType::UserPasswordResetRequired => (
            Kind::AccountNotice,
            "Change your password to go on",
            format!("What we saw at {at} looks like somebody else. You can log in again after changing your password."),
        ),
        EventType::UserSuspended => (
            Kind::AccountNotice,
            "Your account is suspended",
            format!("We suspended your account at {at} to protect it. Contact support to open it again."),
        ),
        EventType::UserLoggedIn | EventType::UserLoggedOut | EventType::UserReinstated => return None,
    })
}

/// `None` where a foreign producer did not count.
fn failures(event: &Event) -> Option<NonZeroU32> {
    match &event.detail {
        Some(Detail::LoginFailure(failure)) => {
            u32::try_from(failure.consecutive_failures).ok().and_then(NonZeroU32::new)
        }
        _ => None,
    }
}

/// Only what is an address is repeated to the user: a foreign producer may have written anything there.
fn address(event: &Event) -> String {
    let ip = event.ip.as_deref().and_then(|ip| ip.parse::<IpAddr>().ok());
    ip.map(|ip| format!(" ({ip})")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_proto::v1;

    fn event(event_type: EventType) -> Event {
        Event {
            id: "0190b6c5-6d0e-7c3a-9f0e-1f2d3c4b5a69".parse().unwrap(),
            event_type,
            user_id: UserId::try_from("ada").unwrap(),
            occurred_at: "2026-01-15T10:30:00Z".parse().unwrap(),
            received_at: "2026-01-15T10:30:01Z".parse().unwrap(),
            email: Some("ada@example.org".into()),
            ip: Some("10.0.0.1".into()),
            user_agent: None,
            session_id: None,
            causation_id: None,
            correlation_id: None,
            source: "/ingress".into(),
            detail: None,
        }
    }

    fn failed(consecutive_failures: i32) -> Event {
        let detail = Some(Detail::LoginFailure(v1::LoginFailure { consecutive_failures }));
        Event { detail, ..event(EventType::UserLoginFailed) }
    }

    const THREE: NonZeroU32 = NonZeroU32::new(3).unwrap();

    #[test]
    fn each_event_type_has_its_kind_or_none() {
        use EventType::*;
        use Kind::*;
        for (event_type, expected) in [
            (UserCreated, Some(Welcome)),
            (UserPasswordChanged, Some(SecurityAlert)),
            (UserIpChanged, Some(SecurityAlert)),
            (UserFlagged, Some(AccountNotice)),
            (UserPasswordResetRequired, Some(AccountNotice)),
            (UserSuspended, Some(AccountNotice)),
            (UserLoggedIn, None),
            (UserLoggedOut, None),
            (UserLoginFailed, None),
            (UserReinstated, None),
        ] {
            match (decide(event(event_type), THREE), expected) {
                (Decoded::Item(notification), Some(kind)) => {
                    assert_eq!(notification.key.kind, kind, "{event_type}");
                    assert_eq!(notification.email, "ada@example.org");
                    assert!(!notification.subject.is_empty() && notification.body.contains("2026-01-15T10:30:00.000Z"));
                }
                (Decoded::Skip(reason), None) => assert_eq!(reason, NOT_NOTIFIABLE, "{event_type}"),
                (decision, expected) => panic!("{event_type}: {decision:?}, expected {expected:?}"),
            }
        }
    }

    #[test]
    fn failed_logins_warn_at_each_multiple_of_the_threshold() {
        let warns = |event: Event, threshold| matches!(decide(event, threshold), Decoded::Item(_));
        for (count, expected) in
            [(i32::MIN, false), (-3, false), (0, false), (1, false), (2, false), (3, true), (4, false), (6, true)]
        {
            assert_eq!(warns(failed(count), THREE), expected, "{count} failures");
        }
        assert!(warns(failed(1), NonZeroU32::MIN));
        assert!(!warns(event(EventType::UserLoginFailed), NonZeroU32::MIN), "nobody counted");
    }

    #[test]
    fn an_event_without_address_is_skipped_for_that_only_if_it_would_notify() {
        let nameless = |event: Event| decide(Event { email: None, ..event }, THREE);
        assert_eq!(nameless(event(EventType::UserCreated)), Decoded::Skip(NO_ADDRESS));
        assert_eq!(nameless(event(EventType::UserLoggedIn)), Decoded::Skip(NOT_NOTIFIABLE));
        assert_eq!(nameless(failed(2)), Decoded::Skip(NOT_NOTIFIABLE));
    }

    #[test]
    fn only_a_real_address_is_repeated_to_the_user() {
        let body = |ip: &str| match decide(Event { ip: Some(ip.into()), ..event(EventType::UserIpChanged) }, THREE) {
            Decoded::Item(notification) => notification.body,
            Decoded::Skip(reason) => panic!("{reason}"),
        };
        assert!(body("2001:db8::1").contains("(2001:db8::1)"));
        assert!(!body("call 555-0100").contains("555"));
    }

    #[test]
    fn neither_address_nor_text_is_in_the_debug_form() {
        let Decoded::Item(notification) = decide(event(EventType::UserIpChanged), THREE) else { panic!() };
        let shown = format!("{notification:?}");
        assert!(!shown.contains("ada@") && !shown.contains("10.0.0.1"), "{shown}");
    }
}
