//! That no broker can be reached is said once, and once that one can: librdkafka says it with every attempt, twenty times
//! a second.
use std::sync::atomic::{AtomicBool, Ordering};

use rdkafka::{
    Statistics,
    error::{KafkaError, RDKafkaErrorCode},
};

/// Belongs to one client's context.
#[derive(Debug, Default)]
pub(crate) struct Outage(AtomicBool);

impl Outage {
    /// Whether the error says what is not known yet.
    pub(crate) fn is_news(&self, error: &KafkaError) -> bool {
        error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) || !self.0.swap(true, Ordering::Relaxed)
    }

    /// Whether these statistics of the client are the first since then that know of a connection.
    pub(crate) fn is_over(&self, statistics: &Statistics) -> bool {
        is_connected(statistics) && self.0.swap(false, Ordering::Relaxed)
    }
}

/// Whether the client can talk to some broker.
pub(crate) fn is_connected(statistics: &Statistics) -> bool {
    statistics.brokers.values().any(|broker| matches!(broker.state.as_str(), "UP" | "UPDATE" | "REAUTH_REQ"))
}

#[cfg(test)]
mod tests {
    use rdkafka::statistics::Broker;

    use super::*;

    #[test]
    fn an_outage_is_news_when_it_begins_and_when_it_is_over() {
        let down = KafkaError::Global(RDKafkaErrorCode::AllBrokersDown);
        let other = KafkaError::Global(RDKafkaErrorCode::BrokerTransportFailure);
        let statistics = |state: &str| {
            let broker = Broker { state: state.to_owned(), ..Broker::default() };
            Statistics { brokers: [("b".to_owned(), broker)].into(), ..Statistics::default() }
        };
        let outage = Outage::default();
        assert!(!outage.is_over(&statistics("UP")), "there was none");
        for _ in 0..2 {
            assert!(outage.is_news(&down));
            assert!(!outage.is_news(&down));
            assert!(outage.is_news(&other), "of anything else");
            assert!(!outage.is_over(&statistics("TRY_CONNECT")));
            assert!(outage.is_over(&statistics("UP")));
            assert!(!outage.is_over(&statistics("UP")));
        }
    }
}
