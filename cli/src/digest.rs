//! `headwater digest <analytics|fraud>`: one number for what the live collections say.
use crate::{
    Error, Target,
    derived::{Derived, Told},
    documents,
    live::Live,
    print::print,
    settings::Settings,
};

/// Of the documents on the configured server, else of those that the running platform has in memory.
pub(crate) async fn run(of: Derived, settings: &Settings) -> Result<(), Error> {
    let digest = match &settings.mongodb_uri {
        Some(uri) => of.digest(&documents::open(uri).await?, "").await?,
        None => Live::ask(of, &Target::find(settings)?).await?.digest,
    };
    print("the digest", Told(of, &digest))
}
