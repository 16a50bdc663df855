/// Why the ingress could not be opened, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the ingress configuration is invalid: {0}")]
    Config(String),
    #[error("the ingress store cannot be opened")]
    Store(#[from] StoreError),
    #[error("the stream part of the ingress failed")]
    Stream(#[from] headwater_stream::Error),
    #[error("a worker of the ingress panicked; the logs say where")]
    Worker(#[source] tokio::task::JoinError),
    #[error("a worker of the ingress ended by itself; it must run until shutdown")]
    Ended,
}

type Source = Box<dyn std::error::Error + Send + Sync>;

/// How a store fails. Nothing of the transaction is there after `Data`; after `Unavailable` all of it may be.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be reached, or a commit's end is not known: the caller repeats with the same ids.
    #[error("the store of users is unavailable")]
    Unavailable(#[source] Source),
    /// It refuses what one of the requests says: splitting the group finds the guilty one.
    #[error("the store of users refuses a value")]
    Data(#[source] Source),
}

impl StoreError {
    pub fn unavailable(source: impl Into<Source>) -> Self {
        Self::Unavailable(source.into())
    }

    pub fn data(source: impl Into<Source>) -> Self {
        Self::Data(source.into())
    }
}
