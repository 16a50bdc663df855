//! The client stops at a partition where it does not find the record it was told to read next, instead of jumping to
//! another one and saying nothing. Here it is found out what became of that record; and where the group stands, if the
//! broker could not say it when the partitions came.
use std::time::{Duration, Instant};

use rdkafka::{Offset, TopicPartitionList, consumer::Consumer as _, error::KafkaResult};
use tracing::{error, info, warn};

use super::{poll_loop::PollLoop, work::Work};
use crate::truncation::Log;

/// For one answer of the broker.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Between two visits.
const AGAIN: Duration = Duration::from_secs(1);

impl<W: Work> PollLoop<'_, W> {
    /// Asks again for the starts of partitions that are ours without one.
    pub(super) fn place(&mut self) {
        let unplaced: Vec<i32> = self.state().unplaced().iter().copied().collect();
        if unplaced.is_empty() || Instant::now() < self.ask {
            return;
        }
        let mut list = TopicPartitionList::with_capacity(unplaced.len());
        for &partition in &unplaced {
            list.add_partition(self.config.group.topic.name, partition);
        }
        let starts = self.consumer.context().starts(&self.consumer, &list, TIMEOUT);
        self.ask = Instant::now() + AGAIN;
        let (group, instance) = (self.config.group_id(), &self.config.instance);
        match starts {
            // their revocation is on its way; to assign them would hide from it that they are somebody else's
            Ok(_) if self.consumer.assignment_lost() => {}
            Ok(starts) => {
                self.consumer.context().begin(&self.consumer, &starts, &self.shared);
                info!(group, instance, partitions = ?unplaced, "where the group stands is known now");
            }
            Err(error) => warn!(group, instance, %error, "where the group stands is still unknown; asking again"),
        }
    }

    /// The client does not say at which partition it stopped, so all that are read are looked at. Those whose next
    /// record is there are told once more to read it.
    pub(super) fn mend(&mut self) {
        if self.astray.is_none_or(|due| Instant::now() < due) {
            return;
        }
        self.astray = None;
        let reading = self.state().reading();
        for (partition, next) in reading {
            if let Err(error) = self.mend_partition(partition, next) {
                warn!(partition, %error, "whether the log still has the next record is unknown; asking again");
                self.astray = Some(Instant::now() + AGAIN);
                return;
            }
        }
    }

    fn mend_partition(&mut self, partition: i32, next: Option<i64>) -> KafkaResult<()> {
        let topic = self.config.group.topic.name;
        let (start, end) = self.consumer.fetch_watermarks(topic, partition, TIMEOUT)?;
        let next = next.unwrap_or(start); // where it is unknown the group has no commit, and nothing has come yet
        let log = Log::of(next, start, end);
        let Some((reason, records)) = log.loss() else {
            return self.read_from(partition, next);
        };
        let group = self.config.group_id();
        self.state().books.outcomes.truncated(reason, records);
        error!(group, topic, partition, next, start, end, reason, records, "records are gone from the log");
        if self.config.accept_truncation {
            info!(group, partition, start, "going on where the log begins, as --accept-truncation says");
            return self.skip_to(partition, start);
        }
        self.state().halt(partition, log);
        Ok(())
    }

    /// Begins the partition anew, as if it had just been assigned.
    fn skip_to(&mut self, partition: i32, start: i64) -> KafkaResult<()> {
        let list = self.at(partition, start)?;
        self.consumer.incremental_unassign(&list)?;
        let mut state = self.state();
        state.withdraw(&[partition]);
        state.let_go(&[partition], Instant::now() + self.config.drain);
        state.revoke(&[partition]);
        if let Some(positions) = &self.config.positions {
            positions.restart(partition, start);
        }
        drop(state);
        let context = self.consumer.context();
        context.begin(&self.consumer, &list, &self.shared);
        context.store(&self.consumer, &[(partition, start)]);
        Ok(())
    }

    /// A client that has stopped at a partition cannot be told to seek in it.
    fn read_from(&self, partition: i32, offset: i64) -> KafkaResult<()> {
        let list = self.at(partition, offset)?;
        self.consumer.incremental_unassign(&list)?;
        self.consumer.incremental_assign(&list)
    }

    fn at(&self, partition: i32, offset: i64) -> KafkaResult<TopicPartitionList> {
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition_offset(self.config.group.topic.name, partition, Offset::Offset(offset))?;
        Ok(list)
    }
}
