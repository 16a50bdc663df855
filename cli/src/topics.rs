//! `headwater topics apply`: create what is missing, change nothing else.
use clap::Subcommand;
use headwater_stream::{Applied, apply_topics};

use crate::{Error, print::print, roles, settings::Settings, up};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Create the topics that are missing.
    Apply,
}

pub(crate) async fn run(verb: Verb, settings: &Settings) -> Result<(), Error> {
    match verb {
        Verb::Apply => apply(settings).await,
    }
}

async fn apply(settings: &Settings) -> Result<(), Error> {
    let Some(kafka) = roles::kafka(settings) else {
        return Err(Error::Usage("KAFKA_BROKERS is not set: `headwater topics apply` needs it".to_owned()));
    };
    let applied = apply_topics(&kafka, &up::topics(settings)).await?;
    let mut text = String::new();
    for (topic, applied) in applied {
        let became = match applied {
            Applied::Created => "created",
            Applied::Existed => "existed",
        };
        text.push_str(&format!("{became}  {} ({} partitions)\n", topic.name, topic.partitions));
    }
    print("the topics", text)
}
