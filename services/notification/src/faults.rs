//! Failures on request (`NOTIFY_FAIL_RATE`): which attempts fail is a function of the notification and the attempt,
//! so that a run can be repeated.
use crate::decide::Key;

/// The reason of every injected failure.
pub use headwater_stream::INJECTED;

/// The share of attempts that fail, from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FailRate(f64);

impl FailRate {
    /// `None` outside 0 to 1.
    pub fn new(rate: f64) -> Option<Self> {
        (0.0..=1.0).contains(&rate).then_some(Self(rate))
    }

    pub fn strikes(self, key: Key, attempt: u32) -> bool {
        let id = u128::from_be_bytes(*key.event_id.as_bytes());
        let seed = (id >> 64) as u64 ^ mix(id as u64 ^ mix(u64::from(attempt) << 8 | key.kind as u64));
        // the upper 53 bits, as a fraction of 1
        ((mix(seed) >> 11) as f64 / (1_u64 << 53) as f64) < self.0
    }
}

/// The finalizer of splitmix64: every bit of the input moves half of the output's.
const fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::Kind;
    use headwater_proto::EventId;

    /// Ids that differ in a few bits only: the hardest to spread.
    fn struck(rate: f64, attempt: u32) -> usize {
        let rate = FailRate::new(rate).unwrap();
        let key = |n: u32| Key { event_id: EventId::from_bytes(u128::from(n).to_be_bytes()), kind: Kind::Welcome };
        (0..10_000).filter(|&n| rate.strikes(key(n), attempt)).count()
    }

    #[test]
    fn as_many_attempts_fail_as_the_rate_says() {
        for attempt in 1..=4 {
            assert_eq!(struck(0.0, attempt), 0);
            assert_eq!(struck(1.0, attempt), 10_000);
            let third = struck(0.3, attempt);
            assert!((2_850..=3_150).contains(&third), "{third} of 10,000 at attempt {attempt}");
        }
        for rate in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert_eq!(FailRate::new(rate), None);
        }
    }

    #[test]
    fn attempts_at_one_notification_fail_independently() {
        let rate = FailRate::new(0.5).unwrap();
        let both = (0..10_000_u32).filter(|&n| {
            let key = Key { event_id: EventId::from_bytes(u128::from(n).to_be_bytes()), kind: Kind::Welcome };
            rate.strikes(key, 1) && rate.strikes(key, 2)
        });
        let both = both.count();
        assert!((2_300..=2_700).contains(&both), "{both} of 10,000");
    }
}
