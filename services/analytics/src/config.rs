//! What an operator can set.
use std::time::Duration;

use crate::sessions::Timeout;

/// Of one analytics service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `SESSION_TIMEOUT`: a longer pause between two events of a session cuts it. It is part of what the stored
    /// documents say: after a change, replay the log into empty collections.
    pub session_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self { session_timeout: Duration::from_secs(30 * 60) }
    }
}

impl Config {
    /// Names the key that is wrong.
    pub fn validate(&self) -> Result<(), String> {
        self.timeout().map(drop)
    }

    pub(crate) fn timeout(&self) -> Result<Timeout, String> {
        Timeout::new(self.session_timeout)
            .ok_or_else(|| "session_timeout: must be between 1 ms and 365 days, like 30m".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_that_cannot_cut_a_session_is_refused_by_name() {
        for (timeout, valid) in [
            (Duration::from_millis(1), true),
            (Duration::from_secs(365 * 86_400), true),
            (Duration::ZERO, false),
            (Duration::from_micros(999), false),
            (Duration::from_secs(365 * 86_400 + 1), false),
            (Duration::MAX, false),
        ] {
            let checked = Config { session_timeout: timeout }.validate();
            assert_eq!(checked.is_ok(), valid, "{timeout:?}");
            assert!(checked.err().is_none_or(|error| error.starts_with("session_timeout: ")));
        }
    }
}
