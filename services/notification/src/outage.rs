//! How long to wait for a channel that is away: as long as it has been away, so that the waits double.
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use headwater_stream::RetryPolicy;
use tokio::time::Instant;

/// One for all records of a channel: they fail together, and however many they are, the waits grow with time alone.
#[derive(Debug, Default)]
pub(crate) struct Outage {
    since: Mutex<Option<Instant>>,
}

impl Outage {
    /// It is away at `now`; how long to leave it alone. `jitter` in 0..1 takes up to half of it away.
    pub(crate) fn wait(&self, now: Instant, jitter: f64) -> Duration {
        let RetryPolicy { first, longest, .. } = RetryPolicy::UNTIL_UP;
        let since = *self.since().get_or_insert(now);
        now.duration_since(since).clamp(first, longest).mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0)
    }

    /// It has said something.
    pub(crate) fn over(&self) {
        *self.since() = None;
    }

    fn since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_half_a_minute_and_begin_anew_after_an_answer() {
        let (outage, start) = (Outage::default(), Instant::now());
        let waits = |times: usize| {
            let mut now = start;
            let wait = |_| {
                let wait = outage.wait(now, 0.0);
                now += wait;
                wait.as_millis()
            };
            (0..times).map(wait).collect::<Vec<_>>()
        };
        assert_eq!(waits(11), [100, 100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000]);
        outage.over();
        assert_eq!(waits(2), [100, 100]);
        assert_eq!(outage.wait(start + Duration::from_secs(99), 1.0), Duration::from_secs(15));
    }
}
