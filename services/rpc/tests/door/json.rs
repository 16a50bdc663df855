//! The same RPCs by curl.
use crate::api::Running;
use headwater_rpc::ServerConfig;
use serde_json::{Value, json};

const GET_USER: &str = "/headwater.v1.UserActions/GetUser";
const JSON: (&str, &str) = ("content-type", "application/json");
const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[tokio::test]
async fn a_call_carries_its_headers_in_and_the_answers_out() {
    let running = Running::start(ServerConfig::default()).await;
    let answer = reqwest::Client::new()
        .post(format!("{}{GET_USER}", running.url))
        .header("content-type", "application/json; charset=utf-8")
        .header("connect-protocol-version", "1")
        .header("traceparent", TRACE)
        .header("x-correlation-id", "order-7")
        .body(r#"{"userId":"ada","somethingNew":1}"#)
        .send()
        .await
        .unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["x-answered-by"]), (200, &"door".parse().unwrap()));
    assert_eq!(answer.headers()["content-type"], "application/json");
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body, json!({"userId": "ada", "email": "order-7", "lastIp": TRACE, "statusEpoch": "7"}));
}

/// method, path, headers, body -> HTTP status, code, a part of the message
type Wrong = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
    &'static str,
    u16,
    &'static str,
    &'static str,
);

#[tokio::test]
async fn every_way_to_get_it_wrong_is_told_in_connects_words() {
    let running = Running::start(ServerConfig::default()).await;
    #[rustfmt::skip]
    let table: &[Wrong] = &[
        ("POST", GET_USER, &[JSON], r#"{"userId":"nobody"}"#, 404, "not_found", "no such user"),
        ("POST", GET_USER, &[JSON], r#"{"userId":"bad"}"#, 400, "invalid_argument", "user_id: must be good; context.ip: must be an ip"),
        ("POST", GET_USER, &[JSON], r#"{"userId":7}"#, 400, "invalid_argument", "body: has a value that does not fit its field, at line 1 column 11"),
        ("POST", GET_USER, &[JSON], r#"{"userId":"a","user_id":"b"}"#, 400, "invalid_argument", "userId: is given twice"),
        ("POST", GET_USER, &[JSON], "{\n\"userId\":", 400, "invalid_argument", "line 2 column 9"),
        ("POST", GET_USER, &[JSON], "", 400, "invalid_argument", "body: is not JSON, at line 1 column 0"),
        ("POST", GET_USER, &[JSON, ("connect-protocol-version", "2")], "{}", 400, "invalid_argument", "connect-protocol-version"),
        ("POST", GET_USER, &[JSON, ("connect-timeout-ms", "soon")], "{}", 400, "invalid_argument", "connect-timeout-ms"),
        ("POST", GET_USER, &[JSON, ("content-encoding", "gzip")], "{}", 501, "unimplemented", "content-encoding"),
        ("POST", GET_USER, &[("content-type", "text/plain")], "{}", 415, "unimplemented", "application/json"),
        ("POST", GET_USER, &[("content-type", "application/connect+json")], "{}", 415, "unimplemented", "application/json"),
        ("POST", GET_USER, &[], "", 415, "unimplemented", "application/json"),
        ("GET", GET_USER, &[], "", 405, "unimplemented", "POST"),
        ("POST", "/headwater.v1.UserActions/RecordActions", &[JSON], "{}", 404, "unimplemented", "no unary RPC"),
        ("POST", "/headwater.v1.UserActions/Nope", &[JSON], "{}", 404, "unimplemented", "/headwater.v1.UserActions/Nope"),
        ("GET", "/", &[], "", 404, "unimplemented", "paths look like"),
        ("POST", GET_USER, &[JSON], r#"{"userId":"panic"}"#, 500, "internal", "the server failed"),
    ];
    for (method, path, headers, body, status, code, message) in table {
        let method = method.parse().unwrap();
        let mut request = reqwest::Client::new().request(method, format!("{}{path}", running.url)).body(*body);
        for (name, value) in *headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.unwrap();
        let seen_status = answer.status().as_u16();
        let seen: Value = answer.json().await.unwrap();
        let case = format!("{path} {headers:?} {body} -> {seen}");
        assert_eq!((seen_status, seen["code"].as_str()), (*status, Some(*code)), "{case}");
        assert!(seen["message"].as_str().unwrap_or_default().contains(message), "{case}");
        if *status == 400 {
            assert_eq!(seen["details"][0]["debug"]["reason"], "INVALID_FIELD", "{case}");
            assert_eq!(seen["details"][1]["type"], "google.rpc.BadRequest", "{case}");
        }
    }
}

#[tokio::test]
async fn details_travel_as_bytes_and_as_what_they_say() {
    let running = Running::start(ServerConfig::default()).await;
    let (_, body) = running.post("GetUser", r#"{"userId":"bad"}"#).await;
    let details = body["details"].as_array().unwrap();
    assert_eq!(details[0]["type"], "google.rpc.ErrorInfo");
    assert_eq!(details[0]["debug"], json!({"reason": "INVALID_FIELD", "domain": "headwater"}));
    assert_eq!(details[1]["type"], "google.rpc.BadRequest");
    assert_eq!(details[1]["debug"]["fieldViolations"][1]["field"], "context.ip");
    assert!(!details[1]["value"].as_str().unwrap().contains('='), "base64 without padding");

    let request = reqwest::Client::new().post(format!("{}{GET_USER}", running.url));
    let request = request.header("content-type", "application/json").body(r#"{"userId":"too-fast"}"#);
    let answer = request.send().await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["retry-after"]), (429, &"2".parse().unwrap()));
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body["details"][0]["debug"], json!({"retryDelay": "1.500s"}), "{body}");
}

#[tokio::test]
async fn a_value_that_does_not_fit_is_not_repeated() {
    let running = Running::start(ServerConfig::default()).await;
    for value in ["31415926", "31.5", "[31415926]", "true", r#"{"31415926":1}"#] {
        let (status, body) = running.post("GetUser", format!(r#"{{"userId":{value}}}"#)).await;
        assert_eq!((status, body["details"][1]["debug"]["fieldViolations"][0]["field"].as_str()), (400, Some("body")));
        assert!(!body.to_string().contains("31"), "{body}");
    }
}

#[tokio::test]
async fn a_body_over_one_mebibyte_is_413_and_one_of_exactly_that_is_read() {
    let running = Running::start(ServerConfig::default()).await;
    let (status, body) = running.post("RecordAction", vec![b' '; 2 << 20]).await;
    assert_eq!((status, body["code"].as_str()), (413, Some("out_of_range")), "{body}");
    assert_eq!(body["details"][0]["debug"]["reason"], "INVALID_FIELD", "{body}");
    let mut fits = br#"{"eventId":"e"}"#.to_vec();
    fits.resize(1 << 20, b' ');
    assert_eq!(running.post("RecordAction", fits).await, (200, json!({"eventId": "e"})));
}

#[tokio::test]
async fn the_callers_deadline_is_kept() {
    let running = Running::start(ServerConfig::default()).await;
    let answer = reqwest::Client::new()
        .post(format!("{}{GET_USER}", running.url))
        .header("content-type", "application/json")
        .header("connect-timeout-ms", "20")
        .body(r#"{"userId":"for-ever"}"#);
    let answer = crate::api::soon("the deadline", answer.send()).await.unwrap();
    assert_eq!(answer.status().as_u16(), 504);
    assert_eq!(answer.json::<Value>().await.unwrap()["code"], "deadline_exceeded");
}
