//! How we see: logs, metrics, readiness and the trace context.

mod context;
pub mod names;
mod readiness;

pub use context::{InvalidTraceContext, TraceContext};
pub use readiness::{Component, Readiness};
