//! What every adapter of [`Store`] promises. Panics where one does not keep it.
use std::{future::Future, sync::Arc};

use headwater_proto::{EventId, EventType, Millis, UserId, v1};
use headwater_stream::Position;

use super::{ProfileWrite, Store};
use crate::{
    findings::{Evaluation, Findings, Report, Trace},
    profile::{Kept, KnownEmail, Match, Profile},
    rules::Level,
};

/// Runs everything, each on a fresh store.
pub async fn suite<S: Store, F: Future<Output = S>>(fresh: impl Fn() -> F) {
    a_profile_comes_back_as_it_was_saved(fresh().await).await;
    a_profile_that_somebody_else_moved_on_is_not_replaced(fresh().await).await;
    a_finding_is_stored_once_and_stays_as_it_is(fresh().await).await;
    reports_are_paged_newest_first_of_one_user_or_of_all(fresh().await).await;
    evaluations_are_paged_newest_first(fresh().await).await;
    a_decision_is_found_by_its_own_event_and_by_its_trigger(fresh().await).await;
    traces_come_in_the_order_of_events_and_only_of_their_user(fresh().await).await;
}

fn id(n: u128) -> EventId {
    EventId::from_bytes(n.to_be_bytes())
}

fn user(name: &str) -> UserId {
    UserId::try_from(name).expect("a valid name")
}

fn at(seconds: i64) -> Millis {
    Millis::from_millis(1_768_474_800_000 + seconds * 1_000)
}

fn kept(n: u128, occurred_at: Millis) -> Kept {
    let ip = n.is_multiple_of(2).then(|| "2001:db8::1".parse().expect("an address"));
    Kept {
        id: id(n),
        event_type: EventType::UserIpChanged,
        occurred_at,
        offset: n as i64,
        ip,
        cleared: n.is_multiple_of(3),
    }
}

fn profile(offset: i64) -> Arc<Profile> {
    let found = Match {
        rule: "ip_churn".into(),
        points: 20,
        matched_at: at(2),
        evidence: vec![kept(1, at(1)), kept(2, at(2))],
        shadow: offset % 2 == 0,
    };
    Arc::new(Profile {
        position: Some(Position { partition: 7, offset }),
        newest: Some(at(3)),
        events: vec![kept(1, at(1)), kept(2, at(2)), kept(3, at(3))],
        matches: vec![Arc::new(found)],
        announced: vec![Level::Flagged, Level::Suspended],
        status_epoch: 4,
        reinstated_at: Some(at(-2)),
        reinstatements: vec![id(9), id(8)],
        email: Some(KnownEmail { address: "ada@example.com".into(), occurred_at: at(2), offset: 1 }),
    })
}

fn write(name: &str, read: Option<i64>, profile: Arc<Profile>) -> ProfileWrite {
    ProfileWrite { user_id: user(name), read: read.map(|offset| Position { partition: 7, offset }), profile }
}

fn report(n: u128, name: &str, trigger: u128, level: Level, decided_at: Millis) -> Report {
    let verdict = v1::Verdict { score: 50, evidence_event_ids: vec![id(trigger).to_string()], ..Default::default() };
    Report { id: id(n), user_id: user(name), trigger: id(trigger), level, decided_at, verdict }
}

fn evaluation(name: &str, occurred_at: Millis, offset: i64) -> Evaluation {
    Evaluation {
        user_id: user(name),
        event_id: id(offset as u128),
        event_type: EventType::UserLoggedIn,
        occurred_at,
        offset,
        score: 20,
        level: None,
        matches: profile(0).matches.clone(),
        announced: vec![Level::Flagged],
    }
}

async fn a_profile_comes_back_as_it_was_saved(store: impl Store) {
    let empty = Arc::new(Profile { position: Some(Position { partition: 7, offset: 0 }), ..Profile::default() });
    let writes = vec![write("ada", None, profile(3)), write("bob", None, empty.clone())];
    assert_eq!(store.save(writes).await.expect("saves"), []);
    let mut stored = store.profiles(&[user("bob"), user("eve"), user("ada")]).await.expect("reads");
    stored.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(stored, [(user("ada"), profile(3)), (user("bob"), empty)]);
}

async fn a_profile_that_somebody_else_moved_on_is_not_replaced(store: impl Store) {
    store.save(vec![write("ada", None, profile(3)), write("bob", None, profile(3))]).await.expect("saves");
    for read in [None, Some(2), Some(4)] {
        let refused = store.save(vec![write("ada", read, profile(9))]).await.expect("answers");
        assert_eq!(refused, [user("ada")], "read at {read:?}");
    }
    let gone = store.save(vec![write("eve", Some(1), profile(9))]).await.expect("answers");
    assert_eq!(gone, [user("eve")], "a profile that was read and is not there any more");

    let mixed = vec![write("ada", Some(2), profile(9)), write("bob", Some(3), profile(4))];
    assert!(store.save(mixed).await.expect("answers").contains(&user("ada")));
    let mut stored = store.profiles(&[user("ada"), user("bob"), user("eve")]).await.expect("reads");
    stored.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(stored, [(user("ada"), profile(3)), (user("bob"), profile(4))], "the others of a bulk are written");
}

async fn a_finding_is_stored_once_and_stays_as_it_is(store: impl Store) {
    let first = Findings {
        evaluations: vec![evaluation("ada", at(1), 1)],
        reports: vec![report(101, "ada", 1, Level::Flagged, at(1))],
        traces: vec![Trace { user_id: user("ada"), event: kept(1, at(1)) }],
    };
    let mut other = first.clone();
    other.evaluations[0].score = 99;
    other.reports[0].verdict.score = 99;
    other.traces[0].event.ip = None;
    other.traces.push(Trace { user_id: user("ada"), event: kept(2, at(2)) });
    for findings in [&first, &other, &first] {
        store.record(findings.clone()).await.expect("records");
    }
    let evaluations = store.evaluations(&user("ada"), None, 9).await.expect("reads");
    assert_eq!(evaluations, [Arc::new(first.evaluations[0].clone())]);
    let reports = store.reports(None, None, 9).await.expect("reads");
    assert_eq!(reports, [Arc::new(first.reports[0].clone())]);
    let traces = store.traces(&user("ada"), &[id(1), id(2)]).await.expect("reads");
    assert_eq!(traces, [kept(1, at(1)), kept(2, at(2))], "what is new beside it is stored");
}

async fn reports_are_paged_newest_first_of_one_user_or_of_all(store: impl Store) {
    let newest_first = [
        report(1, "bob", 11, Level::Flagged, at(30)),
        report(2, "ada", 12, Level::Suspended, at(20)),
        report(9, "ada", 12, Level::Flagged, at(20)),
        report(4, "ada", 14, Level::Flagged, at(-40)),
    ];
    let mut reports = newest_first.to_vec();
    reports.rotate_left(2);
    store
        .record(Findings { reports, evaluations: vec![evaluation("ada", at(1), 1)], traces: vec![] })
        .await
        .expect("records");
    for (name, wanted) in [(None, &newest_first[..]), (Some(user("ada")), &newest_first[1..])] {
        let mut before = None;
        for expected in wanted.chunks(2) {
            let page = store.reports(name.as_ref(), before, 2).await.expect("reads");
            assert_eq!(
                page.iter().map(|report| report.id).collect::<Vec<_>>(),
                expected.iter().map(|r| r.id).collect::<Vec<_>>()
            );
            before = page.last().map(|report| report.place());
        }
        assert_eq!(store.reports(name.as_ref(), Some(newest_first[3].place()), 2).await.expect("reads"), []);
    }
    assert_eq!(store.reports(Some(&user("eve")), None, 9).await.expect("reads"), []);
}

async fn evaluations_are_paged_newest_first(store: impl Store) {
    let newest_first = [evaluation("ada", at(9), 3), evaluation("ada", at(5), 7), evaluation("ada", at(5), 4)];
    let evaluations =
        vec![newest_first[1].clone(), evaluation("bob", at(6), 1), newest_first[0].clone(), newest_first[2].clone()];
    store.record(Findings { evaluations, ..Findings::default() }).await.expect("records");
    let mut before = None;
    for expected in &newest_first {
        let page = store.evaluations(&user("ada"), before, 1).await.expect("reads");
        assert_eq!(page, [Arc::new(expected.clone())]);
        before = Some(expected.place());
    }
    assert_eq!(store.evaluations(&user("ada"), before, 1).await.expect("reads"), []);
}

async fn a_decision_is_found_by_its_own_event_and_by_its_trigger(store: impl Store) {
    let reports = vec![
        report(103, "ada", 1, Level::Suspended, at(1)),
        report(101, "ada", 1, Level::Flagged, at(1)),
        report(102, "ada", 2, Level::Flagged, at(2)),
    ];
    store
        .record(Findings { reports, evaluations: vec![evaluation("ada", at(1), 1)], traces: vec![] })
        .await
        .expect("records");
    for (asked, found) in [(101, Some(101)), (103, Some(103)), (1, Some(103)), (2, Some(102)), (3, None)] {
        let decision = store.decision(id(asked)).await.expect("reads");
        assert_eq!(decision.map(|report| report.id), found.map(id), "asked for {asked}");
    }
}

async fn traces_come_in_the_order_of_events_and_only_of_their_user(store: impl Store) {
    let trace = |name: &str, n, seconds| Trace { user_id: user(name), event: kept(n, at(seconds)) };
    let traces = vec![trace("ada", 1, 5), trace("ada", 2, 4), trace("bob", 1, 1), trace("ada", 4, 4)];
    store
        .record(Findings { traces, evaluations: vec![evaluation("ada", at(1), 1)], reports: vec![] })
        .await
        .expect("records");
    let stored = store.traces(&user("ada"), &[id(1), id(3), id(4), id(2)]).await.expect("reads");
    assert_eq!(stored, [kept(2, at(4)), kept(4, at(4)), kept(1, at(5))]);
    assert_eq!(store.traces(&user("eve"), &[id(1)]).await.expect("reads"), []);
}
