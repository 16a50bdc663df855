use std::time::Duration;

/// What an operator may choose. The defaults are the ones of RELIABILITY.md.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Unary calls in work, with those whose caller has gone; more are OVERLOADED.
    pub calls: usize,
    /// Transactions in flight at a time; a user is always in the same lane.
    pub lanes: usize,
    /// Actions that may wait in one lane; a unary call that finds it full for a second is OVERLOADED.
    pub lane_capacity: usize,
    /// Passwords that may wait to be hashed or verified; more are OVERLOADED.
    pub waiting_passwords: usize,
    /// Actions of one RecordActions stream that are read and not yet answered; then its reading stops.
    pub in_flight_per_stream: usize,
    /// A stream that brings nothing for so long ends.
    pub stream_idle: Duration,
    /// HEADWATER_REQUEST_ID_DAYS: full days for which a repeated event_id is recognised.
    pub request_id_days: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            calls: 2_048,
            lanes: 2,
            lane_capacity: 8_192,
            waiting_passwords: 256,
            in_flight_per_stream: 4_096,
            stream_idle: Duration::from_secs(5 * 60),
            request_id_days: 3,
        }
    }
}

impl Config {
    /// The error names the key.
    pub fn validate(&self) -> Result<(), String> {
        let at_least_one = [
            ("calls", self.calls),
            ("lanes", self.lanes),
            ("lane_capacity", self.lane_capacity),
            ("in_flight_per_stream", self.in_flight_per_stream),
            ("HEADWATER_REQUEST_ID_DAYS", self.request_id_days as usize),
        ];
        match at_least_one.into_iter().find(|(_, value)| *value == 0) {
            Some((key, _)) => Err(format!("{key}: must be at least 1")),
            None if self.request_id_days > 3_650 => Err("HEADWATER_REQUEST_ID_DAYS: must be at most 3650".to_owned()),
            None if self.stream_idle.is_zero() => Err("stream_idle: must be more than 0".to_owned()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_a_bad_value_is_named() {
        assert_eq!(Config::default().validate(), Ok(()));
        let bad = Config { request_id_days: 0, ..Config::default() };
        assert_eq!(bad.validate(), Err("HEADWATER_REQUEST_ID_DAYS: must be at least 1".to_owned()));
    }
}
