//! How we see: logs, metrics, readiness and the trace context.

mod admin;
mod context;
mod describe;
pub mod names;
mod readiness;
#[cfg(test)]
mod shown;
mod telemetry;

pub use admin::admin_routes;
pub use context::{InvalidTraceContext, TraceContext};
pub use readiness::{Component, Readiness};
pub use telemetry::{Error, Metrics, TelemetryConfig, check_log_filter, init};
