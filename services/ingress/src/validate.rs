//! The door: a request becomes an action of newtypes, or a refusal that names every bad field at once.
//! Pure but for the ids it makes where the client brings none.
use std::{fmt::Display, sync::Arc};

use headwater_proto::{EventId, EventType, MAX_CLOCK_AHEAD, Millis, Timestamp, UserId, v1};
use headwater_rpc::{Reason, Violations};
use tonic::Status;

use crate::{
    action::{Action, Client, Digest, Head, Origin, What},
    digest::Digests,
    fields::{Email, Ip, Password, Remark, SessionId},
    users::Who,
};

const CORRELATION_ID_MAX_BYTES: usize = headwater_proto::limit::CORRELATION_ID;

/// How a request came in.
pub(crate) struct Arrival<'a> {
    pub(crate) now: Millis,
    pub(crate) origin: Origin,
    pub(crate) digests: &'a Digests,
}

/// A registration whose password is yet to be hashed.
pub(crate) struct Register {
    pub(crate) head: Head,
    pub(crate) user_id: UserId,
    pub(crate) email: Email,
    pub(crate) password: Password,
}

/// A login whose password is yet to be verified.
pub(crate) struct Login {
    pub(crate) head: Head,
    pub(crate) who: Who,
    pub(crate) password: Password,
    pub(crate) session_id: SessionId,
}

/// A change whose passwords are yet to be verified and hashed.
pub(crate) struct ChangePassword {
    pub(crate) head: Head,
    pub(crate) user_id: UserId,
    pub(crate) old_password: Password,
    pub(crate) new_password: Password,
}

pub(crate) fn register(mut request: v1::RegisterUserRequest, arrival: Arrival<'_>) -> Result<Register, Status> {
    let password = std::mem::take(&mut request.password);
    let event_id = std::mem::take(&mut request.event_id);
    let digest = arrival.digests.of("RegisterUser", &request);
    let mut fields = Fields::default();
    let email = fields.required("email", Email::try_from(request.email.as_str()));
    let password = fields.required("password", Password::chosen(&password));
    let user_id = match request.user_id.as_str() {
        "" => Some(made(arrival.now)),
        text => fields.required("user_id", UserId::try_from(text)),
    };
    let head = fields.head(arrival, digest, &event_id, request.occurred_at, request.context);
    match (head, user_id, email, password) {
        (Some(head), Some(user_id), Some(email), Some(password)) => {
            fields.finish(Register { head, user_id, email, password })
        }
        _ => Err(fields.refusal()),
    }
}

pub(crate) fn login(mut request: v1::LoginRequest, arrival: Arrival<'_>) -> Result<Login, Status> {
    let password = std::mem::take(&mut request.password);
    let event_id = std::mem::take(&mut request.event_id);
    let digest = arrival.digests.of("Login", &request);
    let mut fields = Fields::default();
    let who = match (request.email.as_str(), request.user_id.as_str()) {
        ("", "") => fields.bad("email", "or user_id is required"),
        ("", user_id) => fields.required("user_id", UserId::try_from(user_id)).map(Who::Id),
        (email, "") => fields.required("email", Email::try_from(email)).map(Who::Email),
        (email, user_id) => {
            fields.required("email", Email::try_from(email));
            fields.required("user_id", UserId::try_from(user_id));
            fields.bad("user_id", "must be absent where email is given")
        }
    };
    let password = fields.required("password", Password::claimed(&password));
    let now = arrival.now;
    let head = fields.head(arrival, digest, &event_id, request.occurred_at, request.context);
    match (head, who, password) {
        (Some(head), Some(who), Some(password)) => {
            let session_id = head.client.session_id.clone().unwrap_or_else(|| made(now));
            fields.finish(Login { head, who, password, session_id })
        }
        _ => Err(fields.refusal()),
    }
}

pub(crate) fn change_password(
    mut request: v1::ChangePasswordRequest,
    arrival: Arrival<'_>,
) -> Result<ChangePassword, Status> {
    let old_password = std::mem::take(&mut request.old_password);
    let new_password = std::mem::take(&mut request.new_password);
    let event_id = std::mem::take(&mut request.event_id);
    let digest = arrival.digests.of("ChangePassword", &request);
    let mut fields = Fields::default();
    let user_id = fields.required("user_id", UserId::try_from(request.user_id.as_str()));
    let old_password = fields.required("old_password", Password::claimed(&old_password));
    let new_password = fields.required("new_password", Password::chosen(&new_password));
    let head = fields.head(arrival, digest, &event_id, request.occurred_at, request.context);
    match (head, user_id, old_password, new_password) {
        (Some(head), Some(user_id), Some(old_password), Some(new_password)) => {
            fields.finish(ChangePassword { head, user_id, old_password, new_password })
        }
        _ => Err(fields.refusal()),
    }
}

pub(crate) fn logout(mut request: v1::LogoutRequest, arrival: Arrival<'_>) -> Result<Action, Status> {
    let event_id = std::mem::take(&mut request.event_id);
    let digest = arrival.digests.of("Logout", &request);
    let mut fields = Fields::default();
    let user_id = fields.required("user_id", UserId::try_from(request.user_id.as_str()));
    let session_id = fields.required("session_id", SessionId::try_from(request.session_id.as_str()));
    let head = fields.head(arrival, digest, &event_id, request.occurred_at, request.context);
    match (head, user_id, session_id) {
        (Some(head), Some(user_id), Some(session_id)) => {
            fields.finish(Action { head, what: What::Logout { user_id, session_id } })
        }
        _ => Err(fields.refusal()),
    }
}

pub(crate) fn report_ip_change(mut request: v1::ReportIpChangeRequest, arrival: Arrival<'_>) -> Result<Action, Status> {
    let event_id = std::mem::take(&mut request.event_id);
    let digest = arrival.digests.of("ReportIpChange", &request);
    let mut fields = Fields::default();
    let user_id = fields.required("user_id", UserId::try_from(request.user_id.as_str()));
    let ip = fields.required("ip", Ip::try_from(request.ip.as_str()));
    let head = fields.head(arrival, digest, &event_id, request.occurred_at, request.context);
    match (head, user_id, ip) {
        (Some(head), Some(user_id), Some(ip)) => {
            fields.finish(Action { head, what: What::ReportIpChange { user_id, ip } })
        }
        _ => Err(fields.refusal()),
    }
}

pub(crate) fn reinstate_user(mut request: v1::ReinstateUserRequest, arrival: Arrival<'_>) -> Result<Action, Status> {
    let event_id = std::mem::take(&mut request.event_id);
    let digest = arrival.digests.of("ReinstateUser", &request);
    let mut fields = Fields::default();
    let user_id = fields.required("user_id", UserId::try_from(request.user_id.as_str()));
    let remark = fields.required("reason", Remark::try_from(request.reason.as_str()));
    let head = fields.head(arrival, digest, &event_id, request.occurred_at, None);
    match (head, user_id, remark) {
        (Some(head), Some(user_id), Some(remark)) => {
            fields.finish(Action { head, what: What::Reinstate { user_id, remark } })
        }
        _ => Err(fields.refusal()),
    }
}

pub(crate) fn record_action(mut request: v1::RecordActionRequest, arrival: Arrival<'_>) -> Result<Action, Status> {
    let event_id = std::mem::take(&mut request.event_id);
    let digest = arrival.digests.of("RecordAction", &request);
    let mut fields = Fields::default();
    let event_type = EventType::parse(&request.event_type).filter(|known| known.is_user_action());
    if event_type.is_none() {
        let accepted = EventType::ALL.into_iter().filter(|known| known.is_user_action()).map(EventType::as_str);
        let text = format!("must be one of {}", accepted.collect::<Vec<_>>().join(", "));
        fields.0.add("event_type", Reason::EventTypeNotAccepted, text);
    }
    let user_id = fields.required("user_id", UserId::try_from(request.user_id.as_str()));
    let head = fields.head_without_client(arrival, digest, &event_id, request.occurred_at);
    let v1::Payload { email, ip, user_agent, session_id } = request.payload.unwrap_or_default();
    let email = fields.optional("payload.email", &email, Email::try_from);
    if event_type == Some(EventType::UserIpChanged) && ip.is_empty() {
        fields.0.add("payload.ip", Reason::InvalidField, "is required for user.ip_changed");
    }
    let names = ["payload.ip", "payload.user_agent", "payload.session_id"];
    let client = fields.client(names, [ip, user_agent, session_id]);
    match (head, user_id, event_type) {
        (Some(head), Some(user_id), Some(event_type)) => {
            fields.finish(Action { head: Head { client, ..head }, what: What::Record { user_id, event_type, email } })
        }
        _ => Err(fields.refusal()),
    }
}

pub(crate) fn get_user(request: &v1::GetUserRequest) -> Result<UserId, Status> {
    let mut fields = Fields::default();
    match fields.required("user_id", UserId::try_from(request.user_id.as_str())) {
        Some(user_id) => Ok(user_id),
        None => Err(fields.refusal()),
    }
}

/// A caller's own id for a chain of calls. It travels in every event of theirs, so it is short and plain.
pub(crate) fn correlation_id(name: &str, value: &[u8]) -> Result<Arc<str>, Status> {
    let plain = value.len() <= CORRELATION_ID_MAX_BYTES && value.iter().all(|byte| (b' '..=b'~').contains(byte));
    let id = str::from_utf8(value).ok().filter(|_| plain).map(Into::into);
    let mut fields = Fields::default();
    id.or_else(|| fields.bad(name, "must be printable ASCII of at most 128 bytes")).ok_or_else(|| fields.refusal())
}

/// An id made here, for whatever the client left to us.
fn made<T: for<'a> TryFrom<&'a str, Error: std::fmt::Debug>>(now: Millis) -> T {
    T::try_from(&EventId::new(now).to_string()).expect("a UUID has 36 bytes and no control characters")
}

/// The fields read so far, and what is wrong with them.
#[derive(Default)]
struct Fields(Violations);

impl Fields {
    fn required<T, E: Display>(&mut self, name: &str, parsed: Result<T, E>) -> Option<T> {
        self.0.field(name, parsed)
    }

    fn optional<'a, T, E: Display>(
        &mut self,
        name: &str,
        text: &'a str,
        parse: impl FnOnce(&'a str) -> Result<T, E>,
    ) -> Option<T> {
        if text.is_empty() { None } else { self.0.field(name, parse(text)) }
    }

    fn bad<T>(&mut self, name: &str, description: &str) -> Option<T> {
        self.0.add(name, Reason::InvalidField, description);
        None
    }

    fn head(
        &mut self,
        arrival: Arrival<'_>,
        digest: Digest,
        event_id: &str,
        occurred_at: Option<Timestamp>,
        context: Option<v1::ActionContext>,
    ) -> Option<Head> {
        let head = self.head_without_client(arrival, digest, event_id, occurred_at);
        let v1::ActionContext { ip, user_agent, session_id } = context.unwrap_or_default();
        let names = ["context.ip", "context.user_agent", "context.session_id"];
        let client = self.client(names, [ip, user_agent, session_id]);
        head.map(|head| Head { client, ..head })
    }

    fn head_without_client(
        &mut self,
        arrival: Arrival<'_>,
        digest: Digest,
        event_id: &str,
        occurred_at: Option<Timestamp>,
    ) -> Option<Head> {
        let Arrival { now, origin, .. } = arrival;
        let id = match event_id {
            "" => Some(EventId::new(now)),
            text => self.required("event_id", text.parse()),
        };
        let occurred_at = match occurred_at {
            None => Some(now),
            Some(time) => self.required("occurred_at", Millis::try_from(time)),
        };
        if occurred_at.is_some_and(|at| at.since(now) > MAX_CLOCK_AHEAD) {
            let text = format!("must be at most 5 minutes ahead of the server's clock, {now}");
            self.0.add("occurred_at", Reason::EventTimeInFuture, text);
        }
        let (id, occurred_at) = id.zip(occurred_at)?;
        Some(Head { id, digest, occurred_at, received_at: now, client: Client::default(), origin })
    }

    fn client(&mut self, names: [&str; 3], [ip, user_agent, session_id]: [String; 3]) -> Client {
        Client {
            ip: self.optional(names[0], &ip, Ip::try_from),
            user_agent: self.optional(names[1], &user_agent, TryFrom::try_from),
            session_id: self.optional(names[2], &session_id, TryFrom::try_from),
        }
    }

    fn finish<T>(self, valid: T) -> Result<T, Status> {
        self.0.finish().map(|()| valid)
    }

    fn refusal(self) -> Status {
        self.0.finish().expect_err("a field that is missing has left a violation")
    }
}

#[cfg(test)]
mod tests;
