//! A whole platform of this test's own, in this process.
use std::ops::Deref;

use headwater_cli::{Platform, settings::Settings};
use headwater_proto::EventId;
use headwater_stream::{Clock, SystemClock};

use crate::Reached;

/// The platform in this process, on free ports, with a folder of its own for notifications.
pub struct Running {
    platform: Platform,
    reached: Reached,
}

impl Running {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub async fn start_with(change: impl FnOnce(&mut Settings)) -> Self {
        let folder = std::env::temp_dir().join(format!("headwater-{}", EventId::new(SystemClock.now())));
        let mut settings = Settings { notification_dir: folder.clone(), ..Settings::default() }.on_free_ports();
        change(&mut settings);
        let platform = Platform::start(settings).await.expect("the platform starts");
        let reached = Reached {
            addresses: *platform.addresses(),
            kafka: platform.kafka().clone(),
            admins: vec![platform.addresses().admin],
            notifications: folder,
            http: reqwest::Client::new(),
        };
        Self { platform, reached }
    }

    /// Ends it as Ctrl-C would.
    pub async fn stop(self) {
        self.platform.stop().await;
        std::fs::remove_dir_all(self.reached.notifications).expect("the notifications of this test");
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
