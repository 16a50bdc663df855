//! Which events count, and what is kept of them. Pure: no Kafka, no store, no clock.
use std::sync::Arc;

use headwater_documents::identity;
use headwater_proto::{Event, EventId, EventType, Millis, UserId};

/// Why an event does not count, beside `headwater_stream::UNKNOWN_TYPE`; the words of the outcome counter.
pub mod skip {
    /// Already stored under its eventId, or earlier in the same batch.
    pub const DUPLICATE: &str = "duplicate";
    /// A decision about the user: a verdict or a reinstatement.
    pub const NOT_A_USER_ACTION: &str = "not_a_user_action";
    /// user.login_failed: nobody got in.
    pub const LOGIN_FAILED: &str = "login_failed";
    /// Neither login nor logout, and of no session.
    pub const NO_SESSION: &str = "no_session";
}

/// A session-related event, one document of `session_events` (`_id` = eventId): the truth that every other document
/// of analytics is derived from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionEvent {
    pub id: EventId,
    pub user_id: UserId,
    /// Without one the user was active, but in no session.
    pub session_id: Option<Arc<str>>,
    pub event_type: EventType,
    pub occurred_at: Millis,
}

impl SessionEvent {
    /// The event if it is session-related (SPEC.md, 4.3), else why not: user.logged_in, user.logged_out, and any other
    /// user action that carries a session id, except user.login_failed.
    pub fn of(event: Event) -> Result<Self, &'static str> {
        match event.event_type {
            EventType::UserLoggedIn | EventType::UserLoggedOut => {}
            EventType::UserLoginFailed => return Err(skip::LOGIN_FAILED),
            other if !other.is_user_action() => return Err(skip::NOT_A_USER_ACTION),
            _ if event.session_id.is_none() => return Err(skip::NO_SESSION),
            _ => {}
        }
        Ok(Self {
            id: event.id,
            user_id: event.user_id,
            session_id: event.session_id.map(Into::into),
            event_type: event.event_type,
            occurred_at: event.occurred_at,
        })
    }

    pub fn session(&self) -> Option<SessionKey> {
        let session_id = self.session_id.clone()?;
        Some(SessionKey { user_id: self.user_id.clone(), session_id })
    }
}

/// Names one document of `sessions`. Two users who send the same session id have two sessions.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionKey {
    pub user_id: UserId,
    pub session_id: Arc<str>,
}

impl SessionKey {
    /// The document's `_id`.
    pub fn id(&self) -> String {
        identity([self.user_id.as_str(), &self.session_id])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn logins_logouts_and_actions_of_a_session_count_and_nothing_else() {
        use EventType::*;
        let action = Event {
            id: EventId::from_bytes([1; 16]),
            event_type: UserCreated,
            user_id: UserId::try_from("ann").unwrap(),
            occurred_at: Millis::from_millis(0),
            received_at: Millis::from_millis(0),
            email: None,
            ip: None,
            user_agent: None,
            session_id: None,
            causation_id: None,
            correlation_id: None,
            source: String::new(),
            detail: None,
        };
        let counted = |event_type, session_id: Option<&str>| {
            SessionEvent::of(Event { event_type, session_id: session_id.map(Into::into), ..action.clone() })
                .map(|kept| kept.session().map(|key| key.session_id.to_string()))
        };
        let of_session = Ok(Some("s".to_owned()));
        for (event_type, with_session, without) in [
            (UserLoggedIn, of_session.clone(), Ok(None)),
            (UserLoggedOut, of_session.clone(), Ok(None)),
            (UserCreated, of_session.clone(), Err(skip::NO_SESSION)),
            (UserPasswordChanged, of_session.clone(), Err(skip::NO_SESSION)),
            (UserIpChanged, of_session.clone(), Err(skip::NO_SESSION)),
            (UserLoginFailed, Err(skip::LOGIN_FAILED), Err(skip::LOGIN_FAILED)),
            (UserFlagged, Err(skip::NOT_A_USER_ACTION), Err(skip::NOT_A_USER_ACTION)),
            (UserPasswordResetRequired, Err(skip::NOT_A_USER_ACTION), Err(skip::NOT_A_USER_ACTION)),
            (UserSuspended, Err(skip::NOT_A_USER_ACTION), Err(skip::NOT_A_USER_ACTION)),
            (UserReinstated, Err(skip::NOT_A_USER_ACTION), Err(skip::NOT_A_USER_ACTION)),
        ] {
            assert_eq!(counted(event_type, Some("s")), with_session, "{event_type} with a session");
            assert_eq!(counted(event_type, None), without, "{event_type} without a session");
        }
    }
}
