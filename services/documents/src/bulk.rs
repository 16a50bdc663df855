//! Many documents in few commands, and few commands at once: a server works the documents of one command off one after
//! the other.
use futures::future::try_join_all;
use mongodb::{
    bson::{Document, RawArrayBuf, RawDocumentBuf, doc, rawdoc, serialize_to_document, serialize_to_raw_document_buf},
    error::ErrorKind,
};
use serde::Serialize;

use crate::{Collection, Error, connection::within, error::DUPLICATE_KEY};

/// Commands into which a bulk of inserts is cut, and below how many documents it is not worth it.
const INSERTS: usize = 4;
const MIN_INSERT: usize = 100;
/// The same of updates.
const UPDATES: usize = 8;
const MIN_UPDATE: usize = 10;
/// Of one command of updates: below the 16 MiB that a command may have, with room for its frame.
const COMMAND_BYTES: usize = 8 << 20;
const COMMAND_CHANGES: usize = 1_000;
/// For errors.
const UPDATE: &str = "update";

/// One write of a bulk, to the document that `filter` matches; the filter names its `_id`.
#[derive(Debug, Clone)]
pub struct Change {
    filter: RawDocumentBuf,
    update: RawDocumentBuf,
}

impl Change {
    /// `update` is made of operators: `$set`, `$min`, `$max`, `$addToSet`, ...
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

impl<T: Send + Sync> Collection<T> {
    /// Inserts each document whose `_id` is not there yet and leaves the others as they are. Returns the places of
    /// those others, in order. Of several that come with the same `_id` at once, from here or elsewhere, one wins.
    pub async fn insert_new(&self, documents: &[T]) -> Result<Vec<usize>, Error>
    where
        T: Serialize,
    {
        let size = documents.len().div_ceil(INSERTS).max(MIN_INSERT);
        let inserts = documents.chunks(size).enumerate().map(async |(number, command)| {
            let there = self.insert(command).await?;
            Ok::<_, Error>(there.into_iter().map(move |place| number * size + place))
        });
        Ok(try_join_all(inserts).await?.into_iter().flatten().collect())
    }

    /// Inserts the document; false where its `_id` is there already.
    pub async fn insert_one_new(&self, document: T) -> Result<bool, Error>
    where
        T: Serialize,
    {
        Ok(self.insert_new(std::slice::from_ref(&document)).await?.is_empty())
    }

    async fn insert(&self, documents: &[T]) -> Result<Vec<usize>, Error>
    where
        T: Serialize,
    {
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

    /// Writes each change where its filter matches, and nothing where none does; no two may be of one document. Returns
    /// the places of those that may have met nothing, in order: a server tells how many changes of a command met their
    /// document and not which, so where some did not, all of that command are returned.
    pub async fn update(&self, changes: &[Change]) -> Result<Vec<usize>, Error> {
        let mut first = 0;
        let commands = commands(changes).map(|command| {
            let places = first..first + command.len();
            first = places.end;
            async move { Ok::<_, Error>(if self.change(command).await? == command.len() { 0..0 } else { places }) }
        });
        Ok(try_join_all(commands).await?.into_iter().flatten().collect())
    }

    /// One command; how many of it met their document. The driver's own bulk write wants a MongoDB 8. Each update is a
    /// `multi` one, although it meets one document: otherwise FerretDB 1.24 keeps a connection to its PostgreSQL for
    /// each until the whole command is done, and some thirty of them wait for each other until somebody hangs up. For
    /// the same reason few are in flight.
    async fn change(&self, changes: &[Change]) -> Result<usize, Error> {
        let mut updates = RawArrayBuf::new();
        for Change { filter, update } in changes {
            updates.push(rawdoc! { "q": filter.clone(), "u": update.clone(), "multi": true });
        }
        let command = rawdoc! {
            "update": self.documents.name(),
            "updates": updates,
            "ordered": false,
            "writeConcern": { "w": "majority", "j": true },
        };
        let _turn = self.updates.acquire().await;
        let answer = within(UPDATE, async { self.database.run_raw_command(command).await }).await?;
        met(&answer)
    }
}

/// What the answer to a command of updates says.
fn met(answer: &Document) -> Result<usize, Error> {
    if let Some(error) = answer.get_array("writeErrors").into_iter().flatten().next() {
        let error = error.as_document();
        let code = error.and_then(|error| error.get_i32("code").ok()).unwrap_or_default();
        let name = error.and_then(|error| error.get_str("codeName").ok()).unwrap_or_default();
        return Err(Error::coded(UPDATE, code, name));
    }
    if answer.contains_key("writeConcernError") {
        return Err(Error::not_durable(UPDATE));
    }
    Ok(usize::try_from(answer.get_i32("n").unwrap_or_default()).unwrap_or_default())
}

/// As many changes together as a command takes, and no fewer commands than may as well run at once.
fn commands(changes: &[Change]) -> impl Iterator<Item = &[Change]> {
    let size = changes.len().div_ceil(UPDATES).clamp(MIN_UPDATE, COMMAND_CHANGES);
    let mut rest = changes;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = rest.iter().take(size).take_while(|change| {
            bytes += change.bytes();
            bytes <= COMMAND_BYTES
        });
        let (command, after) = rest.split_at(fits.count().max(1).min(rest.len()));
        rest = after;
        (!command.is_empty()).then_some(command)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bulk_is_cut_by_number_and_by_size_and_never_loses_one() {
        let change = |bytes: usize| Change::new(doc! {}, &doc! { "_id": 1, "text": "x".repeat(bytes) }).unwrap();
        let lengths = |changes: &[Change]| commands(changes).map(<[Change]>::len).collect::<Vec<_>>();
        assert_eq!(lengths(&[]), [0; 0]);
        assert_eq!(lengths(&vec![change(1); 12]), [10, 2]);
        assert_eq!(lengths(&vec![change(1); 401]), [51, 51, 51, 51, 51, 51, 51, 44]);
        assert_eq!(lengths(&vec![change(1); 8_001]), [1_000, 1_000, 1_000, 1_000, 1_000, 1_000, 1_000, 1_000, 1]);
        assert_eq!(lengths(&vec![change(3 << 20); 5]), [2, 2, 1]);
        assert_eq!(lengths(&vec![change(9 << 20); 2]), [1, 1]);
    }
}
