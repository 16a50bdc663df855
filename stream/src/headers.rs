//! The headers of a record of user.events: CloudEvents in binary mode (SPEC.md, 1; CloudEvents Kafka Protocol
//! Binding 1.0) and W3C trace context.
use std::fmt::{self, Write as _};

use headwater_otel::{Span, TraceContext, names, span::Kind};
use headwater_proto::{Event, EventId};

use crate::{Record, spans};

/// How the value is written.
pub const CONTENT_TYPE: &str = "content-type";
pub const CE_SPEC_VERSION: &str = "ce_specversion";
/// eventId.
pub const CE_ID: &str = "ce_id";
/// Who wrote the event.
pub const CE_SOURCE: &str = "ce_source";
/// The event type.
pub const CE_TYPE: &str = "ce_type";
/// occurredAt.
pub const CE_TIME: &str = "ce_time";
/// receivedAt.
pub const CE_RECORDED_TIME: &str = "ce_recordedtime";
/// userId.
pub const CE_SUBJECT: &str = "ce_subject";
/// userId, the record's key.
pub const CE_PARTITION_KEY: &str = "ce_partitionkey";
pub const CE_DATA_SCHEMA: &str = "ce_dataschema";
/// Of a record that a replay wrote: which one. What it says was told to users when it first happened.
pub const REPLAY_ID: &str = "x-replay-id";

/// The content type of the bare protobuf message.
pub const PROTOBUF: &str = "application/protobuf";
/// The content type of JSON text.
pub const JSON: &str = "application/json";

const SPEC_VERSION: &str = "1.0";
const DATA_SCHEMA: &str = "urn:protobuf:headwater.v1.EventEnvelope";

/// Of a user id, a source and the rest, so that the buffer hardly ever grows.
const USUAL_BYTES: usize = 320;

/// The headers of one event, in one buffer.
#[derive(Debug, Clone)]
pub struct CloudEvent {
    text: String,
    /// Where each header of [`CloudEvent::VARIABLE`] ends in the text.
    ends: [usize; Self::VARIABLE.len()],
}

/// The headers of a record with this event as its value in protobuf. `trace_state` only travels with a trace.
pub fn cloud_event(event: &Event, trace: Option<TraceContext>, trace_state: Option<&str>) -> CloudEvent {
    let mut text = String::with_capacity(USUAL_BYTES);
    let mut ends = [0; CloudEvent::VARIABLE.len()];
    let values: [&dyn fmt::Display; CloudEvent::VARIABLE.len()] = [
        &event.id,
        &event.source,
        &event.event_type,
        &event.occurred_at,
        &event.received_at,
        &event.user_id,
        match &trace {
            Some(trace) => trace,
            None => &"",
        },
        &trace.and(trace_state).unwrap_or_default(),
    ];
    for (end, value) in ends.iter_mut().zip(values) {
        write!(text, "{value}").expect("writing to a string does not fail");
        *end = text.len();
    }
    CloudEvent { text, ends }
}

impl CloudEvent {
    const CONSTANT: [(&str, &str); 3] =
        [(CONTENT_TYPE, PROTOBUF), (CE_SPEC_VERSION, SPEC_VERSION), (CE_DATA_SCHEMA, DATA_SCHEMA)];
    const VARIABLE: [&str; 8] = [
        CE_ID,
        CE_SOURCE,
        CE_TYPE,
        CE_TIME,
        CE_RECORDED_TIME,
        CE_SUBJECT,
        TraceContext::HEADER,
        TraceContext::STATE_HEADER,
    ];

    /// Name and value of each header; those without a value are left out.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &[u8])> + Clone {
        let variable = Self::VARIABLE.into_iter().enumerate().flat_map(|(index, name)| {
            let start = if index == 0 { 0 } else { self.ends[index - 1] };
            let value = &self.text.as_bytes()[start..self.ends[index]];
            // one text for the two headers that hold the user id
            let key = (name == CE_SUBJECT).then_some((CE_PARTITION_KEY, value));
            [Some((name, value)), key].into_iter().flatten()
        });
        let constant = Self::CONSTANT.into_iter().map(|(name, value)| (name, value.as_bytes()));
        constant.chain(variable).filter(|(_, value)| !value.is_empty())
    }
}

/// The span of an event's sending to this topic, which its `traceparent` names; `None` where it is not recorded. Its
/// parent is found by [`TraceContext::across`].
pub fn sent(service: &'static str, topic: &'static str, trace: TraceContext, id: EventId) -> Option<Span> {
    let name = spans::named("send", topic);
    let span = Span::start(service, name, Kind::Producer, trace, Some(trace.across(id.as_bytes())))?;
    let span = span.with(names::MESSAGING_SYSTEM, "kafka").with(names::MESSAGING_OPERATION, "send");
    Some(span.with(names::MESSAGING_DESTINATION, topic).with(names::MESSAGE_ID, id.to_string()))
}

/// How the record says that its value is written.
pub fn content_type<'a>(record: &Record<'a>) -> Option<&'a [u8]> {
    record.headers.get(CONTENT_TYPE)
}

/// The trace that the record belongs to; an invalid one counts as absent.
pub fn trace_context(record: &Record<'_>) -> Option<TraceContext> {
    record.headers.get(TraceContext::HEADER).and_then(TraceContext::from_header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_proto::{EventType, UserId};

    fn login() -> Event {
        Event {
            id: "0190b6c5-6d0e-7c3a-9f0e-1f2d3c4b5a69".parse().unwrap(),
            event_type: EventType::UserLoggedIn,
            user_id: UserId::try_from("ada").unwrap(),
            occurred_at: "2026-01-15T10:30:00Z".parse().unwrap(),
            received_at: "2026-01-15T10:30:01Z".parse().unwrap(),
            email: Some("ada@example.com".into()),
            ip: None,
            user_agent: None,
            session_id: None,
            causation_id: None,
            correlation_id: None,
            source: "/ingress".into(),
            detail: None,
        }
    }

    fn shown(headers: &CloudEvent) -> Vec<(&str, &str)> {
        headers.iter().map(|(name, value)| (name, std::str::from_utf8(value).unwrap())).collect()
    }

    #[test]
    fn an_event_carries_its_cloud_event_attributes_and_its_trace() {
        let trace = TraceContext::root();
        let parent = trace.to_string();
        let expected = [
            ("content-type", "application/protobuf"),
            ("ce_specversion", "1.0"),
            ("ce_dataschema", "urn:protobuf:headwater.v1.EventEnvelope"),
            ("ce_id", "0190b6c5-6d0e-7c3a-9f0e-1f2d3c4b5a69"),
            ("ce_source", "/ingress"),
            ("ce_type", "user.logged_in"),
            ("ce_time", "2026-01-15T10:30:00.000Z"),
            ("ce_recordedtime", "2026-01-15T10:30:01.000Z"),
            ("ce_subject", "ada"),
            ("ce_partitionkey", "ada"),
            ("traceparent", parent.as_str()),
            ("tracestate", "vendor=1"),
        ];
        assert_eq!(shown(&cloud_event(&login(), Some(trace), Some("vendor=1"))), expected);
        assert_eq!(shown(&cloud_event(&login(), Some(trace), None)), expected[..11]);
        assert_eq!(shown(&cloud_event(&login(), None, Some("vendor=1"))), expected[..10], "no state without a trace");
    }
}
