//! What a day's sessions amount to at a moment. Pure: no store, no clock.
use headwater_proto::Millis;

use crate::sessions::{End, Segment, Timeout};

/// Of the segments that began with user.logged_in on one day. Lengths are milliseconds; 0 where none has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct DayStats {
    pub(crate) started: usize,
    pub(crate) ended_by_logout: usize,
    pub(crate) timed_out: usize,
    pub(crate) open: usize,
    pub(crate) median: i64,
    pub(crate) p95: i64,
}

/// `segments` are those that start on the day; those without a login are passed over.
pub(crate) fn day_stats(segments: &[Segment], as_of: Millis, timeout: Timeout) -> DayStats {
    let mut stats = DayStats::default();
    let mut lengths = Vec::with_capacity(segments.len());
    for segment in segments.iter().filter(|segment| segment.logged_in) {
        stats.started += 1;
        let ended = match segment.end(as_of, timeout) {
            End::Logout => &mut stats.ended_by_logout,
            End::Timeout => &mut stats.timed_out,
            End::Open => {
                stats.open += 1;
                continue;
            }
        };
        *ended += 1;
        lengths.push(segment.last_activity_at.since(segment.started_at));
    }
    lengths.sort_unstable();
    (stats.median, stats.p95) = (nearest_rank(&lengths, 50), nearest_rank(&lengths, 95));
    stats
}

/// The smallest value that at least `percent` of the values do not exceed; 0 of none.
fn nearest_rank(sorted: &[i64], percent: usize) -> i64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_rank_is_the_nearest_from_above() {
        for (sorted, median, p95) in [
            (vec![], 0, 0),
            (vec![7], 7, 7),
            (vec![1, 2], 1, 2),
            (vec![1, 2, 3], 2, 3),
            (vec![1, 2, 3, 4], 2, 4),
            ((1..=20).collect(), 10, 19),
            ((1..=21).collect(), 11, 20),
            ((1..=100).collect(), 50, 95),
        ] {
            assert_eq!((nearest_rank(&sorted, 50), nearest_rank(&sorted, 95)), (median, p95), "{sorted:?}");
        }
    }

    #[test]
    fn only_segments_that_begin_with_a_login_are_started_and_only_the_ended_have_a_length() {
        let timeout = Timeout::new(Duration::from_millis(100)).unwrap();
        let segment = |last: i64, logged_in, logged_out| Segment {
            started_at: Millis::from_millis(1_000),
            last_activity_at: Millis::from_millis(1_000 + last),
            events: 2,
            logged_in,
            logged_out,
        };
        let segments = [
            segment(10, true, true),
            segment(30, true, false),
            segment(20, true, false),
            segment(31, true, false), // open for the timeout after 1031
            segment(500, false, true),
        ];
        let as_of = |millis| day_stats(&segments, Millis::from_millis(millis), timeout);
        let stats = DayStats { started: 4, ended_by_logout: 1, timed_out: 2, open: 1, median: 20, p95: 30 };
        assert_eq!(as_of(1_131), stats);
        assert_eq!(as_of(1_132), DayStats { timed_out: 3, open: 0, p95: 31, ..stats });
        assert_eq!(as_of(1_000), DayStats { timed_out: 0, open: 3, median: 10, p95: 10, ..stats });
        assert_eq!(day_stats(&[], Millis::MAX, timeout), DayStats::default());
    }
}
