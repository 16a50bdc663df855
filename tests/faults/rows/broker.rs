//! Rows in which Kafka is away.
use std::time::Duration;

use anyhow::Result;
use tokio::time::Instant;

use crate::{scene::Scene, wait::lasting};

const FROZEN: Duration = Duration::from_secs(15);
const LONG: Duration = Duration::from_secs(180);

pub(crate) async fn restarted(scene: &mut Scene) -> Result<Instant> {
    for n in 0..10 {
        // a restart may take longer than the next share of the load
        scene.load.reached(0.1 + 0.06 * f64::from(n)).await?;
        scene.stack("restart", "kafka").await?;
    }
    Ok(Instant::now())
}

pub(crate) async fn frozen(scene: &mut Scene) -> Result<Instant> {
    scene.load.reached(0.2).await?;
    scene.stack("stop", "kafka").await?;
    lasting(FROZEN).await;
    scene.stack("cont", "kafka").await?;
    Ok(Instant::now())
}

pub(crate) async fn killed(scene: &mut Scene) -> Result<Instant> {
    down(scene, scene.choose(Duration::from_secs(10), Duration::from_secs(3))).await
}

pub(crate) async fn down_for_long(scene: &mut Scene) -> Result<Instant> {
    down(scene, LONG).await
}

async fn down(scene: &mut Scene, time: Duration) -> Result<Instant> {
    scene.load.reached(0.1).await?;
    scene.stack("kill", "kafka").await?;
    lasting(time).await;
    scene.stack("up", "kafka").await?;
    Ok(Instant::now())
}
