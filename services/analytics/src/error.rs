//! What can go wrong in analytics: a dependency is away, or the configuration is wrong. Bad records are not errors.

/// Of a store: it is away or did not answer in time. Trying again is always safe.
#[derive(Debug, thiserror::Error)]
#[error("the {operation} of the analytics store did not complete")]
pub struct StoreError {
    /// The port's operation, like `insert_events`.
    pub operation: &'static str,
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Why the service could not start or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Config(String),
    #[error("the consumer of the analytics service stopped")]
    Stream(#[from] headwater_stream::Error),
}
