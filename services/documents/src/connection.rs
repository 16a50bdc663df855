use std::{future::Future, sync::Arc, time::Duration};

use mongodb::{
    Client, Database,
    bson::doc,
    options::{Acknowledgment, ClientOptions, ConnectionString, WriteConcern},
};
use tokio::{sync::Semaphore, time::timeout};

use crate::{Collection, Error, Index, OpenError};

/// Where the URI names no database.
const DATABASE: &str = "headwater";
const MAX_POOL: u32 = 64;
/// Commands of updates in flight.
const UPDATES: usize = 4;
/// For a TCP connection, TLS included.
const CONNECT: Duration = Duration::from_secs(5);
/// For a server that takes calls, while none is known.
const SELECTION: Duration = Duration::from_secs(5);
/// Of any call; the driver sets none on its sockets, so a server that stops answering would hold a caller for ever.
pub(crate) const CALL: Duration = Duration::from_secs(15);

/// A database. Clones share its connections.
#[derive(Debug, Clone)]
pub struct Documents {
    database: Database,
    updates: Arc<Semaphore>,
}

impl Documents {
    /// Whether [`open`](Self::open) would know where to connect. Of an address in DNS (`mongodb+srv`) only the form is
    /// looked at.
    pub fn understands(uri: &str) -> bool {
        ConnectionString::parse(uri).is_ok_and(|parsed| parsed.default_database.is_none_or(|name| !name.is_empty()))
    }

    /// Connects, and returns when the server has answered. The database is the URI's path, else `headwater`. Writes
    /// are acknowledged by a majority and from the journal, whatever the URI says.
    pub async fn open(uri: &str) -> Result<Self, OpenError> {
        let database = ConnectionString::parse(uri).map_err(|_| OpenError::Uri)?.default_database;
        Self::open_database(uri, &database.unwrap_or_else(|| DATABASE.to_owned())).await
    }

    /// The same on a database of this name.
    pub async fn open_database(uri: &str, name: &str) -> Result<Self, OpenError> {
        let unreachable = |source| OpenError::Unreachable { address: address(uri), source };
        let parsed = within("its address", async { Ok(ClientOptions::parse(uri).await) }).await.map_err(unreachable)?;
        let mut options = parsed.map_err(|error| match &*error.kind {
            mongodb::error::ErrorKind::DnsResolve { .. } => unreachable(Error::of("its address", &error)),
            _ => OpenError::Uri,
        })?;
        options.app_name.get_or_insert_with(|| "headwater".to_owned());
        options.max_pool_size = Some(MAX_POOL);
        options.connect_timeout = Some(CONNECT);
        options.server_selection_timeout = Some(SELECTION);
        options.write_concern = Some(WriteConcern::builder().w(Acknowledgment::Majority).journal(true).build());
        let client = Client::with_options(options).map_err(|_| OpenError::Uri)?;
        let documents = Self { database: client.database(name), updates: Arc::new(Semaphore::new(UPDATES)) };
        documents.ping().await.map_err(unreachable)?;
        Ok(documents)
    }

    pub fn collection<T: Send + Sync>(&self, name: &str) -> Collection<T> {
        Collection::new(&self.database, &self.updates, name)
    }

    /// Makes the indexes of a collection where they are missing. One by one: FerretDB 1.24 hangs up on a command with
    /// several that are there.
    pub async fn ensure_indexes(
        &self,
        collection: &str,
        indexes: impl IntoIterator<Item = Index>,
    ) -> Result<(), Error> {
        let collection = self.database.collection::<mongodb::bson::Document>(collection);
        for index in indexes {
            within("create_indexes", async { collection.create_index(index.model()).await.map(drop) }).await?;
        }
        Ok(())
    }

    /// Whether the server answers.
    pub async fn ping(&self) -> Result<(), Error> {
        within("ping", async { self.database.run_command(doc! { "ping": 1 }).await.map(drop) }).await
    }

    /// Drops the collections whose names end with `suffix`, and returns these names.
    pub async fn drop_collections(&self, suffix: &str) -> Result<Vec<String>, Error> {
        let mut names = within("list_collections", async { self.database.list_collection_names().await }).await?;
        names.retain(|name| name.ends_with(suffix));
        for name in &names {
            let collection = self.database.collection::<mongodb::bson::Document>(name);
            within("drop_collection", async { collection.drop().await }).await?;
        }
        Ok(names)
    }

    /// With all that is in it.
    pub async fn drop_database(&self) -> Result<(), Error> {
        within("drop_database", async { self.database.drop().await }).await
    }
}

/// Hosts and ports of a URI, without what is secret in it.
fn address(uri: &str) -> String {
    let rest = uri.split_once("://").map_or(uri, |(_, rest)| rest);
    let hosts = rest.split(['/', '?']).next().unwrap_or_default();
    hosts.rsplit_once('@').map_or(hosts, |(_, hosts)| hosts).to_owned()
}

/// A call of the driver, for [`CALL`] at most.
pub(crate) async fn within<T>(
    operation: &'static str,
    call: impl Future<Output = mongodb::error::Result<T>>,
) -> Result<T, Error> {
    match timeout(CALL, call).await {
        Ok(done) => done.map_err(|error| Error::of(operation, &error)),
        Err(_) => Err(Error::late(operation, CALL)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_told_without_its_secret() {
        for (uri, told) in [
            ("mongodb://ada:hunter2@db:27017/headwater?w=1", "db:27017"),
            ("mongodb://a:1,b:2", "a:1,b:2"),
            ("mongodb+srv://ada:hunter2@cluster.example.org/", "cluster.example.org"),
        ] {
            assert!(Documents::understands(uri), "{uri}");
            assert_eq!(address(uri), told);
        }
        for uri in ["", "postgres://db", "db:27017", "mongodb://ada:p@ss@db:x"] {
            assert!(!Documents::understands(uri), "{uri}");
        }
    }
}
