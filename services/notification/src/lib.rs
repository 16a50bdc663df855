//! Tells users what happened to their accounts: user.events -> rule -> claim -> channel -> mark.
pub mod channel;
mod complaints;
mod config;
pub mod decide;
pub mod faults;
mod handler;
pub mod ledger;
mod outage;

#[cfg(test)]
mod testing;

use std::{io, path::PathBuf, sync::Arc};

use headwater_otel::Component;
use headwater_proto::topics;
use headwater_stream::{ConsumerConfig, Producer, SystemClock, run_events};
use tokio_util::sync::CancellationToken;

pub use config::{ChannelConfig, Config};

use channel::{Channel, FileChannel, WebhookChannel};
use complaints::Complaints;
use config::{Checked, CheckedChannel};
use handler::Handler;
use ledger::Ledger;
use outage::Outage;

const ROLE: &str = "notification";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Config(String),
    #[error("could not open a notification file in {}; set HEADWATER_NOTIFICATION_DIR to a folder that can be written", folder.display())]
    File {
        folder: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("could not make the webhook's http client")]
    Webhook(#[source] reqwest::Error),
    #[error("the notification consumer ended")]
    Stream(#[from] headwater_stream::Error),
}

/// One instance, until `shutdown`. Every instance of the group must be given the same ledger. Of the consumer's settings
/// the group, the role and the positions are set here; its instance names the file and stands in every letter.
pub async fn run<L: Ledger>(
    config: &Config,
    ledger: L,
    consumer: ConsumerConfig,
    dead_letters: Producer,
    readiness: Component,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let rules = config.checked().map_err(Error::Config)?;
    let instance = consumer.instance.clone();
    // what was told is no function of the log: on a broker that outlives the ledger the group's commit remembers it
    let positions = ledger.positions().filter(|_| consumer.kafka.is_embedded());
    let consumer = ConsumerConfig { group: topics::NOTIFICATION, role: ROLE, positions, ..consumer };
    let ledger_readiness = readiness.part("ledger");
    ledger_readiness.ready();
    match &rules.channel {
        CheckedChannel::File(folder) => {
            let channel = FileChannel::open(folder, &instance, SystemClock)
                .map_err(|source| Error::File { folder: folder.clone(), source })?;
            let handler = handler(channel, ledger, ledger_readiness, &rules, &shutdown);
            run_events(consumer, handler, dead_letters, readiness, shutdown).await?;
        }
        CheckedChannel::Webhook(url) => {
            let channel = WebhookChannel::new(url.clone(), &instance, SystemClock).map_err(Error::Webhook)?;
            let handler = handler(channel, ledger, ledger_readiness, &rules, &shutdown);
            run_events(consumer, handler, dead_letters, readiness, shutdown).await?;
        }
    }
    Ok(())
}

fn handler<N: Channel, L: Ledger>(
    channel: N,
    ledger: L,
    ledger_readiness: Component,
    rules: &Checked,
    shutdown: &CancellationToken,
) -> Arc<Handler<N, L, SystemClock>> {
    Arc::new(Handler {
        channel,
        ledger,
        ledger_readiness,
        clock: SystemClock,
        warning_threshold: rules.warning_threshold,
        fail_rate: rules.fail_rate,
        shutdown: shutdown.clone(),
        complaints: Complaints::new(),
        outage: Outage::default(),
    })
}
