//! What is going to happen, decided before anything is sent: a pure function of its parameters. No network, no clock.
use fastrand::Rng;
use serde::{Deserialize, Serialize};

/// The first day of simulated time, 2026-01-05T00:00:00Z: fixed, so that the same seed is the same traffic, always.
const EPOCH: i64 = 1_767_571_200_000;
const DAYS: i64 = 7;
const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const EVENTS_PER_USER: usize = 20;
/// Users that go through Register and Login: argon2 makes them dear, so they are few.
const MAX_ACCOUNTS: usize = 200;
/// The last actions of an account whose user is not just normal: recorded, because what follows a verdict is refused.
const LAST_CHAPTER: usize = 8;
/// Every tenth duplicate does not pass the ingress: it is written straight to user.events.
const STRAIGHT: usize = 10;

/// What a user is up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Scenario {
    /// Logs in, acts, logs out or walks away.
    Normal,
    /// Password change, ip change and login within five minutes.
    Takeover,
    /// Many failed logins within two minutes.
    Stuffing,
    /// Three and more ips within ten minutes.
    Travel,
}

/// Everything the traffic depends on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Parameters {
    /// Actions to send, duplicates not counted; at least 1.
    pub events: usize,
    pub seed: u64,
    pub scenarios: Vec<Scenario>,
    /// Share of actions whose occurredAt lies 1 s to 6 h back; 0 to 1.
    pub late: f64,
    /// Share of actions that are sent a second time; 0 to 1.
    pub duplicates: f64,
}

/// How an action is told to the platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Call {
    RegisterUser,
    Login,
    /// With a password that is not the user's.
    LoginWrong,
    Logout,
    ChangePassword,
    ReportIpChange,
    RecordAction,
}

/// One call of one user. Times are milliseconds since the Unix epoch; empty strings are absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Action {
    pub event_id: String,
    pub user_id: String,
    /// Position among the user's actions, from 0.
    pub sequence: usize,
    pub call: Call,
    /// Of RecordAction.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub event_type: String,
    pub occurred_at: i64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub email: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub ip: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub session_id: String,
    pub label: Scenario,
    /// Sent once more later; `Straight` past the ingress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeat: Option<Repeat>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Repeat {
    Ingress,
    Straight,
}

impl Action {
    /// What the n-th password of an account is; only simulated accounts have it.
    pub fn password(&self, change: usize) -> String {
        format!("password-{change}-of-{}", self.user_id)
    }

    pub fn is_account_call(&self) -> bool {
        self.call != Call::RecordAction
    }
}

/// All actions in the order in which they are sent; each user's in the order of `sequence`.
pub fn plan(parameters: &Parameters) -> Vec<Action> {
    let mut rng = Rng::with_seed(parameters.seed);
    let users = parameters.events.div_ceil(EVENTS_PER_USER);
    let accounts = (users / 10).min(MAX_ACCOUNTS);
    let mut timeline: Vec<(i64, Action)> = Vec::with_capacity(parameters.events);
    for user in 0..users {
        let wanted = EVENTS_PER_USER.min(parameters.events - timeline.len());
        let label = parameters.scenarios[rng.usize(..parameters.scenarios.len())];
        let mut script = Script::new(&mut rng, parameters.seed, user, label, user < accounts);
        script.write(wanted);
        timeline.extend(script.actions);
    }
    timeline.sort_by_key(|(planned, _)| *planned); // stable: a user's actions keep their order
    let mut actions: Vec<Action> = timeline.into_iter().map(|(_, action)| action).collect();
    disturb(&mut actions, parameters, &mut rng);
    actions
}

/// Makes some late and some double. An account's calls stay on time: their order is what the ingress answers from.
fn disturb(actions: &mut [Action], parameters: &Parameters, rng: &mut Rng) {
    let mut repeats = 0;
    for action in actions {
        if !action.is_account_call() && rng.f64() < parameters.late {
            action.occurred_at -= rng.i64(SECOND..=6 * HOUR);
        }
        if rng.f64() < parameters.duplicates {
            repeats += 1;
            let straight = repeats % STRAIGHT == 0 && !action.is_account_call();
            action.repeat = Some(if straight { Repeat::Straight } else { Repeat::Ingress });
        }
    }
}

/// One user's week in the making.
struct Script<'a> {
    rng: &'a mut Rng,
    user_id: String,
    email: String,
    label: Scenario,
    account: bool,
    now: i64,
    home: String,
    actions: Vec<(i64, Action)>,
    sessions: usize,
}

impl<'a> Script<'a> {
    fn new(rng: &'a mut Rng, seed: u64, user: usize, label: Scenario, account: bool) -> Self {
        let user_id = format!("sim-{seed}-{user}");
        // half of the recorded users have no address: their notifications are skipped
        let email = if account || user.is_multiple_of(2) { format!("{user_id}@example.com") } else { String::new() };
        let now = EPOCH + rng.i64(0..DAYS * 24 * HOUR);
        let home = ip(rng);
        Self { rng, user_id, email, label, account, now, home, actions: Vec::new(), sessions: 0 }
    }

    fn write(&mut self, wanted: usize) {
        let home = self.home.clone();
        self.act(if self.account { Call::RegisterUser } else { Call::RecordAction }, "user.created", &home, "");
        let calls_end_early = self.account && self.label != Scenario::Normal;
        let last_chapter = if calls_end_early { wanted.saturating_sub(LAST_CHAPTER) } else { wanted };
        while self.actions.len() < last_chapter {
            self.session(last_chapter);
            if !self.account {
                self.mischief();
            }
            self.now += self.rng.i64(10 * MINUTE..14 * HOUR);
        }
        while self.actions.len() < wanted {
            self.mischief();
        }
        self.actions.truncate(wanted);
    }

    fn mischief(&mut self) {
        match self.label {
            Scenario::Normal => {}
            Scenario::Takeover => self.takeover(),
            Scenario::Stuffing => self.stuffing(),
            Scenario::Travel => self.travel(),
        }
    }

    fn session(&mut self, wanted: usize) {
        self.sessions += 1;
        let session = format!("{}-s{}", self.user_id, self.sessions);
        if self.rng.u8(0..10) == 0 {
            self.home = ip(self.rng); // on the road: an account's login tells of it by itself
        }
        let home = self.home.clone();
        if self.rng.u8(..) < 40 {
            self.act(if self.account { Call::LoginWrong } else { Call::RecordAction }, "user.login_failed", &home, "");
        }
        self.act(if self.account { Call::Login } else { Call::RecordAction }, "user.logged_in", &home, &session);
        for _ in 0..self.rng.usize(0..4) {
            if self.actions.len() + 1 >= wanted {
                break;
            }
            match self.rng.u8(0..10) {
                0 => self.password_changed(&session),
                1 => {
                    self.home = ip(self.rng);
                    self.ip_changed(&session);
                }
                _ if self.account => self.now += 5 * MINUTE,
                _ => self.act(Call::RecordAction, "user.logged_in", &home, &session),
            }
        }
        if self.rng.u8(0..10) < 7 {
            let home = self.home.clone();
            self.act(if self.account { Call::Logout } else { Call::RecordAction }, "user.logged_out", &home, &session);
        }
    }

    fn takeover(&mut self) {
        self.near("user.password_changed", "", 90 * SECOND);
        let away = ip(self.rng);
        self.near("user.ip_changed", &away, 90 * SECOND);
        self.near("user.logged_in", &away, 90 * SECOND);
        if self.rng.u8(0..4) == 0 {
            self.travel();
        }
    }

    fn stuffing(&mut self) {
        for _ in 0..self.rng.usize(4..9) {
            let from = ip(self.rng);
            self.near("user.login_failed", &from, 20 * SECOND);
        }
    }

    fn travel(&mut self) {
        for _ in 0..self.rng.usize(2..5) {
            let away = ip(self.rng);
            self.near("user.ip_changed", &away, 3 * MINUTE);
        }
    }

    /// A recorded action soon after the last one, without a session.
    fn near(&mut self, event_type: &str, ip: &str, within: i64) {
        self.now += self.rng.i64(SECOND..=within);
        self.push(Call::RecordAction, event_type, ip, "");
    }

    fn password_changed(&mut self, session: &str) {
        let home = self.home.clone();
        let call = if self.account { Call::ChangePassword } else { Call::RecordAction };
        self.act(call, "user.password_changed", &home, session);
        self.now += 20 * MINUTE; // a normal user is no takeover
    }

    fn ip_changed(&mut self, session: &str) {
        let home = self.home.clone();
        let call = if self.account { Call::ReportIpChange } else { Call::RecordAction };
        self.act(call, "user.ip_changed", &home, session);
    }

    fn act(&mut self, call: Call, event_type: &str, ip: &str, session: &str) {
        self.now += self.rng.i64(5 * SECOND..40 * MINUTE);
        self.push(call, event_type, ip, session);
    }

    fn push(&mut self, call: Call, event_type: &str, ip: &str, session: &str) {
        let event_type = if call == Call::RecordAction { event_type.to_owned() } else { String::new() };
        let action = Action {
            event_id: uuid::Builder::from_random_bytes(self.rng.u128(..).to_be_bytes()).into_uuid().to_string(),
            user_id: self.user_id.clone(),
            sequence: self.actions.len(),
            call,
            event_type,
            occurred_at: self.now,
            email: self.email.clone(),
            ip: ip.to_owned(),
            session_id: session.to_owned(),
            label: self.label,
            repeat: None,
        };
        self.actions.push((self.now, action));
    }
}

fn ip(rng: &mut Rng) -> String {
    format!("10.{}.{}.{}", rng.u8(..), rng.u8(..), rng.u8(1..255))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{HashMap, HashSet};

    fn parameters(seed: u64) -> Parameters {
        let scenarios = vec![Scenario::Normal, Scenario::Takeover, Scenario::Stuffing, Scenario::Travel];
        Parameters { events: 20_000, seed, scenarios, late: 0.05, duplicates: 0.01 }
    }

    #[test]
    fn the_same_seed_is_the_same_traffic_and_another_is_another() {
        assert_eq!(plan(&parameters(7)), plan(&parameters(7)));
        assert_ne!(plan(&parameters(7)), plan(&parameters(8)));
    }

    #[test]
    fn the_plan_has_as_many_actions_as_asked_and_each_user_acts_in_order() {
        for events in [1, 19, 20, 21, 20_000] {
            let actions = plan(&Parameters { events, ..parameters(3) });
            assert_eq!(actions.len(), events);
            let ids: HashSet<_> = actions.iter().map(|a| &a.event_id).collect();
            assert_eq!(ids.len(), events);
            let mut next: HashMap<&str, usize> = HashMap::new();
            for action in &actions {
                let next = next.entry(&action.user_id).or_default();
                assert_eq!(action.sequence, *next, "{}", action.user_id);
                *next += 1;
            }
        }
    }

    #[test]
    fn late_and_double_actions_come_in_the_shares_asked_for() {
        let actions = plan(&parameters(7));
        let on_time = plan(&Parameters { late: 0.0, ..parameters(7) });
        let delays: Vec<i64> =
            on_time.iter().zip(&actions).map(|(on_time, action)| on_time.occurred_at - action.occurred_at).collect();
        let late = delays.iter().filter(|delay| **delay != 0).count();
        assert!(delays.iter().all(|delay| *delay == 0 || (SECOND..=6 * HOUR).contains(delay)));
        let share = |n: usize| n as f64 / actions.len() as f64;
        let repeats = actions.iter().filter(|a| a.repeat.is_some()).count();
        let straight = actions.iter().filter(|a| a.repeat == Some(Repeat::Straight)).count();
        assert!((0.04..0.06).contains(&share(late)), "{late}");
        assert!((0.007..0.013).contains(&share(repeats)), "{repeats}");
        assert!(straight > 0 && straight <= repeats / STRAIGHT, "{straight} of {repeats}");
    }

    #[test]
    fn accounts_are_few_and_begin_with_calls_and_nothing_is_called_after_mischief() {
        let actions = plan(&Parameters { events: 60_000, ..parameters(5) });
        let mut users: HashMap<&str, Vec<&Action>> = HashMap::new();
        actions.iter().for_each(|action| users.entry(&action.user_id).or_default().push(action));
        let accounts: Vec<_> = users.values().filter(|user| user.iter().any(|a| a.is_account_call())).collect();
        assert_eq!(accounts.len(), MAX_ACCOUNTS);
        for account in accounts {
            assert_eq!(account[0].call, Call::RegisterUser);
            let calls = account.iter().take_while(|a| a.is_account_call()).count();
            assert!(
                account[calls..].iter().all(|a| !a.is_account_call() && a.label != Scenario::Normal),
                "{account:?}"
            );
        }
    }

    #[test]
    fn every_scenario_has_its_mark_and_a_normal_user_none() {
        let near = |events: &[&Action], wanted: &str, n: usize, window: i64| {
            let mut at: Vec<i64> = events.iter().filter(|a| a.event_type == wanted).map(|a| a.occurred_at).collect();
            at.sort_unstable();
            at.windows(n).any(|span| span[n - 1] - span[0] <= window)
        };
        for (scenario, event_type, n, window) in [
            (Scenario::Stuffing, "user.login_failed", 5, 2 * MINUTE),
            (Scenario::Travel, "user.ip_changed", 3, 10 * MINUTE),
        ] {
            let marked = |label: Scenario| {
                let actions = plan(&Parameters { scenarios: vec![label], late: 0.0, ..parameters(1) });
                let mut users: HashMap<&str, Vec<&Action>> = HashMap::new();
                actions.iter().for_each(|action| users.entry(&action.user_id).or_default().push(action));
                users.values().filter(|user| near(user, event_type, n, window)).count() as f64 / users.len() as f64
            };
            assert!(marked(scenario) > 0.5, "{scenario:?}");
            assert_eq!(marked(Scenario::Normal), 0.0, "{scenario:?}");
        }
    }
}
