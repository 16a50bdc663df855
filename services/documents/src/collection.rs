use std::sync::Arc;

use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use mongodb::{
    Cursor, Database, IndexModel,
    bson::{Bson, Document, doc},
};
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;

use crate::{Error, connection::within};

/// Finds by `_id` at once. Below the connections of the pool, of which others need some.
const LOOKUPS: usize = 32;

/// Documents of one kind.
#[derive(Debug)]
pub struct Collection<T: Send + Sync> {
    pub(crate) database: Database,
    pub(crate) documents: mongodb::Collection<T>,
    /// Commands of updates that may be in flight, of all collections of the database.
    pub(crate) updates: Arc<Semaphore>,
}

impl<T: Send + Sync> Clone for Collection<T> {
    fn clone(&self) -> Self {
        let Self { database, documents, updates } = self;
        Self { database: database.clone(), documents: documents.clone(), updates: updates.clone() }
    }
}

/// Which documents to read, in which order. At first all of them, in any.
#[derive(Debug, Clone, Default)]
pub struct Find {
    pub filter: Document,
    /// Fields with 1 or -1; empty: any order.
    pub sort: Document,
    pub limit: Option<usize>,
    /// The fields to read; empty: all.
    pub fields: Document,
}

/// Of an index: fields with 1 or -1, in order.
#[derive(Debug, Clone)]
pub struct Index(pub Document);

impl Index {
    pub(crate) fn model(self) -> IndexModel {
        IndexModel::builder().keys(self.0).build()
    }
}

impl<T: Send + Sync> Collection<T> {
    pub(crate) fn new(database: &Database, updates: &Arc<Semaphore>, name: &str) -> Self {
        Self { database: database.clone(), documents: database.collection(name), updates: updates.clone() }
    }

    pub fn name(&self) -> &str {
        self.documents.name()
    }

    /// The document of this `_id`.
    pub async fn get(&self, id: impl Into<Bson> + Send) -> Result<Option<T>, Error>
    where
        T: DeserializeOwned,
    {
        let filter = doc! { "_id": id.into() };
        within("find", async { self.documents.find_one(filter).await }).await
    }

    /// The documents of these `_id`s, in their order. They are asked for one by one, many at a time: equality is what
    /// every server answers from an index (FerretDB 1.24 answers `$in` by reading the whole collection).
    pub async fn get_each(&self, ids: impl IntoIterator<Item = String> + Send) -> Result<Vec<Option<T>>, Error>
    where
        T: DeserializeOwned,
    {
        let finds: Vec<_> = ids.into_iter().map(|id| self.get(id)).collect();
        stream::iter(finds).buffered(LOOKUPS).try_collect().await
    }

    pub async fn find(&self, find: Find) -> Result<Vec<T>, Error>
    where
        T: DeserializeOwned,
    {
        let Find { filter, sort, limit, fields } = find;
        let read = async {
            let mut found = self.documents.find(filter);
            if !sort.is_empty() {
                found = found.sort(sort);
            }
            if !fields.is_empty() {
                found = found.projection(fields);
            }
            if let Some(limit) = limit {
                found = found.limit(i64::try_from(limit).unwrap_or(i64::MAX));
            }
            found.await?.try_collect().await
        };
        within("find", read).await
    }

    /// Every document, sorted by `_id`: strings in the order of their bytes. Each portion has the time of a call.
    pub fn walk(&self) -> impl Stream<Item = Result<T, Error>> + Send + use<T>
    where
        T: DeserializeOwned + Unpin + Send + 'static,
    {
        const OPERATION: &str = "walk";
        let documents = self.documents.clone();
        let open =
            async move { within(OPERATION, async { documents.find(doc! {}).sort(doc! { "_id": 1 }).await }).await };
        let portions = |cursor: Cursor<T>| {
            stream::try_unfold(cursor, async |mut cursor| {
                let next = within(OPERATION, cursor.try_next()).await?;
                Ok(next.map(|document| (document, cursor)))
            })
        };
        stream::once(open).map_ok(portions).try_flatten()
    }

    /// How many documents match.
    pub async fn count(&self, filter: Document) -> Result<u64, Error> {
        within("count", async { self.documents.count_documents(filter).await }).await
    }

    /// Deletes the documents that match; returns how many those were.
    pub async fn delete(&self, filter: Document) -> Result<u64, Error> {
        within("delete", async { self.documents.delete_many(filter).await.map(|deleted| deleted.deleted_count) }).await
    }
}
