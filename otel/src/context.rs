//! W3C trace context: which trace a piece of work belongs to, as it travels in gRPC metadata and Kafka headers.
use std::{fmt, str::FromStr};

/// A `traceparent` (<https://www.w3.org/TR/trace-context/>). Copied, never allocated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceContext {
    pub trace_id: u128,
    pub span_id: u64,
    pub sampled: bool,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a W3C traceparent")]
pub struct InvalidTraceContext;

impl TraceContext {
    /// The metadata key and header that carries it.
    pub const HEADER: &'static str = "traceparent";
    /// Vendor state that travels beside it, unread.
    pub const STATE_HEADER: &'static str = "tracestate";
    /// Longer vendor state is dropped, as the standard allows: it would travel in every record.
    pub const STATE_MAX_BYTES: usize = 512;

    /// A new sampled trace.
    pub fn root() -> Self {
        Self { trace_id: fastrand::u128(1..), span_id: fastrand::u64(1..), sampled: true }
    }

    /// A new span of the same trace.
    pub fn child(self) -> Self {
        Self { span_id: fastrand::u64(1..), ..self }
    }

    /// From a span to that of the message which it sent, and back: the id of one is the other's, mixed with the message's.
    /// Whoever takes the message out of the outbox, perhaps another process, so knows the parent of what it does.
    pub fn across(self, message_id: &[u8; 16]) -> Self {
        let id = u128::from_be_bytes(*message_id);
        Self { span_id: self.span_id ^ (id as u64).rotate_left(32) ^ (id >> 64) as u64, ..self }
    }

    /// From a header's value; anything invalid counts as absent, as the standard says.
    pub fn from_header(value: &[u8]) -> Option<Self> {
        std::str::from_utf8(value).ok()?.parse().ok()
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, u8::from(self.sampled))
    }
}

impl FromStr for TraceContext {
    type Err = InvalidTraceContext;

    /// Takes any version but ff, as the standard says: what a later version appends is ignored.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.trim_ascii().split('-');
        let version = hex(parts.next(), 2)?;
        let trace_id = hex(parts.next(), 32)?;
        let span_id = hex(parts.next(), 16)? as u64;
        let flags = hex(parts.next(), 2)?;
        let longer = parts.next().is_some();
        if version == 0xff || trace_id == 0 || span_id == 0 || (version == 0 && longer) {
            return Err(InvalidTraceContext);
        }
        Ok(Self { trace_id, span_id, sampled: flags & 1 == 1 })
    }
}

fn hex(part: Option<&str>, digits: usize) -> Result<u128, InvalidTraceContext> {
    let part = part.filter(|p| p.len() == digits).ok_or(InvalidTraceContext)?;
    let lower = part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if lower { u128::from_str_radix(part, 16).map_err(|_| InvalidTraceContext) } else { Err(InvalidTraceContext) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_read_as_it_is_written() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(text.parse::<TraceContext>().unwrap().to_string(), text);
        let root = TraceContext::root();
        assert_eq!(root.to_string().parse(), Ok(root));
        assert_eq!(root.child().trace_id, root.trace_id);
    }

    #[test]
    fn a_message_leads_back_to_what_sent_it() {
        let (call, message) = (TraceContext::root(), 0x0190_b6c5_6d0e_7c3a_9f0e_1f2d_3c4b_5a69_u128.to_be_bytes());
        let sent = call.across(&message);
        assert_ne!(sent.span_id, call.span_id);
        assert_ne!(sent, call.across(&message.map(|byte| !byte.rotate_left(3))), "each message has a span of its own");
        assert_eq!(sent.across(&message), call);
    }

    #[test]
    fn a_broken_traceparent_counts_as_absent() {
        for text in [
            "",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        ] {
            assert_eq!(TraceContext::from_header(text.as_bytes()), None, "{text}");
        }
        assert!(TraceContext::from_header(b"01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more").is_some());
    }
}
