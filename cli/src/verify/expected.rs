//! All that must have come of a journal, derived once.
use std::collections::BTreeMap;

use super::{
    activity::{Activity, activity},
    facts::{Account, Fact, Facts, facts},
    risk::{LEVELS, Report, Risk, risk},
};
use crate::simulate::Action;

/// What of a platform's settings decides what it makes of the log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// Of sessions, in milliseconds.
    pub session_timeout: i64,
    /// A warning at every such failure in a row.
    pub login_warning_threshold: i32,
}

/// (eventId, kind) of a notification.
pub(crate) type Letter = (String, &'static str);

/// Who a notification goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Recipient {
    pub user_id: String,
    pub email: String,
}

pub(crate) struct Expected {
    /// User -> its events in the order they were accepted.
    pub log: BTreeMap<String, Vec<Fact>>,
    pub accounts: BTreeMap<String, Account>,
    /// Of users that were announced something: the gravest.
    pub statuses: BTreeMap<String, &'static str>,
    pub activity: Activity,
    pub risks: BTreeMap<String, Risk>,
    pub letters: BTreeMap<Letter, Recipient>,
}

impl Expected {
    /// Every announcement, with its user.
    pub(crate) fn reports(&self) -> impl Iterator<Item = (&String, &Report)> {
        self.risks.iter().flat_map(|(user, risk)| risk.reports.iter().map(move |report| (user, report)))
    }
}

/// `actions`: all that were accepted, each user's in order.
pub(crate) fn expected(actions: &[Action], rules: Rules) -> Expected {
    let Facts { events, accounts } = facts(actions);
    let risks = events.iter().map(|(user, log)| (user.clone(), risk(log))).collect();
    let activity = activity(&events, rules.session_timeout);
    let (statuses, letters) = Default::default();
    let mut expected = Expected { log: events, accounts, statuses, activity, risks, letters };
    expected.letters = letters_of(&expected, rules.login_warning_threshold);
    expected.statuses = statuses_of(&expected);
    expected
}

fn letters_of(expected: &Expected, warning_threshold: i32) -> BTreeMap<Letter, Recipient> {
    let mut letters = BTreeMap::new();
    let mut add = |event_id: &str, kind, user: &str, email: &str| {
        if !email.is_empty() {
            let recipient = Recipient { user_id: user.to_owned(), email: email.to_owned() };
            letters.insert((event_id.to_owned(), kind), recipient);
        }
    };
    for fact in expected.log.values().flatten() {
        let kind = match fact.event_type.as_str() {
            "user.created" => "WELCOME",
            "user.password_changed" | "user.ip_changed" => "SECURITY_ALERT",
            "user.login_failed" if fact.failures % warning_threshold == 0 => "LOGIN_WARNING",
            _ => continue,
        };
        add(&fact.event_id, kind, &fact.user_id, &fact.email);
    }
    for (user, report) in expected.reports() {
        add(&report.report_id, "ACCOUNT_NOTICE", user, &report.email);
    }
    letters
}

/// A status is only ever raised.
fn statuses_of(expected: &Expected) -> BTreeMap<String, &'static str> {
    let grade = |action: &str| LEVELS.iter().position(|(_, level)| *level == action);
    let mut statuses: BTreeMap<String, &'static str> = BTreeMap::new();
    for (user, report) in expected.reports() {
        let status = statuses.entry(user.clone()).or_insert(report.action);
        if grade(status) < grade(report.action) {
            *status = report.action;
        }
    }
    statuses
}
