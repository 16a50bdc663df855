//! The door every service opens: one port that speaks gRPC and, for the same unary RPCs, Connect/JSON over HTTP.
//!
//! A service builds [`Services`], [`serve`] does the rest: limits, deadlines, load shedding, health, reflection, drain.
//! What a refusal looks like is decided here too, once: [`Reason`] -> gRPC code -> HTTP status.

mod call_span;
mod connect;
mod door;
mod error;
mod health;
mod json;
mod page;
mod rate;
mod refusal;
mod routes;
mod server;
mod services;
mod trace;
mod violations;

pub use error::Error;
pub use page::{PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX, next_page_token, page_size, page_token};
pub use rate::RateLimit;
pub use refusal::{DOMAIN, Reason, refuse, refuse_for_now};
pub use routes::{limited, serve_routes, traced};
pub use server::{ServerConfig, serve};
pub use services::Services;
pub use trace::{trace_in, trace_of};
pub use violations::Violations;

/// The largest request and the largest answer, in bytes, in either protocol. Whoever builds a tonic server sets it:
/// `Server::new(api).max_decoding_message_size(MAX_MESSAGE_BYTES)`; a larger request is then OUT_OF_RANGE.
pub const MAX_MESSAGE_BYTES: usize = 1024 * 1024;
