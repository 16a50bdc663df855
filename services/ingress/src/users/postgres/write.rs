//! What the port speaks of -> rows: one statement per table.
//!
//! Beside other writers nothing overwrites what was not loaded: a row that somebody else made in the meantime makes
//! the whole a clash. Alone, there is nobody else.
use std::collections::HashSet;

use headwater_proto::UserId;
use prost::Message;
use sqlx::{Error, PgConnection, Postgres, postgres::PgArguments, query::Query};

use super::{
    super::{Authentication, NewRequest, User, Writes},
    days, outbox,
    read::uuids,
    session::Lock,
};

/// Another transaction was faster with a key that had to be free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum Landed {
    All,
    Clash,
}

/// States before the outbox: its ids are taken with every state of theirs locked or made, so they grow with each user.
pub(super) async fn all(
    connection: &mut PgConnection,
    writes: &Writes,
    loaded: &HashSet<UserId>,
    lock: Lock,
) -> Result<Landed, Error> {
    let alone = lock == Lock::Exclusive;
    let (known, new): (Vec<_>, Vec<_>) = writes.states.iter().partition(|(id, _)| alone || loaded.contains(id));
    if states(connection, if alone { PUT_STATES } else { CHANGE_STATES }, &known).await? == Landed::Clash
        || states(connection, NEW_STATES, &new).await? == Landed::Clash
        || new_users(connection, &writes.new_users).await? == Landed::Clash
        || changed_users(connection, &writes.changed_users).await? == Landed::Clash
        || applied_verdicts(connection, writes).await? == Landed::Clash
    {
        return Ok(Landed::Clash);
    }
    if alone {
        days::make(connection, &writes.requests).await?;
    }
    if requests(connection, &writes.requests, alone).await? == Landed::Clash {
        return Ok(Landed::Clash);
    }
    outbox::insert(connection, &writes.outbox, writes.at).await?;
    Ok(Landed::All)
}

const NEW_STATES: &str = "INSERT INTO authentication_states \
    (user_id, failures, last_ip, last_ip_at, last_login_at, open_sessions) \
    SELECT * FROM unnest($1::text[], $2::int[], $3::text[], $4::bigint[], $5::bigint[], $6::text[]) \
    ON CONFLICT DO NOTHING";
const CHANGE_STATES: &str = "UPDATE authentication_states AS state SET failures = new.failures, \
    last_ip = new.last_ip, last_ip_at = new.last_ip_at, last_login_at = new.last_login_at, \
    open_sessions = new.open_sessions \
    FROM unnest($1::text[], $2::int[], $3::text[], $4::bigint[], $5::bigint[], $6::text[]) \
    AS new (user_id, failures, last_ip, last_ip_at, last_login_at, open_sessions) \
    WHERE state.user_id = new.user_id";
const PUT_STATES: &str = "INSERT INTO authentication_states \
    (user_id, failures, last_ip, last_ip_at, last_login_at, open_sessions) \
    SELECT * FROM unnest($1::text[], $2::int[], $3::text[], $4::bigint[], $5::bigint[], $6::text[]) \
    ON CONFLICT (user_id) DO UPDATE SET failures = excluded.failures, last_ip = excluded.last_ip, \
    last_ip_at = excluded.last_ip_at, last_login_at = excluded.last_login_at, \
    open_sessions = excluded.open_sessions";

async fn states(
    connection: &mut PgConnection,
    statement: &'static str,
    states: &[&(UserId, Authentication)],
) -> Result<Landed, Error> {
    let each = states.iter().map(|(_, state)| state);
    let sessions = each.clone().map(|state| {
        let sessions: Vec<&str> = state.open_sessions.iter().map(|session| session.as_str()).collect();
        sessions.join("\n") // a session id has no control characters
    });
    let query = sqlx::query(statement)
        .bind(states.iter().map(|(user_id, _)| user_id.as_str()).collect::<Vec<_>>())
        .bind(each.clone().map(|state| state.failures).collect::<Vec<_>>())
        .bind(each.clone().map(|state| state.last_ip.map(|seen| seen.ip.to_string())).collect::<Vec<_>>())
        .bind(each.clone().map(|state| state.last_ip.map(|seen| seen.at.as_millis())).collect::<Vec<_>>())
        .bind(each.map(|state| state.last_login_at.map(|at| at.as_millis())).collect::<Vec<_>>())
        .bind(sessions.collect::<Vec<_>>());
    run(connection, query, states.len()).await
}

async fn new_users(connection: &mut PgConnection, users: &[User]) -> Result<Landed, Error> {
    const INSERT: &str = "INSERT INTO users (user_id, email, password_hash, status, status_epoch, created_at) \
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::smallint[], $5::bigint[], $6::bigint[]) \
        ON CONFLICT DO NOTHING";
    let query = sqlx::query(INSERT)
        .bind(users.iter().map(|user| user.id.as_str()).collect::<Vec<_>>())
        .bind(users.iter().map(|user| user.email.as_str()).collect::<Vec<_>>())
        .bind(users.iter().map(|user| &*user.password_hash).collect::<Vec<_>>())
        .bind(users.iter().map(|user| user.status as i16).collect::<Vec<_>>())
        .bind(users.iter().map(|user| user.status_epoch).collect::<Vec<_>>())
        .bind(users.iter().map(|user| user.created_at.as_millis()).collect::<Vec<_>>());
    run(connection, query, users.len()).await
}

/// Of users that were loaded, and so are locked.
async fn changed_users(connection: &mut PgConnection, users: &[User]) -> Result<Landed, Error> {
    const UPDATE: &str = "UPDATE users SET password_hash = new.password_hash, status = new.status, \
        status_epoch = new.status_epoch FROM unnest($1::text[], $2::text[], $3::smallint[], $4::bigint[]) \
        AS new (user_id, password_hash, status, status_epoch) WHERE users.user_id = new.user_id";
    let query = sqlx::query(UPDATE)
        .bind(users.iter().map(|user| user.id.as_str()).collect::<Vec<_>>())
        .bind(users.iter().map(|user| &*user.password_hash).collect::<Vec<_>>())
        .bind(users.iter().map(|user| user.status as i16).collect::<Vec<_>>())
        .bind(users.iter().map(|user| user.status_epoch).collect::<Vec<_>>());
    run(connection, query, users.len()).await
}

/// Beside others only ids of the newest day: their key cannot tell an id of one day from the same of another.
async fn requests(connection: &mut PgConnection, requests: &[NewRequest], alone: bool) -> Result<Landed, Error> {
    const ALONE: &str = "INSERT INTO request_ids (event_id, day, digest, receipt) \
        SELECT * FROM unnest($1::uuid[], $2::int[], $3::bytea[], $4::bytea[]) ON CONFLICT DO NOTHING";
    const BESIDE_OTHERS: &str = "INSERT INTO request_ids (event_id, day, digest, receipt) \
        SELECT new.* FROM unnest($1::uuid[], $2::int[], $3::bytea[], $4::bytea[]) \
        AS new (event_id, day, digest, receipt) JOIN request_day ON request_day.day = new.day \
        ON CONFLICT DO NOTHING";
    let query = sqlx::query(if alone { ALONE } else { BESIDE_OTHERS })
        .bind(uuids(requests.iter().map(|request| &request.id)))
        .bind(requests.iter().map(|request| request.day.epoch_days()).collect::<Vec<_>>())
        .bind(requests.iter().map(|request| &request.digest[..]).collect::<Vec<_>>())
        .bind(requests.iter().map(|request| request.receipt.encode_to_vec()).collect::<Vec<_>>());
    run(connection, query, requests.len()).await
}

async fn applied_verdicts(connection: &mut PgConnection, writes: &Writes) -> Result<Landed, Error> {
    const INSERT: &str =
        "INSERT INTO applied_verdicts (event_id) SELECT * FROM unnest($1::uuid[]) ON CONFLICT DO NOTHING";
    let query = sqlx::query(INSERT).bind(uuids(&writes.applied_verdicts));
    run(connection, query, writes.applied_verdicts.len()).await
}

/// Not at all where there are no rows.
async fn run(
    connection: &mut PgConnection,
    query: Query<'_, Postgres, PgArguments>,
    rows: usize,
) -> Result<Landed, Error> {
    if rows == 0 {
        return Ok(Landed::All);
    }
    let written = query.execute(connection).await?.rows_affected();
    Ok(if written == rows as u64 { Landed::All } else { Landed::Clash })
}
