//! Waiting on a condition: what was seen last is told where it does not come.
use std::{fmt::Display, time::Duration};

use anyhow::{Result, bail};
use tokio::time::{Instant, MissedTickBehavior, interval};

const TICK: Duration = Duration::from_millis(50);

/// Asks again and again until the answer is `Ok`; `Err` is what was seen instead.
pub(crate) async fn until<T>(
    what: impl Display,
    patience: Duration,
    mut ask: impl AsyncFnMut() -> Result<T, String>,
) -> Result<T> {
    let start = Instant::now();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(seen) if start.elapsed() > patience => bail!("waited {patience:?} in vain: {what}; last seen: {seen}"),
            Err(_) => {}
        }
    }
}

/// Returns when the time is over: how long a fault lasts is part of the fault.
pub(crate) async fn lasting(time: Duration) {
    let start = Instant::now();
    let mut ticks = interval(TICK);
    while start.elapsed() < time {
        ticks.tick().await;
    }
}
