//! Whether the log still has the record that a consumer expects next. librdkafka would jump to where the log begins and
//! say nothing; here it stops instead, and this decides what has happened.
//!
//! No Kafka, no clock, no I/O.

/// What became of the records between two visits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Log {
    /// The next record is there, or will be.
    Whole,
    /// The log begins above it: so many records are gone unread.
    Truncated { lost: i64 },
    /// The log ends below it: the topic was created anew, or its end was lost. So many offsets that were read are no
    /// more; what may lie below was never read.
    Restarted { missing: i64 },
}

impl Log {
    /// `next`: the offset expected; `start`: the first there is; `end`: the one that the next record will get.
    pub(crate) const fn of(next: i64, start: i64, end: i64) -> Self {
        if next < start {
            Self::Truncated { lost: start - next }
        } else if next > end {
            Self::Restarted { missing: next - end }
        } else {
            Self::Whole
        }
    }

    /// For metrics, with the number of records or offsets.
    pub(crate) const fn loss(self) -> Option<(&'static str, i64)> {
        match self {
            Self::Whole => None,
            Self::Truncated { lost } => Some(("truncated", lost)),
            Self::Restarted { missing } => Some(("restarted", missing)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_log_that_has_the_next_record_or_will_have_it_is_whole() {
        let table = [
            ((0, 0, 0), Log::Whole),
            ((5, 0, 5), Log::Whole),
            ((5, 5, 5), Log::Whole),
            ((5, 3, 9), Log::Whole),
            ((5, 6, 9), Log::Truncated { lost: 1 }),
            ((0, 90, 100), Log::Truncated { lost: 90 }),
            ((5, 0, 4), Log::Restarted { missing: 1 }),
            ((5, 0, 0), Log::Restarted { missing: 5 }),
        ];
        for ((next, start, end), expected) in table {
            assert_eq!(Log::of(next, start, end), expected, "{next} of {start}..{end}");
        }
    }
}
