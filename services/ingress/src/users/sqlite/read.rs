//! What keys name, as it is stored.
use std::{collections::HashMap, hash::Hash};

use headwater_proto::{EventId, UserId};
use serde_json::Value;
use sqlx::{
    Error, SqliteConnection,
    sqlite::{SqliteArguments, SqliteRow},
};

use super::super::{Keys, Snapshot, rows};
use crate::fields::Email;

/// One statement for each kind of key that is asked for.
pub(super) async fn snapshot(connection: &mut SqliteConnection, keys: &Keys) -> Result<Snapshot, Error> {
    const USERS: &str = "SELECT user_id, email, password_hash, status, status_epoch, created_at FROM users \
        WHERE user_id IN (SELECT value FROM json_each(?1))";
    const STATES: &str = "SELECT user_id, failures, last_ip, last_ip_at, last_login_at, open_sessions \
        FROM authentication_states WHERE user_id IN (SELECT value FROM json_each(?1))";
    const EMAILS: &str = "SELECT email FROM users WHERE email IN (SELECT value FROM json_each(?1))";
    const REQUESTS: &str = "SELECT event_id, digest, receipt FROM request_ids \
        WHERE event_id IN (SELECT unhex(value) FROM json_each(?1))";
    const VERDICTS: &str = "SELECT event_id FROM applied_verdicts \
        WHERE event_id IN (SELECT unhex(value) FROM json_each(?1))";

    let texts = |keys: &mut dyn Iterator<Item = &str>| list(keys.map(Value::from));
    let users = texts(&mut keys.users.iter().map(UserId::as_str));
    let states = texts(&mut keys.states.iter().map(UserId::as_str));
    let emails = texts(&mut keys.emails.iter().map(Email::as_str));
    let requests = list(keys.requests.iter().map(id));
    let verdicts = list(keys.verdicts.iter().map(id));
    let user = |row: &SqliteRow| rows::user(row).map(|user| (user.id.clone(), user));
    let email = |row: &SqliteRow| Ok((rows::email(row)?, ()));
    let verdict = |row: &SqliteRow| Ok((rows::event_id(row)?, ()));
    Ok(Snapshot {
        users: all(connection, USERS, users, user).await?,
        states: all(connection, STATES, states, rows::keyed_state).await?,
        taken_emails: all(connection, EMAILS, emails, email).await?.into_keys().collect(),
        requests: all(connection, REQUESTS, requests, rows::known_request).await?,
        applied_verdicts: all(connection, VERDICTS, verdicts, verdict).await?.into_keys().collect(),
    })
}

/// `None` where there is nothing to ask for.
fn list(values: impl Iterator<Item = Value>) -> Option<String> {
    let values: Vec<Value> = values.collect();
    (!values.is_empty()).then(|| Value::Array(values).to_string())
}

fn id(id: &EventId) -> Value {
    Value::from(super::write::hex(id.as_bytes()))
}

async fn all<K: Eq + Hash, V>(
    connection: &mut SqliteConnection,
    query: &'static str,
    keys: Option<String>,
    read: impl Fn(&SqliteRow) -> Result<(K, V), Error>,
) -> Result<HashMap<K, V>, Error> {
    let Some(keys) = keys else { return Ok(HashMap::new()) };
    let query: sqlx::query::Query<'_, _, SqliteArguments> = sqlx::query(query).bind(keys);
    let rows = query.fetch_all(connection).await?;
    rows.iter().map(read).collect()
}
