//! Rows in which our own processes end.
use std::time::Duration;

use anyhow::{Result, ensure};
use futures::future::try_join_all;
use sqlx::{Connection, PgConnection, Row as _, raw_sql};
use tokio::time::Instant;

use crate::{
    scene::Scene,
    wait::{lasting, until},
};

const CONSUMERS: [&str; 5] = ["analytics", "fraud", "notification-1", "notification-2", "notification-3"];
/// Longer than the lease of a shard, 6 s.
const PAST_THE_LEASE: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(30);

/// The share of the load at which the n-th of so many blows falls: spread over its middle.
fn moment(n: u32, of: u32) -> f64 {
    0.15 + 0.6 * f64::from(n) / f64::from(of)
}

pub(crate) async fn ingress_killed(scene: &mut Scene) -> Result<Instant> {
    let times = scene.choose(20, 5);
    for n in 0..times {
        scene.load.reached(moment(n, times)).await?;
        scene.process("ingress")?.kill().await?;
    }
    let healed = Instant::now();
    scene.notes.push(format!("killed {times} times"));
    Ok(healed)
}

/// The broker has the records and the outbox still has their rows: a lock on the table holds the delete back until the
/// process that asked for it is dead.
pub(crate) async fn killed_before_delete(scene: &mut Scene) -> Result<Instant> {
    const WAITING: &str = "SELECT pid FROM pg_stat_activity \
        WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE 'DELETE FROM outbox%'";
    scene.load.reached(0.3).await?;
    let mut gate = PgConnection::connect(&scene.parts.database).await?;
    let mut watch = PgConnection::connect(&scene.parts.database).await?;
    raw_sql("BEGIN; LOCK TABLE outbox IN SHARE MODE").execute(&mut gate).await?;
    let pids = until("the relay waits to delete", PATIENCE, async || {
        let rows = sqlx::query(WAITING).fetch_all(&mut watch).await.map_err(|error| error.to_string())?;
        let pids: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
        if pids.is_empty() { Err("no such backend".to_owned()) } else { Ok(pids) }
    })
    .await?;
    scene.process("ingress")?.kill().await?;
    let healed = Instant::now();
    // a backend would go on without its client
    for pid in pids {
        sqlx::query("SELECT pg_terminate_backend($1)").bind(pid).execute(&mut watch).await?;
    }
    raw_sql("ROLLBACK").execute(&mut gate).await?;
    until("what was sent is sent again", PATIENCE, async || {
        let (records, again) = scene.on_the_log().await.map_err(|error| error.to_string())?;
        if again > 0 { Ok(()) } else { Err(format!("{records} records, none twice")) }
    })
    .await?;
    Ok(healed)
}

pub(crate) async fn consumers_killed(scene: &mut Scene) -> Result<Instant> {
    let rounds = scene.choose(2, 1);
    let of = rounds * CONSUMERS.len() as u32;
    for n in 0..of {
        scene.load.reached(moment(n, of)).await?;
        scene.process(CONSUMERS[n as usize % CONSUMERS.len()])?.kill().await?;
    }
    let healed = Instant::now();
    scene.notes.push(format!("each killed {rounds} times"));
    Ok(healed)
}

/// Its shards go to the other; what it still had in hand when it wakes is in the log already.
pub(crate) async fn relay_frozen(scene: &mut Scene) -> Result<Instant> {
    const OWNERS: &str = "SELECT count(DISTINCT owner) FROM outbox_shards WHERE expires_at > now()";
    let owners = async |scene: &Scene, wanted: i64| {
        until(format_args!("{wanted} relays own shards"), PATIENCE, async || {
            match crate::recovery::number(&scene.parts.database, sqlx::query(OWNERS)).await? {
                owners if owners == wanted => Ok(()),
                owners => Err(format!("{owners} do")),
            }
        })
        .await
    };
    owners(scene, 2).await?;
    scene.load.reached(0.15).await?;
    let other = scene.process("ingress-2")?;
    other.freeze().await?;
    lasting(PAST_THE_LEASE).await;
    owners(scene, 1).await?;
    other.thaw().await?;
    owners(scene, 2).await?;
    scene.load.reached(0.6).await?;
    other.kill().await?;
    Ok(Instant::now())
}

/// One after the other, each with time to come back.
pub(crate) async fn each_killed(scene: &mut Scene) -> Result<Instant> {
    const PARTS: [&str; 3] = ["kafka", "postgres", "mongo"];
    let names = ["ingress"].into_iter().chain(CONSUMERS).chain(PARTS);
    let victims: Vec<&str> = names.clone().chain(names).collect();
    for (n, name) in (0..).zip(&victims) {
        scene.load.reached(moment(n, victims.len() as u32)).await?;
        if PARTS.contains(name) {
            scene.stack("kill", name).await?;
            scene.stack("up", name).await?;
        } else {
            scene.process(name)?.kill().await?;
        }
    }
    Ok(Instant::now())
}

pub(crate) async fn asked_to_end(scene: &mut Scene) -> Result<Instant> {
    let names: Vec<String> = scene.processes().iter().map(|process| process.name().to_owned()).collect();
    let of = names.len() as u32;
    for (n, name) in (0..).zip(&names) {
        scene.load.reached(moment(n, of)).await?;
        let process = scene.process(name)?;
        process.until_ready().await?;
        process.restart().await?;
    }
    Ok(Instant::now())
}

pub(crate) async fn everything_killed(scene: &mut Scene) -> Result<Instant> {
    scene.load.reached(0.4).await?;
    scene.stack.run(&["kill", "kafka", "postgres", "mongo"]).await?;
    try_join_all(scene.processes().iter().map(|process| process.kill())).await?;
    let printed = scene.stack.run(&["up", "kafka", "postgres", "mongo"]).await?;
    ensure!(printed.contains("ready after"), "nothing was started again: {printed}");
    Ok(Instant::now())
}
