//! The activity service as its document has it: every line of its page, pasted, gives the documented answer; what is no
//! event is skipped; duplicates are processed once; both forms of a record are read.
use std::process::Command;

use headwater_proto::{
    Encoding, EventId, Timestamp,
    topics::{USER_ACTIVITY, USER_ACTIVITY_EVENTS},
    v1,
};
use headwater_stream::{Clock as _, SystemClock, partition_for, testing::RawWriter};
use headwater_tests::{Parts, Running, eventually};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

const PAGE: &str = include_str!("../docs/activity.md");

type Headers<'a> = &'a [(&'a str, &'a [u8])];

/// Each command of the page, and the answer that stands behind it.
fn commands() -> Vec<(&'static str, Value)> {
    let blocks = PAGE.split("\n```bash\n").skip(1);
    let pairs = blocks.map(|block| {
        let (command, rest) = block.split_once("\n```").expect("the end of a command");
        let answer =
            rest.split_once("\n```json\n").and_then(|(_, rest)| rest.split_once("\n```")).expect("its answer").0;
        (command, serde_json::from_str(answer).expect("JSON"))
    });
    pairs.collect()
}

/// With the same words for what no two runs have in common.
fn told_alike(mut answer: Value) -> Value {
    for event in answer.as_array_mut().into_iter().flatten() {
        event["timestamp"] = json!("some time");
        event["eventId"] = json!("some id");
    }
    if answer["eventId"].is_string() {
        answer["eventId"] = json!("some id");
    }
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn every_line_of_the_page_gives_its_answer() {
    let platform = Running::start().await;
    let at = platform.addresses.activity.to_string();
    let commands = commands();
    assert!(commands.len() >= 5, "the page has {} commands", commands.len());
    for (command, expected) in commands {
        let line = format!("{} -s -w ' %{{http_code}}'", command.replace("localhost:3000", &at));
        let run = async || {
            let line = line.clone();
            let output = spawn_blocking(move || Command::new("bash").args(["-c", &line]).output().expect("bash"));
            let output = String::from_utf8(output.await.expect("curl runs").stdout).expect("text");
            let (answer, status) = output.rsplit_once(' ').expect("a status");
            (serde_json::from_str::<Value>(answer).expect("JSON"), status.to_owned())
        };
        // what is published is processed a moment later
        let is_read = command.contains("/events/processed");
        let (answer, status) = eventually(command, async || {
            let (answer, status) = run().await;
            let complete = !is_read || answer.as_array().map(Vec::len) == expected.as_array().map(Vec::len);
            complete.then_some((answer, status))
        })
        .await;
        let code = match &expected {
            refused if refused["errors"].is_array() => "400",
            made if made["eventId"].is_string() => "201",
            _ => "200",
        };
        assert_eq!((told_alike(answer), &*status), (told_alike(expected), code), "{command}");
    }
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_and_status_of_the_description_is_there() {
    let platform = Running::on_with(Parts::Embedded, |settings| {
        settings.activity_rate_limit = Some("1".parse().map(headwater_cli::settings::RateLimit).expect("a rate"));
    })
    .await;
    let at = format!("http://{}", platform.addresses.activity);
    let served: Value = platform.http.get(format!("{at}/openapi.json")).send().await.unwrap().json().await.unwrap();
    assert_eq!(served, serde_json::from_str::<Value>(include_str!("../services/activity/openapi.json")).unwrap());
    let paths = served["paths"].as_object().expect("paths");
    for (path, operations) in paths {
        for method in operations.as_object().expect("operations").keys() {
            let wrong = if method == "get" { reqwest::Method::DELETE } else { reqwest::Method::GET };
            let answer = platform.http.request(wrong, format!("{at}{path}")).send().await.unwrap();
            assert_eq!(answer.status(), 405, "{path}");
        }
    }
    let documented = |path: &str, method: &str| -> Vec<u16> {
        let codes = served["paths"][path][method]["responses"].as_object().expect("responses").keys();
        codes.map(|code| code.parse().expect("a status")).collect()
    };
    assert_eq!(documented("/events/generate", "post"), [201, 400, 413, 429, 500]);
    assert_eq!(platform.activity_post(r#"{"userId":"ada","eventType":"LOGIN"}"#).await.0, 201);
    assert_eq!(platform.activity_post("{}").await, (429, json!({"message": "Too many requests"})));
    let (status, _) = platform.json("Activity", "ListProcessedEvents", json!({"pageSize": -1})).await;
    assert_eq!(status, 400);
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_large_is_refused_and_one_that_is_large_is_not() {
    let platform = Running::start().await;
    let event =
        |bytes: usize| format!(r#"{{"userId":"ada","eventType":"LOGIN","payload":{{"x":"{}"}}}}"#, "x".repeat(bytes));
    let (status, answer) = platform.activity_post(&event(1 << 20)).await;
    assert_eq!((status, &answer["message"]), (413, &json!("Request body must be at most 1 MiB")));
    assert_eq!(platform.activity_post(&event(1_000_000)).await.0, 201);
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_event_is_skipped_and_an_event_that_comes_twice_is_processed_once() {
    let platform = Running::start().await;
    let user = platform.name("ada");
    let home = partition_for(user.as_bytes(), USER_ACTIVITY_EVENTS.partitions);
    let id = EventId::new(SystemClock.now()).to_string();
    let event = |change: &dyn Fn(&mut Value)| {
        let mut event = json!({"eventId": id, "userId": user, "eventType": "LOGIN", "payload": {},
            "timestamp": "2026-02-17T10:00:00.000Z"});
        change(&mut event);
        event.to_string().into_bytes()
    };
    let in_protobuf = v1::ActivityEvent {
        event_id: EventId::new(SystemClock.now()).to_string(),
        user_id: user.clone(),
        event_type: "LOGOUT".to_owned(),
        timestamp: Some(Timestamp::from(SystemClock.now())),
        payload: r#"{"n": 1.0}"#.to_owned(),
    };
    let protobuf: Headers<'_> = &[("content-type", b"application/protobuf")];
    let json: Headers<'_> = &[("content-type", b"application/json; charset=utf-8")];
    let malformed: [(Option<Vec<u8>>, Headers<'_>); 12] = [
        (None, &[]),
        (Some(Vec::new()), &[]),
        (Some(b"{".to_vec()), &[]),
        (Some(b"[]".to_vec()), json),
        (Some(b"\xff\xfe".to_vec()), &[]),
        (Some(b"{}".to_vec()), protobuf),
        (Some(event(&|event| event["eventId"] = json!("7"))), &[]),
        (Some(event(&|event| event["userId"] = json!(" "))), &[]),
        (Some(event(&|event| event["eventType"] = json!("DANCE"))), &[]),
        (Some(event(&|event| event["timestamp"] = json!("noon"))), &[]),
        (Some(event(&|event| event["payload"] = json!([]))), &[]),
        (Some(event(&|event| event["userId"] = Value::Null)), &[]),
    ];
    let log = RawWriter::open(platform.platform().kafka());
    let key = Some(user.as_bytes());
    let write = async |value: Option<&[u8]>, headers: Headers<'_>| {
        log.write(USER_ACTIVITY_EVENTS.name, Some(home), key, value, headers).await;
    };
    let group = format!("{}{}", USER_ACTIVITY.id, platform.group_suffix);
    let count = async |outcome: &str, reason: &str| {
        let labels = [("messaging_consumer_group_name", &*group), ("outcome", outcome), ("reason", reason)];
        platform.metric("headwater_consumer_outcomes", &labels).await
    };
    for (value, headers) in &malformed {
        write(value.as_deref(), headers).await;
    }
    write(Some(&event(&|_| ())), &[]).await;
    write(Some(&event(&|event| event["payload"] = Value::Null)), &[]).await;
    write(Some(&event(&|event| drop(event.as_object_mut().and_then(|event| event.remove("payload"))))), json).await;
    write(Some(&in_protobuf.encode_to_vec()), protobuf).await;

    let processed = eventually("the last one is processed", async || {
        let processed = platform.activity_processed(&[("userId", &user)]).await;
        (processed.len() == 2).then_some(processed)
    })
    .await;
    assert_eq!((&processed[0]["eventId"], &processed[0]["payload"]), (&json!(id), &json!({})));
    assert_eq!((&processed[1]["eventType"], &processed[1]["payload"]), (&json!("LOGOUT"), &json!({"n": 1.0})));
    assert_eq!(platform.activity_processed(&[("userId", &user), ("limit", "1")]).await, processed[1..]);
    assert_eq!(platform.activity_processed(&[("eventType", "LOGIN")]).await, processed[..1]);
    let skipped = malformed.len() as f64;
    eventually("all are counted", async || (count("skipped", "malformed").await == skipped).then_some(())).await;
    assert_eq!((count("skipped", "duplicate").await, count("done", "").await), (2.0, 2.0), "null is as good as none");
    platform.stop().await;
}

async fn what_is_published_is_processed_in_order(parts: Parts, encoding: Encoding) {
    let platform = Running::on_with(parts, |settings| settings.topic_encoding = encoding).await;
    let user = platform.name("bob");
    let mut published = Vec::new();
    for n in 0..20 {
        let request = json!({"userId": user, "eventType": "PRODUCT_VIEW", "payload": format!("{{\"n\":{n}.0}}")});
        let (status, answer) = platform.json("Activity", "GenerateEvent", request).await;
        assert_eq!(status, 200, "{answer}");
        published.push(answer["eventId"].clone());
    }
    let processed = eventually("all are processed", async || {
        let processed = platform.activity_processed(&[("userId", &user)]).await;
        (processed.len() >= published.len()).then_some(processed)
    })
    .await;
    let ids: Vec<Value> = processed.iter().map(|event| event["eventId"].clone()).collect();
    assert_eq!(ids, published);
    let mut paged = Vec::new();
    let mut page_token = json!("");
    loop {
        let request = json!({"userId": user, "pageSize": 7, "pageToken": page_token});
        let (status, answer) = platform.json("Activity", "ListProcessedEvents", request).await;
        assert_eq!(status, 200, "{answer}");
        paged.extend(answer["events"].as_array().expect("events").clone());
        page_token = answer["nextPageToken"].clone();
        if page_token.is_null() {
            break;
        }
    }
    assert_eq!(paged.iter().map(|event| event["eventId"].clone()).collect::<Vec<_>>(), published);
    assert_eq!(paged[19]["payload"], json!("{\"n\":19.0}"), "as it was sent");
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_is_processed_in_order_on_embedded_parts() {
    what_is_published_is_processed_in_order(Parts::Embedded, Encoding::Json).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_in_protobuf_is_processed_in_order_on_a_real_kafka() {
    what_is_published_is_processed_in_order(Parts::Native, Encoding::Protobuf).await;
}
