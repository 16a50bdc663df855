//! The RPCs, called by their trait.
use std::sync::Arc;

use headwater_proto::{
    EventType::*,
    Timestamp,
    v1::{self, EndReason, analytics_server::Analytics as _},
};
use headwater_stream::FixedClock;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use super::{
    apply, handler,
    troubled::{Trouble, Troubled},
};
use crate::{
    Api, Config, MemoryStore, SessionEvent, Store,
    store::conformance::{event, millis},
};

const NOON: &str = "2026-01-15T12:00:00Z";

fn api_of<S: Store>(store: S) -> Api<S> {
    Api::new(&Config::default(), store, Arc::new(FixedClock::at(millis(NOON)))).unwrap()
}

/// What it answers at noon of 2026-01-15, after these events.
async fn api(events: &[SessionEvent]) -> Api<MemoryStore> {
    let store = MemoryStore::new();
    apply(&mut handler(store.clone()), events).await.unwrap();
    api_of(store)
}

fn a_day() -> Vec<SessionEvent> {
    vec![
        event(1, UserLoggedIn, "ann", "a", "2026-01-15T10:00:00Z"),
        event(2, UserLoggedOut, "ann", "a", "2026-01-15T10:01:30.500Z"),
        event(3, UserLoggedIn, "bob", "b", "2026-01-15T11:00:00Z"), // timed out at noon
        event(4, UserIpChanged, "bob", "b", "2026-01-15T11:10:00Z"),
        event(5, UserLoggedIn, "cid", "c", "2026-01-15T11:30:00Z"), // still open at noon, just
        event(6, UserIpChanged, "dan", "d", "2026-01-15T11:59:00Z"), // listed, not started
        event(7, UserLoggedIn, "eve", "", "2026-01-13T23:59:59.999Z"), // active, without a session
    ]
}

fn at(time: &str) -> Option<Timestamp> {
    Some(millis(time).into())
}

/// Code, reason and the bad fields.
fn refusal(status: Status) -> (Code, String, Vec<String>) {
    let details = status.get_error_details();
    let fields = details.bad_request().into_iter().flat_map(|bad| &bad.field_violations).map(|v| v.field.clone());
    (status.code(), details.error_info().unwrap().reason.clone(), fields.collect())
}

fn invalid(fields: &[&str]) -> (Code, String, Vec<String>) {
    (Code::InvalidArgument, "INVALID_FIELD".into(), fields.iter().map(|&field| field.into()).collect())
}

#[tokio::test]
async fn active_users_are_distinct_by_day_and_by_month_and_zero_where_nobody_was() {
    let api = api(&a_day()).await;
    let daily = async |day: &str| {
        let request = Request::new(v1::GetDailyActiveUsersRequest { day: day.into() });
        api.get_daily_active_users(request).await.map(|answer| answer.into_inner().active_users)
    };
    let monthly = async |month: &str| {
        let request = Request::new(v1::GetMonthlyActiveUsersRequest { month: month.into() });
        api.get_monthly_active_users(request).await.map(|answer| answer.into_inner().active_users)
    };
    assert_eq!(daily("2026-01-15").await.unwrap(), 4);
    assert_eq!(daily("2026-01-14").await.unwrap(), 0);
    assert_eq!(monthly("2026-01").await.unwrap(), 5);
    assert_eq!(monthly("2025-12").await.unwrap(), 0);
    for day in ["", "2026-1-15", "2026-02-30", "yesterday"] {
        assert_eq!(refusal(daily(day).await.unwrap_err()), invalid(&["day"]), "{day}");
    }
    for month in ["", "2026-13", "2026-01-15"] {
        assert_eq!(refusal(monthly(month).await.unwrap_err()), invalid(&["month"]), "{month}");
    }
}

#[tokio::test]
async fn a_range_of_days_has_both_ends_and_its_zeros_and_at_most_366_days() {
    let api = api(&a_day()).await;
    let list = async |from: &str, to: &str| {
        let request = Request::new(v1::ListDailyActiveUsersRequest { from: from.into(), to: to.into() });
        let days = api.list_daily_active_users(request).await?.into_inner().days;
        Ok::<_, Status>(days.into_iter().map(|day| (day.day, day.active_users)).collect::<Vec<_>>())
    };
    let expected = [("2026-01-13", 1), ("2026-01-14", 0), ("2026-01-15", 4)].map(|(day, n)| (day.to_owned(), n));
    assert_eq!(list("2026-01-13", "2026-01-15").await.unwrap(), expected);
    assert_eq!(list("2026-01-15", "2026-01-15").await.unwrap(), expected[2..]);
    assert_eq!(list("2024-01-01", "2024-12-31").await.unwrap().len(), 366);
    for (from, to, fields) in [
        ("2026-01-15", "2026-01-14", &["to"][..]),
        ("2025-01-01", "2026-01-02", &["to"]),
        ("0001-01-01", "9999-12-31", &["to"]),
        ("today", "2026-01-14", &["from"]),
        ("", "", &["from", "to"]),
    ] {
        assert_eq!(refusal(list(from, to).await.unwrap_err()), invalid(fields), "{from} {to}");
    }
}

#[tokio::test]
async fn session_stats_tell_open_from_timed_out_by_the_moment_asked_about() {
    let api = api(&a_day()).await;
    let stats = async |day: &str, as_of| {
        let request = Request::new(v1::GetSessionStatsRequest { day: day.into(), as_of });
        api.get_session_stats(request).await.map(tonic::Response::into_inner)
    };
    let expected = v1::GetSessionStatsResponse {
        day: "2026-01-15".into(),
        started: 3,
        ended_by_logout: 1,
        timed_out: 1,
        open: 1,
        median_seconds: 90.5,
        p95_seconds: 600.0,
    };
    assert_eq!(stats("2026-01-15", None).await.unwrap(), expected, "absent means the clock");
    assert_eq!(stats("2026-01-15", at(NOON)).await.unwrap(), expected);
    let later = v1::GetSessionStatsResponse { timed_out: 2, open: 0, ..expected.clone() };
    assert_eq!(stats("2026-01-15", at("2026-01-15T12:00:00.001Z")).await.unwrap(), later);
    let none = v1::GetSessionStatsResponse { day: "2026-01-13".into(), ..Default::default() };
    assert_eq!(stats("2026-01-13", None).await.unwrap(), none);
    let wrong = Some(Timestamp { seconds: 0, nanos: -1 });
    assert_eq!(refusal(stats("15.1.", wrong).await.unwrap_err()), invalid(&["day", "as_of"]));
}

#[tokio::test]
async fn sessions_are_listed_by_start_with_what_ended_them() {
    let mut events = a_day();
    events.extend([
        event(11, UserLoggedIn, "ann", "z", "2026-01-15T09:00:00Z"), // timed out
        event(12, UserIpChanged, "ann", "a", "2026-01-15T11:45:00Z"), // a second segment, open
    ]);
    let api = api(&events).await;
    let list = async |user_id: &str, page_size, page_token: &str| {
        let (user_id, page_token) = (user_id.to_owned(), page_token.to_owned());
        let request = v1::ListSessionsRequest { user_id, as_of: None, page_size, page_token };
        api.list_sessions(Request::new(request)).await.map(tonic::Response::into_inner)
    };
    let session =
        |session_id: &str, segment, times: [&str; 2], ended: bool, end_reason: EndReason, events| v1::Session {
            user_id: "ann".into(),
            session_id: session_id.into(),
            segment,
            started_at: at(times[0]),
            last_activity_at: at(times[1]),
            ended_at: at(times[1]).filter(|_| ended),
            end_reason: end_reason.into(),
            events,
        };
    let expected = [
        session("z", 1, ["2026-01-15T09:00:00Z", "2026-01-15T09:00:00Z"], true, EndReason::Timeout, 1),
        session("a", 1, ["2026-01-15T10:00:00Z", "2026-01-15T10:01:30.5Z"], true, EndReason::Logout, 2),
        session("a", 2, ["2026-01-15T11:45:00Z", "2026-01-15T11:45:00Z"], false, EndReason::Open, 1),
    ];
    let all = list("ann", 0, "").await.unwrap();
    assert_eq!((all.sessions.as_slice(), all.next_page_token.as_str()), (&expected[..], ""));

    let first = list("ann", 2, "").await.unwrap();
    assert_eq!(first.sessions, expected[..2]);
    let second = list("ann", 2, &first.next_page_token).await.unwrap();
    assert_eq!((second.sessions.as_slice(), second.next_page_token.as_str()), (&expected[2..], ""));

    assert_eq!(list("eve", 0, "").await.unwrap(), v1::ListSessionsResponse::default(), "seen, but in no session");
    let nobody = refusal(list("zoe", 0, "").await.unwrap_err());
    assert_eq!(nobody, (Code::NotFound, "USER_NOT_FOUND".into(), vec![]));
    let bad = refusal(list("", 1_001, "?").await.unwrap_err());
    assert_eq!(bad, invalid(&["user_id", "page_size", "page_token"]));
}

#[tokio::test]
async fn a_store_that_is_away_is_said_to_be_and_when_to_come_back() {
    let api = api_of(Troubled::new(MemoryStore::new(), [Trouble::FailBefore]));
    let request = v1::GetDailyActiveUsersRequest { day: "2026-01-15".into() };
    let status = api.get_daily_active_users(Request::new(request)).await.unwrap_err();
    assert!(status.get_error_details().retry_info().is_some());
    assert_eq!(refusal(status), (Code::Unavailable, "STORE_UNAVAILABLE".into(), vec![]));
}
