//! Events -> the bytes that travel: each is encoded once, here, and copied from then on.
use headwater_proto::v1::EventEnvelope;
use headwater_stream::headers::cloud_event;
use prost::Message;

use crate::{
    outbox::{PackedRow, Packer},
    users::decide::NewEvent,
};

/// One row per partition, the events in their order; the record of each is a new span of its action's trace.
pub(crate) fn pack(events: Vec<NewEvent>) -> Vec<PackedRow> {
    let mut packer = Packer::new();
    let mut value = Vec::new();
    for NewEvent { event, trace, trace_state } in events {
        let headers = cloud_event(&event, Some(trace.across(event.id.as_bytes())), trace_state.as_deref());
        let headers: Vec<(&str, &[u8])> = headers.iter().collect();
        let (key, timestamp) = (event.user_id.clone(), event.received_at.as_millis());
        value.clear();
        EventEnvelope::from(event).encode(&mut value).expect("a vector grows as needed");
        packer.push(key.as_bytes(), &value, timestamp, &headers);
    }
    packer.finish()
}
