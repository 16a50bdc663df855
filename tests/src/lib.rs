//! What every scenario needs: the platform in this process on free ports, clients for it, and waiting on a condition.
pub mod native;
mod refusal;
mod running;

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

pub use refusal::{fields_of_json, reason, reason_of_json};
pub use running::{Broker, Logged, Parts, Running};

/// How long a condition may take to hold. Generous: a slow machine must not fail a test, a wrong platform waits once.
const DEADLINE: Duration = Duration::from_secs(60);

/// Asks again and again until the answer is `Some`. Panics after a minute with what was waited for.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    let mut ticks = interval(Duration::from_millis(50));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(start.elapsed() < DEADLINE, "waited {DEADLINE:?} in vain: {what}");
    }
}
