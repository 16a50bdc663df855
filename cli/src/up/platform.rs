use std::{sync::Arc, time::Duration};

use headwater_otel::Readiness;
use headwater_stream::{EmbeddedKafka, KafkaConfig, Patience, Producer, apply_topics};
use tokio::{
    sync::mpsc,
    task::{JoinHandle, spawn_blocking},
    time::timeout,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    Addresses, Change, Instances, admin,
    services::{self, Services, Surroundings, documents},
};
use crate::{
    Error, Role, Target,
    ports::Ports,
    roles,
    settings::{RateLimit, Settings},
    target::Broker,
};

/// How long a start may take. The embedded parts need a few seconds, a real broker at most a rebalance.
const READY: Duration = Duration::from_secs(60);
/// For what has no work of its own left at the end.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The services of one process, their parts and their ports.
///
/// Tests start it as the binary does: with [`Settings::on_free_ports`] any number of platforms run side by side.
/// ```no_run
/// # async fn example() -> Result<(), headwater_cli::Error> {
/// let platform = headwater_cli::Platform::start(headwater_cli::settings::Settings::default().on_free_ports()).await?;
/// println!("{}", platform.addresses().ingress);
/// platform.stop().await;
/// # Ok(()) }
/// ```
pub struct Platform {
    settings: Arc<Settings>,
    addresses: Addresses,
    kafka: KafkaConfig,
    embedded: Option<EmbeddedKafka>,
    services: Box<Services>,
    readiness: Readiness,
    instances: Arc<Instances>,
    failed: mpsc::UnboundedReceiver<Error>,
    admin: JoinHandle<Result<(), Error>>,
    /// Ends the admin port, also when the platform is dropped.
    shutdown: DropGuard,
}

impl Platform {
    /// Every role, with an embedded part wherever none is configured. Returns when all of it is ready.
    pub async fn start(settings: Settings) -> Result<Self, Error> {
        Self::begin(settings, &Role::ALL, Role::instances_in_up, true).await
    }

    /// One instance of each of these roles.
    pub(crate) async fn serve(settings: Settings, roles: &[Role]) -> Result<Self, Error> {
        Self::begin(settings, roles, |_| 1, false).await
    }

    async fn begin(settings: Settings, roles: &[Role], count: fn(Role) -> u32, up: bool) -> Result<Self, Error> {
        roles::require_log_of_documents(&settings)?;
        let metrics = headwater_otel::init(&settings.telemetry())?;
        let ports = Ports::bind(&settings, roles).await?;
        let settings = Arc::new(settings);

        let documents = documents(&settings, roles).await?;
        let topics = services::topics(&settings);
        let (kafka, embedded) = match roles::kafka(&settings) {
            Some(kafka) => (kafka, None),
            None => {
                let created = topics.clone();
                let started = spawn_blocking(move || EmbeddedKafka::start(&created)).await;
                let embedded = started.map_err(|error| Error::service("the embedded broker", error))??;
                (embedded.config(), Some(embedded))
            }
        };
        apply_topics(&kafka, &topics).await?;

        let readiness = Readiness::default();
        let (mut instances, failed) = Instances::new(readiness.clone());
        let around = Surroundings {
            settings: settings.clone(),
            kafka: kafka.clone(),
            producer: Producer::open(&kafka, Patience::Waiting)?,
            readiness: readiness.clone(),
            rate_limit: settings.rate_limit.map(|RateLimit(per_second)| headwater_rpc::RateLimit::new(per_second)),
        };
        let services = Box::new(Services::open(around, documents, roles).await?);
        for &role in roles {
            for number in 1..=count(role) {
                let instance = if up { number.to_string() } else { settings.instance_name() };
                let name = format!("{}-{instance}", role.name());
                if let Some(birth) = services.birth(role, instance, &ports) {
                    instances.add(role, number, name, birth);
                }
            }
        }
        let instances = Arc::new(instances);
        let shutdown = CancellationToken::new();
        let (listener, documents) = (ports.admin.listen().await?, services.live_documents());
        // before anybody is answered: nothing to wait for means ready
        instances.change_all(Change::Start).await;
        let admin = admin::serve(listener, metrics, readiness.clone(), instances.clone(), documents, shutdown.clone());
        let mut platform = Self {
            addresses: ports.addresses(),
            kafka,
            embedded,
            services,
            readiness,
            instances,
            failed,
            admin: tokio::spawn(admin),
            shutdown: shutdown.drop_guard(),
            settings,
        };
        match platform.until_ready().await {
            Ok(()) => Ok(platform),
            Err(error) => {
                platform.stop().await;
                Err(error)
            }
        }
    }

    async fn until_ready(&mut self) -> Result<(), Error> {
        tokio::select! {
            () = self.readiness.all_ready() => Ok(()),
            error = failed(&mut self.failed) => Err(error),
            () = tokio::time::sleep(READY) => {
                let waiting = self.readiness.waiting();
                let waiting = waiting.iter().map(|(name, reason)| format!("{name}: {reason}")).collect::<Vec<_>>();
                Err(Error::NotReady { seconds: READY.as_secs(), waiting: waiting.join(", ") })
            }
        }
    }

    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// The broker's addresses, for clients outside this process too.
    pub fn bootstrap(&self) -> &str {
        &self.kafka.brokers
    }

    /// How this process reaches its broker: readers and writers of tests and tools.
    pub fn kafka(&self) -> &KafkaConfig {
        &self.kafka
    }

    pub fn is_embedded(&self) -> bool {
        self.embedded.is_some()
    }

    /// For tools that drive or verify it.
    pub fn target(&self) -> Target {
        let kafka = Broker { bootstrap: self.bootstrap().to_owned(), embedded: self.is_embedded() };
        Target::new(Some(std::process::id()), kafka, self.addresses, &self.settings)
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    pub fn instances(&self) -> &Instances {
        &self.instances
    }

    /// Returns when an instance has failed; for as long as none does, never.
    pub async fn failed(&mut self) -> Error {
        failed(&mut self.failed).await
    }

    /// Not ready, accept nothing more, finish what is in flight, then let go of the parts.
    pub async fn stop(self) {
        let stopping = self.readiness.component("shutdown");
        stopping.not_ready("stopping");
        self.instances.change_all(Change::Stop).await;
        drop(self.shutdown);
        let cut = self.admin.abort_handle();
        match timeout(LAST_WORDS, self.admin).await {
            Ok(Ok(Err(error))) => tracing::error!(error = error.story(), "the admin port failed"),
            Ok(_) => {}
            Err(_) => cut.abort(),
        }
        self.services.close(LAST_WORDS).await;
        if let Some(embedded) = self.embedded {
            // waits for the broker's threads
            let _ = spawn_blocking(move || drop(embedded)).await;
        }
    }
}

async fn failed(failures: &mut mpsc::UnboundedReceiver<Error>) -> Error {
    match failures.recv().await {
        Some(error) => error,
        None => std::future::pending().await,
    }
}
