//! Rows in which everybody runs and nobody is reached, or the callers and the groups are restless.
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::time::{Instant, interval};

use crate::{scene::Scene, wait::lasting};

const HOLE: Duration = Duration::from_secs(60);
const STORM: Duration = Duration::from_secs(20);
const BETWEEN_RESETS: Duration = Duration::from_millis(400);
const RESTLESS: Duration = Duration::from_secs(30);

pub(crate) async fn black_hole(scene: &mut Scene) -> Result<Instant> {
    scene.load.reached(0.1).await?;
    for proxy in scene.proxies() {
        ensure!(proxy.connections() > 0, "nobody came by the proxy");
        proxy.swallow(true);
    }
    lasting(HOLE).await;
    scene.proxies().iter().for_each(|proxy| proxy.swallow(false));
    Ok(Instant::now())
}

pub(crate) async fn resets(scene: &mut Scene) -> Result<Instant> {
    scene.load.reached(0.1).await?;
    let (start, mut ticks) = (Instant::now(), interval(BETWEEN_RESETS));
    while start.elapsed() < STORM {
        ticks.tick().await;
        scene.proxies().iter().for_each(|proxy| proxy.cut());
    }
    let healed = Instant::now();
    for proxy in scene.proxies() {
        let (came, cuts) = (proxy.connections(), STORM.as_millis() / BETWEEN_RESETS.as_millis());
        ensure!(came as u128 > cuts / 4, "only {came} connections were there to be reset");
    }
    Ok(healed)
}

/// Members come and go in every group that may have several, politely and not.
pub(crate) async fn rebalances(scene: &mut Scene) -> Result<Instant> {
    const MEMBERS: [&str; 6] =
        ["notification-1", "analytics-2", "notification-2", "fraud-2", "notification-3", "notification-4"];
    scene.load.reached(0.1).await?;
    let start = Instant::now();
    let mut changes = 0;
    for (n, name) in MEMBERS.into_iter().cycle().enumerate() {
        if start.elapsed() > RESTLESS {
            break;
        }
        changes += 1;
        let process = scene.process(name)?;
        if n.is_multiple_of(3) {
            process.kill().await?;
        } else {
            process.restart().await?;
        }
    }
    let healed = Instant::now();
    scene.notes.push(format!("{changes} members were killed or asked to end, and started again"));
    Ok(healed)
}
