//! What every adapter of [`Store`] promises, one sentence each.
use std::sync::Arc;

use headwater_proto::{Day, EventId, EventType, Millis, UserId};

use super::{SessionWrite, Store};
use crate::{
    activity::{Member, Period},
    event::{SessionEvent, SessionKey},
    metric::Metric,
    recount,
    revisions::Revision,
    sessions::{Segment, Session},
};

/// Runs the suite; `fresh` opens empty collections each time. Panics where a promise is broken.
pub async fn suite<S: Store>(fresh: impl AsyncFn() -> S) {
    an_event_is_inserted_once_and_its_first_form_stays(fresh().await).await;
    the_events_of_a_session_are_those_of_its_user(fresh().await).await;
    a_member_counts_once_per_period_before_and_after_a_recount(fresh().await).await;
    a_recount_takes_back_only_the_mark_it_saw(fresh().await).await;
    the_newest_day_only_moves_forward(fresh().await).await;
    only_the_absent_members_are_told(fresh().await).await;
    a_session_is_written_only_over_the_version_it_was_made_from(fresh().await).await;
    every_version_of_a_session_is_read_as_it_was_written(fresh().await).await;
    a_segment_is_found_by_the_day_it_starts_on(fresh().await).await;
    only_segments_with_a_login_stand_in_the_session_figures(fresh().await).await;
    a_user_is_seen_once_anything_is_stored(fresh().await).await;
    a_revision_is_inserted_once(fresh().await).await;
    nothing_asked_is_nothing_answered(fresh().await).await;
}

/// `user`'s event with the id number `id`, at `at` (RFC 3339); `session` "" is none.
pub fn event(id: u128, event_type: EventType, user: &str, session: &str, at: &str) -> SessionEvent {
    SessionEvent {
        id: EventId::from_bytes(id.to_be_bytes()),
        user_id: user_id(user),
        session_id: (!session.is_empty()).then(|| session.into()),
        event_type,
        occurred_at: millis(at),
    }
}

pub fn user_id(user: &str) -> UserId {
    UserId::try_from(user).expect("a test names a valid user")
}

pub fn millis(at: &str) -> Millis {
    at.parse().expect("a test names a valid time")
}

pub fn day(day: &str) -> Day {
    day.parse().expect("a test names a valid day")
}

pub async fn active_users(store: &impl Store, periods: &[Period]) -> Vec<u64> {
    let metrics: Vec<Metric> = periods.iter().copied().map(Metric::ActiveUsers).collect();
    store.figures(&metrics).await.expect("the store answers")
}

fn key(user: &str, session: &str) -> SessionKey {
    SessionKey { user_id: user_id(user), session_id: Arc::from(session) }
}

fn login(id: u128, user: &str, session: &str, at: &str) -> SessionEvent {
    event(id, EventType::UserLoggedIn, user, session, at)
}

fn member(user: &str, period: Period) -> Member {
    Member { user_id: user_id(user), period }
}

/// Of the length `n`, with a segment for each start.
fn session(key: SessionKey, n: u64, starts: &[&str]) -> Session {
    let segment = |start: &&str| Segment {
        started_at: millis(start),
        last_activity_at: millis(start),
        events: 1,
        logged_in: true,
        logged_out: false,
    };
    Session { key, n, segments: starts.iter().map(segment).collect() }
}

async fn an_event_is_inserted_once_and_its_first_form_stays(store: impl Store) {
    let (first, other) = (login(1, "ann", "s", "2026-01-15T10:00:00Z"), login(2, "ann", "", "2026-01-15T10:00:00Z"));
    let changed = login(1, "ann", "t", "2026-01-16T10:00:00Z");
    assert_eq!(store.insert_events(std::slice::from_ref(&first)).await.unwrap(), [None]);
    let again = store.insert_events(&[other.clone(), changed.clone()]).await.unwrap();
    assert_eq!(again, [None, Some(first.clone())]);
    let again = store.insert_events(&[changed, other.clone()]).await.unwrap();
    assert_eq!(again, [Some(first), Some(other)]);
}

async fn the_events_of_a_session_are_those_of_its_user(store: impl Store) {
    let at = "2026-01-15T10:00:00Z";
    let events = [
        login(1, "ann", "s", at),
        login(2, "ann", "t", at),
        login(3, "bob", "s", at),
        login(4, "ann", "", at),
        login(5, "ann", "s", at),
    ];
    store.insert_events(&events).await.unwrap();
    let mut found = store.session_events(&[key("ann", "s"), key("bob", "t"), key("bob", "s")]).await.unwrap();
    found.iter_mut().for_each(|events| events.sort_by_key(|event| event.id));
    let [one, _, three, _, five] = events;
    assert_eq!(found, [vec![one, five], vec![], vec![three]]);
}

async fn a_member_counts_once_per_period_before_and_after_a_recount(store: impl Store) {
    let (monday, tuesday) = (Period::Day(day("2026-01-12")), Period::Day(day("2026-01-13")));
    let month = Period::Month(day("2026-01-12").month());
    let periods = [tuesday, month, monday, Period::Day(day("2026-01-14"))];
    store.add_members(&[member("ann", monday), member("bob", monday), member("ann", month)]).await.unwrap();
    store.add_members(&[member("ann", tuesday), member("ann", month), member("ann", monday)]).await.unwrap();
    assert_eq!(active_users(&store, &periods).await, [1, 1, 2, 0]);
    recount::round(&store).await.unwrap();
    assert_eq!(store.stale().await.unwrap(), []);
    assert_eq!(active_users(&store, &periods).await, [1, 1, 2, 0]);
    store.add_members(&[member("cid", monday)]).await.unwrap();
    assert_eq!(active_users(&store, &periods).await, [1, 1, 3, 0], "a stale day is counted on the spot");
}

async fn a_recount_takes_back_only_the_mark_it_saw(store: impl Store) {
    let period = Period::Day(day("2026-01-12"));
    store.add_members(&[member("ann", period)]).await.unwrap();
    let seen = store.stale().await.unwrap();
    assert_eq!(seen.iter().map(|stale| stale.period).collect::<Vec<_>>(), [period]);
    store.add_members(&[member("bob", period)]).await.unwrap();
    store.recount(seen[0].clone()).await.unwrap();
    assert_eq!(store.stale().await.unwrap().len(), 1, "bob's mark stands");
    recount::round(&store).await.unwrap();
    assert_eq!(store.stale().await.unwrap(), []);
    store.recount(seen[0].clone()).await.unwrap();
    assert_eq!(active_users(&store, &[period]).await, [2]);
}

async fn the_newest_day_only_moves_forward(store: impl Store) {
    assert_eq!(store.newest_day().await.unwrap(), None);
    for (added, newest) in [
        ("1969-12-31", "1969-12-31"),
        ("2026-01-12", "2026-01-12"),
        ("2025-12-31", "2026-01-12"),
        ("9999-12-31", "9999-12-31"),
    ] {
        let added = day(added);
        store
            .add_members(&[member("ann", Period::Day(added)), member("ann", Period::Month(added.month()))])
            .await
            .unwrap();
        assert_eq!(store.newest_day().await.unwrap(), Some(day(newest)));
    }
}

async fn only_the_absent_members_are_told(store: impl Store) {
    let (period, month) = (Period::Day(day("2026-01-12")), Period::Month(day("2026-01-12").month()));
    store.add_members(&[member("ann", period), member("bob", month)]).await.unwrap();
    let asked = [("ann", period), ("ann", month), ("bob", period), ("bob", month)];
    let mut absent = store.absent_members(asked.map(|(user, period)| member(user, period)).into()).await.unwrap();
    absent.sort();
    assert_eq!(absent, [member("bob", period), member("ann", month)]);
}

async fn a_session_is_written_only_over_the_version_it_was_made_from(store: impl Store) {
    let (ann, bob) = (key("ann", "s"), key("bob", "s"));
    let stored = async || store.sessions(&[ann.clone(), bob.clone()]).await.unwrap();
    assert_eq!(stored().await, [Session::empty(ann.clone()), Session::empty(bob.clone())]);

    let one = session(ann.clone(), 1, &["2026-01-12T10:00:00Z"]);
    let write = |replaces, session: &Session| SessionWrite { replaces, session: session.clone() };
    assert_eq!(store.put_sessions(vec![write(0, &one)]).await.unwrap(), []);
    assert_eq!(stored().await, [one.clone(), Session::empty(bob.clone())]);

    let late = session(ann.clone(), 3, &["2026-01-12T09:00:00Z"]);
    let other = session(bob.clone(), 2, &["2026-01-12T10:00:00Z", "2026-01-13T10:00:00Z"]);
    let refused = store.put_sessions(vec![write(0, &late), write(0, &other)]).await.unwrap();
    assert!(refused.contains(&ann), "{refused:?}");
    assert_eq!(stored().await, [one, other.clone()], "the refused one changes nothing and holds up nobody");

    assert_eq!(store.put_sessions(vec![write(1, &late)]).await.unwrap(), []);
    assert_eq!(stored().await, [late, other]);
}

async fn every_version_of_a_session_is_read_as_it_was_written(store: impl Store) {
    let starts = ["2026-01-12T10:00:00Z", "2026-01-12T12:00:00Z", "2026-01-13T10:00:00Z", "2026-01-14T10:00:00Z"];
    let mut versions: Vec<Session> = [&starts[..1], &starts[..1], &starts[..2], &starts[..4], &starts[1..3], &starts]
        .into_iter()
        .zip(1..)
        .map(|(starts, n)| session(key("ann", "s"), n, starts))
        .collect();
    versions[1].segments[0].last_activity_at = millis("2026-01-12T10:05:00Z");
    versions[2].segments[0].events = u32::MAX;
    versions[3].segments[1].logged_out = true;
    for version in versions {
        let replaces = version.n - 1;
        assert_eq!(store.put_sessions(vec![SessionWrite { replaces, session: version.clone() }]).await.unwrap(), []);
        assert_eq!(store.sessions_of(&version.key.user_id).await.unwrap(), Some(vec![version.clone()]));
        for day in ["2026-01-12", "2026-01-13", "2026-01-14"].map(day) {
            let mut found = store.segments_started_on(day).await.unwrap();
            found.sort_by_key(|segment| segment.started_at);
            let expected = version.segments.iter().filter(|segment| segment.started_at.day() == day).copied();
            assert_eq!(found, expected.collect::<Vec<_>>(), "on {day}, version {}", version.n);
        }
    }
}

async fn a_segment_is_found_by_the_day_it_starts_on(store: impl Store) {
    let (monday, tuesday) = (day("2026-01-12"), day("2026-01-13"));
    let starts = async |day| {
        let mut starts: Vec<_> =
            store.segments_started_on(day).await.unwrap().iter().map(|s| s.started_at.to_string()).collect();
        starts.sort();
        starts
    };
    let first = session(key("ann", "s"), 1, &["2026-01-13T00:00:00Z"]);
    let two = session(key("ann", "s"), 2, &["2026-01-12T23:59:59.999Z", "2026-01-13T00:00:00Z"]);
    let other = session(key("bob", "s"), 1, &["2026-01-13T12:00:00Z"]);
    let moved = session(key("bob", "s"), 2, &["2026-01-12T12:00:00Z"]);
    let put = async |replaces, session| store.put_sessions(vec![SessionWrite { replaces, session }]).await.unwrap();
    put(0, first).await;
    assert_eq!((starts(monday).await, starts(tuesday).await), (vec![], vec!["2026-01-13T00:00:00.000Z".into()]));
    put(1, two).await;
    put(0, other).await;
    assert_eq!(starts(monday).await, ["2026-01-12T23:59:59.999Z"]);
    assert_eq!(starts(tuesday).await, ["2026-01-13T00:00:00.000Z", "2026-01-13T12:00:00.000Z"]);
    put(1, moved).await;
    assert_eq!(starts(monday).await, ["2026-01-12T12:00:00.000Z", "2026-01-12T23:59:59.999Z"]);
    assert_eq!(starts(tuesday).await, ["2026-01-13T00:00:00.000Z"]);
}

async fn only_segments_with_a_login_stand_in_the_session_figures(store: impl Store) {
    let (monday, tuesday) = (day("2026-01-12"), day("2026-01-13"));
    let figures = async || {
        let of = |day| [Metric::SessionsStarted(day), Metric::SessionsEndedByLogout(day)];
        store.figures(&[of(monday), of(tuesday)].concat()).await.unwrap()
    };
    let mut first =
        session(key("ann", "s"), 4, &["2026-01-12T10:00:00Z", "2026-01-12T12:00:00Z", "2026-01-13T10:00:00Z"]);
    let mut second = session(key("bob", "s"), 2, &["2026-01-12T11:00:00Z", "2026-01-13T11:00:00Z"]);
    first.segments[0].logged_out = true;
    second.segments[1].logged_out = true;
    second.segments[1].logged_in = false;
    let put = async |replaces, session| store.put_sessions(vec![SessionWrite { replaces, session }]).await.unwrap();
    assert_eq!(figures().await, [0, 0, 0, 0]);
    put(0, first.clone()).await;
    put(0, second).await;
    assert_eq!(figures().await, [3, 1, 1, 0], "two segments of one session count as two");
    first.n = 5;
    first.segments.truncate(1);
    put(4, first).await;
    assert_eq!(figures().await, [2, 1, 0, 0], "a late event can join segments");
}

async fn a_user_is_seen_once_anything_is_stored(store: impl Store) {
    let of = async |user: &str| {
        let sessions = store.sessions_of(&user_id(user)).await.unwrap();
        sessions.map(|mut sessions| {
            sessions.sort_by(|a, b| a.key.cmp(&b.key));
            sessions
        })
    };
    assert_eq!(of("ann").await, None);
    let events = [login(1, "ann", "", "2026-01-12T10:00:00Z"), login(2, "bob", "s", "2026-01-12T10:00:00Z")];
    store.insert_events(&events).await.unwrap();
    assert_eq!((of("ann").await, of("bob").await), (Some(vec![]), Some(vec![])));
    let sessions = ["s", "t"].map(|id| session(key("bob", id), 1, &["2026-01-12T10:00:00Z"]));
    store.put_sessions(sessions.clone().map(|session| SessionWrite { replaces: 0, session }).into()).await.unwrap();
    assert_eq!((of("ann").await, of("bob").await), (Some(vec![]), Some(sessions.into())));
    assert_eq!(of("bo").await, None, "a user id is compared whole");
}

async fn a_revision_is_inserted_once(store: impl Store) {
    let (monday, month) = (day("2026-01-12"), Period::Month(day("2026-01-12").month()));
    let ids = [1_u128, 2].map(|id| EventId::from_bytes(id.to_be_bytes()));
    let revision = |metric, old, event_ids: &[EventId]| Revision { metric, old, new: 9, event_ids: event_ids.into() };
    let users = revision(Metric::ActiveUsers(Period::Day(monday)), 7, &ids);
    let started = revision(Metric::SessionsStarted(monday), 8, &ids[1..]);
    let of_month = revision(Metric::ActiveUsers(month), 5, &ids);
    store.insert_revisions(vec![users.clone(), of_month.clone()]).await.unwrap();
    store.insert_revisions(vec![Revision { old: 8, ..users.clone() }, started.clone()]).await.unwrap();
    let mut found = store.revisions_of(Period::Day(monday)).await.unwrap();
    found.sort_by_key(|revision| revision.metric);
    assert_eq!(found, [users, started]);
    assert_eq!(store.revisions_of(month).await.unwrap(), [of_month]);
}

async fn nothing_asked_is_nothing_answered(store: impl Store) {
    assert_eq!(store.insert_events(&[]).await.unwrap(), []);
    store.add_members(&[]).await.unwrap();
    assert_eq!(store.absent_members(vec![]).await.unwrap(), []);
    assert_eq!(store.sessions(&[]).await.unwrap(), []);
    assert_eq!(store.session_events(&[]).await.unwrap(), [[]; 0]);
    assert_eq!(store.put_sessions(vec![]).await.unwrap(), []);
    store.insert_revisions(vec![]).await.unwrap();
    assert_eq!(store.figures(&[]).await.unwrap(), [0; 0]);
    assert_eq!(store.stale().await.unwrap(), []);
}
