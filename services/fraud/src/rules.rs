//! The rules as data: patterns, windows, points and thresholds (SPEC.md, 4.4). Checked once, at start.
use std::{collections::BTreeMap, fmt, ops::RangeInclusive, sync::Arc};

use headwater_proto::EventType;
use serde::{Deserialize, Serialize};

/// How far back a user's events and matches are kept, from the user's newest occurredAt: 24 h in milliseconds.
pub const HORIZON: i64 = 24 * 60 * 60 * 1_000;

/// How many rule-relevant events are kept per user.
pub const MAX_EVENTS: usize = 2_000;

/// What a score leads to. Each level is announced by an event of its own; a later one is graver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Level {
    Flagged,
    PasswordResetRequired,
    Suspended,
}

impl Level {
    /// Lowest first.
    pub const ALL: [Self; 3] = [Self::Flagged, Self::PasswordResetRequired, Self::Suspended];

    /// The type of the event that announces it.
    pub const fn event_type(self) -> EventType {
        match self {
            Self::Flagged => EventType::UserFlagged,
            Self::PasswordResetRequired => EventType::UserPasswordResetRequired,
            Self::Suspended => EventType::UserSuspended,
        }
    }
}

/// The score from which each level is reached; they rise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    pub flagged: i32,
    pub password_reset_required: i32,
    pub suspended: i32,
}

impl Thresholds {
    pub const fn of(&self, level: Level) -> i32 {
        match level {
            Level::Flagged => self.flagged,
            Level::PasswordResetRequired => self.password_reset_required,
            Level::Suspended => self.suspended,
        }
    }

    /// Lowest first.
    pub fn reached(&self, score: i32) -> impl Iterator<Item = Level> + use<> {
        let thresholds = *self;
        Level::ALL.into_iter().filter(move |level| thresholds.of(*level) <= score)
    }

    /// The gravest level reached.
    pub fn level(&self, score: i32) -> Option<Level> {
        self.reached(score).last()
    }
}

/// Which events make a rule match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// One event of each type, in this order.
    Sequence(Vec<EventType>),
    /// So many events of the type.
    Count { of: EventType, events: usize },
    /// So many events of the type, each with another ip.
    DistinctIps { of: EventType, ips: usize },
}

impl Pattern {
    pub fn takes(&self, event_type: EventType) -> bool {
        match self {
            Self::Sequence(types) => types.contains(&event_type),
            Self::Count { of, .. } | Self::DistinctIps { of, .. } => *of == event_type,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub name: Arc<str>,
    pub pattern: Pattern,
    /// From the pattern's first to its last event at most, in milliseconds.
    pub window: i64,
    pub points: i32,
    /// Matches are stored and shown, but count no points and announce nothing.
    pub shadow: bool,
}

/// Valid rules. Rules that are off are not among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    pub thresholds: Thresholds,
    /// By name.
    pub rules: Vec<Rule>,
}

/// What is wrong in a file of rules, and at which key.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct InvalidRules(String);

impl Rules {
    /// What is built in, as a file.
    pub const BUILT_IN: &str = include_str!("../rules.toml");

    /// Reads the TOML that [`Rules::BUILT_IN`] shows. What it leaves out is as built in.
    pub fn parse(text: &str) -> Result<Self, InvalidRules> {
        let given = File::read(text)?;
        let built_in = File::read(Self::BUILT_IN)?;
        given.over(built_in).check()
    }

    /// Whether some rule looks at events of this type: only those are kept.
    pub fn take(&self, event_type: EventType) -> bool {
        self.rules.iter().any(|rule| rule.pattern.takes(event_type))
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self::parse("").expect("the built-in rules are valid: a test reads them")
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    thresholds: BTreeMap<ThresholdKey, i64>,
    rules: Option<BTreeMap<String, RuleEntry>>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "snake_case")]
enum ThresholdKey {
    Flagged,
    PasswordResetRequired,
    Suspended,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleEntry {
    #[serde(default)]
    mode: Mode,
    points: i64,
    window_seconds: i64,
    sequence: Option<Vec<String>>,
    count: Option<i64>,
    distinct_ips: Option<i64>,
    of: Option<String>,
}

#[derive(Deserialize, Clone, Copy, Default, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Off,
    Shadow,
    #[default]
    Enforce,
}

fn wrong<T>(key: impl fmt::Display, problem: impl fmt::Display) -> Result<T, InvalidRules> {
    Err(InvalidRules(format!("{key} {problem}")))
}

/// The number as `T` where it lies in the range.
fn within<T: TryFrom<i64>>(range: RangeInclusive<i64>, key: impl fmt::Display, number: i64) -> Result<T, InvalidRules> {
    match T::try_from(number) {
        Ok(fits) if range.contains(&number) => Ok(fits),
        _ => wrong(key, format_args!("must be between {} and {}, not {number}", range.start(), range.end())),
    }
}

impl File {
    fn read(text: &str) -> Result<Self, InvalidRules> {
        toml::from_str(text).map_err(|error| InvalidRules(error.to_string().trim_end().to_owned()))
    }

    fn over(self, mut below: Self) -> Self {
        below.thresholds.extend(self.thresholds);
        Self { thresholds: below.thresholds, rules: self.rules.or(below.rules) }
    }

    fn check(self) -> Result<Rules, InvalidRules> {
        let threshold = |key, name: &str| {
            within(1..=1_000_000, format_args!("thresholds.{name}"), self.thresholds.get(&key).copied().unwrap_or(0))
        };
        let thresholds = Thresholds {
            flagged: threshold(ThresholdKey::Flagged, "flagged")?,
            password_reset_required: threshold(ThresholdKey::PasswordResetRequired, "password_reset_required")?,
            suspended: threshold(ThresholdKey::Suspended, "suspended")?,
        };
        if thresholds.password_reset_required <= thresholds.flagged {
            return wrong("thresholds.password_reset_required", "must be above thresholds.flagged");
        }
        if thresholds.suspended <= thresholds.password_reset_required {
            return wrong("thresholds.suspended", "must be above thresholds.password_reset_required");
        }
        let mut rules = Vec::new();
        for (name, entry) in self.rules.unwrap_or_default() {
            let mode = entry.mode;
            let rule = entry.check(&name)?;
            if mode != Mode::Off {
                rules.push(rule);
            }
        }
        Ok(Rules { thresholds, rules })
    }
}

impl RuleEntry {
    fn check(self, name: &str) -> Result<Rule, InvalidRules> {
        let key = |field: &str| format!("rules.{name}{}{field}", if field.is_empty() { "" } else { "." });
        if name.is_empty() || name.len() > 64 || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return wrong(key(""), "must be named in letters, digits and _, at most 64");
        }
        let window: i64 = within(1..=HORIZON / 1_000, key("window_seconds"), self.window_seconds)?;
        let points = within(1..=1_000, key("points"), self.points)?;
        let of = self.of.map(|text| action(&text, &key("of"))).transpose()?;
        let pattern = match (self.sequence, self.count, self.distinct_ips, of) {
            (Some(types), None, None, None) => Pattern::Sequence(sequence(&types, &key("sequence"))?),
            (None, Some(count), None, Some(of)) => {
                Pattern::Count { of, events: within(2..=MAX_EVENTS as i64, key("count"), count)? }
            }
            (None, None, Some(ips), Some(of)) => {
                Pattern::DistinctIps { of, ips: within(2..=100, key("distinct_ips"), ips)? }
            }
            (None, Some(_), None, None) | (None, None, Some(_), None) => return wrong(key("of"), "is missing"),
            _ => return wrong(key(""), "must have one of: sequence; count and of; distinct_ips and of"),
        };
        Ok(Rule { name: name.into(), pattern, window: window * 1_000, points, shadow: self.mode == Mode::Shadow })
    }
}

fn action(text: &str, key: &str) -> Result<EventType, InvalidRules> {
    match EventType::parse(text).filter(|known| known.is_user_action()) {
        Some(known) => Ok(known),
        None => wrong(key, "must be a type of what a user does, like user.logged_in"),
    }
}

fn sequence(types: &[String], key: &str) -> Result<Vec<EventType>, InvalidRules> {
    if !(2..=20).contains(&types.len()) {
        return wrong(key, "must have 2 to 20 types");
    }
    types.iter().enumerate().map(|(index, text)| action(text, &format!("{key}[{index}]"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_rules_are_those_of_the_specification() {
        let rules = Rules::default();
        assert_eq!(rules.thresholds, Thresholds { flagged: 30, password_reset_required: 50, suspended: 70 });
        let shown: Vec<_> = rules.rules.iter().map(|r| (&*r.name, r.points, r.window / 1_000, r.shadow)).collect();
        assert_eq!(
            shown,
            [
                ("ip_churn", 20, 600, false),
                ("login_failure_burst", 30, 120, false),
                ("takeover_sequence", 50, 300, false)
            ]
        );
        assert_eq!(rules.rules[0].pattern, Pattern::DistinctIps { of: EventType::UserIpChanged, ips: 3 });
        assert_eq!(rules.rules[1].pattern, Pattern::Count { of: EventType::UserLoginFailed, events: 5 });
        assert_eq!(
            rules.rules[2].pattern,
            Pattern::Sequence(vec![EventType::UserPasswordChanged, EventType::UserIpChanged, EventType::UserLoggedIn])
        );
        assert!(rules.take(EventType::UserLoggedIn) && !rules.take(EventType::UserCreated));
    }

    #[test]
    fn a_file_replaces_what_it_names() {
        let thresholds = Rules::parse("[thresholds]\nsuspended = 90").unwrap();
        assert_eq!(thresholds.thresholds, Thresholds { flagged: 30, password_reset_required: 50, suspended: 90 });
        assert_eq!(thresholds.rules, Rules::default().rules);

        let rules = Rules::parse(
            "[rules.logouts]\ncount = 2\nof = 'user.logged_out'\nwindow_seconds = 9\npoints = 1\nmode = 'shadow'\n\
             [rules.asleep]\nsequence = ['user.created', 'user.logged_in']\nwindow_seconds = 9\npoints = 1\nmode = 'off'",
        )
        .unwrap();
        assert_eq!(rules.rules.len(), 1, "a rule that is off is never tried");
        assert!(rules.rules[0].shadow && rules.take(EventType::UserLoggedOut) && !rules.take(EventType::UserCreated));
    }

    #[test]
    fn a_bad_value_is_named_by_its_key() {
        let burst = |more: &str| format!("[rules.b]\nof = 'user.login_failed'\nwindow_seconds = 9\npoints = 1\n{more}");
        let table: &[(String, &str)] = &[
            ("[thresholds]\nflagged = 0".into(), "thresholds.flagged must be between 1 and 1000000, not 0"),
            (
                "[thresholds]\nflagged = 50".into(),
                "thresholds.password_reset_required must be above thresholds.flagged",
            ),
            ("[thresholds]\nsuspended = 9".into(), "thresholds.suspended must be above"),
            ("[thresholds]\nbanned = 9".into(), "banned"),
            ("[limits]\n".into(), "limits"),
            (burst(""), "rules.b must have one of"),
            (burst("count = 0"), "rules.b.count must be between 2 and 2000, not 0"),
            (burst("count = 2001"), "rules.b.count"),
            (burst("count = 2\ndistinct_ips = 2"), "rules.b must have one of"),
            (burst("distinct_ips = 101"), "rules.b.distinct_ips"),
            (burst("sequence = ['user.created']"), "rules.b must have one of"),
            (burst("count = 2\nmode = 'on'"), "mode"),
            (burst("count = 2\npoint = 2"), "point"),
            (burst("count = 2").replace("login_failed", "flagged"), "rules.b.of must be a type of what a user does"),
            (burst("count = 2").replace("points = 1", "points = 1001"), "rules.b.points must be between 1 and 1000"),
            (burst("count = 2").replace("points = 1", ""), "points"),
            (burst("count = 2").replace("= 9", "= 86401"), "rules.b.window_seconds must be between 1 and 86400"),
            (burst("count = 2").replace("rules.b", "rules.'a b'"), "rules.a b must be named in letters"),
            (
                "[rules.s]\nwindow_seconds = 9\npoints = 1\nsequence = ['user.created']".into(),
                "rules.s.sequence must have 2",
            ),
            ("[rules.s]\nwindow_seconds = 9\npoints = 1\ncount = 2".into(), "rules.s.of is missing"),
            (
                "[rules.s]\nwindow_seconds = 9\npoints = 1\nsequence = ['user.created', 'user.gone']".into(),
                "rules.s.sequence[1] must be a type",
            ),
        ];
        for (text, expected) in table {
            let error = Rules::parse(text).expect_err(text).to_string();
            assert!(error.contains(expected), "{text}\n-> {error}");
        }
    }
}
