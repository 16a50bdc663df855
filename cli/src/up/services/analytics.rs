use std::sync::Arc;

use headwater_analytics::{Api, Config, MemoryStore, MongoStore, Store, mount, run};
use headwater_documents::Documents;
use headwater_proto::topics;
use headwater_stream::SystemClock;

use super::{Surroundings, together};
use crate::{
    Error, Role,
    documents::refused,
    live::Live,
    ports::Port,
    up::instances::{Birth, Life},
};

#[derive(Clone)]
pub(crate) enum Analytics {
    Memory(Service<MemoryStore>),
    Mongo(Service<MongoStore>),
}

impl Analytics {
    pub(crate) async fn open(around: &Surroundings, documents: Option<&Documents>) -> Result<Self, Error> {
        let config = Config { session_timeout: around.settings.session_timeout };
        config.validate().map_err(|problem| Error::Usage(format!("SESSION_TIMEOUT: {problem}")))?;
        match documents {
            Some(documents) => {
                let store = MongoStore::open(documents).await.map_err(refused("analytics"))?;
                Service::new(config, store).map(Self::Mongo)
            }
            None => Service::new(config, MemoryStore::default()).map(Self::Memory),
        }
    }

    pub(crate) fn mount(&self, services: headwater_rpc::Services) -> headwater_rpc::Services {
        match self {
            Self::Memory(service) => mount(services, service.api.clone()),
            Self::Mongo(service) => mount(services, service.api.clone()),
        }
    }

    pub(crate) async fn live(&self) -> Result<Live, Error> {
        match self {
            Self::Memory(service) => Live::of_analytics(&service.store).await,
            Self::Mongo(service) => Live::of_analytics(&service.store).await,
        }
    }

    pub(crate) fn birth(self, around: Surroundings, instance: String, port: Arc<Port>) -> Birth {
        match self {
            Self::Memory(service) => service.birth(around, instance, port),
            Self::Mongo(service) => service.birth(around, instance, port),
        }
    }
}

/// Over one kind of store.
#[derive(Clone)]
pub(crate) struct Service<S> {
    config: Config,
    store: S,
    api: Api<S>,
}

impl<S: Store> Service<S> {
    fn new(config: Config, store: S) -> Result<Self, Error> {
        let api = Api::new(&config, store.clone(), Arc::new(SystemClock));
        Ok(Self { config, store, api: api.map_err(|error| Error::service("analytics", error))? })
    }

    fn birth(self, around: Surroundings, instance: String, port: Arc<Port>) -> Birth {
        Box::new(move |component, stop| -> Life {
            let (this, around, port) = (self.clone(), around.clone(), port.clone());
            let consumer = around.consumer(topics::ANALYTICS, Role::Analytics, &instance);
            Box::pin(async move {
                let services = mount(headwater_rpc::Services::new(), this.api);
                let serve = around.serve(Role::Analytics, &port, services, stop.clone());
                let consume = async {
                    let ran = run(&this.config, this.store, consumer, around.producer.clone(), component, stop.clone());
                    ran.await.map_err(|error| Error::service("analytics", error))
                };
                together(&stop, [Box::pin(serve), Box::pin(consume)]).await
            })
        })
    }
}
