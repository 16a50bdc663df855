//! `headwater.v1.Fraud`: answers from what is stored, and decides nothing. Every bad field is named at once.
use std::{sync::Arc, time::Duration};

use headwater_proto::{
    EventId, Millis, UserId,
    v1::{self, fraud_server::Fraud},
};
use headwater_rpc::{Reason, Violations, next_page_token, page_size, page_token, refuse, refuse_for_now};
use serde::Serialize;
use tonic::{Request, Response, Status};

use crate::{
    StoreError,
    findings::{Evaluation, Report},
    profile::{Kept, Match, Profile},
    rules::{Level, Thresholds},
    store::Store,
};

/// What a client is asked to wait when the store is away.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Answers from a store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Api<S> {
    store: S,
    thresholds: Thresholds,
}

impl<S: Store> Api<S> {
    /// `thresholds` turn a present score into a level; what was decided keeps the level it had.
    pub fn new(store: S, thresholds: Thresholds) -> Self {
        Self { store, thresholds }
    }

    async fn profile(&self, user: &UserId) -> Result<Arc<Profile>, Status> {
        let stored = self.store.profiles(std::slice::from_ref(user)).await.map_err(unavailable)?;
        let profile = stored.into_iter().next().map(|(_, profile)| profile);
        profile.ok_or_else(|| refuse(Reason::UserNotFound, format!("no event of user {user} was seen")))
    }
}

#[tonic::async_trait]
impl<S: Store> Fraud for Api<S> {
    async fn get_risk_profile(
        &self,
        request: Request<v1::GetRiskProfileRequest>,
    ) -> Result<Response<v1::GetRiskProfileResponse>, Status> {
        let user = only_user(&request.get_ref().user_id)?;
        let profile = self.profile(&user).await?;
        let score = profile.score();
        Ok(Response::new(v1::GetRiskProfileResponse {
            user_id: user.to_string(),
            score,
            level: risk_level(self.thresholds.level(score)).into(),
            matches: rule_matches(&profile.matches),
        }))
    }

    async fn list_fraud_reports(
        &self,
        request: Request<v1::ListFraudReportsRequest>,
    ) -> Result<Response<v1::ListFraudReportsResponse>, Status> {
        let request = request.get_ref();
        let mut violations = Violations::new();
        let user = match request.user_id.as_str() {
            "" => None,
            user => violations.field("user_id", UserId::try_from(user)),
        };
        let size = page_size(request.page_size, &mut violations);
        let before = page_token::<(i64, Level, [u8; 16])>(&request.page_token, &mut violations);
        violations.finish()?;
        let before = before.map(|(at, level, id)| (Millis::from_millis(at), level, EventId::from_bytes(id)));

        if let Some(user) = &user {
            self.profile(user).await?;
        }
        let reports = self.store.reports(user.as_ref(), before, size + 1).await.map_err(unavailable)?;
        let (reports, next_page_token) = page(reports, size, |report| {
            let (at, level, id) = report.place();
            (at.as_millis(), level, *id.as_bytes())
        });
        let reports = reports.iter().map(|report| fraud_report(report)).collect();
        Ok(Response::new(v1::ListFraudReportsResponse { reports, next_page_token }))
    }

    async fn list_risk_evaluations(
        &self,
        request: Request<v1::ListRiskEvaluationsRequest>,
    ) -> Result<Response<v1::ListRiskEvaluationsResponse>, Status> {
        let request = request.get_ref();
        let mut violations = Violations::new();
        let user = violations.field("user_id", UserId::try_from(request.user_id.as_str()));
        let size = page_size(request.page_size, &mut violations);
        let before = page_token::<(i64, i64)>(&request.page_token, &mut violations);
        let user = checked(user, violations)?;
        let before = before.map(|(at, offset)| (Millis::from_millis(at), offset));

        self.profile(&user).await?;
        let evaluations = self.store.evaluations(&user, before, size + 1).await.map_err(unavailable)?;
        let (evaluations, next_page_token) = page(evaluations, size, |evaluation| {
            let (at, offset) = evaluation.place();
            (at.as_millis(), offset)
        });
        let evaluations = evaluations.iter().map(|evaluation| risk_evaluation(evaluation)).collect();
        Ok(Response::new(v1::ListRiskEvaluationsResponse { evaluations, next_page_token }))
    }

    async fn get_event_trace(
        &self,
        request: Request<v1::GetEventTraceRequest>,
    ) -> Result<Response<v1::GetEventTraceResponse>, Status> {
        let user = only_user(&request.get_ref().user_id)?;
        let profile = self.profile(&user).await?;
        Ok(Response::new(v1::GetEventTraceResponse { events: profile.window().map(trace_event).collect() }))
    }

    async fn explain_decision(
        &self,
        request: Request<v1::ExplainDecisionRequest>,
    ) -> Result<Response<v1::ExplainDecisionResponse>, Status> {
        let mut violations = Violations::new();
        let event_id = violations.field("event_id", request.get_ref().event_id.parse::<EventId>());
        let event_id = checked(event_id, violations)?;
        let Some(report) = self.store.decision(event_id).await.map_err(unavailable)? else {
            let message = format!("event_id: no decision was announced by or because of event {event_id}");
            return Err(refuse(Reason::DecisionNotFound, message));
        };
        let evidence: Vec<EventId> =
            report.verdict.evidence_event_ids.iter().filter_map(|id| id.parse().ok()).collect();
        let evidence = self.store.traces(&report.user_id, &evidence).await.map_err(unavailable)?;
        Ok(Response::new(v1::ExplainDecisionResponse {
            report: Some(fraud_report(&report)),
            decision: Some(report.verdict.clone()),
            evidence: evidence.iter().map(trace_event).collect(),
        }))
    }
}

fn only_user(user_id: &str) -> Result<UserId, Status> {
    let mut violations = Violations::new();
    let user = violations.field("user_id", UserId::try_from(user_id));
    checked(user, violations)
}

/// What is `None` is a violation already.
fn checked<T>(field: Option<T>, violations: Violations) -> Result<T, Status> {
    violations.finish()?;
    field.ok_or_else(|| Status::internal("a field is missing and no violation names it"))
}

/// The first `size` of what the store found, and the token of the next page where it found one more.
fn page<T, P: Serialize>(mut found: Vec<Arc<T>>, size: usize, place: impl Fn(&T) -> P) -> (Vec<Arc<T>>, String) {
    let more = found.len() > size;
    found.truncate(size);
    let next = found.last().filter(|_| more).map(|last| next_page_token(&place(last)));
    (found, next.unwrap_or_default())
}

fn fraud_report(report: &Report) -> v1::FraudReport {
    let mut rules: Vec<String> = Vec::new();
    for found in &report.verdict.rules {
        if !rules.contains(&found.rule) {
            rules.push(found.rule.clone());
        }
    }
    v1::FraudReport {
        report_id: report.id.to_string(),
        user_id: report.user_id.to_string(),
        event_id: report.trigger.to_string(),
        action: report.level.event_type().to_string(),
        score: report.verdict.score,
        rules,
        evidence_event_ids: report.verdict.evidence_event_ids.clone(),
        decided_at: Some(report.decided_at.into()),
    }
}

fn risk_evaluation(evaluation: &Evaluation) -> v1::RiskEvaluation {
    v1::RiskEvaluation {
        event_id: evaluation.event_id.to_string(),
        user_id: evaluation.user_id.to_string(),
        event_type: evaluation.event_type.to_string(),
        occurred_at: Some(evaluation.occurred_at.into()),
        score: evaluation.score,
        level: risk_level(evaluation.level).into(),
        matches: rule_matches(&evaluation.matches),
        announced: evaluation.announced.iter().map(|level| level.event_type().to_string()).collect(),
    }
}

fn trace_event(kept: &Kept) -> v1::TraceEvent {
    v1::TraceEvent {
        event_id: kept.id.to_string(),
        event_type: kept.event_type.to_string(),
        occurred_at: Some(kept.occurred_at.into()),
        ip: kept.ip.map(|ip| ip.to_string()).unwrap_or_default(),
    }
}

fn rule_matches(matches: &[Arc<Match>]) -> Vec<v1::RuleMatch> {
    matches.iter().map(|found| v1::RuleMatch::from(&**found)).collect()
}

fn risk_level(level: Option<Level>) -> v1::RiskLevel {
    match level {
        None => v1::RiskLevel::None,
        Some(Level::Flagged) => v1::RiskLevel::Flagged,
        Some(Level::PasswordResetRequired) => v1::RiskLevel::PasswordResetRequired,
        Some(Level::Suspended) => v1::RiskLevel::Suspended,
    }
}

fn unavailable(error: StoreError) -> Status {
    tracing::warn!(%error, "a fraud question could not be answered");
    refuse_for_now(Reason::StoreUnavailable, "the fraud store did not answer; ask again", RETRY_AFTER)
}

#[cfg(test)]
mod tests;
