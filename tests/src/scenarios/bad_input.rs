//! What a platform makes of bad input.
use headwater_proto::v1::{ListSessionsRequest, RecordActionRequest};
use serde_json::{Value, json};
use tokio_stream::StreamExt;

use crate::{Reached, eventually, fields_of_json, reason_of_json};

const UUID: &str = "0190b6c5-6d0e-7c3a-9f0e-1f2d3c4b5a69";

/// (method, request, HTTP status, reason, fields named)
fn refused() -> Vec<(&'static str, Value, u16, &'static str, Vec<&'static str>)> {
    let record = |change: Value| {
        let mut request = json!({"eventType": "user.logged_in", "userId": "ada"});
        request.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        request
    };
    let far = json!({"occurredAt": "2100-01-01T00:00:00Z"});
    vec![
        ("RegisterUser", json!({}), 400, "INVALID_FIELD", vec!["email", "password"]),
        (
            "RegisterUser",
            json!({"email": "a\u{7}@b", "password": "short", "userId": "x".repeat(129), "eventId": "7", "context": {"ip": "1.2.3", "userAgent": "a\nb"}}),
            400,
            "INVALID_FIELD",
            vec!["context.ip", "context.user_agent", "email", "event_id", "password", "user_id"],
        ),
        (
            "RegisterUser",
            json!({"email": "a@b.example", "password": "x".repeat(1_025)}),
            400,
            "INVALID_FIELD",
            vec!["password"],
        ),
        ("Login", json!({"password": "x"}), 400, "INVALID_FIELD", vec!["email"]),
        ("Login", json!({"email": "nobody@b.example", "password": "whatever!"}), 401, "INVALID_CREDENTIALS", vec![]),
        ("Logout", json!({"userId": "nobody", "sessionId": "s"}), 404, "USER_NOT_FOUND", vec![]),
        ("GetUser", json!({"userId": 7}), 400, "INVALID_FIELD", vec!["body"]),
        ("GetUser", json!({"userId": "nobody"}), 404, "USER_NOT_FOUND", vec![]),
        ("ReportIpChange", json!({"userId": "ada", "ip": "over there"}), 400, "INVALID_FIELD", vec!["ip"]),
        ("RecordAction", record(json!({"userId": ""})), 400, "INVALID_FIELD", vec!["user_id"]),
        ("RecordAction", record(json!({"eventId": "not a uuid"})), 400, "INVALID_FIELD", vec!["event_id"]),
        (
            "RecordAction",
            record(json!({"eventType": "user.teleported"})),
            400,
            "EVENT_TYPE_NOT_ACCEPTED",
            vec!["event_type"],
        ),
        (
            "RecordAction",
            record(json!({"eventType": "user.suspended"})),
            400,
            "EVENT_TYPE_NOT_ACCEPTED",
            vec!["event_type"],
        ),
        ("RecordAction", record(json!({"eventType": "user.ip_changed"})), 400, "INVALID_FIELD", vec!["payload.ip"]),
        (
            "RecordAction",
            record(json!({"payload": {"sessionId": "a\u{0}b"}})),
            400,
            "INVALID_FIELD",
            vec!["payload.session_id"],
        ),
        ("RecordAction", record(far.clone()), 400, "EVENT_TIME_IN_FUTURE", vec!["occurred_at"]),
        (
            "RecordAction",
            json!({"userId": "", "eventType": "user.suspended", "occurredAt": "2100-01-01T00:00:00Z"}),
            400,
            "INVALID_FIELD",
            vec!["event_type", "occurred_at", "user_id"],
        ),
    ]
}

/// Nothing of a refused request reaches the log.
pub async fn every_bad_field_is_named_at_once(platform: &Reached) {
    let before = platform.records("user.events").await.len();
    for (method, request, status, reason, fields) in refused() {
        let answer = platform.json("UserActions", method, request.clone()).await;
        let mut named = fields_of_json(&answer.1);
        named.sort();
        assert_eq!(
            (answer.0, reason_of_json(&answer.1), named),
            (status, reason.into(), fields.iter().map(|f| f.to_string()).collect()),
            "{method} {request}: {}",
            answer.1
        );
    }

    let once = json!({"eventId": UUID, "eventType": "user.logged_in", "userId": "ada"});
    let (status, first) = platform.json("UserActions", "RecordAction", once.clone()).await;
    assert_eq!((status, &first), (200, &json!({"eventId": UUID})));
    let (status, again) = platform.json("UserActions", "RecordAction", once.clone()).await;
    assert_eq!((status, &again), (200, &json!({"eventId": UUID, "duplicate": true})));
    let (status, other) = platform
        .json("UserActions", "RecordAction", json!({"eventId": UUID, "eventType": "user.logged_out", "userId": "ada"}))
        .await;
    assert_eq!((status, reason_of_json(&other).as_str()), (409, "REQUEST_ID_REUSED"));

    let (status, _) = platform.json("UserActions", "RecordAction", json!({"userId": "x".repeat(2 << 20)})).await;
    assert_eq!(status, 413);
    let huge = RecordActionRequest { user_id: "x".repeat(2 << 20), ..Default::default() };
    let refused = platform.actions().record_action(huge).await.expect_err("2 MiB");
    assert_eq!(refused.code(), tonic::Code::OutOfRange, "{refused}");

    let log = platform.settled("user.events", before + 1).await;
    assert_eq!(log.len(), before + 1, "only what was accepted is on the log");
}

/// On one stream, in order.
pub async fn a_bad_item_is_answered_and_the_stream_goes_on(platform: &Reached) {
    let action = |user_id: &str, event_type: &str| RecordActionRequest {
        user_id: user_id.into(),
        event_type: event_type.into(),
        ..Default::default()
    };
    let bad = RecordActionRequest { event_id: UUID.into(), ..action("", "user.suspended") };
    let items = [action("ada", "user.logged_in"), bad, action("ada", "user.logged_out")];
    let answers = platform.actions().record_actions(tokio_stream::iter(items)).await.unwrap().into_inner();
    let answers: Vec<_> = answers.map(|answer| answer.expect("an answer")).collect().await;
    let codes: Vec<_> = answers.iter().map(|a| (a.index, a.status.as_ref().map(|s| s.code))).collect();
    assert_eq!(codes, [(0, None), (1, Some(tonic::Code::InvalidArgument as i32)), (2, None)]);
    assert_eq!(answers[1].event_id, UUID, "so that the client knows which");
}

/// Nothing else on this platform may have been given up before.
pub async fn garbage_is_dead_lettered_by_every_group(platform: &Reached) {
    let lies = r#"{"eventId":"0190b6c5-6d0e-7c3a-9f0e-1f2d3c4b5a69","eventType":"user.logged_in","aggregateId":"eve","occurredAt":"2026-01-15T10:30:00Z"}"#;
    let garbage: [(&str, &[u8]); 3] =
        [("ada", b"\xff\xff\xff\xff"), ("ada", b"{\"eventId\": 7}"), ("ada", lies.as_bytes())];
    for (key, value) in garbage {
        platform.write("user.events", key, value).await;
    }
    // the same key, so the same partition
    let behind = json!({"eventType": "user.logged_in", "userId": "ada", "payload": {"sessionId": "behind"}});
    let (status, answer) = platform.json("UserActions", "RecordAction", behind).await;
    assert_eq!(status, 200, "{answer}");

    let topics = [
        "notifications.dlq",
        "user.events.analytics-consumer-group.dlq",
        "user.events.fraud-detection-group.dlq",
        "user.events.ingress-account-status-group.dlq",
    ];
    for topic in topics {
        let dead = platform.settled(topic, garbage.len()).await;
        let mut values: Vec<_> = dead.iter().map(|r| r.value().to_vec()).collect();
        values.sort();
        let mut expected: Vec<_> = garbage.iter().map(|(_, value)| value.to_vec()).collect();
        expected.sort();
        assert_eq!(values, expected, "{topic}");
        for record in &dead {
            assert_eq!((record.key(), record.header("x-disposition")), ("ada", Some("POISON")), "{topic}");
            assert_eq!(record.header("__dlq.errors.topic"), Some("user.events"), "{topic}");
        }
    }
    let mut analytics = platform.analytics();
    eventually("the event behind the garbage is counted", async || {
        let request = ListSessionsRequest { user_id: "ada".into(), ..Default::default() };
        let sessions = analytics.list_sessions(request).await.ok()?.into_inner().sessions;
        sessions.iter().any(|session| session.session_id == "behind").then_some(())
    })
    .await;
    assert!(platform.ready().await, "every consumer goes on");
}
