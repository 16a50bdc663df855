//! Rows in which a database is away.
use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};
use sqlx::{Connection, PgConnection, Row as _};
use tokio::time::Instant;

use crate::scene::Scene;

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
