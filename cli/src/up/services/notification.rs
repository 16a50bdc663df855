use headwater_documents::Documents;
use headwater_notification::{
    ChannelConfig, Config,
    ledger::{Ledger, MemoryLedger, MongoLedger},
    run,
};
use headwater_proto::topics;

use super::Surroundings;
use crate::{
    Error, Role,
    documents::refused,
    settings::Settings,
    up::instances::{Birth, Life},
};

#[derive(Clone)]
pub(crate) struct Notification {
    config: Config,
    ledger: Shared,
}

#[derive(Clone)]
enum Shared {
    Memory(MemoryLedger),
    Mongo(MongoLedger),
}

impl Notification {
    pub(crate) async fn open(around: &Surroundings, documents: Option<&Documents>) -> Result<Self, Error> {
        let config = config(&around.settings);
        config.validate().map_err(Error::Usage)?;
        let ledger = match documents {
            Some(documents) => Shared::Mongo(MongoLedger::open(documents).await.map_err(refused("notification"))?),
            None => Shared::Memory(MemoryLedger::new()),
        };
        Ok(Self { config, ledger })
    }

    pub(crate) fn birth(self, around: Surroundings, instance: String) -> Birth {
        match self.ledger {
            Shared::Memory(ledger) => birth(self.config, ledger, around, instance),
            Shared::Mongo(ledger) => birth(self.config, ledger, around, instance),
        }
    }
}

fn birth<L: Ledger>(config: Config, ledger: L, around: Surroundings, instance: String) -> Birth {
    Box::new(move |component, stop| -> Life {
        let (config, ledger, producer) = (config.clone(), ledger.clone(), around.producer.clone());
        let consumer = around.consumer(topics::NOTIFICATION, Role::Notification, &instance);
        Box::pin(async move {
            let ran = run(&config, ledger, consumer, producer, component, stop).await;
            ran.map_err(|error| Error::service("notification", error))
        })
    })
}

fn config(settings: &Settings) -> Config {
    let channel = match &settings.notification_webhook {
        Some(url) => ChannelConfig::Webhook { url: url.expose().to_owned() },
        None => ChannelConfig::File { folder: settings.notification_dir.clone() },
    };
    Config {
        channel,
        login_warning_threshold: settings.notify_login_warning_threshold,
        fail_rate: settings.notify_fail_rate,
    }
}
