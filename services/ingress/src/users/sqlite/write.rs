//! What the port speaks of -> rows: one statement per table.
use prost::Message;
use serde_json::{Value, json};
use sqlx::{Error, SqliteConnection};

use super::super::{Authentication, NewRequest, User, Writes};

pub(super) async fn all(connection: &mut SqliteConnection, writes: &Writes) -> Result<(), Error> {
    const NEW_USERS: &str = "INSERT INTO users (user_id, email, password_hash, status, status_epoch, created_at) \
        SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5 FROM json_each(?1)";
    const CHANGED_USERS: &str = "UPDATE users SET password_hash = changed.value->>2, status = changed.value->>3, \
        status_epoch = changed.value->>4 FROM json_each(?1) AS changed WHERE users.user_id = changed.value->>0";
    const STATES: &str = "INSERT INTO authentication_states \
        (user_id, failures, last_ip, last_ip_at, last_login_at, open_sessions) \
        SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5 FROM json_each(?1) WHERE true \
        ON CONFLICT (user_id) DO UPDATE SET failures = excluded.failures, last_ip = excluded.last_ip, \
        last_ip_at = excluded.last_ip_at, last_login_at = excluded.last_login_at, \
        open_sessions = excluded.open_sessions";
    const REQUESTS: &str = "INSERT INTO request_ids (event_id, day, digest, receipt) \
        SELECT unhex(value->>0), value->>1, unhex(value->>2), unhex(value->>3) FROM json_each(?1)";
    const VERDICTS: &str = "INSERT INTO applied_verdicts (event_id) SELECT unhex(value) FROM json_each(?1)";

    rows(connection, NEW_USERS, writes.new_users.iter().map(user)).await?;
    rows(connection, CHANGED_USERS, writes.changed_users.iter().map(user)).await?;
    rows(connection, STATES, writes.states.iter().map(|(id, state)| authentication(id.as_str(), state))).await?;
    rows(connection, REQUESTS, writes.requests.iter().map(request)).await?;
    rows(connection, VERDICTS, writes.applied_verdicts.iter().map(|id| hex(id.as_bytes()).into())).await?;
    super::outbox::insert(connection, &writes.outbox, writes.at).await
}

async fn rows(
    connection: &mut SqliteConnection,
    statement: &'static str,
    rows: impl Iterator<Item = Value>,
) -> Result<(), Error> {
    let rows: Vec<Value> = rows.collect();
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(statement).bind(Value::Array(rows).to_string()).execute(connection).await?;
    Ok(())
}

fn user(user: &User) -> Value {
    json!([
        user.id.as_str(),
        user.email.as_str(),
        &*user.password_hash,
        user.status as i64,
        user.status_epoch,
        user.created_at.as_millis(),
    ])
}

fn authentication(user_id: &str, state: &Authentication) -> Value {
    let sessions: Vec<&str> = state.open_sessions.iter().map(|session| session.as_str()).collect();
    json!([
        user_id,
        state.failures,
        state.last_ip.map(|seen| seen.ip.to_string()),
        state.last_ip.map(|seen| seen.at.as_millis()),
        state.last_login_at.map(|at| at.as_millis()),
        sessions.join("\n"), // a session id has no control characters
    ])
}

fn request(request: &NewRequest) -> Value {
    json!([
        hex(request.id.as_bytes()),
        request.day.epoch_days(),
        hex(&request.digest),
        hex(&request.receipt.encode_to_vec()),
    ])
}

/// As SQLite's unhex takes it.
pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}
