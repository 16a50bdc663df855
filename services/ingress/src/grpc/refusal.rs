//! What a caller reads when nothing was written, or when it is not known.
use std::time::Duration;

use headwater_otel::names;
use headwater_rpc::{Reason, refuse, refuse_for_now};
use tonic::{Code, Status};
use tonic_types::StatusExt;
use tracing::warn;

use crate::{StoreError, action::Answer, lanes::Failure, users::Receipt};

/// When a caller that met an overload may come back.
const RETRY_AFTER: Duration = Duration::from_secs(1);

pub(super) fn because(reason: Reason) -> Status {
    let message = match reason {
        Reason::RequestIdReused => "event_id: was used for another request; take a new one",
        Reason::EmailTaken => "email: belongs to another account; log in or take another",
        Reason::UserIdTaken => "user_id: belongs to another account; take another",
        Reason::InvalidCredentials => "there is no account with this name and this password",
        Reason::AccountSuspended => "the account is suspended until an operator reinstates it",
        Reason::PasswordResetRequired => "the account is closed until its password is changed; call ChangePassword",
        Reason::UserNotFound => "user_id: there is no account of this user",
        Reason::StoreUnavailable => "the store has not confirmed the request; repeat it with the same event_id",
        other => other.as_str(),
    };
    refuse(reason, message)
}

pub(super) fn overloaded() -> Status {
    refuse_for_now(Reason::Overloaded, "too many requests are waiting; come back later", RETRY_AFTER)
}

pub(super) fn draining() -> Status {
    refuse(Reason::StoreUnavailable, "this instance is shutting down; repeat the request with the same event_id")
}

/// A read that failed.
pub(super) fn store(error: &StoreError) -> Status {
    warn!(error = %error, source = ?std::error::Error::source(error), "a read of the store failed");
    because(Reason::StoreUnavailable)
}

/// The first answer's receipt, and whether this is a repetition.
pub(super) fn settled(answer: Result<Answer, Failure>) -> Result<(Receipt, bool), Status> {
    let (receipt, repeated) = match answer {
        Ok(Answer::Written(receipt)) => (receipt, false),
        Ok(Answer::Repeated(receipt)) => (receipt, true),
        Ok(Answer::Refused(reason)) => return Err(because(reason)),
        Ok(Answer::PasswordStale) => return Err(overloaded()), // it kept changing while it was verified
        Err(Failure::Data) => return Err(refuse(Reason::InvalidField, "the store refuses a value of the request")),
        Err(Failure::Unavailable) => return Err(because(Reason::StoreUnavailable)),
    };
    if receipt.wrong_password { Err(because(Reason::InvalidCredentials)) } else { Ok((receipt, repeated)) }
}

/// The store may or may not have what was asked.
pub(super) fn is_unknown(status: &Status) -> bool {
    status.code() == Code::Unavailable
}

pub(super) fn count(status: &Status) {
    let details = status.get_error_details();
    let reason = details.error_info().map_or_else(|| status.code().to_string(), |info| info.reason.clone());
    metrics::counter!(names::INGRESS_REFUSALS, names::ROLE => crate::ROLE, names::REASON => reason).increment(1);
}
