use std::time::Duration;

use headwater_stream::{OutboundRecord, Positions, groups::lag};
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
};

use super::*;

fn admin() -> (AdminClient<DefaultClientContext>, AdminOptions) {
    let admin = ClientConfig::new().set("bootstrap.servers", brokers()).create().unwrap();
    (admin, AdminOptions::new().operation_timeout(Some(Duration::from_secs(20))))
}

async fn write(stage: &Stage, values: &[&str]) {
    let producer = Producer::open(&stage.kafka, Patience::Waiting).unwrap();
    let topic = stage.group.topic.name;
    let records = values.iter().map(|value| OutboundRecord {
        topic,
        key: b"ann",
        value: Some(value.as_bytes()),
        headers: &[],
        timestamp: None,
        partition: Some(3),
    });
    for report in producer.enqueue(records.collect::<Vec<_>>()).await.unwrap().await {
        report.unwrap();
    }
    producer.close(Duration::from_secs(10)).await.unwrap();
}

fn truncated(stage: &Stage, reason: &str) -> f64 {
    metric(names::LOG_TRUNCATED_RECORDS, &[stage.group.id, &format!("reason=\"{reason}\"")])
}

/// A member reads the records `a` and `b` and commits them.
async fn read_two() -> (Stage, Log) {
    let (stage, log) = (Stage::open().await, Log::default());
    write(&stage, &["a", "b"]).await;
    let member = stage.member("1", &log);
    eventually("both came", async || log.all(), |all| all == &["a", "b"]).await;
    member.stop().await;
    let committed = lag(&stage.kafka, stage.group.id, stage.group.topic.name).await.unwrap()[3].committed;
    assert_eq!(committed, Some(2));
    (stage, log)
}

/// Stops until told to go on, then comes to have `after`.
async fn stops_until_told(stage: &Stage, log: &Log, why: &str, after: &[&str]) {
    let member = stage.member("1", log);
    let waiting = async || stage.readiness.waiting().into_iter().map(|(_, why)| why).collect::<String>();
    eventually("it says why it stops", waiting, |seen| seen.contains(why)).await;
    assert_eq!(log.all(), ["a", "b"]);
    member.stop().await;
    let committed = lag(&stage.kafka, stage.group.id, stage.group.topic.name).await.unwrap()[3].committed;
    assert_eq!(committed, Some(2), "nothing was skipped");

    let member = stage.member_that("1", log, |config| config.accept_truncation = true);
    eventually("it goes on", async || log.all(), |all| all == after).await;
    stage.ready().await;
    member.stop().await;
    let lag = lag(&stage.kafka, stage.group.id, stage.group.topic.name).await.unwrap()[3].records();
    assert_eq!(lag, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_were_deleted_unread_are_counted_and_stop_their_partition() {
    let _whole = BROKER.read().await;
    let (stage, log) = read_two().await;
    write(&stage, &["lost 1", "lost 2", "lost 3", "kept"]).await;
    let (admin, options) = admin();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(stage.group.topic.name, 3, Offset::Offset(5)).unwrap();
    admin.delete_records(&list, &options).await.unwrap();
    stops_until_told(&stage, &log, "its next records are gone", &["a", "b", "kept"]).await;
    assert_eq!(truncated(&stage, "truncated"), 6.0, "3 each time");
}

/// The broker forgets a group's offsets with the topic; a store that knows where it stands does not.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_anew_is_noticed_by_its_lower_offsets() {
    let _whole = BROKER.read().await;
    let (stage, log, positions) = (Stage::open().await, Log::default(), Positions::new());
    write(&stage, &["a", "b"]).await;
    let member = stage.member_that("1", &log, |config| config.positions = Some(positions.clone()));
    eventually("both are done", async || positions.next(3), |next| *next == 2).await;
    member.stop().await;
    let (admin, options) = admin();
    for deleted in admin.delete_topics(&[stage.group.topic.name], &options).await.unwrap() {
        deleted.unwrap();
    }
    // the name is free only after a while
    let made = async || {
        let _ = apply_topics(&stage.kafka, &[stage.group.topic]).await;
        lag(&stage.kafka, stage.group.id, stage.group.topic.name)
            .await
            .is_ok_and(|lag| lag.len() == 12 && lag[3].end == 0)
    };
    eventually("the topic is made anew", made, |made| *made).await;
    write(&stage, &["new"]).await;

    let member = stage.member_that("1", &log, |config| config.positions = Some(positions.clone()));
    let waiting = async || stage.readiness.waiting().into_iter().map(|(_, why)| why).collect::<String>();
    eventually("it says why it stops", waiting, |seen| seen.contains("which has begun anew")).await;
    assert_eq!(truncated(&stage, "restarted"), 1.0);
    member.stop().await;
    assert_eq!(log.all(), ["a", "b"]);

    let member = stage.member_that("1", &log, |config| {
        config.positions = Some(positions.clone());
        config.accept_truncation = true;
    });
    eventually("it reads the new one", async || log.all(), |all| all == &["a", "b", "new"]).await;
    member.stop().await;
    assert_eq!(positions.next(3), 1);
}
