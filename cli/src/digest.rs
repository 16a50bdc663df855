//! `headwater digest <analytics|fraud>`: one number for what the live collections say.
use std::io::Write as _;

use crate::{
    Error,
    derived::{Derived, Told},
    documents,
    settings::Settings,
};

pub(crate) async fn run(of: Derived, settings: &Settings) -> Result<(), Error> {
    let Some(uri) = &settings.mongodb_uri else {
        return Err(Error::Usage(
            "MONGODB_URI is not set: documents in memory can only be reached in their own process; set it, or see what \
             the log comes to by `headwater replay`"
                .to_owned(),
        ));
    };
    let digest = of.digest(&documents::open(uri).await?, "").await?;
    let written = write!(std::io::stdout(), "{}", Told(of, &digest));
    written.map_err(|source| Error::Io { what: "cannot print the digest".to_owned(), source })
}
