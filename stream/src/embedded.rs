//! librdkafka's mock cluster in this process: a broker for `up` and for tests, reached over TCP like any other.
//!
//! It keeps the newest 5 MiB of each partition, read or not. So that nothing unread is lost, producers report what
//! they wrote to a [`Backlog`], consumers of stores in memory register their [`Positions`] there, and the relay waits
//! while too much of a partition is unread.
use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use headwater_proto::topics::Topic;
use rdkafka::{
    ClientConfig,
    config::RDKafkaLogLevel,
    error::KafkaError,
    producer::{BaseProducer, Producer as _},
    types::RDKafkaErrorCode,
};

use crate::{Error, KafkaConfig, Position, Positions};

/// The first members of a group wait so long for each other; the mock's default of 3 s is felt at every start.
const FIRST_JOIN_DELAY_MS: i32 = 500;

/// A broker that lives as long as this value and forgets everything with it.
pub struct EmbeddedKafka {
    /// The mock cluster belongs to this client and dies with it.
    #[cfg_attr(not(any(test, feature = "testing")), expect(dead_code, reason = "kept for what dies with it"))]
    client: BaseProducer,
    brokers: String,
    backlog: Arc<Backlog>,
}

impl EmbeddedKafka {
    /// Listens on a free loopback port, with these topics and one replica of each partition.
    pub fn start(topics: &[Topic]) -> Result<Self, Error> {
        let client: BaseProducer = ClientConfig::new()
            .set("test.mock.num.brokers", "1")
            // the queue of this client is never polled, so nothing may gather in it
            .set_log_level(RDKafkaLogLevel::Emerg)
            .create()
            .map_err(Error::Embedded)?;
        let cluster = client
            .client()
            .mock_cluster()
            .ok_or(Error::Embedded(KafkaError::MockCluster(RDKafkaErrorCode::NotImplemented)))?;
        // SAFETY: the client owns a mock cluster (checked above), which lives until the client is dropped; the client
        // is alive here. The function takes the cluster's own lock, so the cluster's thread may run meanwhile.
        unsafe {
            let cluster = rdkafka::bindings::rd_kafka_handle_mock_cluster(client.client().native_ptr());
            rdkafka::bindings::rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, FIRST_JOIN_DELAY_MS);
        }
        for topic in topics {
            cluster.create_topic(topic.name, topic.partitions, 1).map_err(Error::Embedded)?;
        }
        let brokers = cluster.bootstrap_servers();
        drop(cluster);
        Ok(Self { client, brokers, backlog: Arc::default() })
    }

    /// Clients made from it share this broker's backlog.
    pub fn config(&self) -> KafkaConfig {
        KafkaConfig {
            session_timeout: Duration::from_secs(3), // a join takes two rounds of it
            // who has not joined again a second before the session's end is put out
            heartbeat_interval: Duration::from_millis(200),
            linger: Duration::from_millis(20),     // half the broker's work of 5
            fetch_wait: Duration::from_millis(10), // the mock does not wake a waiting fetch on data
            backlog: Some(self.backlog()),
            ..KafkaConfig::new(&self.brokers)
        }
    }

    /// The bootstrap address, for clients outside this process too.
    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    pub fn backlog(&self) -> Arc<Backlog> {
        self.backlog.clone()
    }

    /// Breaks every connection and refuses new ones. Nothing that was written is lost.
    #[cfg(any(test, feature = "testing"))]
    pub fn go_down(&self) {
        self.client.client().mock_cluster().expect("it is a mock").broker_down(-1).expect("the broker goes down");
    }

    /// Ends [`EmbeddedKafka::go_down`].
    #[cfg(any(test, feature = "testing"))]
    pub fn come_back(&self) {
        self.client.client().mock_cluster().expect("it is a mock").broker_up(-1).expect("the broker comes back");
    }

    /// Answers the next produce request with an error that no repetition heals.
    #[cfg(any(test, feature = "testing"))]
    pub fn refuse_next_produce(&self) {
        use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
        let too_large = RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE;
        self.client.client().mock_cluster().expect("it is a mock").request_errors(RDKafkaApiKey::Produce, &[too_large]);
    }

    /// Answers so many questions for a group's offsets as a broker does that coordinates the group no longer; 0 ends it.
    #[cfg(any(test, feature = "testing"))]
    pub fn refuse_offset_fetches(&self, questions: usize) {
        use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
        let cluster = self.client.client().mock_cluster().expect("it is a mock");
        cluster.clear_request_errors(RDKafkaApiKey::OffsetFetch);
        cluster.request_errors(
            RDKafkaApiKey::OffsetFetch,
            &vec![RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_COORDINATOR; questions],
        );
    }
}

impl fmt::Debug for EmbeddedKafka {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedKafka").field("brokers", &self.brokers).finish_non_exhaustive()
    }
}

/// Bytes of user.events that were written to the embedded broker and that the slowest registered store has not read.
#[derive(Debug, Default)]
pub struct Backlog(Mutex<Log>);

#[derive(Debug, Default)]
struct Log {
    readers: Vec<Arc<Positions>>,
    partitions: Vec<Unread>,
}

#[derive(Debug, Default)]
struct Unread {
    /// Offset and bytes of each record, by offset.
    records: VecDeque<(i64, u64)>,
    bytes: u64,
}

impl Backlog {
    /// How far a partition's writer may be ahead of its slowest reader: the broker keeps 5 MiB, and what is on its
    /// way must still fit.
    pub const LIMIT: u64 = 4 * 1024 * 1024;

    /// From now on nothing beyond these positions counts as read. Registering the same ones again changes nothing.
    pub fn register(&self, positions: Arc<Positions>) {
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !log.readers.iter().any(|known| Arc::ptr_eq(known, &positions)) {
            log.readers.push(positions);
        }
    }

    /// A record of user.events lies in the log. Producers of this crate say so themselves.
    pub fn produced(&self, position: Position, bytes: u64) {
        let Ok(partition) = usize::try_from(position.partition) else { return };
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if log.readers.is_empty() {
            return; // nobody to wait for
        }
        if log.partitions.len() <= partition {
            log.partitions.resize_with(partition + 1, Unread::default);
        }
        let unread = &mut log.partitions[partition];
        unread.bytes += bytes;
        // the reports of one producer come in order; those of two may cross
        let at =
            unread.records.iter().rposition(|&(offset, _)| offset < position.offset).map_or(0, |before| before + 1);
        unread.records.insert(at, (position.offset, bytes));
    }

    /// 0 where no positions are registered.
    pub fn outstanding(&self, partition: i32) -> u64 {
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(read) = log.readers.iter().map(|positions| positions.next(partition)).min() else { return 0 };
        let unread = usize::try_from(partition).ok().and_then(|index| log.partitions.get_mut(index));
        let Some(unread) = unread else { return 0 };
        while let Some(&(_, bytes)) = unread.records.front().filter(|(offset, _)| *offset < read) {
            unread.bytes -= bytes;
            unread.records.pop_front();
        }
        unread.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_has_outstanding_what_its_slowest_reader_has_not_read() {
        let backlog = Backlog::default();
        let at = |offset| Position { partition: 2, offset };
        backlog.produced(at(0), 10);
        assert_eq!(backlog.outstanding(2), 0, "nobody reads");
        let (fast, slow) = (Positions::new(), Positions::new());
        backlog.register(fast.clone());
        backlog.register(slow.clone());
        backlog.register(slow.clone());
        for offset in [1, 3, 2] {
            backlog.produced(at(offset), 100 * offset as u64);
        }
        fast.advance(2, 4);
        assert_eq!(backlog.outstanding(2), 600);
        slow.advance(2, 3);
        assert_eq!((backlog.outstanding(2), backlog.outstanding(0), backlog.outstanding(-1)), (300, 0, 0));
        slow.advance(2, 9);
        backlog.produced(at(4), 50);
        assert_eq!(backlog.outstanding(2), 50, "the fast one has become the slow one");
        fast.advance(2, 9);
        assert_eq!(backlog.outstanding(2), 0);
    }
}
