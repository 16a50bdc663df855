//! Rows in which a database is away.
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use sqlx::{Connection, PgConnection, Row as _};
use tokio::time::Instant;

use crate::{apart::Ballast, scene::Scene, wait::lasting};

const MONGO_FROZEN: Duration = Duration::from_secs(60);
const FULL: Duration = Duration::from_secs(15);

/// First all of it, then one backend of the ingress: PostgreSQL then ends all the others and recovers.
pub(crate) async fn postgres_killed(scene: &mut Scene) -> Result<Instant> {
    const BACKEND: &str = "SELECT pid FROM pg_stat_activity \
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'";
    scene.load.reached(0.2).await?;
    scene.stack("kill", "postgres").await?;
    scene.stack("up", "postgres").await?;
    scene.load.reached(0.5).await?;
    let mut watch = PgConnection::connect(&scene.parts.database).await?;
    let pid: i32 = sqlx::query(BACKEND).fetch_one(&mut watch).await?.get(0);
    kill_process(Pid::from_raw(pid).context("a backend has a pid")?, Signal::KILL)?;
    Ok(Instant::now())
}

pub(crate) async fn mongo_killed_and_frozen(scene: &mut Scene) -> Result<Instant> {
    scene.load.reached(0.1).await?;
    scene.stack("kill", "mongo").await?;
    scene.stack("up", "mongo").await?;
    scene.load.reached(0.3).await?;
    scene.stack("stop", "mongo").await?;
    lasting(MONGO_FROZEN).await;
    scene.stack("cont", "mongo").await?;
    Ok(Instant::now())
}

/// Parts that end for want of room are started again when there is some, as whoever frees it would.
pub(crate) async fn disk_full(scene: &mut Scene) -> Result<Instant> {
    scene.load.reached(0.2).await?;
    let ballast = Ballast::fill(scene.stack.folder())?;
    lasting(FULL).await;
    // 100 a second: who could still commit would have
    ensure!(scene.load.unknown() > 0, "PostgreSQL found room on a full disk");
    drop(ballast);
    scene.stack.run(&["up", "kafka", "postgres", "mongo"]).await?;
    Ok(Instant::now())
}
