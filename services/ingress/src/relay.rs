//! From the outbox to the log: per shard in order, deleted only after the broker's reports, never skipped.
//!
//! One task owns all of it and repeats one step: delete what is in the log, read what is not in flight, produce it.
//! A step follows a commit of this process at once, one of another within the polling interval; steps keep a small
//! distance, so that deletes and reads are shared by many commits.
//!
//! A record that fails ends everything in flight: the producer is purged and each shard is read again from its lowest
//! unsent row. Records that were in the log already repeat there, behind their first occurrence; consumers tell them
//! by their eventId. An absent broker is no failure: records wait in the producer, rows in the outbox.
//!
//! Nothing here is urgent at a crash: what was produced and not deleted is produced again by the next owner.
mod shard;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use futures::{
    FutureExt as _, StreamExt as _,
    future::{BoxFuture, join_all},
    stream::FuturesUnordered,
};
use headwater_otel::names;
use headwater_proto::topics::USER_EVENTS;
use headwater_stream::{Backlog, Clock, KafkaConfig, OutboundRecord, Patience, Position, Producer, SendError};
use metrics::{counter, gauge};
use tokio::{
    sync::Notify,
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, debug_span, error, info, warn};

use crate::{
    Error, StoreError,
    outbox::{Corrupt, Outbox, OutboxRow, PackedRecord, unpack},
};
use shard::Shard;

/// For rows of other processes.
const POLL: Duration = Duration::from_millis(50);
/// Between two steps.
const STEP: Duration = Duration::from_millis(5);
const GAUGES: Duration = Duration::from_secs(1);
/// In flight per shard: what a healthy broker takes in a few round trips.
const WINDOW: usize = 1024 * 1024;
/// How long the last rows may take at shutdown; what does not arrive stays in the outbox.
const DRAIN: Duration = Duration::from_secs(4);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Publishes until shutdown, then what is committed by then. `committed` wakes it.
///
/// One relay at a time owns the outbox.
pub(crate) async fn run<O: Outbox>(
    outbox: O,
    kafka: KafkaConfig,
    clock: impl Clock,
    committed: Arc<Notify>,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let mut relay = Relay::open(outbox, &kafka)?;
    let [mut poll, mut gauges] = [POLL, GAUGES].map(interval);
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    gauges.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // a step is due at `next_step` if there is a reason for one
    let (mut due, mut next_step) = (false, Instant::now());
    loop {
        let stepped = tokio::select! {
            () = shutdown.cancelled() => break,
            Some(row) = relay.reports.next() => {
                due = true;
                relay.reported(row).await
            }
            () = committed.notified() => { due = true; Ok(()) }
            _ = poll.tick() => { due = true; Ok(()) }
            _ = gauges.tick() => { show(&relay.outbox, &clock).await; Ok(()) }
            () = sleep_until(next_step), if due => {
                next_step = Instant::now() + STEP;
                relay.step().await.map(|more| due = more)
            }
        };
        if let Err(failure) = stepped {
            next_step = Instant::now() + relay.recover(failure).await;
        }
    }
    relay.drain().await;
    Ok(())
}

struct Relay<O> {
    outbox: O,
    producer: Producer,
    /// Of the embedded broker.
    backlog: Option<Arc<Backlog>>,
    /// By partition.
    shards: Vec<Shard>,
    /// One per row in flight.
    reports: FuturesUnordered<BoxFuture<'static, RowReport>>,
    /// Before the next attempt after a failure; grows until a row arrives or none is left.
    pause: Duration,
}

struct RowReport {
    partition: i32,
    id: i64,
    outcomes: Vec<Result<Position, SendError>>,
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("a record for partition {partition} is not in the log")]
    Send {
        partition: i32,
        #[source]
        source: SendError,
    },
    #[error(transparent)]
    Producer(#[from] headwater_stream::Error),
}

impl Failure {
    const fn reason(&self) -> &'static str {
        match self {
            Self::Store(_) => "store",
            Self::Send { source, .. } => source.reason(),
            Self::Producer(_) => "producer",
        }
    }
}

impl<O: Outbox> Relay<O> {
    fn open(outbox: O, kafka: &KafkaConfig) -> Result<Self, Error> {
        Ok(Self {
            outbox,
            producer: Producer::open(kafka, Patience::Forever)?,
            backlog: kafka.backlog().cloned(),
            shards: (0..USER_EVENTS.partitions).map(|_| Shard::default()).collect(),
            reports: FuturesUnordered::new(),
            pause: FIRST_PAUSE,
        })
    }

    /// Notes this report and all that have come by now.
    async fn reported(&mut self, first: RowReport) -> Result<(), Failure> {
        let mut next = Some(first);
        while let Some(row) = next {
            self.note(row)?;
            next = self.reports.next().now_or_never().flatten();
        }
        Ok(())
    }

    fn note(&mut self, RowReport { partition, id, outcomes }: RowReport) -> Result<(), Failure> {
        if let Some(source) = outcomes.into_iter().find_map(Result::err) {
            return Err(Failure::Send { partition, source });
        }
        self.shards[partition as usize].in_log(id);
        self.pause = FIRST_PAUSE;
        Ok(())
    }

    /// Deletes, reads and produces. True where there was something to read.
    async fn step(&mut self) -> Result<bool, Failure> {
        self.delete().await?;
        let occupied = self.outbox.occupied().await?;
        let reads = occupied.into_iter().filter_map(|partition| {
            let room = self.room(partition)?;
            let ids = self.shards.get(partition as usize)?.ids();
            let outbox = &self.outbox;
            Some(async move { outbox.unsent(partition, &ids, room).await })
        });
        let mut more = false;
        for rows in join_all(reads.collect::<Vec<_>>()).await {
            let rows = rows?;
            more |= !rows.is_empty();
            for row in rows {
                let span = debug_span!(names::SPAN_SEND, { names::BATCH_MESSAGE_COUNT } = row.records);
                self.produce(row).instrument(span).await?;
            }
        }
        if !more && self.reports.is_empty() {
            self.pause = FIRST_PAUSE;
        }
        Ok(more)
    }

    async fn delete(&mut self) -> Result<(), StoreError> {
        let ids: Vec<i64> = self.shards.iter().flat_map(Shard::deletable).collect();
        if !ids.is_empty() {
            self.outbox.delete(&ids).await?;
            self.shards.iter_mut().for_each(Shard::deleted);
        }
        Ok(())
    }

    /// Bytes that may be read of the shard now; `None` where nothing may.
    fn room(&self, partition: i32) -> Option<usize> {
        let shard = self.shards.get(usize::try_from(partition).ok()?).filter(|shard| !shard.is_stopped())?;
        let unread = match &self.backlog {
            Some(backlog) => Backlog::LIMIT.saturating_sub(backlog.outstanding(partition)) as usize,
            None => usize::MAX,
        };
        WINDOW.min(unread).checked_sub(shard.bytes()).filter(|&room| room > 0)
    }

    async fn produce(&mut self, row: OutboxRow) -> Result<(), Failure> {
        let OutboxRow { id, partition, ref bytes, .. } = row;
        let shard = &mut self.shards[partition as usize];
        if shard.is_stopped() {
            return Ok(());
        }
        let records = match read(&row) {
            Ok(records) => records,
            Err(error) => {
                error!(row = id, partition, %error, "an outbox row cannot be read; its shard stops there");
                shard.stop();
                return Ok(());
            }
        };
        let headers: Vec<(&str, &[u8])> = records.iter().flat_map(|record| record.headers.clone()).collect();
        let mut rest = headers.as_slice();
        let outbound = records.iter().map(|record| {
            let (headers, others) = rest.split_at(record.headers.clone().count());
            rest = others;
            OutboundRecord {
                topic: USER_EVENTS.name,
                key: record.key,
                value: record.value,
                headers,
                timestamp: Some(record.timestamp),
                partition: Some(partition),
            }
        });
        let outbound: Vec<OutboundRecord<'_>> = outbound.collect();
        // in flight from here on, whatever becomes of the call; a producer that has a failed row's report for us
        // takes nothing until it is purged
        shard.produced(id, bytes.len());
        let reports = self.producer.enqueue(outbound).await?;
        self.reports.push(reports.map(move |outcomes| RowReport { partition, id, outcomes }).boxed());
        Ok(())
    }

    /// Gives up what is in flight after a failed record; how long to wait before the next step.
    async fn recover(&mut self, failure: Failure) -> Duration {
        counter!(names::RELAY_RESTARTS, names::REASON => failure.reason()).increment(1);
        let pause = self.pause.mul_f64(0.5 + fastrand::f64());
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        warn!(error = &failure as &(dyn std::error::Error + 'static), ?pause, "the relay pauses; nothing is lost");
        if matches!(failure, Failure::Store(_)) {
            return pause; // what is in flight arrives all the same
        }
        self.producer.purge();
        // after a purge every report is there
        while let Some(row) = self.reports.next().await {
            let _ = self.note(row); // that some failed is known
        }
        self.shards.iter_mut().for_each(Shard::give_up);
        pause
    }

    /// Lets what is committed arrive, and ends.
    async fn drain(mut self) {
        let deadline = Instant::now() + DRAIN;
        let _ = timeout_at(deadline, self.read_all()).await; // what was not read stays where it is
        let left = deadline.saturating_duration_since(Instant::now());
        let _ = self.producer.clone().close(left).await; // what did not arrive is said below
        // a closed producer owes no report
        while let Some(row) = self.reports.next().await {
            let _ = self.note(row);
        }
        if let Err(error) = self.delete().await {
            let error = &error as &(dyn std::error::Error + 'static);
            warn!(error, "rows that are in the log stay in the outbox and will be sent again");
        }
        let left = self.shards.iter().map(|shard| shard.ids().len()).sum::<usize>();
        if left > 0 {
            info!(rows = left, "the relay ends with rows in flight; the next one sends them again");
        }
    }

    /// Steps until every row that may be read is in flight.
    async fn read_all(&mut self) {
        loop {
            let stepped = match self.step().await {
                Ok(true) => continue,
                // a full window has room again once something arrives
                Ok(false) if self.shards.iter().any(|shard| shard.bytes() >= WINDOW) => match self.reports.next().await
                {
                    Some(row) => self.reported(row).await,
                    None => return,
                },
                // with a store that is away, there is nothing more to read
                Ok(false) | Err(Failure::Store(_)) => return,
                Err(failure) => Err(failure),
            };
            if let Err(failure) = stepped {
                let pause = self.recover(failure).await;
                sleep(pause).await;
            }
        }
    }
}

/// Shows nothing while the store is away: the steps say so.
async fn show(outbox: &impl Outbox, clock: &impl Clock) {
    let Ok(waiting) = outbox.waiting().await else { return };
    let age = waiting.oldest_at.map_or(0, |oldest_at| clock.now().since(oldest_at).max(0));
    gauge!(names::OUTBOX_ROWS).set(waiting.rows as f64);
    gauge!(names::OUTBOX_OLDEST_AGE).set(age as f64 / 1_000.0);
}

/// All records of the row, checked before the first of them is produced.
fn read(row: &OutboxRow) -> Result<Vec<PackedRecord<'_>>, Corrupt> {
    let records: Vec<PackedRecord<'_>> = unpack(&row.bytes).collect::<Result<_, _>>()?;
    if records.len() == row.records as usize { Ok(records) } else { Err(Corrupt::Records) }
}
