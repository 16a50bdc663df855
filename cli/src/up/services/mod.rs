//! The services over their stores: what each role mounts on a port, and how one instance of it lives. Stores outlive
//! the instances that use them.
mod activity;
mod analytics;
mod fraud;
mod ingress;
mod notification;

use std::{future::Future, pin::Pin, sync::Arc};

use futures::future::join_all;
use headwater_documents::Documents;
use headwater_otel::Readiness;
use headwater_proto::topics::{ALL, Group, Topic, USER_ACTIVITY_EVENTS};
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

pub(crate) struct Services {
    around: Surroundings,
    ingress: ingress::Ingress,
    analytics: analytics::Analytics,
    fraud: fraud::Fraud,
    notification: notification::Notification,
    activity: activity::Activity,
}

impl Services {
    /// Opens the stores. Every configuration is checked here, before anything runs.
    pub(crate) async fn open(
        around: Surroundings,
        documents: Option<Documents>,
        roles: &[Role],
    ) -> Result<Self, Error> {
        // the store of a role that does not run here is nobody's business
        let of = |role| documents.as_ref().filter(|_| roles.contains(&role));
        Ok(Self {
            ingress: ingress::Ingress::open(&around, roles.contains(&Role::Ingress)).await?,
            analytics: analytics::Analytics::open(&around, of(Role::Analytics)).await?,
            fraud: fraud::Fraud::open(&around, of(Role::Fraud)).await?,
            notification: notification::Notification::open(&around, of(Role::Notification)).await?,
            activity: activity::Activity::open(&around)?,
            around,
        })
    }

    /// One instance of `role`, named `instance` in its group. The http port belongs to the ingress and serves what
    /// else runs here too.
    pub(crate) fn birth(&self, role: Role, instance: String, ports: &Ports, roles: &[Role]) -> Birth {
        let around = self.around.clone();
        match role {
            Role::Ingress => {
                let (own, http) = (ports.ingress.clone(), ports.http.clone());
                let doors = ingress::Doors { own, http, beside: self.beside_ingress(roles) };
                self.ingress.clone().birth(around, instance, doors)
            }
            Role::Analytics => self.analytics.clone().birth(around, instance, ports.analytics.clone()),
            Role::Fraud => self.fraud.clone().birth(around, instance, ports.fraud.clone()),
            Role::Notification => self.notification.clone().birth(around, instance),
            Role::Activity => {
                let (http, grpc) = (ports.activity.clone(), ports.activity_grpc.clone());
                self.activity.clone().birth(around, instance, http, grpc)
            }
        }
    }

    /// Of those that run here.
    pub(crate) fn live_documents(&self, roles: &[Role]) -> LiveDocuments {
        LiveDocuments {
            analytics: roles.contains(&Role::Analytics).then(|| self.analytics.clone()),
            fraud: roles.contains(&Role::Fraud).then(|| self.fraud.clone()),
        }
    }

    fn beside_ingress(&self, roles: &[Role]) -> Mount {
        let analytics = roles.contains(&Role::Analytics).then(|| self.analytics.clone());
        let fraud = roles.contains(&Role::Fraud).then(|| self.fraud.clone());
        let activity = roles.contains(&Role::Activity).then(|| self.activity.clone());
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
