//! The api as a client meets it, on SQLite, without a log.
mod accounts;
mod idempotency;
mod laws;
mod record_actions;
mod whole;
