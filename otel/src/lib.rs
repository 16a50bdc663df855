//! How we see: logs, metrics, readiness and traces.

mod admin;
mod calls;
mod context;
mod describe;
mod logs;
pub mod names;
mod readiness;
mod sampler;
#[cfg(test)]
mod shown;
pub mod span;
mod telemetry;
mod traces;
mod work;

pub use admin::admin_routes;
pub use calls::{OpenCall, message_of};
pub use context::{InvalidTraceContext, TraceContext};
pub use logs::log_together;
pub use readiness::{Component, Readiness};
pub use sampler::{Sampler, UnknownSampler};
pub use span::Span;
pub use telemetry::{Error, Metrics, TelemetryConfig, check_log_filter, init};
pub use traces::{TracesConfig, begin as begin_trace, flush_traces, is_recorded, traces_are_on};
pub use work::{StoreWrite, store_write, with_store_writes};
