//! What the fraud rules must have decided, by trying every combination of events: slow, plain and nobody else's code.
use std::collections::BTreeSet;

use super::facts::Fact;

const WINDOW: i64 = 24 * 3_600_000;
const MINUTE: i64 = 60_000;
/// Lowest first.
pub(crate) const LEVELS: [(i32, &str); 3] =
    [(30, "user.flagged"), (50, "user.password_reset_required"), (70, "user.suspended")];

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Match {
    pub rule: &'static str,
    pub points: i32,
    pub matched_at: i64,
    /// Time, place in the log and id, in this order.
    pub evidence: Vec<(i64, usize, String)>,
}

/// One announced action, as ListFraudReports must show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    pub report_id: String,
    pub trigger: String,
    pub action: &'static str,
    pub score: i32,
    /// Those with a match standing when it was announced, each once, sorted.
    pub rules: Vec<&'static str>,
    /// What they rest on, by time.
    pub evidence: Vec<String>,
    pub decided_at: i64,
    /// Of the trigger, or the newest known; where its notification goes.
    pub email: String,
}

#[derive(Debug, Default)]
pub(crate) struct Risk {
    pub matches: Vec<Match>,
    pub reports: Vec<Report>,
}

impl Risk {
    pub(crate) fn score(&self) -> i32 {
        self.matches.iter().map(|m| m.points).sum()
    }

    fn rules(&self) -> Vec<&'static str> {
        let rules: BTreeSet<_> = self.matches.iter().map(|m| m.rule).collect();
        rules.into_iter().collect()
    }

    fn evidence(&self) -> Vec<String> {
        let placed: BTreeSet<_> = self.matches.iter().flat_map(|m| &m.evidence).collect();
        placed.into_iter().map(|(.., id)| id.clone()).collect()
    }
}

/// An event with its place in the order of all rules: by time, then by log.
type Placed<'a> = (i64, usize, &'a Fact);

/// `log`: one user's events in log order, each id once.
pub(crate) fn risk(log: &[Fact]) -> Risk {
    let mut risk = Risk::default();
    let mut announced: BTreeSet<&'static str> = BTreeSet::new();
    let mut kept: Vec<Placed> = Vec::new();
    let mut newest = i64::MIN;
    let mut email: (i64, String) = (i64::MIN, String::new());
    for (offset, fact) in log.iter().enumerate() {
        if fact.occurred_at < newest.saturating_sub(WINDOW) {
            continue; // too late
        }
        newest = newest.max(fact.occurred_at);
        if !fact.email.is_empty() && fact.occurred_at >= email.0 {
            email = (fact.occurred_at, fact.email.clone());
        }
        kept.push((fact.occurred_at, offset, fact));
        kept.retain(|(at, ..)| *at >= newest - WINDOW);
        kept.sort_by_key(|(at, offset, _)| (*at, *offset));
        risk.matches.retain(|m| m.matched_at >= newest - WINDOW);
        announced.retain(|action| LEVELS.iter().any(|(points, level)| level == action && risk.score() >= *points));
        for found in [takeover(&kept, offset, &risk), burst(&kept, offset, &risk), churn(&kept, offset, &risk)] {
            risk.matches.extend(found);
        }
        let score = risk.score();
        for (points, action) in LEVELS {
            if score >= points && announced.insert(action) {
                let namespace = uuid::Uuid::parse_str(&fact.event_id).unwrap_or_default();
                risk.reports.push(Report {
                    report_id: uuid::Uuid::new_v5(&namespace, action.as_bytes()).to_string(),
                    trigger: fact.event_id.clone(),
                    action,
                    score,
                    rules: risk.rules(),
                    evidence: risk.evidence(),
                    decided_at: fact.occurred_at,
                    email: if fact.email.is_empty() { email.1.clone() } else { fact.email.clone() },
                });
            }
        }
    }
    risk
}

/// The rule's own choice among all candidate patterns, each in order of time.
fn choose(rule: &'static str, points: i32, window: i64, candidates: Vec<Vec<Placed>>, risk: &Risk) -> Option<Match> {
    let before = risk.matches.iter().filter(|m| m.rule == rule).map(|m| m.matched_at).max();
    let allowed = |pattern: &Vec<Placed>| {
        before.is_none_or(|at| pattern[0].0 > at && pattern.last().is_some_and(|last| last.0 > at + window))
    };
    let place = |event: &Placed| (event.0, event.1);
    let best = candidates.into_iter().filter(allowed).min_by(|a, b| {
        let earliest_end = a.last().map(place).cmp(&b.last().map(place));
        // then, from the end backwards, the latest
        earliest_end.then_with(|| b.iter().rev().map(place).cmp(a.iter().rev().map(place)))
    })?;
    let matched_at = best.last()?.0;
    let evidence = best.iter().map(|(at, offset, fact)| (*at, *offset, fact.event_id.clone())).collect();
    Some(Match { rule, points, matched_at, evidence })
}

fn of_type<'a>(kept: &[Placed<'a>], event_type: &str) -> Vec<Placed<'a>> {
    kept.iter().filter(|(.., fact)| fact.event_type == event_type).copied().collect()
}

fn takeover(kept: &[Placed], arriving: usize, risk: &Risk) -> Option<Match> {
    let mut candidates = Vec::new();
    for &password in &of_type(kept, "user.password_changed") {
        for &ip in &of_type(kept, "user.ip_changed") {
            for &login in &of_type(kept, "user.logged_in") {
                let ordered = (password.0, password.1) < (ip.0, ip.1) && (ip.0, ip.1) < (login.0, login.1);
                let arrives = [password.1, ip.1, login.1].contains(&arriving);
                if ordered && arrives && login.0 - password.0 <= 5 * MINUTE {
                    candidates.push(vec![password, ip, login]);
                }
            }
        }
    }
    choose("takeover_sequence", 50, 5 * MINUTE, candidates, risk)
}

fn burst(kept: &[Placed], arriving: usize, risk: &Risk) -> Option<Match> {
    let failures = of_type(kept, "user.login_failed");
    let candidates = combinations(&failures, 5, arriving, 2 * MINUTE, &|_, _| true);
    choose("login_failure_burst", 30, 2 * MINUTE, candidates, risk)
}

fn churn(kept: &[Placed], arriving: usize, risk: &Risk) -> Option<Match> {
    let changes = of_type(kept, "user.ip_changed");
    let distinct = |chosen: &[Placed], next: &Placed| chosen.iter().all(|(.., fact)| fact.ip != next.2.ip);
    let candidates = combinations(&changes, 3, arriving, 10 * MINUTE, &distinct);
    choose("ip_churn", 20, 10 * MINUTE, candidates, risk)
}

/// Every choice of `size` events within the window that contains the arriving one.
fn combinations<'a>(
    events: &[Placed<'a>],
    size: usize,
    arriving: usize,
    window: i64,
    fits: &dyn Fn(&[Placed], &Placed) -> bool,
) -> Vec<Vec<Placed<'a>>> {
    let mut found = Vec::new();
    let mut open: Vec<(usize, Vec<Placed<'a>>)> = vec![(0, Vec::new())];
    while let Some((from, chosen)) = open.pop() {
        if chosen.len() == size {
            if chosen.iter().any(|(_, offset, _)| *offset == arriving) {
                found.push(chosen);
            }
            continue;
        }
        for (index, event) in events.iter().enumerate().skip(from) {
            let near = chosen.first().is_none_or(|first| event.0 - first.0 <= window);
            if near && fits(&chosen, event) {
                let mut longer = chosen.clone();
                longer.push(*event);
                open.push((index + 1, longer));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000;
    const HOUR: i64 = 60 * MINUTE;

    /// (type, seconds, ip)
    fn log(events: &[(&str, i64, &str)]) -> Vec<Fact> {
        let facts = events.iter().enumerate().map(|(n, &(event_type, seconds, ip))| Fact {
            event_id: uuid::Uuid::from_u128(n as u128).to_string(),
            event_type: format!("user.{event_type}"),
            user_id: "ada".into(),
            occurred_at: 100 * HOUR + seconds * SECOND,
            email: String::new(),
            ip: ip.into(),
            session_id: String::new(),
            failures: 0,
        });
        facts.collect()
    }

    /// rule and places of its evidence in the log
    fn matches(risk: &Risk) -> Vec<(&'static str, Vec<usize>)> {
        risk.matches.iter().map(|m| (m.rule, m.evidence.iter().map(|(_, place, _)| *place).collect())).collect()
    }

    fn announced(risk: &Risk) -> Vec<(&'static str, i32, usize)> {
        let place = |id: &str| uuid::Uuid::parse_str(id).unwrap().as_u128() as usize;
        risk.reports.iter().map(|r| (&r.action[5..], r.score, place(&r.trigger))).collect()
    }

    type Case<'a> = (&'a str, &'a [(&'a str, i64, &'a str)], &'a [(&'a str, &'a [usize])], &'a [(&'a str, i32, usize)]);

    #[test]
    fn what_was_worked_out_by_hand() {
        const P: &str = "password_changed";
        const I: &str = "ip_changed";
        const L: &str = "logged_in";
        const F: &str = "login_failed";
        #[rustfmt::skip]
        let table: &[Case] = &[
            ("a takeover in exactly five minutes", &[(P, 0, ""), (I, 9, "b"), (L, 300, "b")],
                &[("takeover_sequence", &[0, 1, 2])], &[("flagged", 50, 2), ("password_reset_required", 50, 2)]),
            ("a second too slow", &[(P, 0, ""), (I, 9, "b"), (L, 301, "b")], &[], &[]),
            ("a password change that comes late completes it", &[(I, 9, "b"), (L, 20, "b"), (P, 0, "")],
                &[("takeover_sequence", &[2, 0, 1])], &[("flagged", 50, 2), ("password_reset_required", 50, 2)]),
            ("equal times are ordered by the log", &[(I, 0, "b"), (P, 0, ""), (L, 0, "b")], &[], &[]),
            ("the latest events before the end are the evidence", &[(P, 0, ""), (P, 1, ""), (I, 2, "b"), (I, 3, "c"), (L, 4, "c")],
                &[("takeover_sequence", &[1, 3, 4])], &[("flagged", 50, 4), ("password_reset_required", 50, 4)]),
            ("five failures in two minutes", &[(F, 0, ""), (F, 1, ""), (F, 2, ""), (F, 3, ""), (F, 120, "")],
                &[("login_failure_burst", &[0, 1, 2, 3, 4])], &[("flagged", 30, 4)]),
            ("no second burst within the window", &[(F, 0, ""), (F, 0, ""), (F, 0, ""), (F, 0, ""), (F, 0, ""), (F, 1, ""), (F, 1, ""), (F, 1, ""), (F, 1, ""), (F, 120, "")],
                &[("login_failure_burst", &[0, 1, 2, 3, 4])], &[("flagged", 30, 4)]),
            ("a second burst after it", &[(F, 0, ""), (F, 0, ""), (F, 0, ""), (F, 0, ""), (F, 0, ""), (F, 10, ""), (F, 10, ""), (F, 10, ""), (F, 10, ""), (F, 121, "")],
                &[("login_failure_burst", &[0, 1, 2, 3, 4]), ("login_failure_burst", &[5, 6, 7, 8, 9])],
                &[("flagged", 30, 4), ("password_reset_required", 60, 9)]),
            ("three ips, the same one twice", &[(I, 0, "a"), (I, 1, "b"), (I, 2, "b"), (I, 3, "c")],
                &[("ip_churn", &[0, 2, 3])], &[]),
            ("two ips are no churn", &[(I, 0, "a"), (I, 1, "b"), (I, 2, "a")], &[], &[]),
            ("what is older than a day is not looked at", &[(F, 90_000, ""), (F, 0, ""), (F, 1, ""), (F, 2, ""), (F, 3, ""), (F, 4, "")], &[], &[]),
            ("after a day the points are forgotten and announced anew",
                &[(P, 0, ""), (I, 1, "b"), (L, 2, "b"), (P, 90_000, ""), (I, 90_001, "b"), (L, 90_002, "b")],
                &[("takeover_sequence", &[3, 4, 5])],
                &[("flagged", 50, 2), ("password_reset_required", 50, 2), ("flagged", 50, 5), ("password_reset_required", 50, 5)]),
            ("everything at once suspends", &[(P, 0, ""), (I, 1, "a"), (I, 2, "b"), (I, 3, "c"), (L, 4, "c")],
                &[("ip_churn", &[1, 2, 3]), ("takeover_sequence", &[0, 3, 4])],
                &[("flagged", 70, 4), ("password_reset_required", 70, 4), ("suspended", 70, 4)]),
        ];
        for (name, events, found, told) in table {
            let risk = risk(&log(events));
            let found: Vec<_> = found.iter().map(|(rule, places)| (*rule, places.to_vec())).collect();
            assert_eq!(matches(&risk), found, "{name}");
            assert_eq!(announced(&risk), told.to_vec(), "{name}");
        }
    }
}
