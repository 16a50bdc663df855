//! Not faster than asked for, over all streams and calls together.
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

pub(crate) struct Pace {
    start: Instant,
    per_second: Option<f64>,
    sent: AtomicU64,
}

impl Pace {
    pub(crate) fn new(per_second: Option<f64>) -> Self {
        Self { start: Instant::now(), per_second, sent: AtomicU64::new(0) }
    }

    /// Returns when the next sending is due.
    pub(crate) async fn turn(&self) {
        let Some(per_second) = self.per_second else { return };
        let before = self.sent.fetch_add(1, Ordering::Relaxed);
        sleep_until(self.start + Duration::from_secs_f64(before as f64 / per_second)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn sendings_are_spread_over_time_and_without_a_rate_take_none() {
        for (per_second, seconds) in [(None, 0), (Some(10.0), 2), (Some(0.5), 40)] {
            let pace = Pace::new(per_second);
            for _ in 0..=20 {
                pace.turn().await;
            }
            assert_eq!(pace.start.elapsed().as_secs(), seconds);
        }
    }
}
