//! Spans of finished work. Their contexts are made before the work begins, since they travel in headers, some of them
//! through the outbox into another process; so a span is told as a whole, once it is over, and not by a guard that lives as
//! long as the work.
use std::{borrow::Cow, time::SystemTime};

use opentelemetry::{
    InstrumentationScope, KeyValue, SpanId, TraceFlags, TraceId, Value,
    trace::{Link, SpanContext, SpanKind, Status, TraceState},
};
use opentelemetry_sdk::trace::{SpanData, SpanLinks};

use crate::{TraceContext, traces};

/// As OpenTelemetry has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Client,
    Server,
    Producer,
    Consumer,
    Internal,
}

/// From when to when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    pub start: SystemTime,
    pub end: SystemTime,
}

/// A piece of work on its way to the collector. Dropped without [`Span::end`] it never was.
#[derive(Debug)]
pub struct Span {
    service: &'static str,
    data: Box<SpanData>,
}

impl Span {
    /// A span that begins now. `None` where it would go nowhere: traces are off, or this one is not sampled.
    pub fn start(
        service: &'static str,
        name: impl Into<Cow<'static, str>>,
        kind: Kind,
        context: TraceContext,
        parent: Option<TraceContext>,
    ) -> Option<Self> {
        traces::is_recorded(context).then(|| {
            let start_time = now();
            let data = SpanData {
                span_context: exported(context),
                parent_span_id: parent.map_or(SpanId::INVALID, |parent| SpanId::from(parent.span_id)),
                parent_span_is_remote: false,
                span_kind: kind.into(),
                name: name.into(),
                start_time,
                end_time: start_time,
                attributes: Vec::new(),
                dropped_attributes_count: 0,
                events: Default::default(),
                links: SpanLinks::default(),
                status: Status::Unset,
                instrumentation_scope: InstrumentationScope::builder("headwater").build(),
            };
            Self { service, data: Box::new(data) }
        })
    }

    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.data.attributes.push(KeyValue::new(name, value));
        self
    }

    /// To work that led to this one and is not its parent.
    #[must_use]
    pub fn linked(mut self, to: TraceContext) -> Self {
        self.data.links.links.push(Link::with_context(exported(to)));
        self
    }

    /// The work failed, for a reason of a closed set.
    #[must_use]
    pub fn failed(mut self, reason: &'static str) -> Self {
        self.data.status = Status::error(reason);
        self
    }

    /// The work ends now.
    pub fn end(self) {
        let end = now();
        self.end_at(end);
    }

    pub fn end_at(mut self, end: SystemTime) {
        self.data.end_time = end;
        traces::export(self.service, *self.data);
    }

    /// The work was done in this time.
    pub fn over(mut self, times: Times) {
        self.data.start_time = times.start;
        self.end_at(times.end);
    }
}

/// Of spans and lines of the log only: they are shown and decide nothing.
#[allow(clippy::disallowed_methods)]
pub fn now() -> SystemTime {
    SystemTime::now()
}

fn exported(context: TraceContext) -> SpanContext {
    let flags = if context.sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
    let (trace, span) = (TraceId::from(context.trace_id), SpanId::from(context.span_id));
    SpanContext::new(trace, span, flags, true, TraceState::NONE)
}

impl From<Kind> for SpanKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Client => Self::Client,
            Kind::Server => Self::Server,
            Kind::Producer => Self::Producer,
            Kind::Consumer => Self::Consumer,
            Kind::Internal => Self::Internal,
        }
    }
}
