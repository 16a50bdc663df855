//! The services over their stores: what each role mounts on a port, and how one instance of it lives. Stores outlive
//! the instances that use them.
mod activity;
mod analytics;
mod fraud;
mod ingress;
mod notification;

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use futures::{FutureExt as _, future::join_all};
use headwater_documents::Documents;
use headwater_otel::Readiness;
use headwater_proto::topics::{ALL, GROUPS, Group, Topic, USER_ACTIVITY, USER_ACTIVITY_EVENTS};
use headwater_rpc::ServerConfig;
use headwater_stream::{ConsumerConfig, KafkaConfig, Producer};
use tokio_util::sync::CancellationToken;

use super::instances::Birth;
use crate::{
    Derived, Error, Role,
    live::Live,
    ports::{Port, Ports},
    settings::Settings,
};

/// What an instance gets beside the parts of its own service.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub(crate) settings: Arc<Settings>,
    pub(crate) kafka: KafkaConfig,
    /// For dead letters and verdicts; stays open for as long as the platform.
    pub(crate) producer: Producer,
    pub(crate) readiness: Readiness,
    /// Of all ports together.
    pub(crate) rate_limit: Option<headwater_rpc::RateLimit>,
}

/// Those that run here.
pub(crate) struct Services {
    around: Surroundings,
    ingress: Option<ingress::Ingress>,
    analytics: Option<analytics::Analytics>,
    fraud: Option<fraud::Fraud>,
    notification: Option<notification::Notification>,
    activity: Option<activity::Activity>,
}

impl Services {
    /// Opens the stores. Every configuration is checked here, before anything runs.
    pub(crate) async fn open(
        around: Surroundings,
        documents: Option<Documents>,
        roles: &[Role],
    ) -> Result<Self, Error> {
        let (runs, documents) = (|role| roles.contains(&role), documents.as_ref());
        Ok(Self {
            ingress: opened(runs(Role::Ingress), ingress::Ingress::open(&around)).await?,
            analytics: opened(runs(Role::Analytics), analytics::Analytics::open(&around, documents)).await?,
            fraud: opened(runs(Role::Fraud), fraud::Fraud::open(&around, documents)).await?,
            notification: opened(runs(Role::Notification), notification::Notification::open(&around, documents))
                .await?,
            activity: opened(runs(Role::Activity), async { activity::Activity::open(&around) }).await?,
            around,
        })
    }

    /// One instance of `role`, named `instance` in its group; `None` where the role does not run here. The http port
    /// belongs to the ingress and serves what else runs here too.
    pub(crate) fn birth(&self, role: Role, instance: String, ports: &Ports) -> Option<Birth> {
        let around = self.around.clone();
        Some(match role {
            Role::Ingress => {
                let (own, http) = (ports.ingress.clone(), ports.http.clone());
                let doors = ingress::Doors { own, http, beside: self.beside_ingress() };
                self.ingress.clone()?.birth(around, instance, doors)
            }
            Role::Analytics => self.analytics.clone()?.birth(around, instance, ports.analytics.clone()),
            Role::Fraud => self.fraud.clone()?.birth(around, instance, ports.fraud.clone()),
            Role::Notification => self.notification.clone()?.birth(around, instance),
            Role::Activity => {
                let (http, grpc) = (ports.activity.clone(), ports.activity_grpc.clone());
                self.activity.clone()?.birth(around, instance, http, grpc)
            }
        })
    }

    pub(crate) fn live_documents(&self) -> LiveDocuments {
        LiveDocuments { analytics: self.analytics.clone(), fraud: self.fraud.clone() }
    }

    /// Closes what the instances have shared, once they have ended.
    pub(crate) async fn close(self: Box<Self>, deadline: Duration) {
        let shared = Some(self.around.producer.close(deadline).boxed());
        let activity = self.activity.map(|activity| activity.close(deadline).boxed());
        for closed in join_all([shared, activity].into_iter().flatten()).await {
            if let Err(error) = closed {
                tracing::warn!(error = Error::from(error).story(), "a producer did not close cleanly");
            }
        }
    }

    fn beside_ingress(&self) -> Mount {
        let (analytics, fraud, activity) = (self.analytics.clone(), self.fraud.clone(), self.activity.clone());
        Arc::new(move |mut services| {
            if let Some(analytics) = &analytics {
                services = analytics.mount(services);
            }
            if let Some(fraud) = &fraud {
                services = fraud.mount(services);
            }
            if let Some(activity) = &activity {
                services = activity.mount(services);
            }
            services
        })
    }
}

async fn opened<T>(runs_here: bool, open: impl Future<Output = Result<T, Error>>) -> Result<Option<T>, Error> {
    if runs_here { open.await.map(Some) } else { Ok(None) }
}

/// What the services of this process have derived from the log, whether their instances run or not.
#[derive(Clone)]
pub(crate) struct LiveDocuments {
    analytics: Option<analytics::Analytics>,
    fraud: Option<fraud::Fraud>,
}

impl LiveDocuments {
    /// `None` where the service does not run here.
    pub(crate) async fn digest(&self, of: Derived) -> Option<Result<Live, Error>> {
        match of {
            Derived::Analytics => Some(self.analytics.as_ref()?.live().await),
            Derived::Fraud => Some(self.fraud.as_ref()?.live().await),
        }
    }
}

/// Every topic of the platform, by the names that are set.
pub(crate) fn topics(settings: &Settings) -> Vec<Topic> {
    let of_activity = activity::config(settings).group().topic;
    ALL.iter().map(|topic| if *topic == USER_ACTIVITY_EVENTS { of_activity } else { *topic }).collect()
}

/// Every group of the platform, by the names that are set.
pub(crate) fn groups(settings: &Settings) -> Vec<Group> {
    let of_activity = activity::config(settings).group();
    GROUPS.iter().map(|group| if *group == USER_ACTIVITY { of_activity } else { *group }).collect()
}

/// The configured document store, which all roles of this process share; `None`: each keeps its own in memory.
pub(crate) async fn documents(settings: &Settings, roles: &[Role]) -> Result<Option<Documents>, Error> {
    let keeps = roles.iter().any(|role| role.keeps_documents());
    let Some(uri) = settings.mongodb_uri.as_ref().filter(|_| keeps) else { return Ok(None) };
    crate::documents::open(uri).await.map(Some)
}

/// Adds services to those of a port.
pub(crate) type Mount = Arc<dyn Fn(headwater_rpc::Services) -> headwater_rpc::Services + Send + Sync>;

impl Surroundings {
    pub(crate) fn consumer(&self, group: Group, role: Role, instance: &str) -> ConsumerConfig {
        ConsumerConfig {
            group_suffix: self.settings.group_suffix.clone(),
            accept_truncation: self.settings.accept_truncation,
            ..ConsumerConfig::new(self.kafka.clone(), group, role.name(), instance)
        }
    }

    /// Serves a role's port until `stop`; health there is that of the role.
    pub(crate) async fn serve(
        &self,
        role: Role,
        port: &Port,
        services: headwater_rpc::Services,
        stop: CancellationToken,
    ) -> Result<(), Error> {
        let listener = port.listen().await?;
        let config = ServerConfig {
            reflection: self.settings.reflection,
            rate_limit: self.rate_limit.clone(),
            ..ServerConfig::default()
        };
        let served = headwater_rpc::serve(listener, services, config, self.readiness.of(role.name()), stop).await;
        served.map_err(|error| Error::service(format!("the port of {}", role.name()), error))
    }
}

/// All to their end; where one ends by itself, the others are told to stop. The first error counts.
pub(crate) async fn together<const N: usize>(stop: &CancellationToken, parts: [Part<'_>; N]) -> Result<(), Error> {
    let parts = parts.map(async |part| {
        let _ends_the_others = stop.clone().drop_guard();
        part.await
    });
    join_all(parts).await.into_iter().collect()
}

/// A part of an instance's life.
pub(crate) type Part<'a> = Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 'a>>;
