//! The digest of a store: the same for every store that was given the same events.
use headwater_documents::{Digest, DigestError, Digester};

use crate::{StoreError, canonical::Kind, store::Store};

/// Of what is stored now. While somebody writes it is the digest of no moment.
pub async fn digest<S: Store>(store: &S) -> Result<Digest, DigestError<StoreError>> {
    let mut digester = Digester::new();
    for kind in Kind::ALL {
        digester.take(kind.name(), store.documents(kind)).await?;
    }
    Ok(digester.finish())
}
