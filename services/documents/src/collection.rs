use std::sync::Arc;

use futures::TryStreamExt as _;
use mongodb::{
    Database, IndexModel,
    bson::{
        Bson, Document, RawArrayBuf, RawDocumentBuf, doc, rawdoc, serialize_to_document, serialize_to_raw_document_buf,
    },
    error::ErrorKind,
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::Semaphore;

use crate::{Error, connection::within, error::DUPLICATE_KEY};

/// Of one command: below the 16 MiB that a command may have, with room for its frame.
const COMMAND_BYTES: usize = 8 << 20;
const COMMAND_CHANGES: usize = 1_000;
/// For errors.
const UPDATE: &str = "update";
/// How often upserts that clash with somebody else's are tried anew.
const CLASHES: usize = 10;

/// Documents of one kind.
#[derive(Debug)]
pub struct Collection<T: Send + Sync> {
    database: Database,
    documents: mongodb::Collection<T>,
    /// Commands of updates that may be in flight, of all collections of the database.
    updates: Arc<Semaphore>,
}

impl<T: Send + Sync> Clone for Collection<T> {
    fn clone(&self) -> Self {
        let Self { database, documents, updates } = self;
        Self { database: database.clone(), documents: documents.clone(), updates: updates.clone() }
    }
}

/// One write of a bulk, to the document that `filter` matches; the filter names its `_id`.
#[derive(Debug, Clone)]
pub struct Change {
    filter: RawDocumentBuf,
    update: RawDocumentBuf,
}

impl Change {
    /// `update` is made of operators: `$set`, `$setOnInsert`, `$min`, `$max`, `$addToSet`, ...
    pub fn new(filter: Document, update: &impl Serialize) -> Result<Self, Error> {
        let unreadable = |error| Error::unreadable(UPDATE, &error);
        let filter = RawDocumentBuf::try_from(&filter).map_err(unreadable)?;
        Ok(Self { filter, update: serialize_to_raw_document_buf(update).map_err(unreadable)? })
    }

    /// Sets every field of `document` except its `_id`. So it takes the place of the old one if all of its kind have the
    /// same fields, empty ones included.
    pub fn set(filter: Document, document: &impl Serialize) -> Result<Self, Error> {
        let fields = serialize_to_document(document).map_err(|error| Error::unreadable(UPDATE, &error))?;
        let fields: Document = fields.into_iter().filter(|(name, _)| name != "_id").collect();
        Self::new(filter, &doc! { "$set": fields })
    }

    fn bytes(&self) -> usize {
        self.filter.as_bytes().len() + self.update.as_bytes().len()
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

    /// Inserts each document whose `_id` is not there yet and leaves the others as they are. Returns the places of
    /// those others, in order. Of several that come with the same `_id` at once, from here or elsewhere, one wins.
    pub async fn insert_new(&self, documents: &[T]) -> Result<Vec<usize>, Error>
    where
        T: Serialize,
    {
        if documents.is_empty() {
            return Ok(Vec::new());
        }
        let insert = async {
            match self.documents.insert_many(documents).ordered(false).await {
                Ok(_) => Ok(Vec::new()),
                Err(error) => match &*error.kind {
                    ErrorKind::InsertMany(many) if many.write_concern_error.is_none() => {
                        let refused = many.write_errors.iter().flatten();
                        if refused.clone().any(|error| error.code != DUPLICATE_KEY) {
                            return Err(error);
                        }
                        let mut refused: Vec<usize> = refused.map(|error| error.index).collect();
                        refused.sort_unstable();
                        Ok(refused)
                    }
                    _ => Err(error),
                },
            }
        };
        within("insert", insert).await
    }

    /// Inserts the document; false where its `_id` is there already.
    pub async fn insert_one_new(&self, document: T) -> Result<bool, Error>
    where
        T: Serialize,
    {
        Ok(self.insert_new(std::slice::from_ref(&document)).await?.is_empty())
    }

    /// Writes each change where its filter matches, and makes the document where none does. Each must come to the same
    /// however often it is written (`$setOnInsert`, `$min`, `$max`, `$addToSet`, `$set`): where one clashes with
    /// somebody else's, its whole chunk is written anew.
    pub async fn upsert(&self, changes: &[Change]) -> Result<(), Error> {
        for chunk in chunks(changes) {
            let mut clashes = 0;
            while let Some(clash) = self.write(chunk, true).await?.clash {
                clashes += 1;
                if clashes > CLASHES {
                    return Err(clash);
                }
            }
        }
        Ok(())
    }

    /// Writes each change where its filter matches, and nothing where none does. Returns how many matched.
    pub async fn update(&self, changes: &[Change]) -> Result<usize, Error> {
        let mut matched = 0;
        for chunk in chunks(changes) {
            let written = self.write(chunk, false).await?;
            if let Some(clash) = written.clash {
                return Err(clash);
            }
            matched += written.matched;
        }
        Ok(matched)
    }

    /// The document of this `_id`.
    pub async fn get(&self, id: impl Into<Bson> + Send) -> Result<Option<T>, Error>
    where
        T: DeserializeOwned,
    {
        let filter = doc! { "_id": id.into() };
        within("find", async { self.documents.find_one(filter).await }).await
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

    /// How many documents match.
    pub async fn count(&self, filter: Document) -> Result<u64, Error> {
        within("count", async { self.documents.count_documents(filter).await }).await
    }

    /// Deletes the documents that match; returns how many those were.
    pub async fn delete(&self, filter: Document) -> Result<u64, Error> {
        within("delete", async { self.documents.delete_many(filter).await.map(|deleted| deleted.deleted_count) }).await
    }

    /// One command. The driver's own bulk write wants a MongoDB 8. Each update is a `multi` one, although it meets one
    /// document: otherwise FerretDB 1.24 keeps a connection to its PostgreSQL for each until the whole command is done,
    /// and some thirty of them wait for each other until somebody hangs up. For the same reason few are in flight.
    async fn write(&self, changes: &[Change], upsert: bool) -> Result<Written, Error> {
        let mut updates = RawArrayBuf::new();
        for Change { filter, update } in changes {
            updates.push(rawdoc! { "q": filter.clone(), "u": update.clone(), "upsert": upsert, "multi": true });
        }
        let command = rawdoc! {
            "update": self.documents.name(),
            "updates": updates,
            "ordered": false,
            "writeConcern": { "w": "majority", "j": true },
        };
        let _turn = self.updates.acquire().await;
        let answer = within(UPDATE, async { self.database.run_raw_command(command).await }).await?;
        Written::read(&answer)
    }
}

/// What came of an `update` command.
struct Written {
    matched: usize,
    /// Somebody else made the document that this one was about to make.
    clash: Option<Error>,
}

impl Written {
    fn read(answer: &Document) -> Result<Self, Error> {
        let mut clash = None;
        for error in answer.get_array("writeErrors").into_iter().flatten() {
            let error = error.as_document();
            let code = error.and_then(|error| error.get_i32("code").ok()).unwrap_or_default();
            let name = error.and_then(|error| error.get_str("codeName").ok()).unwrap_or_default();
            let refused = Error::coded(UPDATE, code, name);
            if code != DUPLICATE_KEY {
                return Err(refused);
            }
            let cause = "others write the same documents all the time".to_owned();
            clash = Some(Error::Unavailable { operation: UPDATE, cause });
        }
        if answer.contains_key("writeConcernError") {
            return Err(Error::not_durable(UPDATE));
        }
        let matched = usize::try_from(answer.get_i32("n").unwrap_or_default()).unwrap_or_default();
        Ok(Self { matched, clash })
    }
}

/// As many changes together as a command takes.
fn chunks(changes: &[Change]) -> impl Iterator<Item = &[Change]> {
    let mut rest = changes;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = rest.iter().take(COMMAND_CHANGES).take_while(|change| {
            bytes += change.bytes();
            bytes <= COMMAND_BYTES
        });
        let (chunk, after) = rest.split_at(fits.count().max(1).min(rest.len()));
        rest = after;
        (!chunk.is_empty()).then_some(chunk)
    })
}

#[cfg(test)]
mod chunk_tests {
    use super::*;

    #[test]
    fn a_bulk_is_cut_by_number_and_by_size_and_never_loses_one() {
        let change = |bytes: usize| Change::new(doc! {}, &doc! { "_id": 1, "text": "x".repeat(bytes) }).unwrap();
        let lengths = |changes: &[Change]| chunks(changes).map(<[Change]>::len).collect::<Vec<_>>();
        assert_eq!(lengths(&[]), [0; 0]);
        assert_eq!(lengths(&vec![change(1); 2_001]), [1_000, 1_000, 1]);
        assert_eq!(lengths(&vec![change(3 << 20); 5]), [2, 2, 1]);
        assert_eq!(lengths(&vec![change(9 << 20); 2]), [1, 1]);
    }
}
