//! Events that come a day late, as whoever asks sees them: what was answered before is corrected, and the journal tells
//! by which of them.
use std::sync::Arc;

use headwater_documents::testing::TestDatabase;
use headwater_proto::{
    EventType::*,
    v1::{self, EndReason, analytics_server::Analytics as _},
};
use headwater_stream::FixedClock;
use tonic::Request;

use super::{apply, handler};
use crate::{
    Api, Config, MemoryStore, MongoStore, Period, Store,
    store::conformance::{day, event, millis},
};

/// What is answered of Thursday, and what the journal says of it and its month.
#[derive(Debug, PartialEq)]
struct Told {
    daily: i64,
    monthly: i64,
    /// started, ended by logout, timed out, open, median seconds, p95 seconds
    stats: [f64; 6],
    /// segment, started at, events, how it ended
    sessions_of_ann: Vec<(i32, String, i32, EndReason)>,
    journal: Vec<String>,
}

async fn told<S: Store>(store: &S) -> Told {
    let clock = Arc::new(FixedClock::at(millis("2026-01-16T12:00:00Z")));
    let api = Api::new(&Config::default(), store.clone(), clock).unwrap();
    let daily = v1::GetDailyActiveUsersRequest { day: "2026-01-15".into() };
    let monthly = v1::GetMonthlyActiveUsersRequest { month: "2026-01".into() };
    let stats = v1::GetSessionStatsRequest { day: "2026-01-15".into(), ..Default::default() };
    let stats = api.get_session_stats(Request::new(stats)).await.unwrap().into_inner();
    let of_ann = v1::ListSessionsRequest { user_id: "ann".into(), ..Default::default() };
    let of_ann = api.list_sessions(Request::new(of_ann)).await.unwrap().into_inner().sessions;
    let session = |session: v1::Session| {
        let started = headwater_proto::Millis::try_from(session.started_at.unwrap()).unwrap().to_string();
        (session.segment, started, session.events, session.end_reason())
    };
    let mut journal = Vec::new();
    for period in [Period::Day(day("2026-01-15")), Period::Month(day("2026-01-15").month())] {
        let mut revisions = store.revisions_of(period).await.unwrap();
        revisions.sort_by_key(crate::Revision::id);
        journal.extend(revisions.iter().map(|revision| {
            let ids = revision.event_ids.iter().map(|id| u128::from_be_bytes(*id.as_bytes()).to_string());
            let (metric, ids) = (revision.metric.name(), ids.collect::<Vec<_>>().join(", "));
            format!("{metric} of {period}: {} -> {} by events {ids}", revision.old, revision.new)
        }));
    }
    Told {
        daily: api.get_daily_active_users(Request::new(daily)).await.unwrap().into_inner().active_users,
        monthly: api.get_monthly_active_users(Request::new(monthly)).await.unwrap().into_inner().active_users,
        stats: [
            stats.started as f64,
            stats.ended_by_logout as f64,
            stats.timed_out as f64,
            stats.open as f64,
            stats.median_seconds,
            stats.p95_seconds,
        ],
        sessions_of_ann: of_ann.into_iter().map(session).collect(),
        journal,
    }
}

/// Thursday's events on Thursday and Friday, then three more of Thursday's.
async fn a_day_late(store: impl Store) {
    let mut handler = handler(store.clone());
    let in_time = [
        event(1, UserLoggedIn, "ann", "a", "2026-01-15T10:00:00Z"),
        event(2, UserIpChanged, "ann", "a", "2026-01-15T10:50:00Z"), // after a gap of 50 min
        event(3, UserLoggedIn, "bob", "b", "2026-01-15T11:00:00Z"),
        event(4, UserLoggedIn, "bob", "c", "2026-01-16T11:50:00Z"),
    ];
    apply(&mut handler, &in_time).await.unwrap();
    let before = told(&store).await;
    let timed_out = |segment, at: &str, events| (segment, at.to_owned(), events, EndReason::Timeout);
    assert_eq!(
        before,
        Told {
            daily: 2,
            monthly: 2,
            stats: [2.0, 0.0, 2.0, 0.0, 0.0, 0.0],
            sessions_of_ann: vec![
                timed_out(1, "2026-01-15T10:00:00.000Z", 1),
                timed_out(2, "2026-01-15T10:50:00.000Z", 1)
            ],
            journal: Vec::new(),
        }
    );

    let late = [
        event(5, UserPasswordChanged, "ann", "a", "2026-01-15T10:25:00Z"), // closes the gap
        event(6, UserLoggedIn, "cid", "d", "2026-01-15T12:00:00Z"),
        event(7, UserLoggedOut, "cid", "d", "2026-01-15T12:10:00Z"),
    ];
    apply(&mut handler, &late).await.unwrap();
    let after = told(&store).await;
    assert_eq!(
        after,
        Told {
            daily: 3,
            monthly: 3,
            // 0 s, 10 min and 50 min
            stats: [3.0, 1.0, 2.0, 0.0, 600.0, 3_000.0],
            sessions_of_ann: vec![timed_out(1, "2026-01-15T10:00:00.000Z", 3)],
            journal: [
                "daily_active_users of 2026-01-15: 2 -> 3 by events 6, 7",
                "sessions_ended_by_logout of 2026-01-15: 0 -> 1 by events 6, 7",
                "sessions_started of 2026-01-15: 2 -> 3 by events 6, 7",
                "monthly_active_users of 2026-01: 2 -> 3 by events 6, 7",
            ]
            .map(str::to_owned)
            .to_vec(),
        }
    );
}

#[tokio::test]
async fn events_a_day_late_correct_what_is_answered_and_the_journal_tells_which_in_memory() {
    a_day_late(MemoryStore::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_a_day_late_correct_what_is_answered_and_the_journal_tells_which_on_a_server() {
    let database = TestDatabase::create().await;
    a_day_late(MongoStore::open(&database.documents).await.unwrap()).await;
    database.wipe().await;
}
