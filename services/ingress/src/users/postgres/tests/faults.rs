//! What is accepted stays, and nothing is left half open, whatever is dropped or killed.
use std::{collections::HashMap, time::Duration};

use headwater_proto::{EventId, v1, v1::user_actions_server::UserActions};
use tokio::{task::JoinSet, time::timeout};
use tonic::{Code, Request};

use super::{CONNECTIONS, DEADLINE, Database, until};
use crate::{
    Api, Store,
    outbox::Outbox,
    testing::{outbox, read_outbox, running},
};

/// The n-th failed login of a user.
pub(super) fn failure(user: u32, number: u32) -> v1::RecordActionRequest {
    let id = (u128::from(user) << 64) | u128::from(number);
    v1::RecordActionRequest {
        event_id: EventId::from_bytes(id.to_be_bytes()).to_string(),
        event_type: "user.login_failed".into(),
        user_id: format!("user-{user}"),
        ..Default::default()
    }
}

/// Sends until it is accepted, under one id, to one after the other; how often that took.
pub(super) async fn insist<S: Store>(apis: &[&Api<S>], request: v1::RecordActionRequest) -> u32 {
    let accepting = async {
        let mut attempts = 0;
        let mut pause = tokio::time::interval(Duration::from_millis(5));
        for api in apis.iter().cycle() {
            pause.tick().await;
            attempts += 1;
            match api.record_action(Request::new(request.clone())).await {
                Ok(_) => break,
                Err(refused) => assert_eq!(refused.code(), Code::Unavailable, "{refused:?}"),
            }
        }
        attempts
    };
    timeout(DEADLINE, accepting).await.expect("accepted in the end")
}

/// Each user's failures, counted by the ingress as they came.
fn counts(events: &[headwater_proto::Event]) -> HashMap<String, Vec<i32>> {
    let mut counts = HashMap::<String, Vec<i32>>::new();
    for event in events {
        let Some(headwater_proto::Detail::LoginFailure(failure)) = &event.detail else { panic!("{event:?}") };
        counts.entry(event.user_id.to_string()).or_default().push(failure.consecutive_failures);
    }
    counts
}

const IN_TRANSACTION: &str =
    "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND state LIKE 'idle in transaction%'";

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_cancelled_calls_leaves_no_open_transaction_and_an_exact_ledger() {
    const USERS: u32 = 20;
    let database = Database::create().await;
    let running = running(database.open().await).await;
    let mut calls = JoinSet::new();
    for call in 0..2_000 {
        let api = running.api.clone();
        calls.spawn(async move {
            let deadline = Duration::from_micros(u64::from(call % 50) * 100);
            if call % 4 == 0 {
                let request = v1::GetUserRequest { user_id: "ada".into() };
                let _ = timeout(deadline, api.get_user(Request::new(request))).await;
                return None;
            }
            let request = failure(call % USERS, call / USERS);
            let answered = timeout(deadline, api.record_action(Request::new(request))).await;
            answered.is_ok_and(|answer| answer.is_ok()).then_some(())
        });
    }
    let answered = calls.join_all().await.into_iter().flatten().count();
    // behind everything that is still queued
    for user in 0..USERS {
        insist(&[&running.api], failure(user, u32::MAX)).await;
    }
    until("without an open transaction", || async {
        match database.count(IN_TRANSACTION).await {
            0 => Ok(()),
            open => Err(format!("{open} are idle in transaction")),
        }
    })
    .await;
    let events = outbox(&running.store).await;
    assert!(events.len() >= answered + USERS as usize, "{} events, {answered} answers", events.len());
    for (user, counts) in counts(&events) {
        assert_eq!(counts, (1..=counts.len() as i32).collect::<Vec<_>>(), "{user}");
    }
    database.wipe().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_accepted_while_backends_are_killed_is_there_once_and_in_order() {
    const KILL: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = $1";
    const KILLS: usize = 12;
    let database = Database::create().await;
    let running = running(database.open().await).await;
    let mut users = JoinSet::new();
    for user in 0..16 {
        let api = running.api.clone();
        users.spawn(async move {
            let mut attempts = 0;
            for number in 0..60 {
                attempts += insist(&[&api], failure(user, number)).await;
            }
            attempts
        });
    }
    let mut pause = tokio::time::interval(Duration::from_millis(60));
    let mut killed = 0;
    for _ in 0..KILLS {
        pause.tick().await;
        killed += database.count(KILL).await;
    }
    let attempts: u32 = users.join_all().await.into_iter().sum();
    assert!(killed > 0 && attempts > 16 * 60, "{killed} backends killed, {attempts} attempts");
    // connections of the pool may still be among the killed
    let events = until("read from the outbox", || async {
        read_outbox(&running.store).await.map_err(|error| error.to_string())
    });
    let counts = counts(&events.await);
    assert_eq!(counts.len(), 16);
    for (user, counts) in counts {
        assert_eq!(counts, (1..=60).collect::<Vec<_>>(), "{user}");
    }
    database.wipe().await;
}

#[tokio::test]
async fn a_server_that_ended_its_sessions_costs_one_unit_of_work_not_one_per_connection() {
    const KILL: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = $1";
    let database = Database::create().await;
    let store = database.open().await;
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(store.pool.acquire().await.unwrap());
    }
    drop(connections);
    until("every connection back in the pool", || async {
        let idle = store.pool.num_idle();
        if idle == CONNECTIONS as usize { Ok(()) } else { Err(format!("{idle} are")) }
    })
    .await;
    assert_eq!(database.count(KILL).await, i64::from(CONNECTIONS));
    let mut failed = 0;
    for _ in 0..CONNECTIONS {
        failed += usize::from(store.waiting().await.is_err());
    }
    assert!(failed <= 1, "{failed} of {CONNECTIONS} connections were given out dead");
    database.wipe().await;
}
