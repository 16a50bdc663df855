//! From a request onto the topic.
use std::sync::Arc;

use headwater_otel::{TraceContext, message_of, names};
use headwater_proto::{Encoding, EventId};
use headwater_stream::{Clock, Error, OutboundRecord, Producer, headers};
use tracing::warn;

use crate::{event::ActivityEvent, request::Wanted};

/// What clients are told.
pub(crate) const UNPUBLISHED: &str = "Failed to publish event";

/// Clones share one producer.
#[derive(Clone)]
pub(crate) struct Publisher {
    pub(crate) producer: Producer,
    pub(crate) topic: &'static str,
    pub(crate) encoding: Encoding,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Publisher {
    /// Returns when the log has it; an error, which the operator is told here, means that it has not or that nobody knows.
    /// `call` is the span of the request.
    pub(crate) async fn publish(&self, wanted: Wanted, call: Option<TraceContext>) -> Result<EventId, Error> {
        let timestamp = self.clock.now();
        let Wanted { user_id, event_type, payload } = wanted;
        let event = ActivityEvent { id: EventId::new(timestamp), user_id, event_type, timestamp, payload };
        let (content_type, value) = event.encode(self.encoding);
        let (id, at) = (event.id.text(), timestamp.text());
        let trace = call.map(|call| {
            message_of(call, event.id);
            call.across(event.id.as_bytes())
        });
        let parent = trace.map(|trace| trace.to_string());
        let mut headers: Vec<(&str, Option<&[u8]>)> = vec![
            ("eventType", Some(event_type.as_bytes())),
            ("timestamp", Some(at.as_bytes())),
            (headers::CONTENT_TYPE, Some(content_type.as_bytes())),
            (headers::CE_ID, Some(id.as_bytes())),
        ];
        headers.extend(parent.as_ref().map(|parent| (TraceContext::HEADER, Some(parent.as_bytes()))));
        let span = trace.and_then(|trace| headers::sent(names::SERVICE_ACTIVITY, self.topic, trace, event.id));
        let record = OutboundRecord {
            topic: self.topic,
            key: event.user_id.as_bytes(),
            value: Some(&value),
            headers: &headers,
            timestamp: Some(timestamp.as_millis()),
            partition: None,
        };
        let sent = self.producer.send(record).await;
        sent.inspect_err(|error| {
            warn!(error = error as &(dyn std::error::Error + 'static), "an event was not published")
        })?;
        if let Some(span) = span {
            span.end();
        }
        Ok(event.id)
    }
}
