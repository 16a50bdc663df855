//! Whoever reads with groups of his own (`HEADWATER_GROUP_SUFFIX`) reads everything, and moves nobody else.
use headwater_proto::topics::{NOTIFICATION, USER_EVENTS};
use headwater_stream::{groups::lag, partition_for};
use headwater_tests::{Broker, Parts, Running, eventually};
use serde_json::json;

/// On this broker, with the groups of this suffix; its stores are its own.
async fn platform(parts: Parts, broker: &Broker, suffix: &str) -> Running {
    Running::on_with(parts, |settings| {
        settings.kafka_brokers = Some(broker.bootstrap.clone());
        settings.group_suffix = suffix.to_owned();
    })
    .await
}

async fn register(platform: &Running, user_id: &str) {
    let request = json!({"email": format!("{user_id}@example.com"), "password": "correct horse", "userId": user_id});
    let (status, answer) = platform.json("UserActions", "RegisterUser", request).await;
    assert_eq!(status, 200, "{answer}");
}

async fn welcomes(platform: &Running, user_id: &str) {
    let welcomed = async || (platform.notifications_of(user_id).len() == 1).then_some(());
    eventually(&format!("{user_id} is welcomed once"), welcomed).await;
}

pub(crate) async fn a_group_of_ones_own_begins_at_the_beginning_and_moves_nobody_else(parts: Parts) {
    let broker = Broker::of(parts);
    let own = headwater_tests::native::token();
    let (first, second) = (format!("-first-{own}"), format!("-second-{own}"));
    let one = platform(parts, &broker, &first).await;
    let ann = one.name("ann");
    let home = partition_for(ann.as_bytes(), USER_EVENTS.partitions);
    let mut names = (0..).map(|n| one.name(&format!("bob-{n}")));
    let bob = names.find(|name| partition_for(name.as_bytes(), USER_EVENTS.partitions) == home).expect("some name");
    register(&one, &ann).await;
    welcomes(&one, &ann).await;
    let group = format!("{}{first}", NOTIFICATION.id);
    eventually("the first has committed that", async || {
        let lag = lag(one.platform().kafka(), &group, USER_EVENTS.name).await.expect("the broker answers");
        lag.iter().all(|partition| partition.records() == 0).then_some(())
    })
    .await;
    one.stop().await;

    let other = platform(parts, &broker, &second).await;
    welcomes(&other, &ann).await; // what the first has read is nothing to it
    register(&other, &bob).await;
    welcomes(&other, &bob).await;

    // the first goes on where it stopped itself: behind ann and, on the same partition, before bob
    let again = platform(parts, &broker, &first).await;
    welcomes(&again, &bob).await;
    assert_eq!(again.notifications_of(&ann), [] as [serde_json::Value; 0]);
    again.stop().await;
    other.stop().await;
}
