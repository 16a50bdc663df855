//! Why a request is refused: a closed set of words, each with one gRPC code (and by it one HTTP status).
use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// `ErrorInfo.domain` of every refusal.
pub const DOMAIN: &str = "headwater";

/// `ErrorInfo.reason`. A client decides by this word, never by the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    InvalidField,
    EventTimeInFuture,
    EventTypeNotAccepted,
    RequestIdReused,
    EmailTaken,
    UserIdTaken,
    InvalidCredentials,
    AccountSuspended,
    PasswordResetRequired,
    UserNotFound,
    DecisionNotFound,
    RateLimited,
    Overloaded,
    StoreUnavailable,
}

impl Reason {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidField => "INVALID_FIELD",
            Self::EventTimeInFuture => "EVENT_TIME_IN_FUTURE",
            Self::EventTypeNotAccepted => "EVENT_TYPE_NOT_ACCEPTED",
            Self::RequestIdReused => "REQUEST_ID_REUSED",
            Self::EmailTaken => "EMAIL_TAKEN",
            Self::UserIdTaken => "USER_ID_TAKEN",
            Self::InvalidCredentials => "INVALID_CREDENTIALS",
            Self::AccountSuspended => "ACCOUNT_SUSPENDED",
            Self::PasswordResetRequired => "PASSWORD_RESET_REQUIRED",
            Self::UserNotFound => "USER_NOT_FOUND",
            Self::DecisionNotFound => "DECISION_NOT_FOUND",
            Self::RateLimited => "RATE_LIMITED",
            Self::Overloaded => "OVERLOADED",
            Self::StoreUnavailable => "STORE_UNAVAILABLE",
        }
    }

    pub const fn code(self) -> Code {
        match self {
            Self::InvalidField | Self::EventTimeInFuture | Self::EventTypeNotAccepted => Code::InvalidArgument,
            Self::RequestIdReused | Self::EmailTaken | Self::UserIdTaken => Code::AlreadyExists,
            Self::InvalidCredentials => Code::Unauthenticated,
            Self::AccountSuspended => Code::PermissionDenied,
            Self::PasswordResetRequired => Code::FailedPrecondition,
            Self::UserNotFound | Self::DecisionNotFound => Code::NotFound,
            Self::RateLimited | Self::Overloaded => Code::ResourceExhausted,
            Self::StoreUnavailable => Code::Unavailable,
        }
    }

    pub(crate) fn details(self) -> ErrorDetails {
        ErrorDetails::with_error_info(self.as_str(), DOMAIN, HashMap::new())
    }
}

/// A refusal that repeating does not change. `message` says what and where, and never carries a secret.
pub fn refuse(reason: Reason, message: impl Into<String>) -> Status {
    Status::with_error_details(reason.code(), message, reason.details())
}

/// A refusal that may pass: the same request is welcome after `retry_after` (RetryInfo; over HTTP also `retry-after`).
pub fn refuse_for_now(reason: Reason, message: impl Into<String>, retry_after: Duration) -> Status {
    let mut details = reason.details();
    details.set_retry_info(Some(retry_after));
    Status::with_error_details(reason.code(), message, details)
}
