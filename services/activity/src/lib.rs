//! The User Activity Service: publishes what users do to user-activity-events, reads the same topic, and shows what it has
//! read. Routes, bodies, texts and variables are those of its document; beside them `headwater.v1.Activity`.
mod config;
mod event;
mod grpc;
mod handler;
mod http;
mod publish;
mod request;
mod store;

use std::{io, net::SocketAddr, num::NonZeroUsize, sync::Arc, time::Duration};

use axum::serve::ListenerExt as _;
use headwater_otel::Component;
use headwater_proto::{
    topics::Group,
    v1::activity_server::{Activity, ActivityServer},
};
use headwater_rpc::{MAX_MESSAGE_BYTES, RateLimit, Services};
use headwater_stream::{Clock, ConsumerConfig, KafkaConfig, Producer, run_batches};
use tokio::{net::TcpListener, time::timeout};
use tokio_util::sync::CancellationToken;

pub use config::Config;
pub use event::{ActivityEvent, Payload, TYPES};
pub use grpc::Api;
pub use store::Store;

use handler::Handler;
use publish::Publisher;

#[cfg(test)]
mod tests;

const ROLE: &str = "activity";
/// How long requests in work may take at shutdown.
const DRAIN: Duration = Duration::from_secs(20);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the activity service's client of Kafka ended")]
    Stream(#[from] headwater_stream::Error),
    #[error("the activity service's port failed")]
    Port(#[from] io::Error),
}

/// What the instances of a process share. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    group: Group,
    kafka: KafkaConfig,
    publisher: Publisher,
    store: Store,
    rate_limit: Option<RateLimit>,
}

impl Service {
    /// Connects in the background: an absent broker is no error here.
    pub fn open(config: &Config, kafka: &KafkaConfig, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let (group, kafka) = (config.group(), config.kafka(kafka));
        let producer = Producer::open(&kafka, config.patience())?;
        let publisher = Publisher { producer, topic: group.topic.name, encoding: config.encoding, clock };
        let store = Store::new(NonZeroUsize::from(config.store_limit));
        Ok(Self { group, kafka, publisher, store, rate_limit: config.rate_limit.map(RateLimit::new) })
    }

    /// What it reads, by the names that were set.
    pub fn group(&self) -> Group {
        self.group
    }

    pub fn api(&self) -> Api {
        Api { publisher: self.publisher.clone(), store: self.store.clone() }
    }

    /// A member of the group until `shutdown`: the store's position is where it begins. The group, the role, the position
    /// and how Kafka is reached are set here, whatever `consumer` says.
    pub async fn consume(
        self,
        consumer: ConsumerConfig,
        readiness: Component,
        shutdown: CancellationToken,
    ) -> Result<(), Error> {
        let positions = Some(self.store.positions());
        let consumer = ConsumerConfig { kafka: self.kafka, group: self.group, role: ROLE, positions, ..consumer };
        Ok(run_batches(consumer, Handler(self.store), self.publisher.producer, readiness, shutdown).await?)
    }

    /// The document's routes until `shutdown`, then until what is in work is answered.
    pub async fn serve(self, listener: TcpListener, shutdown: CancellationToken) -> Result<(), Error> {
        let Self { publisher, store, rate_limit, .. } = self;
        let routes = http::Routes { publisher, store, rate_limit }.router();
        let listener = listener.tap_io(|connection| {
            let _ = connection.set_nodelay(true); // a slower connection is one all the same
        });
        let served = axum::serve(listener, routes.into_make_service_with_connect_info::<SocketAddr>());
        let mut served =
            std::pin::pin!(served.with_graceful_shutdown(shutdown.clone().cancelled_owned()).into_future());
        tokio::select! {
            ended = &mut served => ended?,
            () = shutdown.cancelled() => timeout(DRAIN, served).await.unwrap_or(Ok(()))?,
        }
        Ok(())
    }
}

/// The service's RPCs, as gRPC and as JSON.
pub fn mount(services: Services, api: Api) -> Services {
    let server = ActivityServer::new(api.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES);
    services
        .grpc(server)
        .json("/headwater.v1.Activity/GenerateEvent", api.clone(), |api, request| async move {
            api.generate_event(request).await
        })
        .json("/headwater.v1.Activity/ListProcessedEvents", api, |api, request| async move {
            api.list_processed_events(request).await
        })
}
