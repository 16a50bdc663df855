//! Batches as the consumer hands them over: outcomes, failures on the way, and the journal of late events.
use headwater_proto::{EventType::*, v1};
use headwater_stream::{BatchHandler as _, Decoded, Headers, Outcome, Position, Record};
use prost::Message as _;

use super::{
    apply, handler,
    troubled::{Trouble, Troubled},
};
use crate::{
    Handler, MemoryStore, Period, SessionEvent, Store, skip,
    store::conformance::{active_users, day, event, user_id},
};

const DUPLICATE: Outcome = Outcome::Skip(skip::DUPLICATE);

async fn journal(store: &MemoryStore, period: Period) -> Vec<String> {
    let mut revisions: Vec<String> = store.revisions_of(period).await.unwrap().iter().map(told).collect();
    revisions.sort();
    revisions
}

fn told(revision: &crate::Revision) -> String {
    let ids = revision.event_ids.iter().map(|id| u128::from_be_bytes(*id.as_bytes()).to_string());
    let ids = ids.collect::<Vec<_>>().join(",");
    format!("{} {} -> {} by {ids}", revision.metric.name(), revision.old, revision.new)
}

#[tokio::test]
async fn a_duplicate_is_skipped_in_its_own_batch_and_in_a_later_one() {
    let mut handler = handler(MemoryStore::new());
    let one = event(1, UserLoggedIn, "ann", "s", "2026-01-15T10:00:00Z");
    let two = event(2, UserLoggedOut, "ann", "s", "2026-01-15T10:10:00Z");
    let outcomes = apply(&mut handler, &[one.clone(), one.clone(), two.clone()]).await.unwrap();
    assert_eq!(outcomes, [Outcome::Done, DUPLICATE, Outcome::Done]);
    assert_eq!(apply(&mut handler, &[two, one]).await.unwrap(), [DUPLICATE, DUPLICATE]);
    assert_eq!(apply(&mut handler, &[]).await.unwrap(), []);
}

#[tokio::test]
async fn the_same_event_id_with_other_facts_changes_nothing() {
    let store = MemoryStore::new();
    let mut handler = handler(store.clone());
    let first = event(1, UserLoggedIn, "ann", "s", "2026-01-15T10:00:00Z");
    let forged = event(1, UserLoggedIn, "bob", "t", "2026-01-16T10:00:00Z");
    apply(&mut handler, &[first]).await.unwrap();
    assert_eq!(apply(&mut handler, &[forged]).await.unwrap(), [DUPLICATE]);
    let days = [day("2026-01-15"), day("2026-01-16")].map(Period::Day);
    assert_eq!(active_users(&store, &days).await, [1, 0]);
    assert_eq!(store.sessions_of(&user_id("bob")).await.unwrap(), None);
}

#[tokio::test]
async fn a_batch_that_failed_half_way_counts_its_events_as_done_when_it_is_tried_again() {
    let events = [
        event(1, UserLoggedIn, "ann", "s", "2026-01-15T10:00:00Z"),
        event(2, UserLoggedOut, "ann", "s", "2026-01-15T10:10:00Z"),
    ];
    // newest day, insert and sessions pass; the memberships fail
    let script = [Trouble::Pass, Trouble::Pass, Trouble::Pass, Trouble::FailBefore];
    let store = MemoryStore::new();
    let mut handler = handler(Troubled::new(store.clone(), script));
    let failed = apply(&mut handler, &events).await.unwrap_err();
    assert_eq!(failed.to_string(), "the analytics store is unavailable");
    assert_eq!(store.insert_events(&events).await.unwrap(), events.clone().map(Some), "the events are in already");
    assert_eq!(apply(&mut handler, &events).await.unwrap(), [Outcome::Done, Outcome::Done]);
    assert_eq!(apply(&mut handler, &events).await.unwrap(), [DUPLICATE, DUPLICATE]);
    assert_eq!(active_users(&store, &[Period::Day(day("2026-01-15"))]).await, [1]);
}

#[tokio::test]
async fn what_late_events_change_is_in_the_journal_with_old_and_new() {
    let store = MemoryStore::new();
    let mut handler = handler(store.clone());
    let monday = Period::Day(day("2026-01-12"));
    let in_time = [
        event(1, UserLoggedIn, "ann", "s", "2026-01-12T10:00:00Z"),
        event(2, UserLoggedIn, "ann", "s", "2026-01-12T10:50:00Z"),
        event(3, UserLoggedIn, "bob", "s", "2026-01-14T10:00:00Z"),
    ];
    apply(&mut handler, &in_time).await.unwrap();
    assert_eq!(journal(&store, monday).await, [""; 0]);

    let late = [
        event(4, UserIpChanged, "ann", "s", "2026-01-12T10:25:00Z"), // joins ann's two segments
        event(5, UserLoggedIn, "cid", "s", "2026-01-12T11:00:00Z"),
        event(6, UserLoggedOut, "cid", "s", "2026-01-12T11:10:00Z"),
        event(7, UserLoggedIn, "dan", "s", "2026-01-12T11:00:00Z"),
        event(8, UserLoggedIn, "bob", "s", "2026-01-14T10:10:00Z"), // in time
    ];
    apply(&mut handler, &late).await.unwrap();
    let expected = [
        "daily_active_users 1 -> 3 by 5,6,7",
        "sessions_ended_by_logout 0 -> 1 by 5,6",
        "sessions_started 2 -> 3 by 4,5,6,7",
    ];
    assert_eq!(journal(&store, monday).await, expected);
    assert_eq!(
        journal(&store, Period::Month(day("2026-01-12").month())).await,
        ["monthly_active_users 2 -> 4 by 5,6,7"]
    );
    assert_eq!(journal(&store, Period::Day(day("2026-01-14"))).await, [""; 0]);

    apply(&mut handler, &late).await.unwrap();
    assert_eq!(journal(&store, monday).await, expected, "a redelivery changes nothing, so it adds nothing");
}

#[tokio::test]
async fn what_events_in_time_add_in_the_same_batch_counts_as_there_before_the_late_ones() {
    let store = MemoryStore::new();
    let batch = [
        event(1, UserLoggedIn, "ann", "s", "2026-01-15T10:00:00Z"),
        event(2, UserLoggedIn, "bob", "s", "2026-01-16T10:00:00Z"),
        event(3, UserLoggedIn, "cid", "s", "2026-01-15T11:00:00Z"),
    ];
    apply(&mut handler(store.clone()), &batch).await.unwrap();
    let thursday = Period::Day(day("2026-01-15"));
    assert_eq!(journal(&store, thursday).await, ["daily_active_users 1 -> 2 by 3", "sessions_started 1 -> 2 by 3"]);
    let january = Period::Month(day("2026-01-15").month());
    assert_eq!(journal(&store, january).await, ["monthly_active_users 2 -> 3 by 3"]);
}

#[tokio::test]
async fn what_a_failed_attempt_has_written_makes_no_event_late() {
    let batch = [
        event(1, UserLoggedIn, "ann", "s", "2026-01-15T10:00:00Z"),
        event(2, UserLoggedIn, "bob", "s", "2026-01-16T10:00:00Z"),
    ];
    // newest day, insert and sessions pass; the memberships are written and the answer is lost
    let script = [Trouble::Pass, Trouble::Pass, Trouble::Pass, Trouble::FailAfter];
    let store = MemoryStore::new();
    let mut handler = handler(Troubled::new(store.clone(), script));
    apply(&mut handler, &batch).await.unwrap_err();
    apply(&mut handler, &batch).await.unwrap();
    assert_eq!(journal(&store, Period::Day(day("2026-01-15"))).await, [""; 0]);
}

#[tokio::test]
async fn what_events_in_time_change_in_the_same_session_is_not_put_to_the_late_ones() {
    let store = MemoryStore::new();
    let mut handler = handler(store.clone());
    let (sunday, tuesday) = (Period::Day(day("2026-01-11")), Period::Day(day("2026-01-13")));
    apply(&mut handler, &[event(1, UserLoggedIn, "bob", "", "2026-01-13T00:00:00Z")]).await.unwrap();
    let at_its_end = [
        event(2, UserLoggedIn, "ann", "s", "2026-01-12T10:00:00Z"),
        event(3, UserLoggedIn, "ann", "s", "2026-01-13T10:00:00Z"),
    ];
    let before_it = [
        event(4, UserLoggedIn, "ann", "s", "2026-01-11T10:00:00Z"),
        event(5, UserLoggedIn, "ann", "s", "2026-01-13T11:00:00Z"),
    ];
    apply(&mut handler, &at_its_end).await.unwrap();
    apply(&mut handler, &[before_it.as_slice(), &at_its_end].concat()).await.unwrap();
    let monday = Period::Day(day("2026-01-12"));
    assert_eq!(journal(&store, monday).await, ["daily_active_users 0 -> 1 by 2", "sessions_started 0 -> 1 by 2"]);
    assert_eq!(journal(&store, sunday).await, ["daily_active_users 0 -> 1 by 4", "sessions_started 0 -> 1 by 4"]);
    assert_eq!(journal(&store, tuesday).await, [""; 0]);
}

#[tokio::test]
async fn a_late_event_that_changes_no_figure_leaves_no_revision() {
    let store = MemoryStore::new();
    let mut handler = handler(store.clone());
    let tuesday = event(1, UserLoggedIn, "ann", "", "2026-01-13T10:00:00Z");
    let monday = event(2, UserLoggedIn, "ann", "s", "2026-01-12T10:00:00Z");
    let again = event(3, UserPasswordChanged, "ann", "s", "2026-01-12T10:01:00Z");
    apply(&mut handler, &[monday, tuesday]).await.unwrap();
    apply(&mut handler, &[again]).await.unwrap();
    assert_eq!(journal(&store, Period::Day(day("2026-01-12"))).await, [""; 0]);
}

#[tokio::test]
async fn the_journal_survives_a_failure_between_it_and_what_it_describes() {
    let store = MemoryStore::new();
    apply(&mut handler(store.clone()), &[event(1, UserLoggedIn, "ann", "", "2026-01-13T10:00:00Z")]).await.unwrap();
    let late = [event(2, UserLoggedIn, "bob", "s", "2026-01-12T10:00:00Z")];
    for passes in 0..12 {
        let script = std::iter::repeat_n(Trouble::Pass, passes).chain([Trouble::FailAfter]);
        // each time another process, as after a crash
        let _ = apply(&mut handler(Troubled::new(store.clone(), script)), &late).await;
    }
    apply(&mut handler(store.clone()), &late).await.unwrap();
    assert_eq!(
        journal(&store, Period::Day(day("2026-01-12"))).await,
        ["daily_active_users 0 -> 1 by 2", "sessions_started 0 -> 1 by 2"]
    );
}

#[test]
fn a_record_is_an_event_a_skip_or_poison() {
    let envelope = |event_type: &str| v1::EventEnvelope {
        event_id: "0190b6c5-6d0e-7c3a-9f0e-1f2d3c4b5a69".into(),
        event_type: event_type.into(),
        aggregate_id: "ann".into(),
        occurred_at: Some(headwater_proto::Millis::from_millis(1_000).into()),
        ..Default::default()
    };
    let decoded = |value: &[u8]| {
        let position = Position { partition: 0, offset: 0 };
        let (topic, headers) = ("user.events", Headers::Slice(&[]));
        let record = Record { topic, position, timestamp: Some(1_000), key: Some(b"ann"), value: Some(value), headers };
        Handler::<MemoryStore>::decode(&record)
    };
    for (event_type, expected) in [
        ("user.login_failed", skip::LOGIN_FAILED),
        ("user.suspended", skip::NOT_A_USER_ACTION),
        ("user.created", skip::NO_SESSION),
        ("user.teleported", headwater_stream::UNKNOWN_TYPE),
    ] {
        assert_eq!(decoded(&envelope(event_type).encode_to_vec()), Ok(Decoded::Skip(expected)), "{event_type}");
    }
    let login = event(0, UserLoggedIn, "ann", "", "1970-01-01T00:00:01Z");
    let login = SessionEvent { id: "0190b6c5-6d0e-7c3a-9f0e-1f2d3c4b5a69".parse().unwrap(), ..login };
    assert_eq!(decoded(&envelope("user.logged_in").encode_to_vec()), Ok(Decoded::Item(login)));
    assert_eq!(decoded(b"garbage").unwrap_err().reason, "undecodable");
}
