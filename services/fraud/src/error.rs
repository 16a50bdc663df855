//! What can go wrong in the fraud service: a dependency is away, or the configuration is wrong. Bad records are not
//! errors.
use std::{io, path::PathBuf};

use crate::rules::InvalidRules;

/// Of a store: it is away or did not answer in time. Trying again is always safe.
#[derive(Debug, thiserror::Error)]
#[error("the {operation} of the fraud store did not complete")]
pub struct StoreError {
    /// The port's operation, like `save`.
    pub operation: &'static str,
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Why the service could not start or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("could not read the fraud rules in {}", path.display())]
    ReadRules {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the fraud rules in {} are not valid", path.display())]
    InvalidRules {
        path: PathBuf,
        #[source]
        source: InvalidRules,
    },
    #[error("the consumer of the fraud service stopped")]
    Stream(#[from] headwater_stream::Error),
}
