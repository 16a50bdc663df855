//! Rows -> what the port speaks of.
use headwater_proto::{EventId, Millis, UserId};
use prost::Message;
use sqlx::{
    Error, PgConnection, Postgres, Row,
    postgres::{PgArguments, PgRow},
    query::Query,
};
use uuid::Uuid;

use super::super::{Authentication, Credentials, Keys, KnownRequest, Receipt, SeenIp, Snapshot, Status, User};
use crate::fields::{Email, Ip, SessionId};

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
        let keyed = |row: &PgRow| Ok((parse(row, "user_id", UserId::try_from)?, state(row)?));
        snapshot.states = rows(connection, query, keyed).await?;
    }
    if !keys.users.is_empty() {
        let query = sqlx::query(USERS).bind(user_ids(&keys.users));
        snapshot.users = rows(connection, query, |row| user(row).map(|user| (user.id.clone(), user))).await?;
    }
    if !keys.emails.is_empty() {
        let emails: Vec<&str> = keys.emails.iter().map(Email::as_str).collect();
        let query = sqlx::query(EMAILS).bind(emails);
        snapshot.taken_emails = rows(connection, query, |row| parse(row, "email", Email::try_from)).await?;
    }
    if !keys.requests.is_empty() {
        let query = sqlx::query(REQUESTS).bind(uuids(&keys.requests));
        snapshot.requests = rows(connection, query, |row| Ok((event_id(row)?, known_request(row)?))).await?;
    }
    if !keys.verdicts.is_empty() {
        let query = sqlx::query(VERDICTS).bind(uuids(&keys.verdicts));
        snapshot.applied_verdicts = rows(connection, query, event_id).await?;
    }
    Ok(snapshot)
}

async fn rows<T, C: FromIterator<T>>(
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

pub(super) fn credentials(row: &PgRow) -> Result<Credentials, Error> {
    Ok(Credentials {
        user_id: parse(row, "user_id", UserId::try_from)?,
        password_hash: row.try_get::<&str, _>("password_hash")?.into(),
    })
}

pub(super) fn user(row: &PgRow) -> Result<User, Error> {
    let status: i16 = row.try_get("status")?;
    Ok(User {
        id: parse(row, "user_id", UserId::try_from)?,
        email: parse(row, "email", Email::try_from)?,
        password_hash: row.try_get::<&str, _>("password_hash")?.into(),
        status: Status::from_number(status.into()).map_err(decode)?,
        status_epoch: row.try_get("status_epoch")?,
        created_at: Millis::from_millis(row.try_get("created_at")?),
    })
}

pub(super) fn state(row: &PgRow) -> Result<Authentication, Error> {
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

fn known_request(row: &PgRow) -> Result<KnownRequest, Error> {
    let (digest, receipt): (&[u8], &[u8]) = (row.try_get("digest")?, row.try_get("receipt")?);
    Ok(KnownRequest { digest: array(digest)?, receipt: Receipt::decode(receipt).map_err(decode)? })
}

fn event_id(row: &PgRow) -> Result<EventId, Error> {
    row.try_get("event_id").map(|id: Uuid| EventId::from_bytes(id.into_bytes()))
}

pub(super) fn array<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Error> {
    bytes.try_into().map_err(decode)
}

fn parse<'r, T, E>(row: &'r PgRow, column: &str, parse: impl FnOnce(&'r str) -> Result<T, E>) -> Result<T, Error>
where
    E: std::error::Error + Send + Sync + 'static,
{
    parse(row.try_get(column)?).map_err(decode)
}

fn decode(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Decode(Box::new(error))
}
