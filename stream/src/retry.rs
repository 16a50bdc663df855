//! When a failed attempt is made again. No clock, no randomness: the jitter is an argument.
use std::time::Duration;

/// How often and how soon a record is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts after the first.
    pub retries: u32,
    /// Before the first retry; doubles from one to the next.
    pub first: Duration,
    /// No wait is longer.
    pub longest: Duration,
}

impl RetryPolicy {
    /// For what is down and will be up again: for ever, 100 ms to 30 s.
    pub const UNTIL_UP: Self =
        Self { retries: u32::MAX, first: Duration::from_millis(100), longest: Duration::from_secs(30) };

    /// How long to wait after `attempt` (from 1) has failed, where there is no last one: as [`Self::UNTIL_UP`] says.
    pub fn until_up(attempt: u32, jitter: f64) -> Duration {
        Self::UNTIL_UP.wait(attempt, jitter).unwrap_or(Self::UNTIL_UP.longest)
    }

    /// How long to wait after `attempt` (from 1) has failed; `None` when it was the last one. `jitter` in 0..1 takes
    /// up to half of the wait away, so that what failed together does not return together.
    pub fn wait(&self, attempt: u32, jitter: f64) -> Option<Duration> {
        if attempt > self.retries {
            return None;
        }
        let doubled = self.first.saturating_mul(1 << attempt.saturating_sub(1).min(30));
        Some(doubled.min(self.longest).mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0))
    }
}

impl Default for RetryPolicy {
    /// 3 retries, 200 ms doubling.
    fn default() -> Self {
        Self { retries: 3, first: Duration::from_millis(200), longest: Duration::from_secs(20) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_retries_double_and_then_it_is_over() {
        let waits: Vec<_> = (1..=4).map(|attempt| RetryPolicy::default().wait(attempt, 0.0)).collect();
        let millis = |ms| Some(Duration::from_millis(ms));
        assert_eq!(waits, [millis(200), millis(400), millis(800), None]);
        assert_eq!(RetryPolicy::default().wait(1, 1.0), millis(100));
    }

    #[test]
    fn what_is_down_is_tried_for_ever_at_most_30_seconds_apart() {
        let policy = RetryPolicy::UNTIL_UP;
        assert_eq!(policy.wait(1, 0.0), Some(Duration::from_millis(100)));
        for attempt in [9, 10, 40, u32::MAX] {
            assert!(policy.wait(attempt, 0.999) >= Some(Duration::from_secs(12)), "attempt {attempt}");
            assert!(policy.wait(attempt, 0.0) <= Some(Duration::from_secs(30)), "attempt {attempt}");
        }
    }
}
