//! What every service that is compared must answer, so that it is the same work.
use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::time::{Instant, interval};

use super::calls::{Connection, is_accepted};

/// For an event to come back through the log.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOKS: Duration = Duration::from_millis(100);

const VALID: &str = r#"{"userId":"user-1001","eventType":"PRODUCT_VIEW","payload":{"productId":"sku-7788"}}"#;
const USER_ID: &str = "userId is required and must be a non-empty string";
const EVENT_TYPE: &str = "eventType must be one of: LOGIN, LOGOUT, PRODUCT_VIEW";
const PAYLOAD: &str = "payload must be a JSON object when provided";
const BODY: &str = "body must be valid JSON";

/// How many events it has written.
pub(crate) async fn check(address: SocketAddr) -> anyhow::Result<u64> {
    let mut connection = Connection::open(address).await?;
    let health = read(connection.get("/health").await?)?;
    ensure!(health == (StatusCode::OK, json!({"status": "ok"})), "GET /health answers {health:?}");

    let table = [
        ("{}", vec![USER_ID, EVENT_TYPE]),
        (r#"{"userId":" ","eventType":"LOGIN"}"#, vec![USER_ID]),
        (r#"{"userId":"user-1","eventType":"LOGIN","payload":[]}"#, vec![PAYLOAD]),
        ("{", vec![BODY]),
    ];
    for (body, errors) in table {
        let answer = read(connection.post("/events/generate", Bytes::from_static(body.as_bytes())).await?)?;
        let expected = (StatusCode::BAD_REQUEST, json!({"message": "Invalid request payload", "errors": errors}));
        ensure!(answer == expected, "{body} is answered with {answer:?}, expected {expected:?}");
    }

    let (status, body) = connection.post("/events/generate", Bytes::from_static(VALID.as_bytes())).await?;
    ensure!(is_accepted(status, &body), "{VALID} is answered with {status} {body:?}");
    let mut expected: Value = serde_json::from_str(VALID)?;
    expected["eventId"] = serde_json::from_slice::<Value>(&body)?["eventId"].take();
    until_processed(&mut connection, &expected).await?;
    Ok(1)
}

fn read((status, body): (StatusCode, Bytes)) -> anyhow::Result<(StatusCode, Value)> {
    let value =
        serde_json::from_slice(&body).with_context(|| format!("{status} with a body that is not JSON: {body:?}"))?;
    Ok((status, value))
}

/// Its timestamp is the service's own.
async fn until_processed(connection: &mut Connection, expected: &Value) -> anyhow::Result<()> {
    let start = Instant::now();
    let mut between = interval(LOOKS);
    loop {
        between.tick().await;
        let (status, mut processed) = read(connection.get("/events/processed").await?)?;
        for event in processed.as_array_mut().into_iter().flatten() {
            let timestamp = event.as_object_mut().and_then(|event| event.remove("timestamp"));
            if event == expected && timestamp.is_some_and(|timestamp| timestamp.is_string()) {
                return Ok(());
            }
        }
        ensure!(start.elapsed() < PATIENCE, "{expected} is not processed after {PATIENCE:?}: {status} {processed}");
    }
}
