//! From a request onto the topic.
use std::sync::Arc;

use headwater_otel::{TraceContext, names};
use headwater_proto::{Encoding, EventId};
use headwater_stream::{Clock, OutboundRecord, Producer, SendError, headers};

use crate::{event::ActivityEvent, request::Wanted};

/// Clones share one producer.
#[derive(Clone)]
pub(crate) struct Publisher {
    pub(crate) producer: Producer,
    pub(crate) topic: &'static str,
    pub(crate) encoding: Encoding,
    pub(crate) clock: Arc<dyn Clock>,
}

/// The event is not in the log, or nobody knows whether it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unpublished {
    #[error(transparent)]
    Producer(#[from] headwater_stream::Error),
    #[error(transparent)]
    Record(#[from] SendError),
}

impl Publisher {
    /// Returns when the log has it. `call` is the span of the request.
    pub(crate) async fn publish(&self, wanted: Wanted, call: Option<TraceContext>) -> Result<EventId, Unpublished> {
        let timestamp = self.clock.now();
        let Wanted { user_id, event_type, payload } = wanted;
        let event = ActivityEvent { id: EventId::new(timestamp), user_id, event_type, timestamp, payload };
        let (content_type, value) = event.encode(self.encoding);
        let (id, at) = (event.id.to_string(), timestamp.to_string());
        let trace = call.map(|call| call.across(event.id.as_bytes()));
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
        for report in self.producer.enqueue([record]).await?.await {
            report?;
        }
        if let Some(span) = span {
            span.end();
        }
        Ok(event.id)
    }
}
