//! The verdict as an event of its own on user.events.
use std::future::Future;

use headwater_otel::{
    Span, TraceContext, names,
    span::{Times, now},
};
use headwater_proto::{Detail, Event, Millis, topics, v1::EventEnvelope};
use headwater_stream::{
    OutboundRecord, Producer, SendError, Unavailable,
    headers::{self, sent},
};
use prost::Message;

use crate::decide::Announcement;

/// What this service writes into `source`, and by which it knows its own events again.
pub const SOURCE: &str = "/fraud";

/// An event on its way to the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Emitted {
    pub event: Event,
    /// Of its sending: [`TraceContext::across`] leads back to the processing of its trigger.
    pub trace: Option<TraceContext>,
    pub trace_state: Option<Box<str>>,
}

/// The announcing event. `now` is only told; it decides nothing. Never before the trigger was received: a clock that is
/// behind must not make the event look as if it came from the future.
pub(crate) fn verdict_event(announcement: Announcement, trigger: &Event, now: Millis) -> Event {
    let Announcement { report, email } = announcement;
    Event {
        id: report.id,
        event_type: report.level.event_type(),
        user_id: report.user_id,
        occurred_at: report.decided_at,
        received_at: now.max(trigger.received_at),
        email: email.map(|address| address.to_string()),
        ip: None,
        user_agent: None,
        session_id: None,
        causation_id: Some(report.trigger),
        correlation_id: trigger.correlation_id.clone(),
        source: SOURCE.to_owned(),
        detail: Some(Detail::Verdict(report.verdict)),
    }
}

/// Where verdicts go.
pub trait Announcer: Send + Sync + 'static {
    /// In their order; `Ok` when each is in the log. May be asked again for the same ones.
    fn announce(&self, verdicts: &[Emitted]) -> impl Future<Output = Result<(), Unavailable>> + Send;
}

impl Announcer for Producer {
    async fn announce(&self, verdicts: &[Emitted]) -> Result<(), Unavailable> {
        let prepared: Vec<_> = verdicts.iter().map(Prepared::from).collect();
        let headers = prepared.iter().map(|verdict| verdict.headers.iter().map(|(name, value)| (name, Some(value))));
        let headers: Vec<Vec<_>> = headers.map(Iterator::collect).collect();
        let records: Vec<_> = prepared
            .iter()
            .zip(&headers)
            .map(|(verdict, headers)| OutboundRecord {
                topic: topics::USER_EVENTS.name,
                key: verdict.key,
                value: Some(&verdict.value),
                headers,
                timestamp: Some(verdict.timestamp),
                partition: None,
            })
            .collect();
        let start = now();
        let reports = self.enqueue(records).await.map_err(unavailable)?.await;
        let times = Times { start, end: now() };
        verdicts.iter().filter_map(sending).for_each(|span| span.over(times));
        let delivered: Result<Vec<_>, SendError> = reports.into_iter().collect();
        delivered.map(drop).map_err(unavailable)
    }
}

/// Where its trace is recorded.
fn sending(Emitted { event, trace, .. }: &Emitted) -> Option<Span> {
    sent(names::SERVICE_FRAUD, topics::USER_EVENTS.name, (*trace)?, event.id)
}

/// Of a replay: the verdicts are in the log since they were first announced.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Announcer for Silent {
    async fn announce(&self, _verdicts: &[Emitted]) -> Result<(), Unavailable> {
        Ok(())
    }
}

struct Prepared<'a> {
    key: &'a [u8],
    value: Vec<u8>,
    headers: headers::CloudEvent,
    timestamp: i64,
}

impl<'a> From<&'a Emitted> for Prepared<'a> {
    fn from(Emitted { event, trace, trace_state }: &'a Emitted) -> Self {
        Self {
            key: event.user_id.as_bytes(),
            value: EventEnvelope::from(event.clone()).encode_to_vec(),
            headers: headers::cloud_event(event, *trace, trace_state.as_deref()),
            timestamp: event.received_at.as_millis(),
        }
    }
}

fn unavailable(error: impl std::error::Error + Send + Sync + 'static) -> Unavailable {
    Unavailable { dependency: "kafka", source: error.into() }
}
