//! How long it takes until nothing is left of a fault (I5).
use std::time::Duration;

use anyhow::Result;
use headwater_proto::topics::{GROUPS, USER_EVENTS};
use headwater_stream::{KafkaConfig, groups};
use sqlx::{Connection, PgConnection, Row};
use tokio::time::Instant;

use crate::wait::until;

/// Longer than allowed: a row that is late is told with its time.
const PATIENCE: Duration = Duration::from_secs(240);

/// Everything that was accepted when the fault had ended is in the log, and every group has finished it. The load goes
/// on meanwhile, so lag and outbox as a whole need not be zero at any moment.
pub(crate) async fn recovered(kafka: &KafkaConfig, suffix: &str, database: &str, healed: Instant) -> Result<Duration> {
    let newest = until("the outbox can be read", PATIENCE, async || newest(database).await).await?;
    until("what was in the outbox is in the log", PATIENCE, async || match older(database, newest).await? {
        0 => Ok(()),
        rows => Err(format!("{rows} rows")),
    })
    .await?;
    let ends = until("the log can be read", PATIENCE, async || ends(kafka, suffix).await).await?;
    for group in GROUPS.iter().filter(|group| group.topic == USER_EVENTS) {
        let id = format!("{}{suffix}", group.id);
        until(format_args!("{id} has finished what was in the log"), PATIENCE, async || {
            let lag = groups::lag(kafka, &id, group.topic.name).await.map_err(|error| error.to_string())?;
            let behind: i64 = lag
                .iter()
                .map(|lag| {
                    let end = ends.iter().find(|(partition, _)| *partition == lag.partition).map_or(0, |(_, end)| *end);
                    (end - lag.committed.unwrap_or(lag.start)).max(0)
                })
                .sum();
            if behind == 0 { Ok(()) } else { Err(format!("{behind} records behind")) }
        })
        .await?;
    }
    Ok(healed.elapsed())
}

async fn ends(kafka: &KafkaConfig, suffix: &str) -> Result<Vec<(i32, i64)>, String> {
    let group = GROUPS[0];
    let lag = groups::lag(kafka, &format!("{}{suffix}", group.id), group.topic.name).await;
    Ok(lag.map_err(|error| error.to_string())?.iter().map(|lag| (lag.partition, lag.end)).collect())
}

async fn newest(database: &str) -> Result<i64, String> {
    number(database, sqlx::query("SELECT coalesce(max(id), 0) FROM outbox")).await
}

async fn older(database: &str, id: i64) -> Result<i64, String> {
    number(database, sqlx::query("SELECT count(*) FROM outbox WHERE id <= $1").bind(id)).await
}

/// One number out of the row's database.
pub(crate) async fn number(
    database: &str,
    query: sqlx::query::Query<'_, sqlx::Postgres, sqlx::postgres::PgArguments>,
) -> Result<i64, String> {
    let mut connection = PgConnection::connect(database).await.map_err(|error| error.to_string())?;
    let row = query.fetch_one(&mut connection).await.map_err(|error| error.to_string())?;
    row.try_get(0).map_err(|error| error.to_string())
}
