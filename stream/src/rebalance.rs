//! What happens when partitions come and go. The client calls this on the consumer's thread, from inside a poll.
//!
//! - Assigned: the start offsets are set and a new epoch begins.
//! - Revoked: nothing more of those partitions is handed over, what is in flight is waited for until a deadline, their
//!   offsets are stored and committed, and only then they are given back. The others wait for so long.
//! - Lost: somebody else has them already. They are dropped; a commit could only undo his.
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use metrics::Gauge;
use rdkafka::{
    ClientContext, Offset, Statistics, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext},
    error::{KafkaError, KafkaResult},
    types::RDKafkaRespErr,
};
use tracing::{debug, error, info, warn};

use crate::{
    Positions,
    consumer::{ConsumerConfig, State, Work},
};

/// The consumer's state, where its client's callbacks reach it.
pub(crate) struct Context<W: Work> {
    state: Mutex<State<W>>,
    topic: &'static str,
    positions: Option<Arc<Positions>>,
    drain: Duration,
    lag: Gauge,
}

impl<W: Work> Context<W> {
    pub(crate) fn new(state: State<W>, config: &ConsumerConfig) -> Self {
        Self {
            topic: config.group.topic.name,
            positions: config.positions.clone(),
            drain: config.drain,
            lag: state.books.outcomes.lag(),
            state: Mutex::new(state),
        }
    }

    /// Never held across a poll: the callbacks take it too.
    pub(crate) fn state(&self) -> MutexGuard<'_, State<W>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the client and the store where these partitions stand; the client commits it within a second.
    pub(crate) fn store(&self, consumer: &BaseConsumer<Self>, frontiers: &[(i32, i64)]) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(frontiers.len());
        for &(partition, frontier) in frontiers {
            if let Some(positions) = &self.positions {
                positions.advance(partition, frontier);
            }
            list.add_partition(self.topic, partition).set_offset(Offset::Offset(frontier)).unwrap_or_else(|error| {
                debug!(partition, frontier, %error, "no offset to store"); // a negative one; the log has none
            });
        }
        if let Err(error) = consumer.store_offsets(&list) {
            debug!(%error, "offsets were not stored"); // not owned any more
        }
        list
    }

    /// Stores and commits where these partitions stand; whether the broker agrees.
    pub(crate) fn commit(&self, consumer: &BaseConsumer<Self>, frontiers: &[(i32, i64)]) -> bool {
        if frontiers.is_empty() {
            return true;
        }
        let list = self.store(consumer, frontiers);
        let committed = consumer.commit(&list, CommitMode::Sync);
        if let Err(error) = &committed {
            warn!(partitions = frontiers.len(), %error, "the last commit failed; some records will come again");
        }
        committed.is_ok()
    }

    fn assign(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) {
        let starts = list.elements().into_iter().map(|mut element| {
            let start = self.positions.as_ref().map(|positions| positions.next(element.partition()));
            if let Some(start) = start
                && let Err(error) = element.set_offset(Offset::Offset(start))
            {
                error!(partition = element.partition(), start, %error, "no such start offset");
            }
            (element.partition(), start)
        });
        let starts: Vec<_> = starts.collect();
        info!(partitions = ?starts.iter().map(|(partition, _)| partition).collect::<Vec<_>>(), "assigned");
        self.state().assign(starts);
        // the client keeps a pause beyond the assignment it was made in; it ends before the next one begins
        if let Err(error) = consumer.resume(list) {
            debug!(%error, "nothing to resume");
        }
        if let Err(error) = consumer.incremental_assign(list) {
            error!(%error, "the assignment was not taken");
        }
    }

    fn revoke(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) {
        let partitions: Vec<i32> = list.elements().iter().map(|element| element.partition()).collect();
        let lost = consumer.assignment_lost();
        let mut state = self.state();
        state.withdraw(&partitions);
        let deadline = if lost { Instant::now() } else { Instant::now() + self.drain };
        let left = state.drain(&partitions, deadline);
        if left > 0 {
            state.books.outcomes.possible_duplicates(left);
        }
        let ledger = &state.books.ledger;
        let frontiers = partitions.iter().filter_map(|&partition| Some((partition, ledger.frontier(partition)?)));
        let frontiers: Vec<_> = frontiers.collect();
        let committed = !lost && self.commit(consumer, &frontiers);
        let how = match (lost, left, committed) {
            (true, _, _) => "lost",
            (false, 1.., _) => "undrained",
            (false, 0, false) => "uncommitted",
            (false, 0, true) => "clean",
        };
        info!(?partitions, how, in_flight = left, "handed over");
        state.books.outcomes.handed_over(how);
        state.revoke(&partitions);
        drop(state);
        if let Err(error) = consumer.incremental_unassign(list) {
            error!(%error, "the partitions were not handed back");
        }
    }
}

impl<W: Work> ConsumerContext for Context<W> {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, code: RDKafkaRespErr, list: &mut TopicPartitionList) {
        match code {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => self.assign(consumer, list),
            _ => self.revoke(consumer, list),
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, _offsets: &TopicPartitionList) {
        if let Err(error) = result {
            debug!(%error, "a commit failed; the next one covers it");
        }
    }
}

impl<W: Work> ClientContext for Context<W> {
    /// A watchdog would judge progress from these too.
    fn stats(&self, statistics: Statistics) {
        let partitions = statistics.topics.values().flat_map(|topic| topic.partitions.values());
        let lags = partitions.map(|partition| partition.consumer_lag_stored).filter(|lag| *lag > 0);
        self.lag.set(lags.sum::<i64>() as f64);
    }

    /// The same error comes out of the poll, where it is counted; only here it has a text.
    fn error(&self, error: KafkaError, reason: &str) {
        warn!(%error, reason, "the kafka client reports");
    }
}
