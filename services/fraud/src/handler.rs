//! One batch off the log: load profiles -> fold -> write findings -> announce -> save profiles -> outcomes.
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use headwater_otel::{TraceContext, names, store_write};
use headwater_proto::{Event, UserId};
use headwater_stream::{
    BatchHandler, Clock, Decoded, Delivery, Outcome, Poison, Position, Record, Unavailable, decode_event,
};

use crate::{
    ROLE, StoreError,
    cache::Cache,
    decide::{Decision, decide},
    emitted::{Announcer, Emitted, SOURCE, verdict_event},
    findings::{Findings, Trace},
    profile::{Match, Profile},
    rules::Rules,
    store::{ProfileWrite, Store},
};

/// A verdict of this service, back from the log.
pub const OWN_VERDICT: &str = "own_verdict";
/// A verdict that somebody else wrote: it is no act of the user either.
pub const FOREIGN_VERDICT: &str = "foreign_verdict";

/// An event, and what of its record goes on into the verdicts it triggers.
#[derive(Debug, Clone, PartialEq)]
pub struct Arrival {
    pub event: Event,
    pub trace_state: Option<Box<str>>,
}

/// Turns batches into decisions.
#[derive(Debug)]
pub struct Handler<S, A, C> {
    store: S,
    announcer: A,
    clock: C,
    rules: Rules,
    cache: Cache,
}

impl<S: Store, A: Announcer, C: Clock> BatchHandler for Handler<S, A, C> {
    type Item = Arrival;

    fn decode(record: &Record<'_>) -> Result<Decoded<Arrival>, Poison> {
        let event = match decode_event(record)? {
            Decoded::Skip(reason) => return Ok(Decoded::Skip(reason)),
            Decoded::Item(event) if !event.event_type.is_verdict() => event,
            Decoded::Item(event) if event.source == SOURCE => return Ok(Decoded::Skip(OWN_VERDICT)),
            Decoded::Item(_) => return Ok(Decoded::Skip(FOREIGN_VERDICT)),
        };
        let trace_state = record.headers.get(TraceContext::STATE_HEADER);
        let trace_state = trace_state.filter(|state| state.len() <= TraceContext::STATE_MAX_BYTES);
        let trace_state = trace_state.and_then(|state| std::str::from_utf8(state).ok()).map(Into::into);
        Ok(Decoded::Item(Arrival { event, trace_state }))
    }

    async fn apply(&mut self, batch: &[Delivery<Arrival>]) -> Result<Vec<Outcome>, Unavailable> {
        let mut outcomes = vec![Outcome::Done; batch.len()];
        let mut waiting: Vec<usize> = (0..batch.len()).collect();
        while !waiting.is_empty() {
            let mut round = self.round(batch, &waiting).await?;
            for (index, delivery) in waiting.iter().map(|&index| (index, &batch[index])) {
                outcomes[index] = round.fold(delivery, &self.rules, &self.clock);
            }
            let refused = self.commit(round).await?;
            // another owner has moved these on: redo them from where they are now
            waiting.retain(|&index| refused.contains(&batch[index].item.event.user_id));
        }
        Ok(outcomes)
    }

    fn revoked(&mut self, partitions: &[i32]) {
        partitions.iter().for_each(|&partition| self.cache.forget(partition));
    }
}

impl<S: Store, A: Announcer, C: Clock> Handler<S, A, C> {
    pub fn new(store: S, announcer: A, clock: C, rules: Rules) -> Self {
        Self { store, announcer, clock, rules, cache: Cache::default() }
    }

    /// The profiles of everybody in the batch. They leave the cache until they are saved, so that after a failure they
    /// come from the store.
    async fn round(&mut self, batch: &[Delivery<Arrival>], waiting: &[usize]) -> Result<Round, Unavailable> {
        let mut round = Round::default();
        let mut absent = Vec::new();
        for delivery in waiting.iter().map(|&index| &batch[index]) {
            let (user, partition) = (&delivery.item.event.user_id, delivery.position.partition);
            if !round.users.contains_key(user) {
                let cached = self.cache.take(partition, user);
                if cached.is_none() {
                    absent.push(user.clone());
                }
                round.users.insert(user.clone(), Turn::new(partition, cached.unwrap_or_default()));
            }
        }
        if !absent.is_empty() {
            for (user, profile) in self.store.profiles(&absent).await.map_err(unavailable)? {
                round.users.entry(user).and_modify(|turn| *turn = Turn::new(turn.partition, profile));
            }
        }
        Ok(round)
    }

    /// The users whose profiles somebody else has moved on.
    async fn commit(&mut self, round: Round) -> Result<HashSet<UserId>, Unavailable> {
        let Round { users, mut findings, scores, found, verdicts } = round;
        if !findings.is_empty() {
            findings.name_each_trace_once();
            store_write(names::SPAN_WRITE_FINDINGS, self.store.record(findings)).await.map_err(unavailable)?;
        }
        if !verdicts.is_empty() {
            self.announcer.announce(&verdicts).await?;
        }
        let moved = users.iter().filter(|(_, turn)| turn.profile.position != turn.read);
        let writes: Vec<_> = moved.map(|(user, turn)| turn.write(user.clone())).collect();
        let refused = if writes.is_empty() {
            Vec::new()
        } else {
            store_write(names::SPAN_WRITE_PROFILES, self.store.save(writes)).await.map_err(unavailable)?
        };
        let refused: HashSet<UserId> = refused.into_iter().collect();
        for (user, turn) in users {
            if !refused.contains(&user) {
                self.cache.put(turn.partition, user, turn.profile);
            }
        }
        count(&scores, &found, &verdicts, &refused);
        Ok(refused)
    }
}

/// One attempt at a batch: profiles as they are folded, and what the folds led to.
#[derive(Default)]
struct Round {
    users: HashMap<UserId, Turn>,
    findings: Findings,
    scores: Vec<(UserId, i32)>,
    found: Vec<(UserId, Arc<Match>)>,
    verdicts: Vec<Emitted>,
}

/// One user's part in it.
struct Turn {
    partition: i32,
    /// Where the profile stood when it was read.
    read: Option<Position>,
    profile: Arc<Profile>,
}

impl Turn {
    fn new(partition: i32, profile: Arc<Profile>) -> Self {
        Self { partition, read: profile.position, profile }
    }

    fn write(&self, user_id: UserId) -> ProfileWrite {
        ProfileWrite { user_id, read: self.read, profile: self.profile.clone() }
    }
}

impl Round {
    fn fold(&mut self, delivery: &Delivery<Arrival>, rules: &Rules, clock: &impl Clock) -> Outcome {
        let Arrival { event, trace_state } = &delivery.item;
        let turn = self.users.get_mut(&event.user_id).expect("a round is made of the users of its batch");
        let profile = Arc::make_mut(&mut turn.profile);
        let Decision { outcome, evaluation, found, announcements } = decide(profile, event, delivery.position, rules);
        self.scores.extend(evaluation.as_ref().map(|evaluation| (event.user_id.clone(), evaluation.score)));
        self.findings.evaluations.extend(evaluation);
        for found in found {
            let trace = |event| Trace { user_id: delivery.item.event.user_id.clone(), event };
            self.findings.traces.extend(found.evidence.iter().copied().map(trace));
            self.found.push((event.user_id.clone(), found));
        }
        for announcement in announcements {
            self.findings.reports.push(announcement.report.clone());
            let verdict = verdict_event(announcement, event, clock.now());
            self.verdicts.push(Emitted {
                trace: delivery.trace.map(|processing| processing.across(verdict.id.as_bytes())),
                event: verdict,
                trace_state: trace_state.clone(),
            });
        }
        outcome
    }
}

/// Each decision once: what somebody else moved on is counted there.
fn count(scores: &[(UserId, i32)], found: &[(UserId, Arc<Match>)], verdicts: &[Emitted], refused: &HashSet<UserId>) {
    for (_, score) in scores.iter().filter(|(user, _)| !refused.contains(user)) {
        metrics::histogram!(names::FRAUD_SCORE, names::ROLE => ROLE).record(f64::from(*score));
    }
    for (_, found) in found.iter().filter(|(user, _)| !refused.contains(user)) {
        let mode = if found.shadow { "shadow" } else { "enforce" };
        metrics::counter!(names::FRAUD_MATCHES, names::ROLE => ROLE, names::RULE => found.rule.to_string(), names::RULE_MODE => mode)
            .increment(1);
    }
    for verdict in verdicts.iter().filter(|verdict| !refused.contains(&verdict.event.user_id)) {
        metrics::counter!(names::FRAUD_VERDICTS, names::ROLE => ROLE, names::VERDICT => verdict.event.event_type.as_str()).increment(1);
    }
    if !refused.is_empty() {
        metrics::counter!(names::FRAUD_CONFLICTS, names::ROLE => ROLE).increment(refused.len() as u64);
    }
}

fn unavailable(error: StoreError) -> Unavailable {
    Unavailable { dependency: "the fraud store", source: error.into() }
}

#[cfg(test)]
mod laws;
#[cfg(test)]
mod tests;
