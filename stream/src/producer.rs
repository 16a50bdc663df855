//! Records into the log: in the order of the calls, within a budget of bytes, each with the broker's report.
//!
//! One enqueue at a time: librdkafka keeps the order in which it is given records, so whoever waits, because the
//! budget is spent or its queue is full, holds everybody behind it. A record that is refused stops its call; nothing
//! of the same call overtakes it.
//!
//! A client that was purged is replaced at the next enqueue. What it still held is reported as [`SendError::Purged`],
//! which means unknown: it may or may not be in the log. So is one that failed for good or got nowhere for too long, with
//! [`Patience::Waiting`].
//! With [`Patience::Forever`] a failed record is one that the owner sends again, and what he enqueues before he has
//! read of the failure would stand before it: it gets [`Error::Broken`] until he purges.
#[cfg(test)]
mod tests;

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use rdkafka::ClientConfig;
use tokio::{
    sync::{Semaphore, oneshot},
    time::{Instant, timeout_at},
};

use crate::{
    Backlog, Error, KafkaConfig, Patience, Position, SendError,
    batches::Outcomes,
    connection::{Connection, Sent, Vigil},
};

/// Bytes enqueued and not reported; below `queue.buffering.max.kbytes`, so that librdkafka's queue is hardly ever full.
const BUDGET: usize = 96 * 1024 * 1024;

/// What a record takes beside its bytes: librdkafka's bookkeeping here, the framing in the broker's log.
const RECORD_OVERHEAD: usize = 128;

/// How long to wait before asking again where librdkafka's queue is full.
const QUEUE_FULL_PAUSE: Duration = Duration::from_millis(5);

/// A record on its way out, borrowed: librdkafka makes the one copy.
#[derive(Debug, Clone, Copy)]
pub struct OutboundRecord<'a> {
    pub topic: &'a str,
    /// Empty only beside a partition: without a key a record has no place of its own.
    pub key: &'a [u8],
    /// `None` is null, which is not the same as empty.
    pub value: Option<&'a [u8]>,
    /// A header's value may be null too.
    pub headers: &'a [(&'a str, Option<&'a [u8]>)],
    /// Milliseconds since the Unix epoch; `None` means now.
    pub timestamp: Option<i64>,
    /// `None` means by key, as [`partition_for`](crate::partition_for).
    pub partition: Option<i32>,
}

/// The byte budget is spent or somebody else is waiting for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the producer has too much unsent; try again later")]
pub struct Full;

/// A handle on one client; clones share it, its order and its budget.
///
/// Dropping the last one purges what is unsent: call [`Producer::close`] first.
#[derive(Clone)]
pub struct Producer {
    inner: Arc<Inner>,
}

struct Inner {
    config: ClientConfig,
    patience: Patience,
    backlog: Option<Arc<Backlog>>,
    /// Held by whoever enqueues; fair, so calls are served in their order.
    order: tokio::sync::Mutex<()>,
    state: Mutex<State>,
    budget: Arc<Semaphore>,
    vigil: Arc<Vigil>,
    /// All of the budget.
    largest: u32,
}

enum State {
    Open(Arc<Connection>),
    /// The next enqueue connects.
    Purged,
    Closed,
}

impl Producer {
    /// Connects in the background: an absent broker is no error here.
    pub fn open(kafka: &KafkaConfig, patience: Patience) -> Result<Self, Error> {
        Self::with_budget(kafka, patience, BUDGET)
    }

    fn with_budget(kafka: &KafkaConfig, patience: Patience, budget: usize) -> Result<Self, Error> {
        let inner = Inner {
            config: kafka.producer(patience),
            patience,
            backlog: kafka.backlog().cloned(),
            order: tokio::sync::Mutex::default(),
            state: Mutex::new(State::Purged),
            budget: Arc::new(Semaphore::new(budget)),
            vigil: Vigil::new(kafka),
            largest: budget as u32,
        };
        inner.connection()?; // a setting that librdkafka refuses shows now
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Enqueues all, in order, waiting where the byte budget or librdkafka's queue is full; resolves once all are
    /// enqueued. Dropped before, what was enqueued is still sent. [`Error::Stalled`] says once that new clients do not
    /// help; who goes on all the same gets another one.
    pub async fn enqueue<'a, I>(&self, records: I) -> Result<Reports, Error>
    where
        I: IntoIterator<Item = OutboundRecord<'a>, IntoIter: Send> + Send,
    {
        let records = records.into_iter();
        let _order = self.inner.order.lock().await;
        let mut call = Call::begin(self.inner.connection()?);
        for record in records {
            let bytes = self.inner.charge(&record);
            self.inner.budget.acquire_many(bytes).await.expect("the budget is never closed").forget();
            while call.send(&record, bytes) == Sent::QueueFull {
                tokio::time::sleep(QUEUE_FULL_PAUSE).await;
            }
        }
        Ok(call.end())
    }

    /// Enqueues one record and returns where it is once the log has it. Dropped before, it may be in the log.
    pub async fn send(&self, record: OutboundRecord<'_>) -> Result<Position, Error> {
        let reports = self.enqueue([record]).await?.await;
        Ok(reports.into_iter().next().unwrap_or(Err(SendError::Purged))?)
    }

    /// Enqueues all or, where that would mean waiting, nothing.
    pub fn try_enqueue(&self, records: &[OutboundRecord<'_>]) -> Result<Result<Reports, Full>, Error> {
        let Ok(_order) = self.inner.order.try_lock() else { return Ok(Err(Full)) };
        let connection = self.inner.connection()?;
        let total = records.iter().map(|record| self.inner.charge(record) as usize).sum::<usize>();
        let Some(permits) = u32::try_from(total).ok().and_then(|all| self.inner.budget.try_acquire_many(all).ok())
        else {
            return Ok(Err(Full));
        };
        permits.forget();
        let mut call = Call::begin(connection);
        for record in records {
            let bytes = self.inner.charge(record);
            if call.send(record, bytes) == Sent::QueueFull {
                call.give_up(bytes);
            }
        }
        Ok(Ok(call.end()))
    }

    /// Reports everything unreported as purged, at once, and forgets it. The next enqueue uses a fresh client.
    pub fn purge(&self) {
        let mut state = self.inner.state();
        if let State::Open(connection) = &*state {
            connection.stop();
            *state = State::Purged;
        }
    }

    /// Waits until everything is reported, at most until the deadline, then lets the client go. Other handles get
    /// [`Error::Closed`] from now on; what is unsent at the deadline is purged and its number is the error.
    pub async fn close(self, deadline: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + deadline;
        let _order = timeout_at(deadline, self.inner.order.lock()).await; // an enqueue that still waits is let finish
        let State::Open(connection) = std::mem::replace(&mut *self.inner.state(), State::Closed) else {
            return Ok(());
        };
        let flushed = tokio::task::spawn_blocking(move || {
            connection.flush(deadline.saturating_duration_since(Instant::now()));
            let unsent = connection.stop();
            Connection::end(connection);
            unsent
        });
        // the task only fails where the runtime shuts down under it: then nothing can be said of what was unsent
        match flushed.await.unwrap_or(0) {
            0 => Ok(()),
            unsent => Err(Error::Undelivered { unsent }),
        }
    }

    /// Records that wait for their report.
    pub fn in_flight(&self) -> usize {
        match &*self.inner.state() {
            State::Open(connection) => connection.unreported(),
            State::Purged | State::Closed => 0,
        }
    }
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Producer").field("in_flight", &self.in_flight()).finish_non_exhaustive()
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The present client, or a new one where that was purged or may be replaced.
    fn connection(&self) -> Result<Arc<Connection>, Error> {
        let mut state = self.state();
        match &*state {
            State::Closed => return Err(Error::Closed),
            State::Open(connection) if !connection.is_broken() => return Ok(connection.clone()),
            State::Open(_) if self.patience == Patience::Forever => return Err(Error::Broken),
            State::Open(broken) => {
                broken.stop();
            }
            State::Purged => {}
        }
        *state = State::Purged;
        if let Some(stalled) = self.vigil.stalled() {
            return Err(stalled);
        }
        let (budget, backlog) = (self.budget.clone(), self.backlog.clone());
        let connection = Connection::open(&self.config, self.patience, budget, backlog, self.vigil.clone())?;
        *state = State::Open(connection.clone());
        Ok(connection)
    }

    /// What the record takes of the budget; one that is larger than all of it takes all of it.
    fn charge(&self, record: &OutboundRecord<'_>) -> u32 {
        let size = |value: Option<&[u8]>| value.map_or(0, <[u8]>::len);
        let headers = record.headers.iter().map(|&(name, value)| name.len() + size(value)).sum::<usize>();
        let bytes = RECORD_OVERHEAD + record.key.len() + size(record.value) + headers;
        u32::try_from(bytes).unwrap_or(u32::MAX).min(self.largest)
    }
}

/// One call of enqueue.
struct Call {
    batch: OpenBatch,
    outcomes: oneshot::Receiver<Outcomes>,
    len: usize,
    refused: bool,
}

impl Call {
    fn begin(connection: Arc<Connection>) -> Self {
        let (done, outcomes) = oneshot::channel();
        let slot = connection.batches().open(done);
        Self { batch: OpenBatch { connection, slot }, outcomes, len: 0, refused: false }
    }

    /// `bytes` are taken from the budget already, and stay so only where the record is enqueued or the queue full.
    fn send(&mut self, record: &OutboundRecord<'_>, bytes: u32) -> Sent {
        let OpenBatch { connection, slot } = &self.batch;
        let sent = if self.refused {
            connection.refuse(*slot, SendError::AfterRefused, bytes)
        } else if record.key.is_empty() && record.partition.is_none() {
            connection.refuse(*slot, SendError::EmptyKey, bytes)
        } else {
            connection.send(*slot, record, bytes)
        };
        if sent != Sent::QueueFull {
            self.refused |= sent == Sent::Refused;
            self.len += 1;
        }
        sent
    }

    /// For a record that found the queue full and is not tried again.
    fn give_up(&mut self, bytes: u32) {
        self.batch.connection.refuse(self.batch.slot, SendError::QueueFull, bytes);
        self.refused = true;
        self.len += 1;
    }

    fn end(self) -> Reports {
        Reports { outcomes: self.outcomes, len: self.len }
    }
}

/// Sealed when dropped, however the call ends.
struct OpenBatch {
    connection: Arc<Connection>,
    slot: u32,
}

impl Drop for OpenBatch {
    fn drop(&mut self) {
        self.connection.batches().seal(self.slot);
    }
}

/// The reports of one enqueue, one per record and in its order, once the last has come.
#[derive(Debug)]
#[must_use = "a record is in the log only when its report says so"]
pub struct Reports {
    outcomes: oneshot::Receiver<Outcomes>,
    len: usize,
}

impl Reports {
    /// Records in the call.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Future for Reports {
    type Output = Vec<Result<Position, SendError>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let outcomes = ready!(Pin::new(&mut self.outcomes).poll(cx));
        Poll::Ready(outcomes.unwrap_or_else(|_| vec![Err(SendError::Purged); self.len]))
    }
}
