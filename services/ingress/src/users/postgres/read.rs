//! What keys name, as it is stored.
use headwater_proto::{EventId, UserId};
use sqlx::{
    Error, PgConnection, Postgres, Row,
    postgres::{PgArguments, PgRow},
    query::Query,
};
use uuid::Uuid;

use super::{
    super::{Keys, KnownRequest, Snapshot, rows},
    recent::Seen,
};
use crate::fields::Email;

/// One statement for each kind of key that is asked for. Locks states first, then accounts, each in the order of user
/// ids; what other statements see is at least as new as the locked rows.
pub(super) async fn snapshot(connection: &mut PgConnection, keys: &Keys) -> Result<Snapshot, Error> {
    const STATES: &str = "SELECT user_id, failures, last_ip, last_ip_at, last_login_at, open_sessions \
        FROM authentication_states WHERE user_id = ANY($1) ORDER BY user_id FOR NO KEY UPDATE";
    const USERS: &str = "SELECT user_id, email, password_hash, status, status_epoch, created_at FROM users \
        WHERE user_id = ANY($1) ORDER BY user_id FOR NO KEY UPDATE";
    const EMAILS: &str = "SELECT email FROM users WHERE email = ANY($1)";
    const REQUESTS: &str = "SELECT event_id, digest, receipt FROM request_ids WHERE event_id = ANY($1)";
    const VERDICTS: &str = "SELECT event_id FROM applied_verdicts WHERE event_id = ANY($1)";

    let mut snapshot = Snapshot::default();
    if !keys.states.is_empty() {
        let query = sqlx::query(STATES).bind(user_ids(&keys.states));
        snapshot.states = all(connection, query, rows::keyed_state).await?;
    }
    if !keys.users.is_empty() {
        let query = sqlx::query(USERS).bind(user_ids(&keys.users));
        snapshot.users = all(connection, query, |row| rows::user(row).map(|user| (user.id.clone(), user))).await?;
    }
    if !keys.emails.is_empty() {
        let emails: Vec<&str> = keys.emails.iter().map(Email::as_str).collect();
        snapshot.taken_emails = all(connection, sqlx::query(EMAILS).bind(emails), rows::email).await?;
    }
    if !keys.requests.is_empty() {
        let query = sqlx::query(REQUESTS).bind(uuids(&keys.requests));
        snapshot.requests = all(connection, query, rows::known_request).await?;
    }
    if !keys.verdicts.is_empty() {
        let query = sqlx::query(VERDICTS).bind(uuids(&keys.verdicts));
        snapshot.applied_verdicts = all(connection, query, rows::event_id).await?;
    }
    Ok(snapshot)
}

/// States as they are, unlocked: whoever writes them proves that they still are.
pub(super) async fn seen(connection: &mut PgConnection, users: &[UserId]) -> Result<Vec<(UserId, Seen)>, Error> {
    const STATES: &str = "SELECT user_id, failures, last_ip, last_ip_at, last_login_at, open_sessions, xmin \
        FROM authentication_states WHERE user_id = ANY($1)";
    let read = |row: &PgRow| {
        let (user, state) = rows::keyed_state(row)?;
        Ok((user, Seen { state, version: version(row, 6)? }))
    };
    all(connection, sqlx::query(STATES).bind(user_ids(users)), read).await
}

/// A column of type xid, which sqlx has no type for: four bytes.
pub(super) fn version(row: &PgRow, column: usize) -> Result<i32, Error> {
    row.try_get_unchecked(column)
}

/// Those of days before; an id of that day itself is found out when it is written.
pub(super) async fn older_requests(
    connection: &mut PgConnection,
    ids: Vec<Uuid>,
    day: i32,
) -> Result<Vec<(EventId, KnownRequest)>, Error> {
    const REQUESTS: &str = "SELECT event_id, digest, receipt FROM request_ids WHERE event_id = ANY($1) AND day < $2";
    all(connection, sqlx::query(REQUESTS).bind(ids).bind(day), rows::known_request).await
}

async fn all<T, C: FromIterator<T>>(
    connection: &mut PgConnection,
    query: Query<'_, Postgres, PgArguments>,
    read: impl Fn(&PgRow) -> Result<T, Error>,
) -> Result<C, Error> {
    query.fetch_all(connection).await?.iter().map(read).collect()
}

fn user_ids<'k>(ids: impl IntoIterator<Item = &'k UserId>) -> Vec<&'k str> {
    ids.into_iter().map(UserId::as_str).collect()
}

pub(super) fn uuids<'k>(ids: impl IntoIterator<Item = &'k EventId>) -> Vec<Uuid> {
    ids.into_iter().map(|id| Uuid::from_bytes(*id.as_bytes())).collect()
}
