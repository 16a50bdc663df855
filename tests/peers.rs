//! Programs in another language on the same log: KafkaJS puts keys where we put them, what it writes in JSON is
//! processed like anything else, and it reads what we write; the activity service and it exchange events.
use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use headwater_proto::{
    Day, EventId, Millis,
    topics::{Topic, USER_ACTIVITY_EVENTS, USER_EVENTS},
    v1::{EventEnvelope, GetDailyActiveUsersRequest, ListSessionsRequest},
};
use headwater_stream::{Clock as _, KafkaConfig, SystemClock, apply_topics, partition_for, testing::read_topic};
use headwater_tests::{Parts, Running, eventually, native};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

const PEERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers");

/// One of the programs of `tests/peers`, to its end: what it printed.
async fn kafkajs(program: &str, arguments: &[&str], input: String) -> String {
    let mut command = Command::new("kafkajs");
    command.arg(format!("{PEERS}/{program}")).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = spawn_blocking(move || {
        let mut child = command.spawn().unwrap_or_else(|error| {
            panic!("kafkajs: {error}: run `make test`, or `deploy/tools install kafkajs` with its `path` in PATH")
        });
        let mut stdin = child.stdin.take().expect("its input");
        stdin.write_all(input.as_bytes()).expect("it reads its input");
        drop(stdin);
        child.wait_with_output().expect("its output")
    });
    let output = output.await.expect("the peer runs");
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

fn lines(records: impl IntoIterator<Item = Value>) -> String {
    records.into_iter().map(|record| format!("{record}\n")).collect()
}

/// 2,000 user ids of many kinds: of every length, blank, in many scripts.
fn keys() -> Vec<String> {
    let strange =
        [" ", "\u{a0}", "\u{200b}", "0", "-", "ß", "Ünï", "名前", "עברית", "🦀", "e\u{301}", "a b", "\\", "\"", "null"];
    let mut keys: Vec<String> = strange.map(str::to_owned).into();
    keys.extend((1..=128).map(|length| "k".repeat(length)));
    keys.extend((0..200).map(|n| format!("{n}")));
    let scripts = ["user", "usér", "пользователь", "用户", "👤"];
    for n in keys.len()..2_000 {
        keys.push(format!("{}-{n}-{}", scripts[n % scripts.len()], "x".repeat(n % 37)));
    }
    keys
}

#[tokio::test(flavor = "multi_thread")]
async fn kafkajs_puts_a_user_into_the_partition_that_we_put_him_into() {
    let kafka = KafkaConfig::new(native::kafka());
    let name: &'static str = Box::leak(format!("peers.{}", native::token()).into_boxed_str());
    apply_topics(&kafka, &[Topic { name, ..USER_EVENTS }]).await.expect("a topic of this test");
    let keys = keys();
    let records = keys.iter().map(|key| json!({"key": key, "value": key}));
    kafkajs("produce.cjs", &[&kafka.brokers, name], lines(records)).await;

    let log = read_topic(&kafka, name).await.expect("the topic is read");
    assert_eq!(log.len(), keys.len());
    for record in &log {
        let key = record.key.as_deref().expect("a key");
        let ours = partition_for(key, USER_EVENTS.partitions);
        assert_eq!(record.position.partition, ours, "{:?}", record.key_text());
    }
    let mut written: Vec<String> = log.iter().map(|record| record.key_text()).collect();
    written.sort_unstable();
    let mut expected = keys;
    expected.sort_unstable();
    assert_eq!(written, expected);
}

/// The JSON form of an envelope, as a program without our code writes it.
fn password_changed(user_id: &str, day: Day) -> Value {
    json!({
        "eventId": EventId::new(SystemClock.now()).to_string(),
        "eventType": "user.password_changed",
        "aggregateId": user_id,
        "occurredAt": day.start().plus_millis(3_600_000).to_string(),
        "receivedAt": SystemClock.now().to_string(),
        "payload": {"email": format!("{user_id}@example.com"), "ip": "198.51.100.7", "sessionId": "s1"},
        "schemaVersion": 1,
        "source": "/peer",
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_kafkajs_writes_in_json_is_counted_and_its_user_is_told() {
    let platform = Running::on(Parts::Native).await;
    let day = platform.day();
    let users = ["with-header", "without"].map(|name| platform.name(name));
    let events = users.each_ref().map(|user| password_changed(user, day));
    let records = [
        json!({"key": users[0], "value": events[0].to_string(), "headers": {"content-type": "application/json"}}),
        json!({"key": users[1], "value": events[1].to_string()}),
    ];
    kafkajs("produce.cjs", &[platform.platform().bootstrap(), USER_EVENTS.name], lines(records)).await;

    for (user, event) in users.iter().zip(&events) {
        let told = eventually(&format!("{user} is told"), async || platform.notifications_of(user).pop()).await;
        assert_eq!((&told["kind"], &told["eventId"]), (&json!("SECURITY_ALERT"), &event["eventId"]));
        let session = eventually(&format!("the session of {user}"), async || {
            let request = ListSessionsRequest { user_id: user.clone(), ..Default::default() };
            platform.analytics().list_sessions(request).await.ok()?.into_inner().sessions.pop()
        })
        .await;
        let started = Millis::try_from(session.started_at.expect("a start")).expect("a time");
        assert_eq!((session.session_id.as_str(), session.events), ("s1", 1));
        assert_eq!(json!(started.to_string()), event["occurredAt"]);
    }
    // on a document store the sessions of a batch are there before its day is counted
    eventually("both are counted", async || {
        let request = GetDailyActiveUsersRequest { day: day.to_string() };
        let active = platform.analytics().get_daily_active_users(request).await.expect("a count").into_inner();
        (active.active_users == 2).then_some(())
    })
    .await;
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kafkajs_reads_our_events_with_their_cloud_event_headers() {
    let platform = Running::on(Parts::Native).await;
    let user = platform.name("ünï");
    let occurred_at = platform.day().start().plus_millis(1_234).to_string();
    let mut ids = Vec::new();
    for event_type in ["user.logged_in", "user.logged_out"] {
        let request = json!({"eventType": event_type, "userId": user, "occurredAt": occurred_at});
        let (status, answer) = platform.json("UserActions", "RecordAction", request).await;
        assert_eq!(status, 200, "{answer}");
        ids.push(answer["eventId"].as_str().expect("an id").to_owned());
    }
    let group = platform.name("peer");
    let arguments = [platform.platform().bootstrap(), USER_EVENTS.name, &group, &user, "2"];
    let printed = kafkajs("consume.cjs", &arguments, String::new()).await;
    platform.stop().await;

    let records: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    for ((record, id), event_type) in records.iter().zip(&ids).zip(["user.logged_in", "user.logged_out"]) {
        assert_eq!(record["partition"], partition_for(user.as_bytes(), USER_EVENTS.partitions));
        let headers = &record["headers"];
        let expected = [
            ("content-type", "application/protobuf"),
            ("ce_specversion", "1.0"),
            ("ce_id", id),
            ("ce_source", "/ingress"),
            ("ce_type", event_type),
            ("ce_time", &occurred_at),
            ("ce_subject", &user),
            ("ce_partitionkey", &user),
        ];
        for (name, value) in expected {
            assert_eq!(headers[name], value, "{name} of {headers}");
        }
        for name in ["ce_recordedtime", "ce_dataschema", "traceparent"] {
            assert!(headers[name].is_string(), "{name} of {headers}");
        }
        let value = BASE64_STANDARD.decode(record["value"].as_str().expect("text")).expect("base64");
        let event = EventEnvelope::decode(value.as_slice()).expect("the bare message");
        assert_eq!((event.event_id.as_str(), event.aggregate_id.as_str()), (id.as_str(), user.as_str()));
    }
    assert_eq!(records.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn kafkajs_and_the_activity_service_exchange_events() {
    let platform = Running::on(Parts::Native).await;
    let (user, peer) = (platform.name("ünï"), EventId::new(SystemClock.now()).to_string());
    let published = async |event_type: &str| {
        let event = json!({"userId": user, "eventType": event_type, "payload": {"n": 1}});
        let (status, answer) = platform.activity_post(&event.to_string()).await;
        assert_eq!(status, 201, "{answer}");
        answer["eventId"].as_str().expect("an id").to_owned()
    };
    let (login, logout) = (published("LOGIN").await, published("LOGOUT").await);
    let view = json!({"eventId": peer, "userId": user, "eventType": "PRODUCT_VIEW", "payload": {"productId": "p-10"},
        "timestamp": "2026-02-17T10:00:00.000Z"});
    let headers = json!({"eventType": "PRODUCT_VIEW", "timestamp": "2026-02-17T10:00:00.000Z"});
    let records = [
        json!({"key": user, "value": view.to_string(), "headers": headers}),
        json!({"key": user, "value": "no event", "headers": headers}),
        json!({"key": user, "value": view.to_string(), "headers": headers}),
    ];
    let bootstrap = platform.platform().bootstrap();
    kafkajs("produce.cjs", &[bootstrap, USER_ACTIVITY_EVENTS.name], lines(records)).await;

    let processed = eventually("all three are processed", async || {
        let processed = platform.activity_processed(&[("userId", &user)]).await;
        (processed.len() >= 3).then_some(processed)
    })
    .await;
    let ids: Vec<&str> = processed.iter().map(|event| event["eventId"].as_str().expect("an id")).collect();
    assert_eq!(ids, [&*login, &*logout, &*peer], "one partition, one order, each once");
    assert_eq!(processed[2], view);

    let group = platform.name("peer");
    let arguments = [bootstrap, USER_ACTIVITY_EVENTS.name, &group, &user, "5"];
    let printed = kafkajs("consume.cjs", &arguments, String::new()).await;
    let seen: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let home = partition_for(user.as_bytes(), USER_ACTIVITY_EVENTS.partitions);
    assert!(seen.iter().all(|record| record["partition"] == home), "in both: {seen:?}");
    let value = BASE64_STANDARD.decode(seen[0]["value"].as_str().expect("text")).expect("base64");
    let value: Value = serde_json::from_slice(&value).expect("the document's JSON");
    assert_eq!(value, processed[0]);
    let headers = &seen[0]["headers"];
    assert_eq!((&headers["eventType"], &headers["timestamp"]), (&json!("LOGIN"), &processed[0]["timestamp"]));
    platform.stop().await;
}
