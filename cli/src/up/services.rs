//! The services over their stores: one mount and one life per role. Stores outlive the instances that use them.
use std::{future::Future, sync::Arc};

use headwater_notification::{ChannelConfig, ledger::MemoryLedger};
use headwater_otel::Readiness;
use headwater_proto::topics;
use headwater_rpc::ServerConfig;
use headwater_stream::{ConsumerConfig, KafkaConfig, Producer, SystemClock};
use tokio_util::sync::CancellationToken;

use super::{
    instances::{Birth, Life},
    platform::Ports,
};
use crate::{Error, Role, ports::Port, settings::Settings};

/// What an instance gets beside its own service's parts.
#[derive(Clone)]
struct Surroundings {
    settings: Arc<Settings>,
    kafka: KafkaConfig,
    dead_letters: Producer,
    readiness: Readiness,
}

pub(crate) struct Services {
    around: Surroundings,
    analytics: Analytics,
    ledger: MemoryLedger,
}

#[derive(Clone)]
struct Analytics {
    config: headwater_analytics::Config,
    store: headwater_analytics::MemoryStore,
    api: headwater_analytics::Api<headwater_analytics::MemoryStore>,
}

impl Services {
    /// Opens the stores. Every configuration is checked here, before anything runs.
    pub(crate) async fn open(
        settings: Arc<Settings>,
        kafka: KafkaConfig,
        dead_letters: Producer,
        readiness: Readiness,
    ) -> Result<Self, Error> {
        let around = Surroundings { settings, kafka, dead_letters, readiness };
        Ok(Self { analytics: Analytics::open(&around)?, ledger: MemoryLedger::new(), around })
    }

    /// What the http port serves: each of these roles' RPCs.
    pub(crate) fn mount_all(&self, roles: &[Role]) -> headwater_rpc::Services {
        roles.iter().fold(headwater_rpc::Services::new(), |services, role| match role {
            Role::Analytics => headwater_analytics::mount(services, self.analytics.api.clone()),
            Role::Ingress | Role::Fraud => services,
            Role::Notification => services,
        })
    }

    /// One instance of `role`, named `instance` in its group.
    pub(crate) fn birth(&self, role: Role, instance: String, ports: &Ports) -> Birth {
        match role {
            Role::Analytics => self.analytics.clone().birth(self.around.clone(), instance, ports.analytics.clone()),
            Role::Notification => notification(self.around.clone(), self.ledger.clone(), instance),
            Role::Ingress | Role::Fraud => Box::new(|component, stop| {
                Box::pin(async move {
                    component.ready();
                    stop.cancelled().await;
                    Ok(())
                })
            }),
        }
    }
}

impl Surroundings {
    fn server(&self) -> ServerConfig {
        ServerConfig { reflection: self.settings.reflection, ..ServerConfig::default() }
    }

    fn consumer(&self, group: topics::Group, role: Role, instance: &str) -> ConsumerConfig {
        ConsumerConfig {
            group_suffix: self.settings.group_suffix.clone(),
            ..ConsumerConfig::new(self.kafka.clone(), group, role.name(), instance)
        }
    }

    /// A service behind its port: both until `stop`, and neither without the other.
    async fn behind_port<E>(
        &self,
        role: Role,
        port: &Port,
        services: headwater_rpc::Services,
        stop: CancellationToken,
        run: impl Future<Output = Result<(), E>>,
    ) -> Result<(), Error>
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        let serve = async {
            let _ends_the_other = stop.clone().drop_guard();
            let listener = port.listen().await?;
            let readiness = self.readiness.of(role.name());
            let served = headwater_rpc::serve(listener, services, self.server(), readiness, stop.clone()).await;
            served.map_err(|error| Error::service(format!("the port of {}", role.name()), error))
        };
        let run = async {
            let _ends_the_other = stop.clone().drop_guard();
            run.await.map_err(|error| Error::service(role.name(), error))
        };
        let (served, ran) = tokio::join!(serve, run);
        served.and(ran)
    }
}

impl Analytics {
    fn open(around: &Surroundings) -> Result<Self, Error> {
        let config = headwater_analytics::Config { session_timeout: around.settings.session_timeout };
        config.validate().map_err(|problem| Error::Usage(format!("SESSION_TIMEOUT: {problem}")))?;
        let store = headwater_analytics::MemoryStore::default();
        let api = headwater_analytics::Api::new(&config, store.clone(), Arc::new(SystemClock));
        let api = api.map_err(|error| Error::service("analytics", error))?;
        Ok(Self { config, store, api })
    }

    fn birth(self, around: Surroundings, instance: String, port: Arc<Port>) -> Birth {
        Box::new(move |component, stop| -> Life {
            let (this, around, port) = (self.clone(), around.clone(), port.clone());
            let consumer = around.consumer(topics::ANALYTICS, Role::Analytics, &instance);
            Box::pin(async move {
                let services = headwater_analytics::mount(headwater_rpc::Services::new(), this.api);
                let (dead_letters, consumed) = (around.dead_letters.clone(), stop.clone());
                let run =
                    headwater_analytics::run(&this.config, this.store, consumer, dead_letters, component, consumed);
                around.behind_port(Role::Analytics, &port, services, stop, run).await
            })
        })
    }
}

fn notification(around: Surroundings, ledger: MemoryLedger, instance: String) -> Birth {
    Box::new(move |component, stop| -> Life {
        let settings = &around.settings;
        let channel = match &settings.notification_webhook {
            Some(url) => ChannelConfig::Webhook { url: url.expose().to_owned() },
            None => ChannelConfig::File { folder: settings.notification_dir.clone() },
        };
        let config = headwater_notification::Config {
            channel,
            login_warning_threshold: settings.notify_login_warning_threshold,
            fail_rate: settings.notify_fail_rate,
        };
        let consumer = around.consumer(topics::NOTIFICATION, Role::Notification, &instance);
        let (ledger, dead_letters) = (ledger.clone(), around.dead_letters.clone());
        Box::pin(async move {
            let run = headwater_notification::run(&config, ledger, consumer, dead_letters, component, stop).await;
            run.map_err(|error| Error::service("notification", error))
        })
    })
}
