//! Time is the event's: the same story told again later leaves the same documents, to the millisecond.
use headwater_proto::EventId;
use headwater_tests::{Parts, Running, eventually};
use serde_json::{Value, json};

const STORY: [(&str, &str, &str, &str); 5] = [
    ("user.logged_in", "2019-03-04T10:00:00.123Z", "198.51.100.7", "s1"),
    ("user.password_changed", "2019-03-04T10:01:00Z", "198.51.100.7", "s1"),
    ("user.ip_changed", "2019-03-04T10:02:00Z", "203.0.113.9", ""),
    ("user.logged_in", "2019-03-04T10:03:00.5Z", "203.0.113.9", "s2"),
    ("user.logged_out", "2019-03-04T10:04:00Z", "203.0.113.9", "s2"),
];

fn event_id(user_id: &str, n: usize) -> EventId {
    EventId::from_bytes([0; 16]).derive(&format!("{user_id} {n}"))
}

/// The story of this user, and all that came of it, with names instead of ids.
async fn told(platform: &Running, user_id: &str) -> Value {
    for (n, (event_type, occurred_at, ip, session)) in STORY.into_iter().enumerate() {
        let payload = json!({"ip": ip, "sessionId": session, "email": format!("{user_id}@example.com")});
        let request = json!({"eventId": event_id(user_id, n).to_string(), "eventType": event_type, "userId": user_id,
                             "occurredAt": occurred_at, "payload": payload});
        let (status, answer) = platform.json("UserActions", "RecordAction", request).await;
        assert_eq!(status, 200, "{answer}");
    }
    let of_user = json!({"userId": user_id});
    let ask = async |service: &str, method: &str, request: &Value| {
        let (status, answer) = platform.json(service, method, request.clone()).await;
        (status == 200).then_some(answer)
    };
    let sessions = json!({"userId": user_id, "asOf": "2019-03-05T00:00:00Z"});
    let derived = eventually("sessions and reports are there", async || {
        let sessions = ask("Analytics", "ListSessions", &sessions).await?;
        let reports = ask("Fraud", "ListFraudReports", &of_user).await?;
        let trace = ask("Fraud", "GetEventTrace", &of_user).await?;
        let profile = ask("Fraud", "GetRiskProfile", &of_user).await?;
        let evaluations = ask("Fraud", "ListRiskEvaluations", &of_user).await?;
        // a document store takes a batch in several commands: each document is waited for
        let complete = [0, 1].iter().all(|n| sessions["sessions"][n]["events"] == 2)
            && sessions["sessions"][1]["endReason"] == "END_REASON_LOGOUT"
            && profile["score"] == 50
            && evaluations["evaluations"].as_array().is_some_and(|evaluations| !evaluations.is_empty())
            && reports["reports"].as_array().is_some_and(|reports| reports.len() == 2)
            && trace["events"].as_array().is_some_and(|events| events.len() == 4);
        complete.then(|| json!([sessions, reports, trace, profile, evaluations]))
    })
    .await;
    let mut text = derived.to_string().replace(user_id, "USER");
    for n in 0..STORY.len() {
        let id = event_id(user_id, n);
        for verdict in ["user.flagged", "user.password_reset_required"] {
            text = text.replace(&id.derive(verdict).to_string(), &format!("{verdict} OF EVENT {n}"));
        }
        text = text.replace(&id.to_string(), &format!("EVENT {n}"));
    }
    serde_json::from_str(&text).expect("JSON")
}

pub(crate) async fn what_is_derived_tells_when_it_happened_and_nothing_of_when_it_was_processed(parts: Parts) {
    let platform = Running::on(parts).await;
    let first = told(&platform, &platform.name("first")).await;
    let again = told(&platform, &platform.name("again")).await; // everything of the first has been processed by now
    assert_eq!(first, again);
    platform.stop().await;

    let [sessions, reports, ..] = first.as_array().expect("five answers").as_slice() else { panic!("{first}") };
    let one = json!({"userId": "USER", "sessionId": "s1", "segment": 1, "events": 2, "endReason": "END_REASON_TIMEOUT",
        "startedAt": "2019-03-04T10:00:00.123Z", "lastActivityAt": "2019-03-04T10:01:00.000Z",
        "endedAt": "2019-03-04T10:01:00.000Z"});
    let two = json!({"userId": "USER", "sessionId": "s2", "segment": 1, "events": 2, "endReason": "END_REASON_LOGOUT",
        "startedAt": "2019-03-04T10:03:00.500Z", "lastActivityAt": "2019-03-04T10:04:00.000Z",
        "endedAt": "2019-03-04T10:04:00.000Z"});
    assert_eq!(sessions, &json!({"sessions": [one, two]}));
    let decided: Vec<_> = reports["reports"].as_array().expect("reports").iter().map(|r| &r["decidedAt"]).collect();
    assert_eq!(decided, ["2019-03-04T10:03:00.500Z"; 2], "when the pattern was complete");
    let text = first.to_string();
    let times: Vec<&str> = text.split('"').filter(|text| text.len() == 24 && text.ends_with('Z')).collect();
    assert!(times.len() > 10 && times.iter().all(|time| time.starts_with("2019-03-04T")), "{times:?}");
}
