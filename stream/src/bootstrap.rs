//! A client that has lost its last broker gets the bootstrap addresses again.
//!
//! A broker that was just let back into its cluster may answer with topics and without brokers. librdkafka then drops
//! every broker it knows, and begins anew at the bootstrap addresses only if the answer is dealt with before the
//! dropped broker's thread says that it is down (librdkafka#5301). Otherwise it has nobody left to ask, for ever: it
//! neither sends nor receives, and cannot be closed, because what it still wants to commit waits for a coordinator.
//! A dropped broker that partitions still hold on to stays listed, without a connection.
use std::{
    ffi::{CString, c_int},
    ptr,
    sync::atomic::{AtomicPtr, Ordering},
};

use headwater_otel::names;
use metrics::counter;
use rdkafka::{ClientContext, Statistics, client::Client, types::RDKafka};
use tracing::warn;

use crate::outage::is_connected;

/// Belongs to one client's context.
#[derive(Debug)]
pub(crate) struct Bootstrap {
    /// "consumer" or "producer".
    what: &'static str,
    brokers: CString,
    /// Null until the client is there.
    client: AtomicPtr<RDKafka>,
}

impl Bootstrap {
    pub(crate) fn new(what: &'static str, brokers: &str) -> Self {
        let brokers = CString::new(brokers).unwrap_or_default(); // with a NUL inside there is no such address either
        Self { what, brokers, client: AtomicPtr::new(ptr::null_mut()) }
    }

    /// The client in whose context this is.
    pub(crate) fn serves<C: ClientContext>(&self, client: &Client<C>) {
        self.client.store(client.native_ptr(), Ordering::Release);
    }

    /// To be called with each of the client's statistics, from its own callback: then the client is alive.
    pub(crate) fn look(&self, statistics: &Statistics) {
        let client = self.client.load(Ordering::Acquire);
        let has_somebody =
            knows(statistics, "configured") || (knows(statistics, "learned") && is_connected(statistics));
        if client.is_null() || has_somebody {
            return;
        }
        // SAFETY: the pointer is that of the client that calls this, so it is alive; the function may be called from any
        // thread, and copies the string.
        let added: c_int = unsafe { rdkafka::bindings::rd_kafka_brokers_add(client, self.brokers.as_ptr()) };
        warn!(client = self.what, added, "the kafka client has no broker left; it gets the bootstrap addresses again");
        counter!(names::CLIENT_BOOTSTRAPS, names::CLIENT => self.what).increment(1);
    }
}

/// Whether a broker of this source is listed: learned from a broker, or configured as a bootstrap address. There are
/// librdkafka's own stand-ins beside, like the one for whichever broker coordinates the group.
fn knows(statistics: &Statistics, source: &str) -> bool {
    statistics.brokers.values().any(|broker| broker.source == source)
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::AtomicBool,
        time::{Duration, Instant},
    };

    use rdkafka::{
        ClientConfig,
        config::FromClientConfigAndContext as _,
        consumer::{BaseConsumer, Consumer as _, ConsumerContext},
    };

    use super::*;
    use crate::testing::embedded;

    struct Alone {
        bootstrap: Bootstrap,
        connected: AtomicBool,
    }

    impl ClientContext for Alone {
        fn stats(&self, statistics: Statistics) {
            self.bootstrap.look(&statistics);
            self.connected.store(is_connected(&statistics), Ordering::SeqCst);
        }
    }

    impl ConsumerContext for Alone {}

    #[test]
    fn a_client_that_knows_no_broker_finds_one_at_the_bootstrap_addresses() {
        let (broker, _) = embedded();
        let mut config = ClientConfig::new(); // no bootstrap.servers, which is how it is left by such an answer
        config.set("group.id", "alone").set("statistics.interval.ms", "50");
        let context = Alone { bootstrap: Bootstrap::new("consumer", broker.brokers()), connected: Default::default() };
        let client: BaseConsumer<_> = BaseConsumer::from_config_and_context(&config, context).unwrap();
        let connected = |client: &BaseConsumer<Alone>| {
            client.poll(Duration::from_millis(100));
            client.context().connected.load(Ordering::SeqCst)
        };
        for _ in 0..5 {
            assert!(!connected(&client), "nobody told it where");
        }
        client.context().bootstrap.serves(client.client());
        client.subscribe(&["user.events"]).unwrap();
        let start = Instant::now();
        while !connected(&client) {
            assert!(start.elapsed() < Duration::from_secs(20), "not connected after {:?}", start.elapsed());
        }
    }
}
