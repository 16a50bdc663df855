//! The spans of events on their way into the log. Their parents may have ended in another process: what the record carries
//! leads back to them.
use headwater_otel::{Span, TraceContext, is_recorded, names, traces_are_on};
use headwater_proto::topics::USER_EVENTS;
use headwater_stream::headers::{CE_ID, sent};

/// One for each record whose trace is recorded, by its headers; they begin now.
pub(super) fn spans<'a, H>(records: impl Iterator<Item = H>) -> Vec<Span>
where
    H: Iterator<Item = (&'a str, &'a [u8])> + Clone,
{
    if traces_are_on() { records.filter_map(span).collect() } else { Vec::new() }
}

fn span<'a>(headers: impl Iterator<Item = (&'a str, &'a [u8])> + Clone) -> Option<Span> {
    let header = |name: &str| headers.clone().find(|(found, _)| *found == name).map(|(_, value)| value);
    let trace = TraceContext::from_header(header(TraceContext::HEADER)?).filter(|trace| is_recorded(*trace))?;
    let id = std::str::from_utf8(header(CE_ID)?).ok()?.parse().ok()?;
    sent(names::SERVICE_INGRESS, USER_EVENTS.name, trace, id)
}
