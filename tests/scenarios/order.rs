//! Order per user, from the answer to the log and to a consumer.
use std::collections::{BTreeMap, BTreeSet};

use headwater_proto::{
    EventId,
    v1::{Payload, RecordActionRequest},
};
use headwater_tests::{Parts, Running, eventually};
use tokio::task::JoinSet;
use tokio_stream::StreamExt as _;

const USERS: usize = 24;
const STREAMS: usize = 4;
const ACTIONS: usize = 50;

/// The n-th action of a user: each third one tells the user.
fn action(user_id: &str, n: usize) -> RecordActionRequest {
    let event_type = if n.is_multiple_of(3) { "user.password_changed" } else { "user.logged_in" };
    RecordActionRequest {
        event_id: EventId::from_bytes([0; 16]).derive(&format!("{user_id} {n}")).to_string(),
        event_type: event_type.into(),
        user_id: user_id.into(),
        occurred_at: None,
        payload: Some(Payload { email: format!("{user_id}@example.com"), ..Default::default() }),
    }
}

pub(crate) async fn what_a_user_does_is_in_the_log_and_with_its_consumers_in_the_order_it_was_accepted(parts: Parts) {
    let platform = Running::on(parts).await;
    let users: Vec<String> = (0..USERS).map(|user| platform.name(&format!("user{user}"))).collect();
    let mut streams = JoinSet::new();
    for users in users.chunks(USERS / STREAMS) {
        // interleaved: the n-th action of each user before the n+1-th of any
        let sent: Vec<_> = (0..ACTIONS).flat_map(|n| users.iter().map(move |user| action(user, n))).collect();
        let mut client = platform.actions();
        streams.spawn(async move {
            let expected = sent.len();
            let answers = client.record_actions(tokio_stream::iter(sent)).await.expect("a stream").into_inner();
            let accepted = answers.filter(|answer| answer.as_ref().is_ok_and(|answer| answer.status.is_none()));
            assert_eq!(accepted.collect::<Vec<_>>().await.len(), expected, "all are accepted");
        });
    }
    streams.join_all().await;

    let log = eventually("everything is in the log", async || {
        let mut log: BTreeMap<String, Vec<(i32, String)>> = BTreeMap::new();
        for record in platform.records("user.events").await {
            let of_ours =
                users.iter().any(|user| user == record.key()) && record.header("ce_source") == Some("/ingress");
            if let (true, Some(id)) = (of_ours, record.header("ce_id")) {
                log.entry(record.key().to_owned()).or_default().push((record.partition(), id.to_owned()));
            }
        }
        (log.values().map(Vec::len).sum::<usize>() >= USERS * ACTIONS).then_some(log)
    })
    .await;
    for user in &users {
        let expected: Vec<String> = (0..ACTIONS).map(|n| action(user, n).event_id).collect();
        let (partitions, ids): (BTreeSet<i32>, Vec<String>) = log[user].iter().cloned().unzip();
        assert_eq!((partitions.len(), ids), (1, expected), "{user}");
    }
    for user in &users {
        let alerts: Vec<String> = (0..ACTIONS).step_by(3).map(|n| action(user, n).event_id).collect();
        let told = eventually(&format!("{user} is told of each new password"), async || {
            let mut told = platform.notifications_of(user);
            told.retain(|line| line["kind"] == "SECURITY_ALERT");
            (told.len() >= alerts.len()).then_some(told)
        })
        .await;
        let told: Vec<&str> = told.iter().filter_map(|line| line["eventId"].as_str()).collect();
        assert_eq!(told, alerts, "{user}");
    }
    platform.stop().await;
}
