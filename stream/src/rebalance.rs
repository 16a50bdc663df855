//! What happens when partitions come and go. The client calls this on the consumer's thread, from inside a poll.
//!
//! - Assigned: the start offsets are set and a new epoch begins. What has no start yet is not given to the client, which
//!   would ask for it once and, refused by a coordinator that has just ceased to be one, wait for ever; the loop asks
//!   again until it is told ([`mend`](crate::consumer)).
//! - Revoked: nothing more of those partitions is handed over, what is in flight is waited for until a deadline, their
//!   offsets are stored and committed, and only then they are given back. The others wait for so long.
//! - Lost: somebody else has them already. They are dropped; a commit could only undo his.
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use rdkafka::{
    ClientContext, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext},
    error::{KafkaError, KafkaResult},
    types::{RDKafkaErrorCode, RDKafkaRespErr},
};
use tracing::{debug, error, info, warn};

use crate::{
    Positions,
    bootstrap::Bootstrap,
    commit::commit_within,
    consumer::{ConsumerConfig, State, Work},
    ledger::Ledger,
    outage::{Outage, is_connected},
};

/// How long the broker may take to tell where the group stands, and to take in where it shall.
const ANSWER: Duration = Duration::from_secs(5);

/// The consumer's state, where its client's callbacks reach it.
pub(crate) struct Context<W: Work> {
    /// The loop's. Gone where that has ended or works with another client; then this one only has to end.
    state: Mutex<Weak<Mutex<State<W>>>>,
    bootstrap: Bootstrap,
    outage: Outage,
    /// What the client last told of itself.
    statistics: Mutex<Option<Statistics>>,
    topic: &'static str,
    positions: Option<Arc<Positions>>,
    drain: Duration,
    role: &'static str,
    group: String,
    instance: String,
}

/// Of a client's statistics, what is looked at.
#[derive(Debug)]
pub(crate) struct Statistics {
    /// Some broker is up.
    pub(crate) connected: bool,
    pub(crate) partitions: Vec<PartitionStatistics>,
}

#[derive(Debug)]
pub(crate) struct PartitionStatistics {
    pub(crate) number: i32,
    /// The offset that the next record will get, where it is known.
    pub(crate) end: Option<i64>,
    /// Where the group stands, where it is known.
    pub(crate) stored: Option<i64>,
}

impl<W: Work> Context<W> {
    pub(crate) fn new(state: &Arc<Mutex<State<W>>>, config: &ConsumerConfig) -> Self {
        Self {
            state: Mutex::new(Arc::downgrade(state)),
            bootstrap: Bootstrap::new("consumer", &config.kafka.brokers),
            outage: Outage::default(),
            statistics: Mutex::default(),
            topic: config.group.topic.name,
            positions: config.positions.clone(),
            drain: config.drain,
            role: config.role,
            group: config.group_id(),
            instance: config.instance.clone(),
        }
    }

    /// To be called once, with the client in whose context this is.
    pub(crate) fn serves(&self, consumer: &BaseConsumer<Self>) {
        self.bootstrap.serves(consumer.client());
    }

    /// From now on this client changes nothing that is known here.
    pub(crate) fn retire(&self) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = Weak::new();
    }

    fn state(&self) -> Option<Arc<Mutex<State<W>>>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).upgrade()
    }

    /// The newest statistics, once.
    pub(crate) fn statistics(&self) -> Option<Statistics> {
        self.statistics.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Tells the client and the store where these partitions stand; the client commits it within a second.
    pub(crate) fn store(&self, consumer: &BaseConsumer<Self>, frontiers: &[(i32, i64)]) {
        if let Some(positions) = &self.positions {
            frontiers.iter().for_each(|&(partition, frontier)| positions.advance(partition, frontier));
        }
        if let Err(error) = consumer.store_offsets(&self.list(frontiers)) {
            debug!(%error, "offsets were not stored"); // not owned any more
        }
    }

    fn list(&self, frontiers: &[(i32, i64)]) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(frontiers.len());
        for &(partition, frontier) in frontiers {
            list.add_partition(self.topic, partition).set_offset(Offset::Offset(frontier)).unwrap_or_else(|error| {
                debug!(partition, frontier, %error, "no such offset"); // a negative one; the log has none
            });
        }
        list
    }

    /// Stores and commits where these partitions stand, waiting at most for `patience`; whether the group is known to
    /// stand there.
    pub(crate) fn commit(
        &self,
        consumer: &BaseConsumer<Self>,
        ledger: &mut Ledger,
        partitions: &[i32],
        patience: Duration,
    ) -> bool {
        let frontier = |&partition: &i32| Some((partition, ledger.frontier(partition)?));
        let mut frontiers: Vec<(i32, i64)> = partitions.iter().filter_map(frontier).collect();
        self.store(consumer, &frontiers);
        frontiers.retain(|&(partition, _)| ledger.uncommitted(partition) > 0);
        if frontiers.is_empty() {
            return true;
        }
        let committed = commit_within(consumer, &self.list(&frontiers), patience);
        match &committed {
            Ok(()) => frontiers.iter().for_each(|&(partition, frontier)| ledger.committed(partition, frontier)),
            // a store in memory begins where it stands itself, whatever the group has
            Err(error) if self.positions.is_some() && is_rebalancing(error) => {
                debug!(partitions = frontiers.len(), %error, "the last commit was refused");
            }
            Err(error) => {
                warn!(
                    role = self.role, group = self.group, instance = self.instance, partitions = frontiers.len(), %error,
                    "the last commit failed; some records may come again"
                );
            }
        }
        committed.is_ok()
    }

    fn assign(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList, state: &Mutex<State<W>>) {
        let (role, group, instance) = (self.role, &self.group, &self.instance);
        let partitions = numbers(list);
        info!(role, group, instance, ?partitions, "assigned");
        lock(state).expect_starts(&partitions);
        match self.starts(consumer, list, ANSWER) {
            Ok(starts) => self.begin(consumer, &starts, state),
            Err(error) => {
                warn!(role, group, instance, %error, "where the group stands is unknown; asking again");
                self.begin(consumer, &TopicPartitionList::new(), state); // the client waits for an answer to its call
            }
        }
    }

    /// Reads these partitions from these starts on.
    pub(crate) fn begin(&self, consumer: &BaseConsumer<Self>, starts: &TopicPartitionList, state: &Mutex<State<W>>) {
        let (role, group, instance) = (self.role, &self.group, &self.instance);
        let offsets = starts.elements().into_iter().map(|element| match element.offset() {
            Offset::Offset(start) => (element.partition(), Some(start)),
            _ => (element.partition(), None),
        });
        lock(state).assign(offsets.collect());
        // the client keeps a pause beyond the assignment it was made in; it ends before the next one begins
        if let Err(error) = consumer.resume(starts) {
            debug!(role, group, instance, %error, "nothing to resume");
        }
        if let Err(error) = consumer.incremental_assign(starts) {
            error!(role, group, instance, %error, "the assignment was not taken");
        }
    }

    /// Where each partition begins: where the store in memory stands, else where the group stands, else at the
    /// beginning. An error where the broker does not say it of all of them in time.
    pub(crate) fn starts(
        &self,
        consumer: &BaseConsumer<Self>,
        list: &TopicPartitionList,
        patience: Duration,
    ) -> KafkaResult<TopicPartitionList> {
        let starts = match &self.positions {
            Some(_) => list.clone(),
            None => consumer.committed_offsets(list.clone(), patience)?,
        };
        for mut element in starts.elements() {
            element.error()?; // it has no offset then, which is not the same as no commit
            let start = match (&self.positions, element.offset()) {
                (Some(positions), _) => Offset::Offset(positions.next(element.partition())),
                (None, Offset::Invalid) => Offset::Beginning,
                (None, committed) => committed,
            };
            if let Err(error) = element.set_offset(start) {
                error!(partition = element.partition(), ?start, %error, "no such start offset");
            }
        }
        Ok(starts)
    }

    fn revoke(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList, state: &Mutex<State<W>>) {
        let partitions = numbers(list);
        let lost = consumer.assignment_lost();
        let mut state = lock(state);
        state.withdraw(&partitions);
        let deadline = if lost { Instant::now() } else { Instant::now() + self.drain };
        let left = state.let_go(&partitions, deadline);
        let patience = state.patience(ANSWER);
        let committed = !lost && self.commit(consumer, &mut state.books.ledger, &partitions, patience);
        state.count_uncommitted(&partitions);
        let how = match (lost, left, committed) {
            (true, _, _) => "lost",
            (false, 1.., _) => "undrained",
            (false, 0, false) => "uncommitted",
            (false, 0, true) => "clean",
        };
        let (role, group, instance) = (self.role, &self.group, &self.instance);
        info!(role, group, instance, ?partitions, how, in_flight = left, "handed over");
        state.books.outcomes.handed_over(how);
        let mut given = TopicPartitionList::with_capacity(partitions.len());
        for &partition in partitions.iter().filter(|partition| !state.unplaced().contains(partition)) {
            given.add_partition(self.topic, partition);
        }
        state.revoke(&partitions);
        drop(state);
        if let Err(error) = consumer.incremental_unassign(&given) {
            error!(role, group, instance, %error, "the partitions were not handed back");
        }
    }
}

/// The callbacks take it too, so it is never held across a poll.
pub(crate) fn lock<W: Work>(state: &Mutex<State<W>>) -> MutexGuard<'_, State<W>> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn numbers(list: &TopicPartitionList) -> Vec<i32> {
    list.elements().iter().map(|element| element.partition()).collect()
}

fn is_rebalancing(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::RebalanceInProgress)
}

impl<W: Work> ConsumerContext for Context<W> {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, code: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let state = self.state().filter(|state| {
            // who is about to leave takes nothing more
            !(code == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS && lock(state).is_closing())
        });
        match (state, code) {
            (None, _) => {
                if let Err(error) = consumer.unassign() {
                    debug!(%error, "a client on its way out did not let go");
                }
            }
            (Some(state), RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS) => self.assign(consumer, list, &state),
            (Some(state), _) => self.revoke(consumer, list, &state),
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, offsets: &TopicPartitionList) {
        if let Err(error) = result {
            return debug!(%error, "a commit failed; the next one covers it");
        }
        let Some(state) = self.state() else { return };
        let mut state = lock(&state);
        for element in offsets.elements() {
            if let (Ok(()), Offset::Offset(offset)) = (element.error(), element.offset()) {
                state.books.ledger.committed(element.partition(), offset);
            }
        }
    }
}

impl<W: Work> ClientContext for Context<W> {
    /// Looked at by the loop, after the poll in which this is called.
    fn stats(&self, statistics: rdkafka::Statistics) {
        self.bootstrap.look(&statistics);
        if self.outage.is_over(&statistics) {
            info!(
                role = self.role,
                group = self.group,
                instance = self.instance,
                "a kafka broker can be reached again"
            );
        }
        let known = |offset: i64| (offset >= 0).then_some(offset);
        let of_topic = statistics.topics.get(self.topic).into_iter().flat_map(|topic| topic.partitions.values());
        let partitions = of_topic.filter(|partition| partition.desired).map(|partition| PartitionStatistics {
            number: partition.partition,
            end: known(partition.hi_offset),
            stored: known(partition.stored_offset).or(known(partition.committed_offset)),
        });
        let told = Statistics { connected: is_connected(&statistics), partitions: partitions.collect() };
        *self.statistics.lock().unwrap_or_else(PoisonError::into_inner) = Some(told);
    }

    /// The same error comes out of the poll, where it is counted; only here it has a text.
    fn error(&self, error: KafkaError, reason: &str) {
        if self.outage.is_news(&error) {
            warn!(role = self.role, group = self.group, instance = self.instance, %error, reason, "the kafka client reports");
        }
    }
}
