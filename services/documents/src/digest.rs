//! One number for everything that the collections of a store say: two stores with the same digest hold the same
//! documents. Pure: no server.
use std::{fmt, pin::pin, str::FromStr};

use futures::{Stream, TryStreamExt as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};

/// A document in the form of which the digest is taken, the same for every store: what it says, without processing
/// state. Its JSON has its fields in a fixed order.
pub trait Canonical {
    /// Its `_id`.
    fn id(&self) -> String;

    fn canonical(&self) -> impl Serialize;
}

/// SHA-256 over the canonical documents of every collection, sorted by `_id`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    pub whole: Sum,
    pub collections: Vec<CollectionDigest>,
}

/// What one collection adds: where two digests differ, this tells where to look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectionDigest {
    pub name: String,
    pub documents: u64,
    pub sum: Sum,
}

/// Shown and read in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Sum([u8; 32]);

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not the 64 hexadecimal digits of a SHA-256")]
pub struct InvalidSum;

impl FromStr for Sum {
    type Err = InvalidSum;

    fn from_str(text: &str) -> Result<Self, InvalidSum> {
        let digits =
            text.bytes().map(|digit| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok()));
        let digits: [u8; 64] =
            digits.collect::<Option<Vec<_>>>().and_then(|digits| digits.try_into().ok()).ok_or(InvalidSum)?;
        Ok(Self(std::array::from_fn(|place| digits[2 * place] << 4 | digits[2 * place + 1])))
    }
}

impl Serialize for Sum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Sum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// Why a store has no digest.
#[derive(Debug, thiserror::Error)]
pub enum DigestError<E> {
    #[error(transparent)]
    Store(E),
    #[error("the documents of {collection} are not sorted by _id, or one came twice: did somebody write meanwhile?")]
    Order { collection: &'static str },
    #[error("a document of {collection} cannot be written as JSON")]
    Form {
        collection: &'static str,
        #[source]
        source: serde_json::Error,
    },
}

/// Takes a digest, collection by collection; their order is part of it.
#[derive(Debug, Default)]
pub struct Digester {
    whole: Sha256,
    collections: Vec<CollectionDigest>,
}

impl Digester {
    pub fn new() -> Self {
        Self::default()
    }

    /// Of every document of the collection, by `_id`: in the order of its bytes, which is that of BSON too.
    pub async fn take<D: Canonical, E>(
        &mut self,
        name: &'static str,
        documents: impl Stream<Item = Result<D, E>>,
    ) -> Result<(), DigestError<E>> {
        let (mut sum, mut count, mut last) = (Sha256::new(), 0, None);
        self.whole.update(line(&name, name)?);
        let mut documents = pin!(documents);
        while let Some(document) = documents.try_next().await.map_err(DigestError::Store)? {
            let id = document.id();
            if last.as_ref().is_some_and(|last| *last >= id) {
                return Err(DigestError::Order { collection: name });
            }
            last = Some(id);
            let line = line(&document.canonical(), name)?;
            sum.update(&line);
            self.whole.update(&line);
            count += 1;
        }
        let name = name.to_owned();
        self.collections.push(CollectionDigest { name, documents: count, sum: Sum(sum.finalize().into()) });
        Ok(())
    }

    pub fn finish(self) -> Digest {
        Digest { whole: Sum(self.whole.finalize().into()), collections: self.collections }
    }
}

/// JSON has no line end in it, so no two lists of lines read the same.
fn line<E>(form: &impl Serialize, collection: &'static str) -> Result<Vec<u8>, DigestError<E>> {
    let mut line = serde_json::to_vec(form).map_err(|source| DigestError::Form { collection, source })?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    struct Fact(&'static str, i32);

    impl Canonical for Fact {
        fn id(&self) -> String {
            self.0.to_owned()
        }

        fn canonical(&self) -> impl Serialize {
            (self.0, self.1)
        }
    }

    async fn digest(collections: &[(&'static str, &[(&'static str, i32)])]) -> Result<Digest, DigestError<()>> {
        let mut digester = Digester::new();
        for (name, facts) in collections {
            digester.take(name, stream::iter(facts.iter().map(|&(id, n)| Ok(Fact(id, n))))).await?;
        }
        Ok(digester.finish())
    }

    #[tokio::test]
    async fn a_digest_is_sha_256_over_lines_of_json_and_tells_every_difference() {
        let one = digest(&[("facts", &[("a", 1), ("b", 2)]), ("more", &[])]).await.unwrap();
        // printf '"facts"\n["a",1]\n["b",2]\n"more"\n' | sha256sum
        let whole = "c90a68b21cc0965451b6795cb9ee96bd7855903074c60995eeae38345f0f90e5";
        assert_eq!(one.whole.to_string(), whole);
        assert_eq!(
            one.collections.iter().map(|c| (c.name.as_str(), c.documents)).collect::<Vec<_>>(),
            [("facts", 2), ("more", 0)]
        );
        for other in [
            &[("facts", &[("a", 1), ("b", 3)][..]), ("more", &[])][..],
            &[("facts", &[("a", 1)]), ("more", &[("b", 2)])],
            &[("facts", &[("a", 1), ("b", 2)])],
            &[("facts", &[("a", 1), ("b", 2), ("c", 0)]), ("more", &[])],
        ] {
            assert_ne!(digest(other).await.unwrap().whole, one.whole, "{other:?}");
        }
        let sent = serde_json::to_string(&one).unwrap();
        assert!(sent.contains(whole), "{sent}");
        assert_eq!(serde_json::from_str::<Digest>(&sent).unwrap(), one);
        for text in [&whole[1..], &format!("{whole}0"), &whole.replace('c', "x"), ""] {
            assert_eq!(text.parse::<Sum>(), Err(InvalidSum), "{text}");
        }
    }

    #[tokio::test]
    async fn documents_out_of_order_or_repeated_have_no_digest() {
        for facts in [&[("b", 1), ("a", 2)][..], &[("a", 1), ("a", 1)]] {
            assert!(matches!(digest(&[("facts", facts)]).await, Err(DigestError::Order { collection: "facts" })));
        }
    }
}
