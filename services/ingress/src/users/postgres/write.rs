//! What the port speaks of -> rows: one statement per table.
//!
//! Beside other writers nothing overwrites what was not loaded: a row that somebody else made in the meantime makes
//! the whole a clash. Alone, there is nobody else.
use std::collections::{HashMap, HashSet};

use headwater_proto::UserId;
use prost::Message;
use sqlx::{Error, PgConnection, Postgres, postgres::PgArguments, query::Query};

use super::{
    super::{Authentication, NewRequest, User, Writes},
    days, outbox,
    read::uuids,
};

/// Another transaction was faster: with a key that had to be free, or with a state that was only seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum Landed {
    /// With the version that the written rows are of; `None` where there is no event among them.
    All(Option<i32>),
    Clash,
}

/// What is there of the states that are written.
#[derive(Debug)]
pub(super) enum Known {
    /// These, of these versions when they were seen.
    Seen(HashMap<UserId, i32>),
    /// These, and nobody else can write them.
    Locked(HashSet<UserId>),
    /// Whatever is there: nobody else is writing at all.
    Alone,
}

/// States before the outbox: its ids are taken with every state of theirs locked or made, so they grow with each user.
pub(super) async fn all(connection: &mut PgConnection, writes: &Writes, known: &Known) -> Result<Landed, Error> {
    let alone = matches!(known, Known::Alone);
    let clash = match known {
        Known::Seen(versions) => {
            let (seen, new): (Vec<_>, Vec<_>) = writes.states.iter().partition(|(id, _)| versions.contains_key(id));
            let of = seen.iter().filter_map(|(id, _)| versions.get(id).copied()).collect::<Vec<_>>();
            run(connection, states(CHANGE_SEEN_STATES, &seen).bind(of), seen.len()).await?
                || run(connection, states(NEW_STATES, &new), new.len()).await?
        }
        Known::Locked(locked) => {
            let (locked, new): (Vec<_>, Vec<_>) = writes.states.iter().partition(|(id, _)| locked.contains(id));
            run(connection, states(CHANGE_STATES, &locked), locked.len()).await?
                || run(connection, states(NEW_STATES, &new), new.len()).await?
        }
        Known::Alone => {
            let all: Vec<_> = writes.states.iter().collect();
            run(connection, states(PUT_STATES, &all), all.len()).await?
        }
    };
    if clash
        || new_users(connection, &writes.new_users).await?
        || changed_users(connection, &writes.changed_users).await?
        || applied_verdicts(connection, writes).await?
    {
        return Ok(Landed::Clash);
    }
    if alone {
        days::make(connection, &writes.requests).await?;
    }
    if requests(connection, &writes.requests, alone).await? {
        return Ok(Landed::Clash);
    }
    outbox::insert(connection, &writes.outbox, writes.at).await.map(Landed::All)
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
const CHANGE_SEEN_STATES: &str = "UPDATE authentication_states AS state SET failures = new.failures, \
    last_ip = new.last_ip, last_ip_at = new.last_ip_at, last_login_at = new.last_login_at, \
    open_sessions = new.open_sessions \
    FROM unnest($1::text[], $2::int[], $3::text[], $4::bigint[], $5::bigint[], $6::text[], $7::int[]) \
    AS new (user_id, failures, last_ip, last_ip_at, last_login_at, open_sessions, version) \
    WHERE state.user_id = new.user_id AND state.xmin = new.version";
const PUT_STATES: &str = "INSERT INTO authentication_states \
    (user_id, failures, last_ip, last_ip_at, last_login_at, open_sessions) \
    SELECT * FROM unnest($1::text[], $2::int[], $3::text[], $4::bigint[], $5::bigint[], $6::text[]) \
    ON CONFLICT (user_id) DO UPDATE SET failures = excluded.failures, last_ip = excluded.last_ip, \
    last_ip_at = excluded.last_ip_at, last_login_at = excluded.last_login_at, \
    open_sessions = excluded.open_sessions";

/// Its first six parameters; in the order of user ids, in which it locks them.
fn states<'s>(statement: &'static str, states: &[&'s (UserId, Authentication)]) -> Query<'s, Postgres, PgArguments> {
    let each = states.iter().map(|(_, state)| state);
    let sessions = each.clone().map(|state| {
        let sessions: Vec<&str> = state.open_sessions.iter().map(|session| session.as_str()).collect();
        sessions.join("\n") // a session id has no control characters
    });
    sqlx::query(statement)
        .bind(states.iter().map(|(user_id, _)| user_id.as_str()).collect::<Vec<_>>())
        .bind(each.clone().map(|state| state.failures).collect::<Vec<_>>())
        .bind(each.clone().map(|state| state.last_ip.map(|seen| seen.ip.to_string())).collect::<Vec<_>>())
        .bind(each.clone().map(|state| state.last_ip.map(|seen| seen.at.as_millis())).collect::<Vec<_>>())
        .bind(each.map(|state| state.last_login_at.map(|at| at.as_millis())).collect::<Vec<_>>())
        .bind(sessions.collect::<Vec<_>>())
}

async fn new_users(connection: &mut PgConnection, users: &[User]) -> Result<bool, Error> {
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
async fn changed_users(connection: &mut PgConnection, users: &[User]) -> Result<bool, Error> {
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
async fn requests(connection: &mut PgConnection, requests: &[NewRequest], alone: bool) -> Result<bool, Error> {
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

async fn applied_verdicts(connection: &mut PgConnection, writes: &Writes) -> Result<bool, Error> {
    const INSERT: &str =
        "INSERT INTO applied_verdicts (event_id) SELECT * FROM unnest($1::uuid[]) ON CONFLICT DO NOTHING";
    let query = sqlx::query(INSERT).bind(uuids(&writes.applied_verdicts));
    run(connection, query, writes.applied_verdicts.len()).await
}

/// True where another was faster with one of the rows. Not run at all where there are none.
async fn run(
    connection: &mut PgConnection,
    query: Query<'_, Postgres, PgArguments>,
    rows: usize,
) -> Result<bool, Error> {
    if rows == 0 {
        return Ok(false);
    }
    let written = query.execute(connection).await?.rows_affected();
    Ok(written != rows as u64)
}
