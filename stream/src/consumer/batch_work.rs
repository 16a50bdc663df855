//! The batch side: one batch is with the handler while the next one fills. The handler lives in one task, which gets
//! batches and revocations in order and tries a batch until its store takes it.
use std::{
    collections::{BTreeMap, HashMap},
    mem,
    time::Instant,
};

use headwater_otel::{
    names,
    span::{Times, now},
    with_store_writes,
};
use tokio::{runtime::Handle, sync::mpsc, time};
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument as _, debug_span, info, warn};

use super::{
    ConsumerConfig,
    books::Books,
    work::{Desk, Message, Work},
};
use crate::{
    BatchHandler, Decoded, Delivery, Error, Outcome, Poison, Record, RetryPolicy,
    ledger::Epoch,
    spans::{Spans, Traced},
};

pub(crate) struct Batches<H: BatchHandler> {
    filling: Vec<Delivery<H::Item>>,
    /// Of those that fill.
    traced: Vec<Traced>,
    since: Option<Instant>,
    /// The other buffer: the two take turns.
    spare: Vec<Delivery<H::Item>>,
    /// Records of the batch that the handler has, by partition; empty when it has none.
    in_flight: BTreeMap<i32, usize>,
    waits_for: Option<&'static str>,
    commands: mpsc::UnboundedSender<Command<H::Item>>,
    limit: usize,
    fill: time::Duration,
    _task: AbortOnDropHandle<()>,
}

enum Command<T> {
    Apply { batch: Vec<Delivery<T>>, traced: Vec<Traced>, epoch: Epoch },
    Revoked(Vec<i32>),
}

pub(crate) enum Report<T> {
    Applied {
        batch: Vec<Delivery<T>>,
        outcomes: Vec<Outcome>,
        epoch: Epoch,
    },
    /// So many records will be tried again, for ever.
    Unavailable {
        dependency: &'static str,
        records: usize,
    },
}

impl<H: BatchHandler> Batches<H> {
    pub(crate) fn start(handler: H, config: &ConsumerConfig, runtime: &Handle, desk: &Desk<Report<H::Item>>) -> Self {
        let (commands, received) = mpsc::unbounded_channel();
        let task = desk.spawn(
            runtime,
            "batch handler",
            handle(handler, received, desk.clone(), Spans::new(config), config.role),
        );
        Self {
            filling: Vec::with_capacity(config.batch_records),
            traced: Vec::new(),
            since: None,
            spare: Vec::with_capacity(config.batch_records),
            in_flight: BTreeMap::new(),
            waits_for: None,
            commands,
            limit: config.batch_records,
            fill: config.batch_fill,
            _task: task,
        }
    }
}

impl<H: BatchHandler> Work for Batches<H> {
    type Item = H::Item;
    type Report = Report<H::Item>;

    fn decode(&self, record: &Record<'_>) -> Result<Decoded<H::Item>, Poison> {
        H::decode(record)
    }

    fn accept(&mut self, mut delivery: Delivery<H::Item>, record: &Record<'_>, now: Instant) {
        self.since.get_or_insert(now);
        if let Some(traced) = Traced::of(record, delivery.trace) {
            delivery.trace = Some(traced.context());
            self.traced.push(traced);
        }
        self.filling.push(delivery);
    }

    fn feed(&mut self, now: Instant, drained: bool, epoch: Epoch) {
        let Some(since) = self.since.filter(|_| self.in_flight.is_empty()) else { return };
        if !(drained || self.is_full() || now >= since + self.fill) {
            return;
        }
        let batch = mem::replace(&mut self.filling, mem::take(&mut self.spare));
        self.since = None;
        for delivery in &batch {
            *self.in_flight.entry(delivery.position.partition).or_default() += 1;
        }
        // where the task is gone its last word is a failure, which ends the run
        let _ = self.commands.send(Command::Apply { batch, traced: mem::take(&mut self.traced), epoch });
    }

    fn settle(&mut self, report: Self::Report, _now: Instant, books: &mut Books) -> Result<(), Error> {
        match report {
            Report::Unavailable { dependency, records } => {
                self.waits_for = Some(dependency);
                books.outcomes.retried(dependency, records);
            }
            Report::Applied { mut batch, outcomes, epoch } => {
                self.waits_for = None;
                self.in_flight.clear();
                if batch.len() != outcomes.len() {
                    return Err(Error::Outcomes { expected: batch.len(), found: outcomes.len() });
                }
                let now = books.now();
                for (delivery, outcome) in batch.drain(..).zip(outcomes) {
                    books.finish(delivery.position, epoch, outcome, now);
                }
                self.spare = batch;
            }
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.filling.len() >= self.limit
    }

    fn has_room_again(&self) -> bool {
        self.filling.len() <= self.limit / 2
    }

    fn overflows(&self, _partition: i32, _paused: bool) -> bool {
        false // a batch is bounded as a whole
    }

    fn withdraw(&mut self, partitions: &[i32]) {
        self.filling.retain(|delivery| !partitions.contains(&delivery.position.partition));
        self.traced.retain(|traced| !partitions.contains(&traced.partition()));
        if self.filling.is_empty() {
            self.since = None;
        }
    }

    fn in_flight(&self, partitions: &[i32]) -> usize {
        partitions.iter().filter_map(|partition| self.in_flight.get(partition)).sum()
    }

    fn waits_for(&self) -> Option<&'static str> {
        self.waits_for
    }

    fn revoked(&mut self, partitions: &[i32]) {
        let _ = self.commands.send(Command::Revoked(partitions.to_vec()));
    }

    fn due(&self) -> Option<Instant> {
        self.since.filter(|_| self.in_flight.is_empty()).map(|since| since + self.fill)
    }
}

async fn handle<H: BatchHandler>(
    mut handler: H,
    mut commands: mpsc::UnboundedReceiver<Command<H::Item>>,
    desk: Desk<Report<H::Item>>,
    spans: Spans,
    role: &'static str,
) {
    while let Some(command) = commands.recv().await {
        match command {
            Command::Revoked(partitions) => handler.revoked(&partitions),
            Command::Apply { mut batch, traced, epoch } => {
                let records = batch.len();
                let span = debug_span!(names::SPAN_PROCESS, role, { names::BATCH_MESSAGE_COUNT } = records);
                let applying = apply(&mut handler, &mut batch, &mut commands, &desk).instrument(span);
                let (applied, seen) = if traced.is_empty() {
                    (applying.await, None)
                } else {
                    let start = now();
                    let (applied, writes) = with_store_writes(applying).await;
                    (applied, Some((Times { start, end: now() }, writes)))
                };
                let Some(outcomes) = applied else { return };
                if let Some((times, writes)) = seen {
                    let ends: HashMap<_, _> = batch.iter().map(|record| record.position).zip(&outcomes).collect();
                    spans.applied(records, &traced, times, &writes, |position| ends.get(&position).copied().copied());
                }
                desk.say(Message::Work(Report::Applied { batch, outcomes, epoch }));
            }
        }
    }
}

/// Tries until the store takes the batch. Partitions that are revoked between two attempts leave it: their next owner
/// applies them. `None`: the consumer is gone.
async fn apply<H: BatchHandler>(
    handler: &mut H,
    batch: &mut Vec<Delivery<H::Item>>,
    commands: &mut mpsc::UnboundedReceiver<Command<H::Item>>,
    desk: &Desk<Report<H::Item>>,
) -> Option<Vec<Outcome>> {
    let mut failures = 0;
    loop {
        let unavailable = match handler.apply(batch).await {
            Ok(outcomes) => {
                if failures > 0 {
                    info!(failures, "the batch went through");
                }
                return Some(outcomes);
            }
            Err(unavailable) => unavailable,
        };
        failures += 1;
        let pause = RetryPolicy::until_up(failures, fastrand::f64());
        warn!(dependency = unavailable.dependency, error = %unavailable.source, failures, ?pause, "the batch waits");
        let report = Report::Unavailable { dependency: unavailable.dependency, records: batch.len() };
        desk.say(Message::Work(report));
        let over = time::sleep(pause);
        tokio::pin!(over);
        loop {
            tokio::select! {
                () = &mut over => break,
                command = commands.recv() => if let Command::Revoked(partitions) = command? {
                    handler.revoked(&partitions);
                    batch.retain(|delivery| !partitions.contains(&delivery.position.partition));
                    if batch.is_empty() {
                        return Some(Vec::new());
                    }
                }
            }
        }
        for delivery in batch.iter_mut() {
            delivery.attempt += 1;
        }
    }
}
