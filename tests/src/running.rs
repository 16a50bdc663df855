//! A whole platform of a test's own.
use std::ops::Deref;

use headwater_cli::{Platform, settings::Settings};
use headwater_documents::testing::TestDatabase;
use headwater_proto::topics;
use headwater_stream::EmbeddedKafka;

use crate::{
    Reached,
    native::{self, Database},
};

/// What a platform stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parts {
    /// Its own broker and stores, inside this process.
    Embedded,
    /// The real parts of [`native`] and of [`TestDatabase`]. The log has what other runs wrote, and this platform derives
    /// documents from all of it: user ids and days of [`Reached::name`] and [`Reached::day`] are nobody else's.
    Native,
}

/// A broker that outlives the platforms on it.
pub struct Broker {
    pub bootstrap: String,
    _embedded: Option<EmbeddedKafka>,
}

impl Broker {
    pub fn of(parts: Parts) -> Self {
        let embedded =
            (parts == Parts::Embedded).then(|| EmbeddedKafka::start(topics::ALL).expect("an embedded broker"));
        let bootstrap = embedded.as_ref().map_or_else(native::kafka, |broker| broker.brokers().to_owned());
        Self { bootstrap, _embedded: embedded }
    }
}

/// The platform in this process, on free ports, with consumer groups and a folder for notifications of its own.
pub struct Running {
    platform: Platform,
    reached: Reached,
    stores: Option<(Database, TestDatabase)>,
}

impl Running {
    pub async fn start() -> Self {
        Self::on(Parts::Embedded).await
    }

    pub async fn on(parts: Parts) -> Self {
        Self::on_with(parts, |_| {}).await
    }

    pub async fn on_with(parts: Parts, change: impl FnOnce(&mut Settings)) -> Self {
        let token = native::token();
        let folder = std::env::temp_dir().join(format!("headwater-{token}"));
        let mut settings = Settings {
            notification_dir: folder.clone(),
            group_suffix: format!("-{token}"),
            ..Settings::default().on_free_ports()
        };
        let stores = match parts {
            Parts::Embedded => None,
            Parts::Native => Some((Database::create().await, TestDatabase::create().await)),
        };
        if let Some((database, documents)) = &stores {
            settings.kafka_brokers = Some(native::kafka());
            settings.database_url = Some(database.url().to_owned().into());
            settings.mongodb_uri = Some(documents.uri.clone().into());
        }
        change(&mut settings);
        let platform = Platform::start(settings).await.expect("the platform starts");
        let reached = Reached {
            addresses: *platform.addresses(),
            kafka: platform.kafka().clone(),
            admins: vec![platform.addresses().admin],
            folder,
            group_suffix: platform.settings().group_suffix.clone(),
            token,
            http: reqwest::Client::new(),
        };
        Self { platform, reached, stores }
    }

    /// Ends it as Ctrl-C would.
    pub async fn stop(self) {
        self.platform.stop().await;
        std::fs::remove_dir_all(self.reached.folder).expect("the notifications of this test");
        if let Some((database, documents)) = self.stores {
            database.wipe().await;
            documents.wipe().await;
        }
    }

    pub fn platform(&self) -> &Platform {
        &self.platform
    }
}

impl Deref for Running {
    type Target = Reached;

    fn deref(&self) -> &Reached {
        &self.reached
    }
}
