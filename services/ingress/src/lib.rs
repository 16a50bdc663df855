//! The ingress: gRPC -> validate -> commit with outbox -> relay. An answer means that the event is committed.

mod action;
mod digest;
mod error;
mod fields;
mod outbox;
mod users;
mod validate;

pub use error::{Error, StoreError};
