//! One OS thread per consumer owns the client and everything that is known about its records. Each turn of its loop:
//!
//! 1. **Settle** what handlers and dead letters report. First, because it makes room and frees keys, and everything
//!    below is decided by how much room there is.
//! 2. **Poll** as long as there is room. Before feeding, so that a batch is as full as it can be. Rebalances happen
//!    inside; nothing here is held across it.
//! 3. **Watch** that the client gets on ([`watch`](super::watch)), **place** partitions that came without a start, and
//!    **mend** where it did not find the next record ([`mend`](super::mend)). After the poll, which is when it tells.
//! 4. **Feed** the handler.
//! 5. **Flow**: pause and resume. After feeding, which may have made the room that decides it. A client that is not
//!    asked keeps what it has fetched, a paused partition throws it away; so a full buffer first means not asking, and
//!    only after a while pausing, because a client that nobody asks is put out of its group.
//! 6. **Store** the frontiers. Last, so that it covers what was settled in this turn; the client commits each second.
//! 7. **Wait**, where nothing happened, until somebody wakes the thread.
//!
//! Nothing of it blocks but the wait, which is short, and what has a deadline: the drain inside a revocation, and what a
//! broken client or log makes necessary.
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard},
    thread,
    time::{Duration, Instant},
};

use headwater_otel::Component;
use rdkafka::{
    config::FromClientConfigAndContext as _,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
    types::RDKafkaErrorCode,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use super::{
    ConsumerConfig,
    state::{Standing, State},
    work::Work,
};
use crate::{
    Error, Record,
    rebalance::{Context, lock},
    truncation::Log,
    watchdog::Watchdog,
};

/// Records per turn, at most: what is settled and due waits for no more than that.
const BURST: usize = 1_000;
/// The longest wait. Wakers end it earlier; it bounds what a missed one costs, and how late a stop is seen.
const IDLE: Duration = Duration::from_millis(50);
/// How often frontiers are stored.
const STORE_EVERY: Duration = Duration::from_millis(50);

pub(crate) struct PollLoop<'a, W: Work> {
    /// Outlives the client: the next one goes on with it.
    pub(super) shared: Arc<Mutex<State<W>>>,
    pub(super) consumer: BaseConsumer<Context<W>>,
    pub(super) config: &'a ConsumerConfig,
    readiness: &'a Component,
    shown: Standing,
    polled: Instant,
    stored: Instant,
    pub(super) watchdog: Watchdog,
    /// When to replace a client that failed for good.
    pub(super) failed: Option<Instant>,
    /// When to look for partitions whose next records the client did not find.
    pub(super) astray: Option<Instant>,
    /// When to ask for the starts of partitions that came without one; at once, if there have been none for long.
    pub(super) ask: Instant,
}

impl<'a, W: Work> PollLoop<'a, W> {
    pub(crate) fn open(state: State<W>, config: &'a ConsumerConfig, readiness: &'a Component) -> Result<Self, Error> {
        let shared = Arc::new(Mutex::new(state));
        let consumer = join(&shared, config)?;
        readiness.not_ready("joining the consumer group");
        let now = Instant::now();
        Ok(Self {
            shared,
            consumer,
            config,
            readiness,
            shown: Standing::Joining,
            polled: now,
            stored: now,
            watchdog: Watchdog::new(config.kafka.watch, now),
            failed: None,
            astray: None,
            ask: now,
        })
    }

    /// Consumes until told to stop or until it cannot go on, then leaves the group.
    pub(crate) fn run(mut self, stop: &CancellationToken) -> Result<(), Error> {
        let turns = catch_unwind(AssertUnwindSafe(|| {
            while !stop.is_cancelled() {
                self.turn()?;
            }
            Ok(())
        }));
        let result = turns.unwrap_or(Err(Error::Panicked { what: "consumer thread" }));
        self.readiness.not_ready(if result.is_ok() { "stopping" } else { "failed" });
        self.leave(result.is_ok());
        result
    }

    fn turn(&mut self) -> Result<(), Error> {
        let settled = self.state().settle(Instant::now());
        let polled = self.poll();
        self.watch()?;
        self.place();
        self.mend();
        self.state().feed(Instant::now(), polled.drained);
        self.flow();
        self.store();
        self.show();
        if let Some(failure) = self.state().take_failure() {
            return Err(failure);
        }
        if !settled && polled.records == 0 {
            self.wait();
        }
        Ok(())
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State<W>> {
        lock(&self.shared)
    }

    fn poll(&mut self) -> Polled {
        let mut polled = Polled::default();
        if !self.state().may_poll() {
            polled.drained = true;
            return polled;
        }
        let now = Instant::now();
        self.polled = now;
        let mut nothing = 0;
        while polled.records < BURST {
            match self.consumer.poll(Duration::ZERO) {
                Some(Ok(message)) => {
                    nothing = 0;
                    polled.records += 1;
                    let mut state = self.state();
                    state.receive(&Record::from(&message), now);
                    if !state.may_poll() {
                        polled.drained = true;
                        break;
                    }
                }
                Some(Err(error)) => {
                    nothing = 0;
                    self.survive(&error);
                    if self.failed.is_some() {
                        break;
                    }
                }
                // nothing, or something that was not a record; only the second time it is surely nothing
                None => {
                    nothing += 1;
                    if nothing == 2 {
                        polled.drained = true;
                        break;
                    }
                }
            }
        }
        polled
    }

    /// An error from the client is information, unless it says that it is the last or that it stops at a partition.
    fn survive(&mut self, error: &KafkaError) {
        let code = error.rdkafka_error_code();
        let reason = code.map_or_else(|| "unknown".to_owned(), |code| format!("{code:?}"));
        debug!(%error, reason, "the kafka client goes on");
        self.state().books.outcomes.error(reason);
        let fatal = self.consumer.client().fatal_error();
        if fatal.is_some() || matches!(error, KafkaError::MessageConsumptionFatal(_)) {
            let reason = fatal.map(|(_, reason)| reason);
            error!(group = self.config.group_id(), %error, reason, "the kafka client failed for good");
            self.failed.get_or_insert_with(Instant::now);
        }
        if code == Some(RDKafkaErrorCode::AutoOffsetReset) {
            self.astray.get_or_insert_with(Instant::now);
        }
    }

    fn flow(&mut self) {
        let flow = self.state().flow(self.polled.elapsed() >= self.config.quiet);
        for (partitions, pause) in [(flow.pause, true), (flow.resume, false)] {
            if partitions.is_empty() {
                continue;
            }
            debug!(?partitions, pause, "flow");
            let mut list = rdkafka::TopicPartitionList::with_capacity(partitions.len());
            for partition in partitions {
                list.add_partition(self.config.group.topic.name, partition);
            }
            let changed = if pause { self.consumer.pause(&list) } else { self.consumer.resume(&list) };
            if let Err(error) = changed {
                warn!(%error, pause, "the flow could not be changed");
            }
        }
    }

    fn store(&mut self) {
        if self.stored.elapsed() < STORE_EVERY {
            return;
        }
        self.stored = Instant::now();
        let advanced: Vec<(i32, i64)> = self.state().books.ledger.advanced().collect();
        if !advanced.is_empty() {
            self.consumer.context().store(&self.consumer, &advanced);
        }
    }

    fn show(&mut self) {
        let standing = self.state().standing(self.config.group.dead_letters, self.watchdog.trouble());
        if standing == self.shown {
            return;
        }
        self.shown = standing;
        let topic = self.config.group.topic.name;
        match standing {
            Standing::Joining => self.readiness.not_ready("joining the consumer group"),
            Standing::Ready => self.readiness.ready(),
            Standing::Waiting { dependency } => self.readiness.not_ready(format!("{dependency} is unavailable")),
            Standing::Broken { records, dead } => self.readiness.not_ready(format!(
                "paused, because {dead} of the last {records} records are dead; a few are tried within a minute"
            )),
            Standing::Halted { partition, log } => self.readiness.not_ready(match log {
                Log::Restarted { .. } => format!(
                    "stopped at partition {partition} of {topic}, which has begun anew; --accept-truncation reads it \
                     from its beginning"
                ),
                Log::Truncated { .. } | Log::Whole => format!(
                    "stopped at partition {partition} of {topic}: its next records are gone; --accept-truncation goes \
                     on without them"
                ),
            }),
            Standing::Stalled(stall) => self.readiness.not_ready(stall.text()),
        }
    }

    fn wait(&self) {
        let due = self.state().work.due();
        let until_due = due.map_or(IDLE, |due| due.saturating_duration_since(Instant::now()));
        thread::park_timeout(until_due.min(IDLE));
    }
}

/// A new client that joins the group and goes on with this state.
pub(super) fn join<W: Work>(
    state: &Arc<Mutex<State<W>>>,
    config: &ConsumerConfig,
) -> Result<BaseConsumer<Context<W>>, Error> {
    let failed = |source| Error::Client { client: "consumer", source };
    let settings = config.kafka.consumer(&config.group_id(), &config.instance);
    let mut consumer = BaseConsumer::from_config_and_context(&settings, Context::new(state, config)).map_err(failed)?;
    consumer.context().serves(&consumer);
    let this = thread::current();
    consumer.set_nonempty_callback(move || this.unpark());
    consumer.subscribe(&[config.group.topic.name]).map_err(failed)?;
    Ok(consumer)
}

#[derive(Debug, Default)]
struct Polled {
    records: usize,
    /// Nothing more is to be had now: the queue is empty or there is no room.
    drained: bool,
}
