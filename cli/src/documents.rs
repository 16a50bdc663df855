//! The configured document store, opened in one way and its failures told alike by every verb.
use headwater_documents::{Documents, OpenError};

use crate::{Error, settings::Secret};

/// The server that `uri` names.
pub(crate) async fn open(uri: &Secret) -> Result<Documents, Error> {
    Documents::open(uri.expose()).await.map_err(|error| match error {
        OpenError::Uri => Error::Usage(error.to_string()),
        OpenError::Unreachable { .. } => Error::unreachable("no document store", error),
    })
}

/// Why the documents of `who` cannot be used, although their server answered when it was opened.
pub(crate) fn refused(who: &'static str) -> impl Fn(headwater_documents::Error) -> Error {
    move |error| match error {
        headwater_documents::Error::Unavailable { .. } => Error::unreachable(format!("the documents of {who}"), error),
        headwater_documents::Error::Refused { .. } => Error::service(format!("the documents of {who}"), error),
    }
}
