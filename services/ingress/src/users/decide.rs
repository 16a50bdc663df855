//! The rules of accounts: (snapshot, actions in order) -> (writes, events, answers).
//! No tokio, no clock, no metrics, no store: a group is a fold, and each action sees what those before it did.
use std::{collections::BTreeSet, sync::Arc};

use headwater_otel::TraceContext;
use headwater_proto::{Detail, Event, EventId, EventType, UserId, v1};
use headwater_rpc::Reason;

use super::{Authentication, Keys, KnownRequest, NewRequest, Receipt, SeenIp, Snapshot, Status, User, Writes};
use crate::{
    action::{Action, Answer, Head, LoginUser, Verified, What},
    digest::NO_REQUEST,
    fields::{Email, Ip, SessionId},
};

/// `source` of every event written here.
pub const SOURCE: &str = "/ingress";

/// An event on its way to the outbox, with the trace of the action it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent {
    pub event: Event,
    pub trace: TraceContext,
    pub trace_state: Option<Arc<str>>,
}

/// `answers` are one per action, in their order; `writes` lack the packed events and the time of writing.
#[derive(Debug, Default)]
pub struct Decided {
    pub writes: Writes,
    pub events: Vec<NewEvent>,
    pub answers: Vec<Answer>,
}

/// The id of the user.ip_changed that a Login may write before its user.logged_in.
pub fn ip_changed_id(login: EventId) -> EventId {
    login.derive(EventType::UserIpChanged.as_str())
}

/// Everything these actions look at.
pub fn keys(actions: &[Action]) -> Keys {
    let mut keys = Keys::default();
    for action in actions {
        keys.requests.insert(action.head.id);
        let user_id = match &action.what {
            What::Login { user: LoginUser::Unknown(_), .. } => continue,
            What::Login { user: LoginUser::Known { user_id, .. }, .. } => {
                keys.requests.insert(ip_changed_id(action.head.id));
                user_id
            }
            What::Register { user_id, email, .. } => {
                keys.emails.insert(email.clone());
                user_id
            }
            What::Logout { user_id, .. }
            | What::ChangePassword { user_id, .. }
            | What::ReportIpChange { user_id, .. }
            | What::Reinstate { user_id, .. }
            | What::Record { user_id, .. } => user_id,
        };
        keys.states.insert(user_id.clone());
        if !matches!(action.what, What::Record { .. }) {
            keys.users.insert(user_id.clone());
        }
    }
    keys
}

/// Decides a group. Refused actions leave no trace; accepted ones each keep their ids.
pub fn decide(snapshot: Snapshot, actions: &[Action]) -> Decided {
    let mut fold = Fold::new(snapshot);
    let answers = actions.iter().map(|action| fold.action(action)).collect();
    Decided { answers, ..fold.finish() }
}

struct Fold {
    now: Snapshot,
    new_users: BTreeSet<UserId>,
    changed_users: BTreeSet<UserId>,
    changed_states: BTreeSet<UserId>,
    requests: Vec<NewRequest>,
    events: Vec<NewEvent>,
}

impl Fold {
    fn new(now: Snapshot) -> Self {
        Self {
            now,
            new_users: BTreeSet::new(),
            changed_users: BTreeSet::new(),
            changed_states: BTreeSet::new(),
            requests: Vec::new(),
            events: Vec::new(),
        }
    }

    fn finish(mut self) -> Decided {
        let mut take = |ids: BTreeSet<UserId>| ids.iter().filter_map(|id| self.now.users.remove(id)).collect();
        let new_users = take(self.new_users);
        let changed_users = take(self.changed_users);
        let states = self.changed_states.into_iter();
        let states = states.filter_map(|id| self.now.states.remove(&id).map(|state| (id, state))).collect();
        let writes = Writes { new_users, changed_users, states, requests: self.requests, ..Writes::default() };
        Decided { writes, events: self.events, answers: Vec::new() }
    }

    fn action(&mut self, action: &Action) -> Answer {
        let head = &action.head;
        let decided = match self.now.requests.get(&head.id) {
            Some(known) => repeated(action, known, &self.now),
            None => self.first(action),
        };
        decided.unwrap_or_else(|refused| refused)
    }

    fn first(&mut self, action: &Action) -> Result<Answer, Answer> {
        let head = &action.head;
        match &action.what {
            What::Register { user_id, email, password_hash } => self.register(head, user_id, email, password_hash),
            What::Login { user: LoginUser::Unknown(_), .. } => {
                // kept like that of a wrong password: else a second use of the id would tell the two apart
                let receipt = Receipt { wrong_password: true, ..Receipt::default() };
                Ok(self.accept(head, receipt))
            }
            What::Login { user: LoginUser::Known { user_id, verified }, session_id } => {
                self.login(head, user_id, verified, session_id)
            }
            What::Logout { user_id, session_id } => {
                let email = self.user(user_id)?.email.clone();
                self.state(user_id).open_sessions.retain(|open| open != session_id);
                let event = Event {
                    session_id: Some(session_id.as_str().into()),
                    ..event(head, EventType::UserLoggedOut, user_id, Some(email))
                };
                Ok(self.write(head, event, Receipt::default()))
            }
            What::ChangePassword { user_id, verified, new_hash, .. } => {
                self.change_password(head, user_id, verified, new_hash.as_ref())
            }
            What::ReportIpChange { user_id, ip } => {
                let email = self.user(user_id)?.email.clone();
                saw_ip(self.state(user_id), head, Some(*ip));
                let event =
                    Event { ip: Some(ip.to_string()), ..event(head, EventType::UserIpChanged, user_id, Some(email)) };
                Ok(self.write(head, event, Receipt::default()))
            }
            What::Reinstate { user_id, remark } => {
                let user = self.changed_user(user_id)?;
                user.status = Status::Active;
                user.status_epoch += 1;
                let detail = v1::Reinstatement { status_epoch: user.status_epoch, reason: remark.as_str().into() };
                let email = user.email.clone();
                self.state(user_id);
                let event = Event {
                    detail: Some(Detail::Reinstatement(detail)),
                    ..event(head, EventType::UserReinstated, user_id, Some(email))
                };
                Ok(self.write(head, event, Receipt::default()))
            }
            What::Record { user_id, event_type, email } => {
                let detail = self.record(head, user_id, *event_type);
                let event = Event { detail, ..event(head, *event_type, user_id, email.clone()) };
                Ok(self.write(head, event, Receipt::default()))
            }
        }
    }

    fn register(
        &mut self,
        head: &Head,
        user_id: &UserId,
        email: &Email,
        password_hash: &Arc<str>,
    ) -> Result<Answer, Answer> {
        if self.now.taken_emails.contains(email) {
            return Err(Answer::Refused(Reason::EmailTaken));
        }
        if self.now.users.contains_key(user_id) {
            return Err(Answer::Refused(Reason::UserIdTaken));
        }
        self.now.taken_emails.insert(email.clone());
        self.new_users.insert(user_id.clone());
        let user = User {
            id: user_id.clone(),
            email: email.clone(),
            password_hash: password_hash.clone(),
            status: Status::Active,
            status_epoch: 0,
            created_at: head.occurred_at,
        };
        self.now.users.insert(user_id.clone(), user);
        saw_ip(self.state(user_id), head, head.client.ip);
        let receipt = Receipt { user_id: user_id.as_str().into(), ..Receipt::default() };
        Ok(self.write(head, event(head, EventType::UserCreated, user_id, Some(email.clone())), receipt))
    }

    fn login(
        &mut self,
        head: &Head,
        user_id: &UserId,
        verified: &Verified,
        session_id: &SessionId,
    ) -> Result<Answer, Answer> {
        let user = self.verified_user(user_id, verified)?;
        let (email, status) = (user.email.clone(), user.status);
        if !verified.matches {
            return Ok(self.wrong_password(head, user_id, email));
        }
        match status {
            Status::Suspended => return Err(Answer::Refused(Reason::AccountSuspended)),
            Status::PasswordResetRequired => return Err(Answer::Refused(Reason::PasswordResetRequired)),
            Status::Active | Status::Flagged => {}
        }
        let last_ip = self.now.states.get(user_id).and_then(|state| state.last_ip);
        let ip_changed = matches!((head.client.ip, last_ip), (Some(ip), Some(last)) if ip != last.ip);
        let ip_changed_id = ip_changed_id(head.id);
        if ip_changed && self.now.requests.contains_key(&ip_changed_id) {
            return Err(Answer::Refused(Reason::RequestIdReused));
        }
        let state = self.state(user_id);
        state.failures = 0;
        logged_in(state, head, Some(session_id));
        saw_ip(state, head, head.client.ip);
        if ip_changed {
            self.keep(head, ip_changed_id, NO_REQUEST, Receipt::default());
            // without the session: at the same moment it could sort before the login and seem to begin the session
            let event = event(head, EventType::UserIpChanged, user_id, Some(email.clone()));
            self.push(head, Event { id: ip_changed_id, session_id: None, ..event });
        }
        let event = Event {
            session_id: Some(session_id.as_str().into()),
            ..event(head, EventType::UserLoggedIn, user_id, Some(email))
        };
        let receipt = Receipt {
            user_id: user_id.as_str().into(),
            session_id: session_id.as_str().into(),
            ip_changed,
            wrong_password: false,
        };
        Ok(self.write(head, event, receipt))
    }

    fn change_password(
        &mut self,
        head: &Head,
        user_id: &UserId,
        verified: &Verified,
        new_hash: Option<&Arc<str>>,
    ) -> Result<Answer, Answer> {
        let user = self.verified_user(user_id, verified)?;
        let (email, status) = (user.email.clone(), user.status);
        let Some(new_hash) = new_hash.filter(|_| verified.matches) else {
            return Ok(self.wrong_password(head, user_id, email));
        };
        if status == Status::Suspended {
            return Err(Answer::Refused(Reason::AccountSuspended));
        }
        let user = self.changed_user(user_id)?;
        user.password_hash = new_hash.clone();
        if status == Status::PasswordResetRequired {
            user.status = Status::Flagged;
        }
        self.state(user_id).failures = 0;
        Ok(self.write(head, event(head, EventType::UserPasswordChanged, user_id, Some(email)), Receipt::default()))
    }

    fn wrong_password(&mut self, head: &Head, user_id: &UserId, email: Email) -> Answer {
        let detail = Some(failed(self.state(user_id)));
        let event = Event { detail, ..event(head, EventType::UserLoginFailed, user_id, Some(email)) };
        self.write(head, event, Receipt { wrong_password: true, ..Receipt::default() })
    }

    /// What a trusted backend's event does to the authentication state.
    fn record(&mut self, head: &Head, user_id: &UserId, event_type: EventType) -> Option<Detail> {
        let state = self.state(user_id);
        match event_type {
            EventType::UserLoginFailed => return Some(failed(state)),
            EventType::UserLoggedIn => {
                state.failures = 0;
                logged_in(state, head, head.client.session_id.as_ref());
                saw_ip(state, head, head.client.ip);
            }
            EventType::UserPasswordChanged => state.failures = 0,
            EventType::UserLoggedOut => {
                state.open_sessions.retain(|open| Some(open) != head.client.session_id.as_ref());
            }
            _ => saw_ip(state, head, head.client.ip),
        }
        None
    }

    fn user(&self, user_id: &UserId) -> Result<&User, Answer> {
        self.now.users.get(user_id).ok_or(Answer::Refused(Reason::UserNotFound))
    }

    fn verified_user(&self, user_id: &UserId, verified: &Verified) -> Result<&User, Answer> {
        let user = self.user(user_id)?;
        if user.password_hash == verified.hash { Ok(user) } else { Err(Answer::PasswordStale) }
    }

    fn changed_user(&mut self, user_id: &UserId) -> Result<&mut User, Answer> {
        let user = self.now.users.get_mut(user_id).ok_or(Answer::Refused(Reason::UserNotFound))?;
        if !self.new_users.contains(user_id) {
            self.changed_users.insert(user_id.clone());
        }
        Ok(user)
    }

    /// The state of somebody whose event is being written: it gets a row, whatever is changed.
    fn state(&mut self, user_id: &UserId) -> &mut Authentication {
        if !self.changed_states.contains(user_id) {
            self.changed_states.insert(user_id.clone());
        }
        self.now.states.entry(user_id.clone()).or_default()
    }

    fn write(&mut self, head: &Head, event: Event, receipt: Receipt) -> Answer {
        self.push(head, event);
        self.accept(head, receipt)
    }

    fn push(&mut self, head: &Head, event: Event) {
        let origin = &head.origin;
        self.events.push(NewEvent { event, trace: origin.trace, trace_state: origin.trace_state.clone() });
    }

    fn accept(&mut self, head: &Head, receipt: Receipt) -> Answer {
        self.keep(head, head.id, head.digest, receipt.clone());
        Answer::Written(receipt)
    }

    fn keep(&mut self, head: &Head, id: EventId, digest: [u8; 32], receipt: Receipt) {
        self.now.requests.insert(id, KnownRequest { digest, receipt: receipt.clone() });
        self.requests.push(NewRequest { id, day: head.received_at.day(), digest, receipt });
    }
}

/// The answer to an id that is known. Writes nothing.
fn repeated(action: &Action, known: &KnownRequest, now: &Snapshot) -> Result<Answer, Answer> {
    const REUSED: Answer = Answer::Refused(Reason::RequestIdReused);
    if known.digest != action.head.digest {
        return Err(REUSED);
    }
    let repeated = Answer::Repeated(known.receipt.clone());
    // a wrong password stays wrong, whatever is tried under the same id: else guessing would not be counted
    if known.receipt.wrong_password {
        return Ok(repeated);
    }
    let current = |user_id: &UserId, verified: &Verified| match now.users.get(user_id) {
        Some(user) if user.password_hash == verified.hash => Ok(()),
        _ => Err(Answer::PasswordStale),
    };
    match &action.what {
        What::Login { user: LoginUser::Known { user_id, verified }, .. } => {
            current(user_id, verified)?;
            if verified.matches { Ok(repeated) } else { Err(Answer::Refused(Reason::InvalidCredentials)) }
        }
        What::Login { user: LoginUser::Unknown(_), .. } => Err(Answer::Refused(Reason::InvalidCredentials)),
        What::ChangePassword { user_id, verified, new_matches, .. } => {
            current(user_id, verified)?;
            if *new_matches { Ok(repeated) } else { Err(REUSED) }
        }
        _ => Ok(repeated),
    }
}

fn event(head: &Head, event_type: EventType, user_id: &UserId, email: Option<Email>) -> Event {
    let client = &head.client;
    Event {
        id: head.id,
        event_type,
        user_id: user_id.clone(),
        occurred_at: head.occurred_at,
        received_at: head.received_at,
        email: email.map(|email| email.as_str().into()),
        ip: client.ip.map(|ip| ip.to_string()),
        user_agent: client.user_agent.as_ref().map(|agent| agent.as_str().into()),
        session_id: client.session_id.as_ref().map(|session| session.as_str().into()),
        causation_id: None,
        correlation_id: head.origin.correlation_id.as_deref().map(str::to_owned),
        source: SOURCE.into(),
        detail: None,
    }
}

/// Only forward in occurred_at: an event that comes late does not move the user back.
fn saw_ip(state: &mut Authentication, head: &Head, ip: Option<Ip>) {
    let Some(ip) = ip else { return };
    if state.last_ip.is_none_or(|last| last.at <= head.occurred_at) {
        state.last_ip = Some(SeenIp { ip, at: head.occurred_at });
    }
}

fn logged_in(state: &mut Authentication, head: &Head, session: Option<&SessionId>) {
    state.last_login_at = state.last_login_at.max(Some(head.occurred_at));
    let Some(session) = session else { return };
    state.open_sessions.retain(|open| open != session);
    if state.open_sessions.len() == Authentication::MAX_OPEN_SESSIONS {
        state.open_sessions.remove(0);
    }
    state.open_sessions.push(session.clone());
}

fn failed(state: &mut Authentication) -> Detail {
    state.failures = state.failures.saturating_add(1);
    Detail::LoginFailure(v1::LoginFailure { consecutive_failures: state.failures })
}

#[cfg(test)]
mod tests;
