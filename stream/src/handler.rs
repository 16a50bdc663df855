//! What a service brings to the stream: decode (pure, on the consumer's thread) and an effect (async, elsewhere).
//!
//! Two kinds of handler, because there are two kinds of effect. A [`BatchHandler`] turns many records into one
//! all-or-nothing write; the only thing that can go wrong is that its store is away, and then the whole batch waits.
//! An [`EventHandler`] does one thing per record that can fail by itself; only the keys that have a failed event wait.
use std::{future::Future, time::Duration};

use headwater_otel::TraceContext;

use crate::{Position, Record};

/// The reason of failures that somebody asked for. Those say nothing about the consumer or the log, so the breaker does
/// not count them.
pub const INJECTED: &str = "injected";

/// What a record turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded<T> {
    Item(T),
    /// Nothing to do, for this reason: counted, and the offset moves on.
    Skip(&'static str),
}

/// A record that no version of this consumer can use: dead at once, disposition POISON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Poison {
    /// For metrics; a word of a closed set.
    pub reason: &'static str,
    /// For the dead letter: what is wrong and where, without the record's data.
    pub message: String,
}

/// How one record of a batch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Done,
    Skip(&'static str),
}

/// How one attempt at one record ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Done,
    Skip(&'static str),
    /// Try again later; after the last attempt the record is dead, disposition EXHAUSTED.
    Retry(&'static str),
    /// Not its turn yet: hand it over again after that time. Parks the key like a retry, but is no attempt.
    Wait(&'static str, Duration),
    /// Dead at once, disposition REJECTED.
    Dead(&'static str),
}

/// The dependency of a batch is down: the whole batch is tried again until it is up. Never a dead letter.
#[derive(Debug, thiserror::Error)]
#[error("{dependency} is unavailable")]
pub struct Unavailable {
    pub dependency: &'static str,
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// A decoded record on its way to a handler.
#[derive(Debug, Clone)]
pub struct Delivery<T> {
    pub position: Position,
    /// From the record's `traceparent`.
    pub trace: Option<TraceContext>,
    /// Milliseconds since the Unix epoch, as the producer set it.
    pub timestamp: Option<i64>,
    /// From 1; above 1 only where this process tries again.
    pub attempt: u32,
    pub item: T,
}

/// Many records, one all-or-nothing effect.
pub trait BatchHandler: Send + 'static {
    type Item: Send + 'static;

    /// Pure. `Err` is poison.
    fn decode(record: &Record<'_>) -> Result<Decoded<Self::Item>, Poison>;

    /// One outcome per delivery, in their order. Called for one batch at a time; within a batch the records of a
    /// partition stand in log order. May see records it has already applied: repeating the effect changes nothing.
    fn apply(
        &mut self,
        batch: &[Delivery<Self::Item>],
    ) -> impl Future<Output = Result<Vec<Outcome>, Unavailable>> + Send;

    /// These partitions were handed to somebody else: forget what was cached for them. Never called during `apply`.
    fn revoked(&mut self, _partitions: &[i32]) {}
}

/// One record, one effect; at most one record per key at a time.
pub trait EventHandler: Send + Sync + 'static {
    type Item: Send + Sync + 'static;

    /// Pure. `Err` is poison.
    fn decode(&self, record: &Record<'_>) -> Result<Decoded<Self::Item>, Poison>;

    fn handle(&self, delivery: &Delivery<Self::Item>) -> impl Future<Output = Verdict> + Send;
}
