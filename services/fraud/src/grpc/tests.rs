use headwater_proto::EventType::{UserCreated, UserLoggedIn, UserLoginFailed, UserPasswordChanged};
use headwater_stream::{BatchHandler, FixedClock};
use tonic::Code;
use tonic_types::StatusExt;

use super::*;
use crate::{
    Handler, MemoryStore, Rules,
    testing::{Announced, Faults, Faulty, at, delivery, event, id, ip_changed, user},
};

/// Ada: a takeover (events 2 to 4), then a burst of failures (11 to 15). Bob: nothing but an account.
async fn store() -> MemoryStore {
    let mut log = vec![
        event(1, UserCreated, at(0)),
        event(2, UserPasswordChanged, at(1)),
        ip_changed(3, at(2), "::ffff:10.0.0.9"),
        event(4, UserLoggedIn, at(3)),
    ];
    log.extend((11..=15).map(|n| event(n, UserLoginFailed, at(n as i64))));
    log.push(headwater_proto::Event { user_id: user("bob"), ..event(20, UserCreated, at(0)) });
    let batch: Vec<_> = log.into_iter().enumerate().map(|(n, event)| delivery(n as i64, event)).collect();
    let store = MemoryStore::new();
    let mut handler = Handler::new(store.clone(), Announced::default(), FixedClock::at(at(0)), Rules::default());
    handler.apply(&batch).await.unwrap();
    store
}

async fn api() -> Api<MemoryStore> {
    Api::new(store().await, Rules::default().thresholds)
}

fn texts(ids: impl IntoIterator<Item = u64>) -> Vec<String> {
    ids.into_iter().map(|n| id(n).to_string()).collect()
}

#[tokio::test]
async fn a_profile_shows_the_present_score_and_what_it_rests_on() {
    let api = api().await;
    let ask = async |name: &str| {
        let answer = api.get_risk_profile(Request::new(v1::GetRiskProfileRequest { user_id: name.into() })).await;
        answer.map(Response::into_inner)
    };
    let ada = ask("ada").await.unwrap();
    assert_eq!((ada.score, ada.level()), (80, v1::RiskLevel::Suspended));
    let rules: Vec<_> = ada.matches.iter().map(|m| (m.rule.as_str(), m.points, m.evidence_event_ids.clone())).collect();
    assert_eq!(rules, [("takeover_sequence", 50, texts(2..=4)), ("login_failure_burst", 30, texts(11..=15))],);
    let bob = ask("bob").await.unwrap();
    assert_eq!((bob.score, bob.level(), bob.matches.len()), (0, v1::RiskLevel::None, 0));
    assert_eq!(ask("eve").await.unwrap_err().get_error_details().error_info().unwrap().reason, "USER_NOT_FOUND");
}

#[tokio::test]
async fn reports_are_paged_newest_and_gravest_first() {
    let api = api().await;
    let ask = async |user_id: &str, page_size, page_token: String| {
        let request = v1::ListFraudReportsRequest { user_id: user_id.into(), page_size, page_token };
        api.list_fraud_reports(Request::new(request)).await.map(Response::into_inner)
    };
    for name in ["", "ada"] {
        let all = ask(name, 0, String::new()).await.unwrap();
        assert_eq!(all.next_page_token, "");
        let actions: Vec<_> = all.reports.iter().map(|report| (report.action.as_str(), report.score)).collect();
        assert_eq!(actions, [("user.suspended", 80), ("user.password_reset_required", 50), ("user.flagged", 50)]);

        let first = ask(name, 2, String::new()).await.unwrap();
        assert_eq!(first.reports, all.reports[..2]);
        let second = ask(name, 2, first.next_page_token).await.unwrap();
        assert_eq!((&second.reports[..], second.next_page_token.as_str()), (&all.reports[2..], ""));
    }
    let newest = ask("ada", 1, String::new()).await.unwrap().reports.remove(0);
    assert_eq!(newest.report_id, id(15).derive("user.suspended").to_string());
    assert_eq!((newest.event_id, newest.decided_at), (id(15).to_string(), Some(at(15).into())));
    assert_eq!(newest.rules, ["takeover_sequence", "login_failure_burst"]);
    assert_eq!(newest.evidence_event_ids, texts([2, 3, 4, 11, 12, 13, 14, 15]));
    assert_eq!(ask("bob", 0, String::new()).await.unwrap().reports, []);
    assert_eq!(ask("eve", 0, String::new()).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn evaluations_show_what_each_event_changed() {
    let api = api().await;
    let ask = async |name: &str, page_size, page_token: String| {
        let request = v1::ListRiskEvaluationsRequest { user_id: name.into(), page_size, page_token };
        api.list_risk_evaluations(Request::new(request)).await.map(Response::into_inner)
    };
    let first = ask("ada", 1, String::new()).await.unwrap();
    let second = ask("ada", 1, first.next_page_token).await.unwrap();
    assert_eq!(second.next_page_token, "");
    let shown: Vec<_> = [&first.evaluations[0], &second.evaluations[0]]
        .map(|e| (e.event_id.clone(), e.event_type.as_str(), e.score, e.level(), e.matches.len(), e.announced.clone()))
        .into();
    let announced = |types: &[&str]| types.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let (reset, suspended) = (v1::RiskLevel::PasswordResetRequired, v1::RiskLevel::Suspended);
    assert_eq!(
        shown,
        [
            (id(15).to_string(), "user.login_failed", 80, suspended, 2, announced(&["user.suspended"])),
            (
                id(4).to_string(),
                "user.logged_in",
                50,
                reset,
                1,
                announced(&["user.flagged", "user.password_reset_required"])
            ),
        ]
    );
    assert_eq!(ask("bob", 0, String::new()).await.unwrap().evaluations, []);
    assert_eq!(ask("eve", 0, String::new()).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn a_trace_holds_the_rule_relevant_events_in_their_order() {
    let api = api().await;
    let request = v1::GetEventTraceRequest { user_id: "ada".into() };
    let events = api.get_event_trace(Request::new(request)).await.unwrap().into_inner().events;
    assert_eq!(events.iter().map(|e| e.event_id.clone()).collect::<Vec<_>>(), texts([2, 3, 4, 11, 12, 13, 14, 15]));
    let second = &events[1];
    assert_eq!((second.event_type.as_str(), second.ip.as_str()), ("user.ip_changed", "10.0.0.9"));
    assert_eq!(second.occurred_at, Some(at(2).into()));
}

#[tokio::test]
async fn a_decision_is_explained_by_what_was_stored_with_it() {
    let api = api().await;
    let ask = async |event_id: String| {
        let answer = api.explain_decision(Request::new(v1::ExplainDecisionRequest { event_id })).await;
        answer.map(Response::into_inner)
    };
    let flagged = ask(id(4).derive("user.flagged").to_string()).await.unwrap();
    assert_eq!(flagged.report.as_ref().unwrap().action, "user.flagged");
    let reset = ask(id(4).to_string()).await.unwrap();
    assert_eq!(reset.report.as_ref().unwrap().action, "user.password_reset_required", "the gravest of its trigger");
    let decision = reset.decision.unwrap();
    assert_eq!((decision.score, decision.rules.len()), (50, 1), "as it was then, not as it is now");
    assert_eq!(reset.evidence.iter().map(|e| e.event_id.clone()).collect::<Vec<_>>(), texts(2..=4));
    let nothing = ask(id(3).to_string()).await.unwrap_err();
    assert_eq!(nothing.code(), Code::NotFound);
    assert_eq!(nothing.get_error_details().error_info().unwrap().reason, "DECISION_NOT_FOUND");
}

#[tokio::test]
async fn every_bad_field_is_named_at_once() {
    let api = api().await;
    fn fields<T: std::fmt::Debug>(answer: Result<Response<T>, Status>) -> Vec<String> {
        let status = answer.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        status.get_error_details().bad_request().unwrap().field_violations.iter().map(|v| v.field.clone()).collect()
    }
    let (user_id, page_token) = (|| "a\nb".to_owned(), || "%".to_owned());
    let reports = v1::ListFraudReportsRequest { user_id: user_id(), page_size: -1, page_token: page_token() };
    assert_eq!(fields(api.list_fraud_reports(Request::new(reports)).await), ["user_id", "page_size", "page_token"]);
    let evaluations = v1::ListRiskEvaluationsRequest { user_id: "".into(), page_size: 1_001, page_token: page_token() };
    let answer = api.list_risk_evaluations(Request::new(evaluations)).await;
    assert_eq!(fields(answer), ["user_id", "page_size", "page_token"]);
    let profile = v1::GetRiskProfileRequest { user_id: user_id() };
    assert_eq!(fields(api.get_risk_profile(Request::new(profile)).await), ["user_id"]);
    let trace = v1::GetEventTraceRequest { user_id: "x".repeat(129) };
    assert_eq!(fields(api.get_event_trace(Request::new(trace)).await), ["user_id"]);
    let explain = v1::ExplainDecisionRequest { event_id: "7".into() };
    assert_eq!(fields(api.explain_decision(Request::new(explain)).await), ["event_id"]);
}

#[tokio::test]
async fn a_store_that_is_away_is_told_with_a_time_to_come_back() {
    let faults = Faults::at([0].into(), false);
    let api = Api::new(Faulty::new(MemoryStore::new(), &faults), Rules::default().thresholds);
    let asked = api.get_risk_profile(Request::new(v1::GetRiskProfileRequest { user_id: "ada".into() })).await;
    let details = asked.unwrap_err().get_error_details();
    assert_eq!(details.error_info().unwrap().reason, "STORE_UNAVAILABLE");
    assert_eq!(details.retry_info().unwrap().retry_delay, Some(RETRY_AFTER));
}
