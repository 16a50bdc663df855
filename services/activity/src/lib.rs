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

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use axum::Router;
use headwater_otel::Component;
use headwater_proto::{
    topics::Group,
    v1::activity_server::{Activity, ActivityServer},
};
use headwater_rpc::{MAX_MESSAGE_BYTES, RateLimit, Services};
use headwater_stream::{Clock, ConsumerConfig, Error, KafkaConfig, Producer, run_batches};
use tokio_util::sync::CancellationToken;

pub use config::Config;
pub use event::{ActivityEvent, Payload, TYPES};
pub use grpc::Api;
pub use store::Store;

use handler::Handler;
use publish::Publisher;

#[cfg(test)]
mod tests;

/// What the instances of a process share. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    group: Group,
    kafka: KafkaConfig,
    api: Api,
    rate_limit: Option<RateLimit>,
}

impl Service {
    /// Connects in the background: an absent broker is no error here.
    pub fn open(config: &Config, kafka: &KafkaConfig, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let (group, kafka) = (config.group(), config.kafka(kafka));
        let producer = Producer::open(&kafka, config.patience())?;
        let publisher = Publisher { producer, topic: group.topic.name, encoding: config.encoding, clock };
        let store = Store::new(NonZeroUsize::from(config.store_limit));
        Ok(Self { group, kafka, api: Api { publisher, store }, rate_limit: config.rate_limit.map(RateLimit::new) })
    }

    /// What it reads, by the names that were set.
    pub fn group(&self) -> Group {
        self.group
    }

    pub fn api(&self) -> Api {
        self.api.clone()
    }

    /// A member of the group until `shutdown`: the store's position is where it begins. The group, the role, the position
    /// and how Kafka is reached are set here, whatever `consumer` says.
    pub async fn consume(
        self,
        consumer: ConsumerConfig,
        readiness: Component,
        shutdown: CancellationToken,
    ) -> Result<(), Error> {
        let Api { publisher, store } = self.api;
        let positions = Some(store.positions());
        let consumer = ConsumerConfig { kafka: self.kafka, group: self.group, role: "activity", positions, ..consumer };
        run_batches(consumer, Handler(store), publisher.producer, readiness, shutdown).await
    }

    /// For the end, after its consumers and doors: as [`Producer::close`].
    pub async fn close(self, deadline: Duration) -> Result<(), Error> {
        self.api.publisher.producer.close(deadline).await
    }

    /// The document's routes.
    pub fn routes(self) -> Router {
        http::routes(self.api, self.rate_limit)
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
