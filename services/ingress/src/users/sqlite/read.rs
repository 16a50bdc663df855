//! Rows -> what the port speaks of.
use std::{collections::HashMap, hash::Hash};

use headwater_proto::{EventId, Millis, UserId};
use prost::Message;
use serde_json::Value;
use sqlx::{
    Error, Row, SqliteConnection,
    sqlite::{SqliteArguments, SqliteRow},
};

use super::super::{Authentication, Credentials, Keys, KnownRequest, Receipt, SeenIp, Snapshot, Status, User};
use crate::fields::{Email, Ip, SessionId};

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
    let user = |row: &SqliteRow| user(row).map(|user| (user.id.clone(), user));
    let keyed = |row: &SqliteRow| Ok((parse(row, "user_id", UserId::try_from)?, state(row)?));
    let request = |row: &SqliteRow| Ok((event_id(row)?, known_request(row)?));
    let email = |row: &SqliteRow| Ok((parse(row, "email", Email::try_from)?, ()));
    let verdict = |row: &SqliteRow| Ok((event_id(row)?, ()));
    Ok(Snapshot {
        users: rows(connection, USERS, users, user).await?,
        states: rows(connection, STATES, states, keyed).await?,
        taken_emails: rows(connection, EMAILS, emails, email).await?.into_keys().collect(),
        requests: rows(connection, REQUESTS, requests, request).await?,
        applied_verdicts: rows(connection, VERDICTS, verdicts, verdict).await?.into_keys().collect(),
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

async fn rows<K: Eq + Hash, V>(
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

pub(super) fn credentials(row: &SqliteRow) -> Result<Credentials, Error> {
    Ok(Credentials {
        user_id: parse(row, "user_id", UserId::try_from)?,
        password_hash: row.try_get::<&str, _>("password_hash")?.into(),
    })
}

pub(super) fn user(row: &SqliteRow) -> Result<User, Error> {
    Ok(User {
        id: parse(row, "user_id", UserId::try_from)?,
        email: parse(row, "email", Email::try_from)?,
        password_hash: row.try_get::<&str, _>("password_hash")?.into(),
        status: Status::from_number(row.try_get("status")?).map_err(decode)?,
        status_epoch: row.try_get("status_epoch")?,
        created_at: Millis::from_millis(row.try_get("created_at")?),
    })
}

pub(super) fn state(row: &SqliteRow) -> Result<Authentication, Error> {
    let ip: Option<&str> = row.try_get("last_ip")?;
    let ip = ip.map(Ip::try_from).transpose().map_err(decode)?;
    let at: Option<i64> = row.try_get("last_ip_at")?;
    let last_login_at: Option<i64> = row.try_get("last_login_at")?;
    let open_sessions: &str = row.try_get("open_sessions")?;
    Ok(Authentication {
        failures: row.try_get("failures")?,
        last_ip: ip.zip(at).map(|(ip, at)| SeenIp { ip, at: Millis::from_millis(at) }),
        last_login_at: last_login_at.map(Millis::from_millis),
        open_sessions: open_sessions.lines().map(SessionId::try_from).collect::<Result<_, _>>().map_err(decode)?,
    })
}

fn known_request(row: &SqliteRow) -> Result<KnownRequest, Error> {
    let receipt: &[u8] = row.try_get("receipt")?;
    Ok(KnownRequest { digest: array(row.try_get("digest")?)?, receipt: Receipt::decode(receipt).map_err(decode)? })
}

fn event_id(row: &SqliteRow) -> Result<EventId, Error> {
    array(row.try_get("event_id")?).map(EventId::from_bytes)
}

pub(super) fn array<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Error> {
    bytes.try_into().map_err(decode)
}

fn parse<'r, T, E>(row: &'r SqliteRow, column: &str, parse: impl FnOnce(&'r str) -> Result<T, E>) -> Result<T, Error>
where
    E: std::error::Error + Send + Sync + 'static,
{
    parse(row.try_get(column)?).map_err(decode)
}

fn decode(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Decode(Box::new(error))
}
