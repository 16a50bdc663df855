//! The one way to a Mongo-protocol server: how to connect, how long a call may take, how it fails, and the few bulk
//! operations from which every adapter is made.
//!
//! The server may be MongoDB or one that only speaks its protocol. What holds on all of them, and what adapters rely
//! on: an insert is atomic by its `_id`, and a write that was answered survives. An update's filter keeps out writers
//! that are stale; two that write within the same moment it may both let through (FerretDB 1.24 reads, changes, then
//! writes by `_id`). So whoever must be the only one inserts.
//!
//! Every operation may be repeated after [`Error::Unavailable`]: the server may have done any part of it, or do it
//! still.
mod bulk;
mod collection;
mod connection;
mod digest;
mod error;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(test)]
mod tests;

pub use bulk::Change;
pub use collection::{Collection, Find, Index};
pub use connection::Documents;
pub use digest::{Canonical, CollectionDigest, Digest, DigestError, Digester, InvalidSum, Sum};
pub use error::{Error, OpenError};
pub use mongodb::bson;

/// Between the parts of an identity. No part has it: control characters are refused at the door.
pub const SEPARATOR: char = '\u{1F}';

/// The `_id` of a document that several parts identify together.
pub fn identity<const N: usize>(parts: [&str; N]) -> String {
    let mut id = String::with_capacity(parts.iter().map(|part| part.len() + 1).sum());
    for (n, part) in parts.iter().enumerate() {
        if n > 0 {
            id.push(SEPARATOR);
        }
        id.push_str(part);
    }
    id
}
