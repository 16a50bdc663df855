use headwater_otel::TraceContext;
use http::HeaderMap;
use tonic::metadata::MetadataMap;

/// The context in `traceparent`: behind the door that of the request's own span, where it has one, else its caller's.
pub fn trace_in(headers: &HeaderMap) -> Option<TraceContext> {
    TraceContext::from_header(headers.get(TraceContext::HEADER)?.as_bytes())
}

/// The trace this request belongs to: the caller's `traceparent` and `tracestate`, else a new root.
pub fn trace_of(metadata: &MetadataMap) -> (TraceContext, Option<String>) {
    let Some(caller) = trace_in(metadata.as_ref()) else { return (TraceContext::root(), None) };
    let state = metadata.get(TraceContext::STATE_HEADER).and_then(|v| v.to_str().ok());
    (caller, state.filter(|s| !s.is_empty() && s.len() <= TraceContext::STATE_MAX_BYTES).map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_callers_trace_goes_on_and_without_one_a_new_trace_begins() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let mut metadata = MetadataMap::new();
        metadata.insert("tracestate", "vendor=1".parse().unwrap());
        assert_eq!(trace_of(&metadata).1, None, "state without a trace means nothing");
        metadata.insert("traceparent", text.parse().unwrap());
        let (trace, state) = trace_of(&metadata);
        assert_eq!((trace.to_string().as_str(), state.as_deref()), (text, Some("vendor=1")));
        metadata.insert("traceparent", "nonsense".parse().unwrap());
        assert!(trace_of(&metadata).0.sampled);
    }
}
