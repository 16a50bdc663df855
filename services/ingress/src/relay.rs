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
//! Several relays share the shards by leases, whose tokens every read and every delete prove. One that learns that it
//! lost a shard purges its producer first; what a zombie still sends was in the outbox when it was read, so the new
//! owner has sent it or will, in order: the zombie's records are only repetitions. Therefore a lease that ran out
//! because the store or this process was slow costs nothing as long as nobody else has taken the shard.
//!
//! Nothing here is urgent at a crash: what was produced and not deleted is produced again by the next owner.
mod sending;
mod shard;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use headwater_otel::{Span, names};
use headwater_proto::topics::USER_EVENTS;
use headwater_stream::{Backlog, Clock, KafkaConfig, OutboundRecord, Patience, Position, Producer, SendError};
use metrics::{counter, gauge};
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout_at},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{Instrument as _, debug_span, error, info, warn};
use uuid::Uuid;

use crate::{
    Error, ROLE, StoreError,
    outbox::{Corrupt, Lease, Outbox, OutboxRow, PackedRecord, Reading, SentRow, unpack},
};
use shard::Shard;

/// For rows of other processes.
const POLL: Duration = Duration::from_millis(50);
/// Between two deletes: each is a transaction.
const DELETES: Duration = Duration::from_millis(25);
/// Between two steps.
const STEP: Duration = Duration::from_millis(5);
const GAUGES: Duration = Duration::from_secs(1);
/// Between two rounds of leases.
const LEASES: Duration = Duration::from_secs(1);
/// Bytes in flight per shard: what a healthy broker takes in a few round trips.
const WINDOW: usize = 1024 * 1024;
/// With so many rows in flight no more are read of a shard: every reading names them all to the store.
const WINDOW_ROWS: usize = 512;
/// How long the last rows may take at shutdown; what does not arrive stays in the outbox.
const DRAIN: Duration = Duration::from_secs(4);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Publishes until shutdown, then what is committed by then. `committed` wakes it.
pub(crate) async fn run<O: Outbox + Clone>(
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
            Ok(()) = relay.leases.changed() => { due = true; relay.leased() }
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
            if let Failure::Producer(stalled @ headwater_stream::Error::Stalled { .. }) = failure {
                relay.drain().await;
                return Err(stalled.into());
            }
            next_step = Instant::now() + relay.recover(failure).await;
        }
    }
    relay.drain().await;
    Ok(())
}

/// Round after round, apart from the relay's steps: none of them may delay a renewal.
async fn renew<O: Outbox>(outbox: O, relay: Uuid, leases: watch::Sender<Vec<Lease>>, end: CancellationToken) {
    let mut rounds = interval(LEASES);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while end.run_until_cancelled(rounds.tick()).await.is_some() {
        match outbox.lease(relay).await {
            Ok(held) => {
                leases.send_if_modified(|before| std::mem::replace(before, held) != *before);
            }
            Err(error) => {
                let error = &error as &(dyn std::error::Error + 'static);
                warn!(error, "the relay's shards could not be renewed; asking again");
            }
        }
    }
}

struct Relay<O> {
    /// What leases are held as.
    id: Uuid,
    /// As of the last round.
    leases: watch::Receiver<Vec<Lease>>,
    renewal: JoinHandle<()>,
    /// Until it is dropped, the leases are renewed.
    renewing: Option<DropGuard>,
    outbox: O,
    producer: Producer,
    /// Of the embedded broker.
    backlog: Option<Arc<Backlog>>,
    /// By partition.
    shards: Vec<Shard>,
    next_delete: Instant,
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
    #[error("shards were lost to another relay")]
    Lease,
}

impl Failure {
    const fn reason(&self) -> &'static str {
        match self {
            Self::Store(_) => "store",
            Self::Send { source, .. } => source.reason(),
            Self::Producer(_) => "producer",
            Self::Lease => "lease",
        }
    }
}

impl<O: Outbox + Clone> Relay<O> {
    fn open(outbox: O, kafka: &KafkaConfig) -> Result<Self, Error> {
        let (id, producer, end) = (Uuid::new_v4(), Producer::open(kafka, Patience::Forever)?, CancellationToken::new());
        let (held, leases) = watch::channel(Vec::new());
        Ok(Self {
            id,
            leases,
            renewal: tokio::spawn(renew(outbox.clone(), id, held, end.clone())),
            renewing: Some(end.drop_guard()),
            producer,
            backlog: kafka.backlog().cloned(),
            outbox,
            shards: (0..USER_EVENTS.partitions).map(|_| Shard::default()).collect(),
            next_delete: Instant::now(),
            reports: FuturesUnordered::new(),
            pause: FIRST_PAUSE,
        })
    }

    /// Takes over what the last round has changed.
    fn leased(&mut self) -> Result<(), Failure> {
        let (mut in_flight, mut taken, mut lost) = (false, Vec::new(), Vec::new());
        let leases = self.leases.borrow_and_update();
        for (partition, shard) in (0..).zip(&mut self.shards) {
            let lease = leases.iter().copied().find(|lease| lease.partition == partition);
            match (shard.lease().is_some(), lease.is_some()) {
                (false, true) => taken.push(partition),
                (true, false) => lost.push(partition),
                _ => {}
            }
            in_flight |= shard.leased(lease);
        }
        if !taken.is_empty() || !lost.is_empty() {
            info!(?taken, ?lost, "the relay's shards have changed");
        }
        gauge!(names::RELAY_SHARDS, names::ROLE => ROLE).set(leases.len() as f64);
        if in_flight { Err(Failure::Lease) } else { Ok(()) }
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
        if Instant::now() >= self.next_delete {
            self.delete().await?;
            self.next_delete = Instant::now() + DELETES;
        }
        let readings: Vec<Reading> = self.shards.iter().filter_map(|shard| self.reading(shard)).collect();
        let rows = if readings.is_empty() { Vec::new() } else { self.outbox.unsent_of_all(readings).await? };
        let more = !rows.is_empty();
        for row in rows {
            let span = debug_span!(names::SPAN_SEND, { names::BATCH_MESSAGE_COUNT } = row.records);
            self.produce(row).instrument(span).await?;
        }
        self.release().await?;
        if !more && self.reports.is_empty() {
            self.pause = FIRST_PAUSE;
        }
        Ok(more)
    }

    async fn delete(&mut self) -> Result<(), StoreError> {
        let sent: Vec<SentRow> = self.shards.iter().flat_map(Shard::deletable).collect();
        if !sent.is_empty() {
            self.outbox.delete(&sent).await?;
            self.shards.iter_mut().for_each(Shard::deleted);
        }
        Ok(())
    }

    /// Gives back what another relay is due.
    async fn release(&mut self) -> Result<(), StoreError> {
        let surplus: Vec<Lease> = self.shards.iter().filter_map(Shard::releasable).collect();
        if surplus.is_empty() {
            return Ok(());
        }
        self.outbox.release(&surplus).await?;
        for lease in surplus {
            info!(lease.partition, "the relay gives a shard to another");
            self.shards[lease.partition as usize].leased(None);
        }
        Ok(())
    }

    /// What may be read of the shard now; `None` where nothing may.
    fn reading(&self, shard: &Shard) -> Option<Reading> {
        let lease = shard.readable()?;
        let unread = match &self.backlog {
            Some(backlog) => Backlog::LIMIT.saturating_sub(backlog.outstanding(lease.partition)) as usize,
            None => usize::MAX,
        };
        Some(Reading { lease, in_flight: shard.ids(), limit_bytes: shard.room(WINDOW.min(unread), WINDOW_ROWS)? })
    }

    async fn produce(&mut self, row: OutboxRow) -> Result<(), Failure> {
        let OutboxRow { id, partition, ref bytes, .. } = row;
        let shard = &mut self.shards[partition as usize];
        if shard.readable().is_none() {
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
        let spans = sending::spans(records.iter().map(|record| record.headers.clone()));
        let headers = records.iter().flat_map(|record| record.headers.clone());
        let headers: Vec<(&str, Option<&[u8]>)> = headers.map(|(name, value)| (name, Some(value))).collect();
        let mut rest = headers.as_slice();
        let outbound = records.iter().map(|record| {
            let (headers, others) = rest.split_at(record.headers.clone().count());
            rest = others;
            OutboundRecord {
                topic: USER_EVENTS.name,
                key: record.key,
                value: Some(record.value),
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
        let reported = move |outcomes: Vec<Result<_, SendError>>| {
            // what failed is sent again, and is a span then
            if outcomes.iter().all(Result::is_ok) {
                spans.into_iter().for_each(Span::end);
            }
            RowReport { partition, id, outcomes }
        };
        self.reports.push(reports.map(reported).boxed());
        Ok(())
    }

    /// Gives up what is in flight after a failed record; how long to wait before the next step.
    async fn recover(&mut self, failure: Failure) -> Duration {
        counter!(names::RELAY_RESTARTS, names::ROLE => ROLE, names::REASON => failure.reason()).increment(1);
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
        drop(self.renewing.take());
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
        let _ = self.renewal.await; // a round after the end would take shards for nobody
        if let Err(error) = self.outbox.resign(self.id).await {
            let error = &error as &(dyn std::error::Error + 'static);
            warn!(error, "the relay's shards could not be given back; others take them when the leases end");
        }
    }

    /// Steps until every row that may be read is in flight.
    async fn read_all(&mut self) {
        loop {
            self.next_delete = Instant::now(); // what is deleted makes room at once
            let stepped = match self.step().await {
                Ok(true) => continue,
                // a full window has room again once something arrives
                Ok(false) if self.shards.iter().any(|shard| shard.room(WINDOW, WINDOW_ROWS).is_none()) => {
                    match self.reports.next().await {
                        Some(row) => self.reported(row).await,
                        None => return,
                    }
                }
                // nothing more can be read, or sent
                Ok(false) | Err(Failure::Store(_) | Failure::Producer(_)) => return,
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
    gauge!(names::OUTBOX_ROWS, names::ROLE => ROLE).set(waiting.rows as f64);
    gauge!(names::OUTBOX_OLDEST_AGE, names::ROLE => ROLE).set(age as f64 / 1_000.0);
}

/// All records of the row, checked before the first of them is produced.
fn read(row: &OutboxRow) -> Result<Vec<PackedRecord<'_>>, Corrupt> {
    let records: Vec<PackedRecord<'_>> = unpack(&row.bytes).collect::<Result<_, _>>()?;
    if records.len() == row.records as usize { Ok(records) } else { Err(Corrupt::Records) }
}
