//! The spans of a record in a consumer: `process` under the `send` that its `traceparent` names, and its store writes
//! under that. A batch has a span in a trace of its own, since it has as many parents as records. A replay goes on in
//! nobody's trace: each of its `process` spans begins one. Of records whose trace is not recorded nothing is kept.
use std::borrow::Cow;

use headwater_otel::{
    Span, StoreWrite, TraceContext, begin_trace, is_recorded, names,
    span::{Kind, Times, now},
    traces_are_on,
};
use headwater_proto::topics;

use crate::{ConsumerConfig, Outcome, Position, Record, Verdict, headers};

/// A batch links to so many of its records at most; each of them links to the batch.
const LINKS: usize = 128;

/// As OpenTelemetry has it: the operation, then the topic.
pub(crate) fn named(operation: &'static str, topic: &'static str) -> Cow<'static, str> {
    match (operation, topic == topics::USER_EVENTS.name) {
        ("send", true) => names::SPAN_SEND.into(),
        ("process", true) => names::SPAN_PROCESS.into(),
        _ => format!("{operation} {topic}").into(),
    }
}

/// Whose spans these are.
#[derive(Debug, Clone)]
pub(crate) struct Spans {
    role: &'static str,
    group: String,
    topic: &'static str,
    /// Of a replay.
    again: bool,
}

/// A record whose trace is recorded.
#[derive(Debug)]
pub(crate) struct Traced {
    position: Position,
    /// The span that sent it.
    sent: TraceContext,
    /// Whether its processing is part of the same trace.
    goes_on: bool,
    /// The span of its processing: what the handler sends goes on from here.
    process: TraceContext,
    /// eventId, as its header says.
    message_id: String,
}

impl Traced {
    /// `trace` is the record's own.
    pub(crate) fn of(record: &Record<'_>, trace: Option<TraceContext>) -> Option<Self> {
        let sent = trace.filter(|context| is_recorded(*context))?;
        let id = record.headers.get(headers::CE_ID).map(|id| String::from_utf8_lossy(id).into_owned());
        let message_id = id.unwrap_or_default();
        Some(Self { position: record.position, sent, goes_on: true, process: sent.child(), message_id })
    }

    /// The same for a record that is read once more: a trace of its own, recorded because the first one is.
    pub(crate) fn anew(record: &Record<'_>, trace: Option<TraceContext>) -> Option<Self> {
        Some(Self { goes_on: false, process: new_trace(), ..Self::of(record, trace)? })
    }

    pub(crate) fn partition(&self) -> i32 {
        self.position.partition
    }

    /// The span of the attempt that begins, which no earlier one has.
    pub(crate) fn attempt(&mut self) -> TraceContext {
        self.process = self.sent.child();
        self.process
    }

    pub(crate) fn context(&self) -> TraceContext {
        self.process
    }
}

impl Spans {
    pub(crate) fn new(config: &ConsumerConfig) -> Self {
        let group = format!("{}{}", config.group.id, config.group_suffix);
        Self { role: config.role, group, topic: config.group.topic.name, again: false }
    }

    /// Of a replay by what is otherwise the work of `role`.
    pub(crate) fn of_replay(role: &'static str, group_id: &str, topic: &'static str) -> Self {
        Self { role, group: group_id.to_owned(), topic, again: true }
    }

    /// One attempt at one record.
    pub(crate) fn attempted(&self, traced: &Traced, times: Times, verdict: &Verdict, writes: &[StoreWrite]) {
        let Some(span) = self.process(traced) else { return };
        let (outcome, reason) = match verdict {
            Verdict::Done => ("done", None),
            Verdict::Skip(reason) => ("skipped", Some(*reason)),
            Verdict::Retry(reason) => ("retried", Some(*reason)),
            Verdict::Wait(reason, _) => ("waiting", Some(*reason)),
            Verdict::Dead(reason) => ("dead", Some(*reason)),
        };
        ended(span, times, outcome, reason);
        self.wrote(traced, writes, None);
    }

    /// A record that has no work for this consumer.
    pub(crate) fn passed_over(&self, record: &Record<'_>, reason: &'static str) {
        if !traces_are_on() {
            return;
        }
        let trace = headers::trace_context(record);
        let traced = if self.again { Traced::anew(record, trace) } else { Traced::of(record, trace) };
        let Some(traced) = traced else { return };
        let (start, end) = (now(), now());
        if let Some(span) = self.process(&traced) {
            ended(span, Times { start, end }, "skipped", Some(reason));
        }
    }

    /// A batch of so many records, these of them traced; the outcomes are by position.
    pub(crate) fn applied(
        &self,
        records: usize,
        traced: &[Traced],
        times: Times,
        writes: &[StoreWrite],
        outcome: impl Fn(Position) -> Option<Outcome>,
    ) {
        if traced.is_empty() {
            return;
        }
        let batch = new_trace();
        if let Some(span) = Span::start(self.role, names::SPAN_BATCH, Kind::Consumer, batch, None) {
            let span =
                self.about_kafka(span).with(names::BATCH_MESSAGE_COUNT, i64::try_from(records).unwrap_or(i64::MAX));
            traced.iter().take(LINKS).fold(span, |span, traced| span.linked(traced.sent)).over(times);
        }
        for traced in traced {
            let Some(span) = self.process(traced) else { continue };
            let (outcome, reason) = match outcome(traced.position) {
                Some(Outcome::Done) => ("done", None),
                Some(Outcome::Skip(reason)) => ("skipped", Some(reason)),
                // its partition was taken away between two attempts
                None => ("given_up", None),
            };
            ended(span.linked(batch), times, outcome, reason);
            self.wrote(traced, writes, Some(batch));
        }
    }

    fn process(&self, traced: &Traced) -> Option<Span> {
        let parent = traced.goes_on.then_some(traced.sent);
        let span = Span::start(self.role, named("process", self.topic), Kind::Consumer, traced.process, parent)?;
        let Position { partition, offset } = traced.position;
        let span = self.about_kafka(span).with(names::MESSAGE_ID, traced.message_id.clone());
        let span = span.with(names::PARTITION, partition.to_string()).with(names::MESSAGING_OFFSET, offset);
        Some(span.linked(traced.sent))
    }

    fn about_kafka(&self, span: Span) -> Span {
        span.with(names::MESSAGING_SYSTEM, "kafka")
            .with(names::MESSAGING_OPERATION, "process")
            .with(names::MESSAGING_DESTINATION, self.topic)
            .with(names::GROUP, self.group.clone())
    }

    fn wrote(&self, traced: &Traced, writes: &[StoreWrite], batch: Option<TraceContext>) {
        for &StoreWrite { name, times } in writes {
            let context = traced.process.child();
            let Some(span) = Span::start(self.role, name, Kind::Client, context, Some(traced.process)) else {
                continue;
            };
            let span = span.with(names::MESSAGE_ID, traced.message_id.clone());
            batch.into_iter().fold(span, Span::linked).over(times);
        }
    }
}

/// Sampled because the records in it are.
fn new_trace() -> TraceContext {
    TraceContext { sampled: true, ..begin_trace(None).unwrap_or_else(TraceContext::root) }
}

fn ended(span: Span, times: Times, outcome: &'static str, reason: Option<&'static str>) {
    let span = span.with(names::OUTCOME, outcome);
    let span = match reason {
        Some(reason) => span.with(names::REASON, reason),
        None => span,
    };
    if matches!(outcome, "retried" | "dead") { span.failed(reason.unwrap_or(outcome)) } else { span }.over(times);
}
