//! (profile, event at its place in the log, rules) -> (profile, decision). No clock, no storage, no Kafka: time is the
//! user's newest occurredAt, so a replay decides the same (SPEC.md, 4.4).
use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use headwater_proto::{Detail, Event, EventId, EventType, Millis, v1};
use headwater_stream::{Outcome, Position};

use crate::{
    findings::{Evaluation, Report},
    patterns,
    profile::{Kept, Match, Profile},
    rules::{Level, Rules, Thresholds},
};

/// The record is at or below the profile's position.
pub const ALREADY_APPLIED: &str = "already_applied";
/// The event id is known.
pub const DUPLICATE: &str = "duplicate";
/// Older than the user's last 24 h, or than what there is room for.
pub const TOO_LATE: &str = "too_late";
/// Consumed after a reinstatement and not later than it.
pub const BEFORE_REINSTATEMENT: &str = "before_reinstatement";

/// What an event led to.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    pub outcome: Outcome,
    /// Where the event changed matches, score or announcements.
    pub evaluation: Option<Evaluation>,
    /// The matches it completed.
    pub found: Vec<Arc<Match>>,
    /// Lowest level first.
    pub announcements: Vec<Announcement>,
}

/// A level that was reached: what is stored, and what the announcing event says beside it.
#[derive(Debug, Clone, PartialEq)]
pub struct Announcement {
    pub report: Report,
    /// The trigger's, else the newest known.
    pub email: Option<Arc<str>>,
}

impl Decision {
    fn new(outcome: Outcome) -> Self {
        Self { outcome, evaluation: None, found: Vec::new(), announcements: Vec::new() }
    }

    fn skip(reason: &'static str) -> Self {
        Self::new(Outcome::Skip(reason))
    }
}

/// Folds one event into its user's profile. A skipped one changes nothing. Verdicts never come here: they are not what
/// a user did.
pub fn decide(profile: &mut Profile, event: &Event, position: Position, rules: &Rules) -> Decision {
    if profile.has_applied(position) {
        return Decision::skip(ALREADY_APPLIED);
    }
    if event.event_type == EventType::UserReinstated {
        return reinstate(profile, event, position, &rules.thresholds);
    }
    let relevant = rules.take(event.event_type);
    if profile.knows(event.id) {
        return Decision::skip(DUPLICATE);
    }
    if profile.is_too_late(event.occurred_at, relevant) {
        return Decision::skip(TOO_LATE);
    }
    if profile.reinstated_at.is_some_and(|barrier| event.occurred_at <= barrier) {
        return Decision::skip(BEFORE_REINSTATEMENT);
    }
    fold(profile, event, position);
    let arrived = relevant.then(|| profile.keep(kept(event, position)));

    let dropped = profile.drop_old_matches();
    let announced_before = profile.announced.len();
    let score = profile.score();
    profile.announced.retain(|level| rules.thresholds.of(*level) <= score);
    let forgotten = announced_before - profile.announced.len();

    let mut decision = Decision::new(Outcome::Done);
    if let Some(at) = arrived {
        decision.found = find_matches(profile, at, rules);
    }
    decision.announcements = announce(profile, event, &rules.thresholds);
    if dropped > 0 || forgotten > 0 || !decision.found.is_empty() || !decision.announcements.is_empty() {
        let announced = decision.announcements.iter().map(|a| a.report.level).collect();
        decision.evaluation = Some(evaluate(profile, event, position, &rules.thresholds, announced));
    }
    decision
}

/// What every event that is not skipped leaves behind.
fn fold(profile: &mut Profile, event: &Event, position: Position) {
    profile.position = Some(position);
    profile.advance(event.occurred_at);
    if let Some(email) = &event.email {
        profile.learn_email(email, event.occurred_at, position.offset);
    }
}

/// Acts in log order, however old it says it is.
fn reinstate(profile: &mut Profile, event: &Event, position: Position, thresholds: &Thresholds) -> Decision {
    if profile.knows(event.id) {
        return Decision::skip(DUPLICATE);
    }
    fold(profile, event, position);
    let changed = !profile.matches.is_empty() || !profile.announced.is_empty();
    profile.reinstate(event.id, event.occurred_at);
    match &event.detail {
        // a writer that names no epoch begins none
        Some(Detail::Reinstatement(detail)) if detail.status_epoch > 0 => profile.status_epoch = detail.status_epoch,
        _ => {}
    }
    let mut decision = Decision::new(Outcome::Done);
    decision.evaluation = changed.then(|| evaluate(profile, event, position, thresholds, Vec::new()));
    decision
}

fn kept(event: &Event, position: Position) -> Kept {
    let ip = event.ip.as_deref().and_then(|text| text.trim().parse::<IpAddr>().ok());
    Kept {
        id: event.id,
        event_type: event.event_type,
        occurred_at: event.occurred_at,
        offset: position.offset,
        ip: ip.map(|ip| ip.to_canonical()),
        cleared: false,
    }
}

fn find_matches(profile: &mut Profile, arrived: usize, rules: &Rules) -> Vec<Arc<Match>> {
    let mut found = Vec::new();
    for rule in &rules.rules {
        let matched_at = profile.matches.iter().filter(|m| m.rule == rule.name).map(|m| m.matched_at).max();
        let Some(evidence) = patterns::find(rule, &profile.events, arrived, matched_at) else { continue };
        let matched_at = evidence[evidence.len() - 1].occurred_at;
        let (rule, points, shadow) = (rule.name.clone(), rule.points, rule.shadow);
        found.push(profile.remember(Match { rule, points, matched_at, evidence, shadow }));
    }
    found
}

fn announce(profile: &mut Profile, trigger: &Event, thresholds: &Thresholds) -> Vec<Announcement> {
    let new: Vec<Level> =
        thresholds.reached(profile.score()).filter(|level| !profile.announced.contains(level)).collect();
    if new.is_empty() {
        return Vec::new();
    }
    profile.announced.extend(&new);
    profile.announced.sort_unstable();
    let verdict = verdict(profile, thresholds);
    let known = || profile.email.as_ref().map(|known| known.address.clone());
    let email = trigger.email.as_deref().map(Arc::from).or_else(known);
    let announcement = |level: Level| Announcement {
        report: Report {
            id: trigger.id.derive(level.event_type().as_str()),
            user_id: trigger.user_id.clone(),
            trigger: trigger.id,
            level,
            decided_at: trigger.occurred_at,
            verdict: verdict.clone(),
        },
        email: email.clone(),
    };
    new.into_iter().map(announcement).collect()
}

/// Everything the present score rests on.
fn verdict(profile: &Profile, thresholds: &Thresholds) -> v1::Verdict {
    let counting = || profile.matches.iter().filter(|m| !m.shadow);
    let evidence: BTreeMap<(Millis, i64), EventId> =
        counting().flat_map(|m| &m.evidence).map(|kept| (kept.order(), kept.id)).collect();
    v1::Verdict {
        score: profile.score(),
        rules: counting().map(|m| v1::RuleMatch::from(&**m)).collect(),
        thresholds: Some(v1::Thresholds {
            flagged: thresholds.flagged,
            password_reset_required: thresholds.password_reset_required,
            suspended: thresholds.suspended,
        }),
        status_epoch: profile.status_epoch,
        evidence_event_ids: evidence.values().map(EventId::to_string).collect(),
    }
}

fn evaluate(
    profile: &Profile,
    event: &Event,
    position: Position,
    thresholds: &Thresholds,
    announced: Vec<Level>,
) -> Evaluation {
    let score = profile.score();
    Evaluation {
        user_id: event.user_id.clone(),
        event_id: event.id,
        event_type: event.event_type,
        occurred_at: event.occurred_at,
        offset: position.offset,
        score,
        level: thresholds.level(score),
        matches: profile.matches.clone(),
        announced,
    }
}

impl From<&Match> for v1::RuleMatch {
    fn from(found: &Match) -> Self {
        Self {
            rule: found.rule.to_string(),
            points: found.points,
            matched_at: Some(found.matched_at.into()),
            evidence_event_ids: found.evidence.iter().map(|kept| kept.id.to_string()).collect(),
            shadow: found.shadow,
        }
    }
}

#[cfg(test)]
mod tests;
