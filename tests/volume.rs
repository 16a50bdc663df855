//! Fifty thousand actions through one stream: every count exact, every user's events in the order they were accepted.
use std::{collections::HashMap, time::Instant};

use headwater_proto::{
    Day, EventId, Millis, Timestamp,
    v1::{
        EndReason, GetDailyActiveUsersRequest, GetSessionStatsRequest, ListSessionsRequest, Payload,
        RecordActionRequest,
    },
};
use headwater_tests::{Running, eventually};
use tokio_stream::StreamExt;

const USERS: usize = 1_000;
const ROUNDS: usize = 10;
/// Of one user in one round: a login, three that only carry the session, a logout.
const SESSION: [&str; 5] =
    ["user.logged_in", "user.ip_changed", "user.password_changed", "user.ip_changed", "user.logged_out"];
const ACTIONS: usize = USERS * ROUNDS * SESSION.len();

/// Interleaved over all users, as a real log is: the n-th action of every user before the n+1-th of any.
/// A round is an hour, so its session cannot join the next; the last round stays open on every second user.
fn actions(day_start: i64) -> Vec<RecordActionRequest> {
    let mut actions = Vec::with_capacity(ACTIONS);
    for round in 0..ROUNDS {
        for (step, event_type) in SESSION.iter().enumerate() {
            for user in 0..USERS {
                let open = round == ROUNDS - 1 && user % 2 == 0 && *event_type == "user.logged_out";
                let event_type = if open { "user.password_changed" } else { event_type };
                let millis = day_start + (round * 3_600_000 + step * 60_000) as i64;
                actions.push(RecordActionRequest {
                    event_id: EventId::new(Millis::from_millis(millis)).to_string(),
                    event_type: event_type.into(),
                    user_id: format!("user-{user}"),
                    occurred_at: Some(Timestamp::from(Millis::from_millis(millis))),
                    payload: Some(Payload {
                        ip: format!("10.{}.{}.{}", round, user / 256, user % 256),
                        session_id: format!("s{round}"),
                        ..Default::default()
                    }),
                });
            }
        }
    }
    actions
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_thousand_actions_on_one_stream_are_counted_exactly_and_in_order() {
    let platform = Running::start().await;
    let day = Day::from_epoch_days(platform.today().epoch_days() - 1);
    let sent = actions(day.start().as_millis());
    assert_eq!(sent.len(), 50_000);

    let started = Instant::now();
    let mut answers =
        platform.actions().record_actions(tokio_stream::iter(sent.clone())).await.expect("a stream").into_inner();
    let mut accepted = 0;
    while let Some(answer) = answers.next().await {
        let answer = answer.expect("the stream goes on");
        assert_eq!((answer.index, answer.status), (accepted as i64, None));
        assert_eq!(answer.event_id, sent[accepted].event_id);
        accepted += 1;
    }
    assert_eq!(accepted, ACTIONS);
    let answered = started.elapsed();

    let mut analytics = platform.analytics();
    let as_of = Some(Timestamp::from(day.start().plus_millis(10 * 3_600_000)));
    let stats = eventually("every session of the day is counted", async || {
        let request = GetSessionStatsRequest { day: day.to_string(), as_of };
        let stats = analytics.get_session_stats(request).await.expect("stats").into_inner();
        (stats.ended_by_logout as usize == USERS * ROUNDS - USERS / 2).then_some(stats)
    })
    .await;
    let counted = started.elapsed();
    eprintln!("{ACTIONS} actions: all answered after {answered:?}, all counted after {counted:?}");
    // the logout of a session comes 4 minutes after its login; the last round ends 9 h 4 min into the day
    assert_eq!((stats.started, stats.timed_out, stats.open), ((USERS * ROUNDS) as i64, (USERS / 2) as i64, 0));
    assert_eq!((stats.median_seconds, stats.p95_seconds), (240.0, 240.0));
    let request = GetDailyActiveUsersRequest { day: day.to_string() };
    assert_eq!(analytics.get_daily_active_users(request).await.unwrap().into_inner().active_users, USERS as i64);
    let request = ListSessionsRequest { user_id: "user-0".into(), as_of, ..Default::default() };
    let sessions = analytics.list_sessions(request).await.unwrap().into_inner().sessions;
    assert_eq!(sessions.len(), ROUNDS);
    assert!(sessions.iter().all(|s| s.events as usize == SESSION.len()), "{sessions:?}");
    assert_eq!(sessions[ROUNDS - 1].end_reason(), EndReason::Timeout);

    let mut expected: HashMap<&str, Vec<&str>> = HashMap::new();
    for action in &sent {
        expected.entry(&action.user_id).or_default().push(&action.event_id);
    }
    let log = platform.records("user.events").await;
    let mut seen: HashMap<&str, Vec<&str>> = HashMap::new();
    let mut partitions: HashMap<&str, i32> = HashMap::new();
    for record in log.iter().filter(|r| r.header("ce_source") == Some("/ingress")) {
        let user = record.key();
        seen.entry(user).or_default().push(record.header("ce_id").expect("an event id"));
        assert_eq!(*partitions.entry(user).or_insert(record.partition()), record.partition(), "{user} moved");
    }
    assert_eq!(seen.len(), USERS);
    for (user, events) in expected {
        assert_eq!(seen[user], events, "{user}");
    }
    platform.stop().await;
}
