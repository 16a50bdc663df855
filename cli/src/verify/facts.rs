//! What the ingress must have written for the calls of a journal: told again from the rules, not from its code.
use std::collections::{BTreeMap, HashMap};

use headwater_proto::{Detail, Millis, v1::EventEnvelope};

use crate::simulate::{Action, Call};

/// One event that must be on the log. Times are milliseconds since the Unix epoch; empty strings are absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fact {
    pub event_id: String,
    pub event_type: String,
    pub user_id: String,
    pub occurred_at: i64,
    pub email: String,
    pub ip: String,
    pub session_id: String,
    /// Of user.login_failed: the consecutive failure it is.
    pub failures: i32,
}

/// What GetUser must answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Account {
    pub email: String,
    pub last_ip: String,
    pub last_login_at: Option<i64>,
    pub failed_attempts: i32,
    pub created_at: i64,
    /// When `last_ip` was seen.
    ip_at: i64,
}

/// Every user's events in the order of acceptance, and the accounts of those who registered.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub events: BTreeMap<String, Vec<Fact>>,
    pub accounts: BTreeMap<String, Account>,
}

/// `actions`: all that were accepted, each user's in order.
pub(crate) fn facts(actions: &[Action]) -> Facts {
    let mut facts = Facts::default();
    let mut failures: HashMap<&str, i32> = HashMap::new();
    for action in actions {
        let event_type = match action.call {
            Call::RegisterUser => "user.created",
            Call::Login => "user.logged_in",
            Call::LoginWrong => "user.login_failed",
            Call::Logout => "user.logged_out",
            Call::ChangePassword => "user.password_changed",
            Call::ReportIpChange => "user.ip_changed",
            Call::RecordAction => &action.event_type,
        };
        let failures = failures.entry(&action.user_id).or_default();
        match event_type {
            "user.login_failed" => *failures += 1,
            "user.logged_in" | "user.password_changed" => *failures = 0,
            _ => {}
        }
        let fact = Fact {
            event_id: action.event_id.clone(),
            event_type: event_type.to_owned(),
            user_id: action.user_id.clone(),
            occurred_at: action.occurred_at,
            email: action.email.clone(),
            ip: action.ip.clone(),
            session_id: action.session_id.clone(),
            failures: if event_type == "user.login_failed" { *failures } else { 0 },
        };
        let events = facts.events.entry(action.user_id.clone()).or_default();
        if action.call == Call::RegisterUser {
            let created_at = action.occurred_at;
            let account = Account { email: action.email.clone(), created_at, ip_at: i64::MIN, ..Account::default() };
            facts.accounts.insert(action.user_id.clone(), account);
        }
        if let Some(account) = facts.accounts.get_mut(&action.user_id) {
            if action.call == Call::Login && account.last_ip != action.ip {
                events.push(ip_changed_by_login(&fact));
            }
            account.follow(&fact, *failures);
        }
        events.push(fact);
    }
    facts
}

/// A login from another ip is first of all an ip change; the session begins with the login itself.
fn ip_changed_by_login(login: &Fact) -> Fact {
    let namespace = uuid::Uuid::parse_str(&login.event_id).unwrap_or_default();
    Fact {
        event_id: uuid::Uuid::new_v5(&namespace, b"user.ip_changed").to_string(),
        event_type: "user.ip_changed".into(),
        session_id: String::new(),
        ..login.clone()
    }
}

impl Account {
    /// Last ip and last login only move forward in time.
    fn follow(&mut self, fact: &Fact, failures: i32) {
        self.failed_attempts = failures;
        if fact.event_type == "user.logged_in" {
            self.last_login_at = self.last_login_at.max(Some(fact.occurred_at));
        }
        let tells_ip = ["user.created", "user.logged_in", "user.ip_changed"].contains(&fact.event_type.as_str());
        if tells_ip && !fact.ip.is_empty() && fact.occurred_at >= self.ip_at {
            (self.last_ip, self.ip_at) = (fact.ip.clone(), fact.occurred_at);
        }
    }
}

/// As the log carries it.
pub(crate) fn read(envelope: EventEnvelope) -> Fact {
    let payload = envelope.payload.unwrap_or_default();
    let occurred_at = envelope.occurred_at.and_then(|at| Millis::try_from(at).ok());
    let failures = match envelope.detail {
        Some(Detail::LoginFailure(failure)) => failure.consecutive_failures,
        _ => 0,
    };
    Fact {
        event_id: envelope.event_id,
        event_type: envelope.event_type,
        user_id: envelope.aggregate_id,
        occurred_at: occurred_at.map_or(i64::MIN, Millis::as_millis),
        email: payload.email,
        ip: payload.ip,
        session_id: payload.session_id,
        failures,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::Scenario;

    fn action(n: usize, call: Call, event_type: &str, occurred_at: i64, ip: &str) -> Action {
        Action {
            event_id: uuid::Uuid::from_u128(n as u128).to_string(),
            user_id: "ada".into(),
            sequence: n,
            call,
            event_type: event_type.into(),
            occurred_at,
            email: "ada@example.com".into(),
            ip: ip.into(),
            session_id: String::new(),
            label: Scenario::Normal,
            repeat: None,
        }
    }

    #[test]
    fn failures_count_up_to_a_success_and_a_login_from_elsewhere_is_two_events() {
        use Call::*;
        let facts = facts(&[
            action(0, RegisterUser, "", 10, "10.0.0.1"),
            action(1, LoginWrong, "", 20, "10.0.0.9"),
            action(2, RecordAction, "user.login_failed", 25, "10.0.0.9"),
            action(3, Login, "", 30, "10.0.0.2"),
            action(4, LoginWrong, "", 40, "10.0.0.2"),
            action(5, RecordAction, "user.logged_in", 15, "10.0.0.3"),
        ]);
        let told: Vec<_> =
            facts.events["ada"].iter().map(|f| (f.event_type.as_str(), f.failures, f.ip.as_str())).collect();
        assert_eq!(
            told,
            [
                ("user.created", 0, "10.0.0.1"),
                ("user.login_failed", 1, "10.0.0.9"),
                ("user.login_failed", 2, "10.0.0.9"),
                ("user.ip_changed", 0, "10.0.0.2"),
                ("user.logged_in", 0, "10.0.0.2"),
                ("user.login_failed", 1, "10.0.0.2"),
                ("user.logged_in", 0, "10.0.0.3"),
            ]
        );
        let account = &facts.accounts["ada"];
        assert_eq!(
            (account.last_ip.as_str(), account.last_login_at, account.failed_attempts),
            ("10.0.0.2", Some(30), 0),
            "what comes late moves nobody back"
        );
    }

    #[test]
    fn who_never_registered_has_events_and_no_account() {
        let facts = facts(&[action(0, Call::RecordAction, "user.created", 10, "10.0.0.1")]);
        assert_eq!((facts.events["ada"].len(), facts.accounts.len()), (1, 0));
    }
}
