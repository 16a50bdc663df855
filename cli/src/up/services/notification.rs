use headwater_notification::{ChannelConfig, Config, ledger::MemoryLedger, run};
use headwater_proto::topics;

use super::Surroundings;
use crate::{
    Error, Role,
    settings::Settings,
    up::instances::{Birth, Life},
};

#[derive(Clone)]
pub(crate) struct Notification {
    config: Config,
    ledger: MemoryLedger,
}

impl Notification {
    pub(crate) fn open(around: &Surroundings) -> Result<Self, Error> {
        let config = config(&around.settings);
        config.validate().map_err(Error::Usage)?;
        Ok(Self { config, ledger: MemoryLedger::new() })
    }

    pub(crate) fn birth(self, around: Surroundings, instance: String) -> Birth {
        Box::new(move |component, stop| -> Life {
            let (config, ledger, producer) = (self.config.clone(), self.ledger.clone(), around.producer.clone());
            let consumer = around.consumer(topics::NOTIFICATION, Role::Notification, &instance);
            Box::pin(async move {
                let ran = run(&config, ledger, consumer, producer, component, stop).await;
                ran.map_err(|error| Error::service("notification", error))
            })
        })
    }
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
