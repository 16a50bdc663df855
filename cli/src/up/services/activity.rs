use std::{sync::Arc, time::Duration};

use headwater_activity::{Config, Service, mount};
use headwater_rpc::serve_routes;
use headwater_stream::SystemClock;

use super::{Surroundings, together};
use crate::{
    Error, Role,
    ports::Port,
    settings::{RateLimit, Settings},
    up::instances::{Birth, Life},
};

/// How long requests in work may take at shutdown.
const DRAIN: Duration = Duration::from_secs(20);

#[derive(Clone)]
pub(crate) struct Activity(Service);

impl Activity {
    pub(crate) fn open(around: &Surroundings) -> Result<Self, Error> {
        let service = Service::open(&config(&around.settings), &around.kafka, Arc::new(SystemClock));
        service.map(Self).map_err(failed)
    }

    pub(crate) fn mount(&self, services: headwater_rpc::Services) -> headwater_rpc::Services {
        mount(services, self.0.api())
    }

    pub(crate) async fn close(self, deadline: Duration) -> Result<(), headwater_stream::Error> {
        self.0.close(deadline).await
    }

    pub(crate) fn birth(self, around: Surroundings, instance: String, http: Arc<Port>, grpc: Arc<Port>) -> Birth {
        Box::new(move |component, stop| -> Life {
            let (service, around) = (self.0.clone(), around.clone());
            let (http, grpc) = (http.clone(), grpc.clone());
            let consumer = around.consumer(service.group(), Role::Activity, &instance);
            Box::pin(async move {
                let services = mount(headwater_rpc::Services::new(), service.api());
                let serve_grpc = around.serve(Role::Activity, &grpc, services, stop.clone());
                let serve_http = async {
                    let listener = http.listen().await?;
                    let served = serve_routes(listener, service.clone().routes(), DRAIN, stop.clone()).await;
                    served.map_err(failed)
                };
                let consume = service.clone().consume(consumer, component, stop.clone());
                let consume = async { consume.await.map_err(failed) };
                together(&stop, [Box::pin(serve_grpc), Box::pin(serve_http), Box::pin(consume)]).await
            })
        })
    }
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::service("activity", error)
}

pub(super) fn config(settings: &Settings) -> Config {
    Config {
        client_id: settings.activity_kafka_client_id.clone(),
        topic: settings.activity_kafka_topic.clone(),
        consumer_group: settings.activity_kafka_consumer_group.clone(),
        producer_retries: settings.activity_kafka_producer_retries,
        producer_retry_backoff: settings.activity_kafka_producer_retry_backoff_ms,
        connection_timeout: settings.activity_kafka_connection_timeout_ms,
        request_timeout: settings.activity_kafka_request_timeout_ms,
        encoding: settings.topic_encoding,
        store_limit: settings.activity_store_limit,
        rate_limit: settings.activity_rate_limit.map(|RateLimit(per_second)| per_second),
    }
}
