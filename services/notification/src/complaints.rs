//! How often the same trouble is worth a line in the log. A channel that is down fails thousands of times a minute;
//! the metrics have each of them.
use std::sync::atomic::{AtomicI64, Ordering};

use headwater_proto::Millis;

const APART_MILLIS: i64 = 1_000;

/// At most one complaint a second.
#[derive(Debug)]
pub(crate) struct Complaints {
    last: AtomicI64,
}

impl Complaints {
    pub(crate) fn new() -> Self {
        Self { last: AtomicI64::new(Millis::MIN.as_millis()) }
    }

    pub(crate) fn due(&self, now: Millis) -> bool {
        let (last, now) = (self.last.load(Ordering::Relaxed), now.as_millis());
        // a clock that was set back must not silence them
        let quiet = (last..last.saturating_add(APART_MILLIS)).contains(&now);
        !quiet && self.last.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_complaint_a_second_even_if_the_clock_is_set_back() {
        let complaints = Complaints::new();
        let due = |millis| complaints.due(Millis::from_millis(millis));
        let seen: Vec<_> = [0, 0, 999, 1_000, 1_999, 500, 600].into_iter().map(due).collect();
        assert_eq!(seen, [true, false, false, true, false, true, false]);
    }
}
