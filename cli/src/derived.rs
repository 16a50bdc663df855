//! The services whose documents are a function of the log: what `digest` and `replay` need of each.
use std::fmt;

use clap::ValueEnum;
use headwater_documents::{Digest, DigestError, Documents};
use headwater_proto::topics::{self, Group};

use crate::{Error, documents::refused};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Derived {
    Analytics,
    Fraud,
}

impl Derived {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Analytics => "analytics",
            Self::Fraud => "fraud",
        }
    }

    pub(crate) const fn group(self) -> Group {
        match self {
            Self::Analytics => topics::ANALYTICS,
            Self::Fraud => topics::FRAUD,
        }
    }

    /// Of its collections whose names end with `suffix`; those of the live service end with nothing.
    pub(crate) async fn digest(self, documents: &Documents, suffix: &str) -> Result<Digest, Error> {
        match self {
            Self::Analytics => {
                let store = headwater_analytics::MongoStore::open_beside(documents, suffix).await;
                taken(headwater_analytics::digest(&store.map_err(refused(self.name()))?).await)
            }
            Self::Fraud => {
                let store = headwater_fraud::MongoStore::open_beside(documents, suffix).await;
                taken(headwater_fraud::digest(&store.map_err(refused(self.name()))?).await)
            }
        }
    }
}

pub(crate) fn taken<E>(digest: Result<Digest, DigestError<E>>) -> Result<Digest, Error>
where
    E: std::error::Error + Send + Sync + 'static,
{
    digest.map_err(|error| Error::service("the digest", error))
}

/// A digest as it is printed: a line for each collection, and one for all of them.
pub(crate) struct Told<'a>(pub(crate) Derived, pub(crate) &'a Digest);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(of, digest) = self;
        for collection in &digest.collections {
            writeln!(f, "{:<20} {:>10}  {}", collection.name, collection.documents, collection.sum)?;
        }
        writeln!(f, "digest of {:<21}  {}", of.name(), digest.whole)
    }
}
