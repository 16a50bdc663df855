//! What somebody wants to have happened: a request that has passed the door, on its way to be decided.
use std::sync::Arc;

use headwater_otel::TraceContext;
use headwater_proto::{EventId, EventType, Millis, UserId};
use headwater_rpc::Reason;

use crate::{
    fields::{Email, Ip, Remark, SessionId, UserAgent},
    users::Receipt,
};

/// HMAC-SHA256 over a request as sent, without its secrets and its id.
pub type Digest = [u8; 32];

#[derive(Debug, Clone)]
pub struct Action {
    pub head: Head,
    pub what: What,
}

/// What every action has.
#[derive(Debug, Clone)]
pub struct Head {
    /// The client's, or made here.
    pub id: EventId,
    pub digest: Digest,
    pub occurred_at: Millis,
    pub received_at: Millis,
    pub client: Client,
    pub origin: Origin,
}

/// What is known of the client that acted.
#[derive(Debug, Clone, Default)]
pub struct Client {
    pub ip: Option<Ip>,
    pub user_agent: Option<UserAgent>,
    pub session_id: Option<SessionId>,
}

/// Which call and which trace an action belongs to.
#[derive(Debug, Clone)]
pub struct Origin {
    pub trace: TraceContext,
    pub trace_state: Option<Arc<str>>,
    pub correlation_id: Option<Arc<str>>,
}

#[derive(Debug, Clone)]
pub enum What {
    Register {
        user_id: UserId,
        email: Email,
        password_hash: Arc<str>,
    },
    Login {
        user: LoginUser,
        /// The request's, or made here.
        session_id: SessionId,
    },
    Logout {
        user_id: UserId,
        session_id: SessionId,
    },
    ChangePassword {
        user_id: UserId,
        /// Of the old password.
        verified: Verified,
        /// Made where the old password matches.
        new_hash: Option<Arc<str>>,
        /// Whether the new password is the one that is set already: then this may be a repetition.
        new_matches: bool,
    },
    ReportIpChange {
        user_id: UserId,
        ip: Ip,
    },
    Reinstate {
        user_id: UserId,
        remark: Remark,
    },
    Record {
        user_id: UserId,
        event_type: EventType,
        email: Option<Email>,
    },
}

/// Whose login it is.
#[derive(Debug, Clone)]
pub enum LoginUser {
    Known {
        user_id: UserId,
        verified: Verified,
    },
    /// Nobody's, under this email or id. Decided all the same: its answer must not differ from a wrong password's.
    Unknown(Arc<str>),
}

/// A password against a hash. Worth something only while that hash is the user's.
#[derive(Debug, Clone)]
pub struct Verified {
    pub hash: Arc<str>,
    pub matches: bool,
}

impl Action {
    /// Actions of one key are decided in the order they came.
    pub fn key(&self) -> &str {
        match &self.what {
            What::Login { user: LoginUser::Unknown(named), .. } => named,
            What::Login { user: LoginUser::Known { user_id, .. }, .. }
            | What::Register { user_id, .. }
            | What::Logout { user_id, .. }
            | What::ChangePassword { user_id, .. }
            | What::ReportIpChange { user_id, .. }
            | What::Reinstate { user_id, .. }
            | What::Record { user_id, .. } => user_id.as_str(),
        }
    }
}

/// What came of an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Written now.
    Written(Receipt),
    /// Written before, by the same request.
    Repeated(Receipt),
    /// Nothing was written.
    Refused(Reason),
    /// Nothing was written: the password was verified against a hash that is no longer the user's.
    PasswordStale,
}
