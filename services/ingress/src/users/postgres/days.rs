//! The days of request ids: a partition each, made ahead and dropped whole. All of it alone among writers.
use std::collections::BTreeSet;

use headwater_proto::Day;
use sqlx::{AssertSqlSafe, Error, PgConnection, PgPool, Row, raw_sql};

use super::{
    super::NewRequest,
    session::{Lock, Session},
};

/// Makes the partitions that these need, and the one of the day after, and turns the day.
pub(super) async fn make(connection: &mut PgConnection, requests: &[NewRequest]) -> Result<(), Error> {
    const TURN: &str = "INSERT INTO request_day (day) VALUES ($1) \
        ON CONFLICT (one) DO UPDATE SET day = greatest(request_day.day, excluded.day)";
    let days: BTreeSet<i32> = requests.iter().map(|request| request.day.epoch_days()).collect();
    let Some(&newest) = days.last() else { return Ok(()) };
    let there = partitions(connection).await?;
    for day in days.into_iter().chain([newest.saturating_add(1)]).filter(|day| !there.contains(day)) {
        let name = name(day);
        let create = format!("CREATE TABLE {name} PARTITION OF request_ids FOR VALUES IN ({day})");
        raw_sql(AssertSqlSafe(create)).execute(&mut *connection).await?;
    }
    sqlx::query(TURN).bind(newest).execute(connection).await?;
    Ok(())
}

/// Drops the days before; returns how many there were.
pub(super) async fn drop_before(pool: PgPool, first_kept: Day) -> Result<u64, Error> {
    let first_kept = first_kept.epoch_days();
    let mut looking = Session::open(&pool).await?;
    let expired = partitions(&mut looking).await?.range(..first_kept).count();
    looking.end();
    if expired == 0 {
        return Ok(0); // without holding up anybody
    }
    let mut session = Session::begin(&pool, Lock::Exclusive).await?;
    let expired: Vec<i32> = partitions(&mut session).await?.range(..first_kept).copied().collect();
    for &day in &expired {
        let drop = format!("DROP TABLE {}", name(day));
        raw_sql(AssertSqlSafe(drop)).execute(&mut *session).await?;
    }
    // a day that is gone is no day to write into
    let forget = sqlx::query("DELETE FROM request_day WHERE day < $1").bind(first_kept);
    forget.execute(&mut *session).await?;
    session.commit().await?;
    Ok(expired.len() as u64)
}

async fn partitions(connection: &mut PgConnection) -> Result<BTreeSet<i32>, Error> {
    const QUERY: &str = "SELECT c.relname::text AS name FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
        WHERE i.inhparent = 'request_ids'::regclass";
    let rows = sqlx::query(QUERY).fetch_all(connection).await?;
    let day = |name: &str| name.strip_prefix(PREFIX).and_then(|day| day.parse().ok());
    rows.iter().map(|row| row.try_get("name").map(day)).filter_map(Result::transpose).collect()
}

const PREFIX: &str = "request_ids_";

/// Quoted, and safe to be: a day is a number.
fn name(day: i32) -> String {
    format!("\"{PREFIX}{day}\"")
}
