//! The event side: records wait per key, so many keys are with the handler at a time, and a key whose record failed
//! waits for its next attempt without keeping back another. The handler runs in one task, many records at once.
use std::{sync::Arc, time::Instant};

use futures::{StreamExt as _, stream::FuturesUnordered};
use headwater_otel::{
    names,
    span::{Times, now},
    with_store_writes,
};
use headwater_proto::Millis;
use tokio::{runtime::Handle, sync::mpsc};
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument as _, debug_span};

use super::{
    ConsumerConfig,
    books::Books,
    work::{Desk, Message, Work},
};
use crate::{
    Decoded, Delivery, Error, EventHandler, Outcome, Poison, Record, RetryPolicy, Verdict,
    dead_letter::{Disposition, Failure, Raw},
    ledger::Epoch,
    parking::{Key, Next, Parking},
    spans::{Spans, Traced},
};

pub(crate) struct Events<H: EventHandler> {
    handler: Arc<H>,
    parking: Parking<Job<H::Item>>,
    attempts: mpsc::UnboundedSender<Attempt<H::Item>>,
    retry: RetryPolicy,
    concurrency: usize,
    waiting_records: usize,
    parked_records: usize,
    _task: AbortOnDropHandle<()>,
}

/// A record on its way, with what a dead letter would need.
struct Job<T> {
    delivery: Delivery<T>,
    raw: Raw,
    traced: Option<Box<Traced>>,
    first_failed_at: Option<Millis>,
}

struct Attempt<T> {
    key: Key,
    epoch: Epoch,
    job: Job<T>,
}

pub(crate) struct Report<T> {
    attempt: Attempt<T>,
    verdict: Verdict,
}

impl<H: EventHandler> Events<H> {
    pub(crate) fn start(
        handler: Arc<H>,
        config: &ConsumerConfig,
        runtime: &Handle,
        desk: &Desk<Report<H::Item>>,
    ) -> Self {
        let (attempts, received) = mpsc::unbounded_channel();
        let task =
            desk.spawn(runtime, "event handler", handle(handler.clone(), received, desk.clone(), Spans::new(config)));
        Self {
            handler,
            parking: Parking::default(),
            attempts,
            retry: config.retry,
            concurrency: config.concurrency,
            waiting_records: config.waiting_records,
            parked_records: config.parked_records,
            _task: task,
        }
    }

    /// The record has failed for good.
    fn bury(&self, attempt: Attempt<H::Item>, disposition: Disposition, reason: &'static str, books: &mut Books) {
        let Attempt { epoch, job, .. } = attempt;
        let attempts = job.delivery.attempt;
        let message = match disposition {
            Disposition::Exhausted => format!("attempt {attempts} failed and was the last: {reason}"),
            Disposition::Poison | Disposition::Rejected => format!("the handler refused the record: {reason}"),
        };
        let first_failed_at = job.first_failed_at.unwrap_or_else(|| books.now());
        let failure = Failure { disposition, reason, message, attempts, first_failed_at };
        books.bury(job.delivery.position, epoch, job.raw, failure);
    }
}

impl<H: EventHandler> Work for Events<H> {
    type Item = H::Item;
    type Report = Report<H::Item>;

    fn decode(&self, record: &Record<'_>) -> Result<Decoded<H::Item>, Poison> {
        self.handler.decode(record)
    }

    fn accept(&mut self, delivery: Delivery<H::Item>, record: &Record<'_>, _now: Instant) {
        let traced = Traced::of(record, delivery.trace).map(Box::new);
        let job = Job { delivery, raw: Raw::from(record), traced, first_failed_at: None };
        self.parking.push(record.key.unwrap_or_default(), record.position.partition, job);
    }

    fn feed(&mut self, now: Instant, _drained: bool, epoch: Epoch) {
        while self.parking.total_in_flight() < self.concurrency {
            let Some(Next { key, item: job }) = self.parking.next(now) else { return };
            // where the task is gone its last word is a failure, which ends the run
            let _ = self.attempts.send(Attempt { key, epoch, job });
        }
    }

    fn settle(&mut self, report: Self::Report, now: Instant, books: &mut Books) -> Result<(), Error> {
        let Report { attempt, verdict } = report;
        let (position, epoch) = (attempt.job.delivery.position, attempt.epoch);
        let key = attempt.key.clone();
        // where the partition is somebody else's by now, the record is theirs in whatever state it is
        if !books.ledger.is_open(position, epoch) {
            self.parking.done(&key, position.partition);
            return Ok(());
        }
        let (wait, reason) = match verdict {
            Verdict::Done => {
                books.finish(position, epoch, Outcome::Done, books.now());
                self.parking.done(&key, position.partition);
                return Ok(());
            }
            Verdict::Skip(reason) => {
                books.finish(position, epoch, Outcome::Skip(reason), books.now());
                self.parking.done(&key, position.partition);
                return Ok(());
            }
            Verdict::Dead(reason) => {
                self.bury(attempt, Disposition::Rejected, reason, books);
                self.parking.done(&key, position.partition);
                return Ok(());
            }
            Verdict::Wait(_, wait) => (wait, None),
            Verdict::Retry(reason) => match self.retry.wait(attempt.job.delivery.attempt, fastrand::f64()) {
                Some(wait) => (wait, Some(reason)),
                None => {
                    self.bury(attempt, Disposition::Exhausted, reason, books);
                    self.parking.done(&key, position.partition);
                    return Ok(());
                }
            },
        };
        let mut job = attempt.job;
        if let Some(reason) = reason {
            books.outcomes.retried(reason, 1);
            job.delivery.attempt += 1;
            job.first_failed_at.get_or_insert_with(|| books.now());
        }
        self.parking.park(&key, position.partition, job, now + wait);
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.parking.waiting() >= self.waiting_records
    }

    fn has_room_again(&self) -> bool {
        self.parking.waiting() <= self.waiting_records / 2
    }

    fn overflows(&self, partition: i32, paused: bool) -> bool {
        let limit = if paused { self.parked_records / 2 } else { self.parked_records };
        self.parking.held_back(partition) > limit
    }

    fn withdraw(&mut self, partitions: &[i32]) {
        self.parking.withdraw(partitions);
    }

    fn in_flight(&self, partitions: &[i32]) -> usize {
        partitions.iter().map(|&partition| self.parking.in_flight(partition)).sum()
    }

    fn waits_for(&self) -> Option<&'static str> {
        None // what an event handler depends on shows in its verdicts
    }

    fn revoked(&mut self, _partitions: &[i32]) {}

    fn due(&self) -> Option<Instant> {
        // without a free place a due key can do nothing but wait for one
        self.parking.next_due().filter(|_| self.parking.total_in_flight() < self.concurrency)
    }
}

async fn handle<H: EventHandler>(
    handler: Arc<H>,
    mut attempts: mpsc::UnboundedReceiver<Attempt<H::Item>>,
    desk: Desk<Report<H::Item>>,
    spans: Spans,
) {
    let spans = &spans;
    let mut running = FuturesUnordered::new();
    loop {
        tokio::select! {
            attempt = attempts.recv() => {
                let Some(mut attempt) = attempt else { return };
                let handler = handler.clone();
                running.push(async move {
                    let Job { delivery, traced, .. } = &mut attempt.job;
                    if let Some(traced) = traced {
                        delivery.trace = Some(traced.attempt());
                    }
                    let span = debug_span!(names::SPAN_PROCESS, { names::TRACE_PARENT } = delivery.trace.map(display));
                    let handling = handler.handle(delivery).instrument(span);
                    let verdict = match traced {
                        None => handling.await,
                        Some(traced) => {
                            let start = now();
                            let (verdict, writes) = with_store_writes(handling).await;
                            spans.attempted(traced, Times { start, end: now() }, &verdict, &writes);
                            verdict
                        }
                    };
                    Report { attempt, verdict }
                });
            }
            Some(report) = running.next() => desk.say(Message::Work(report)),
        }
    }
}
