use std::sync::Arc;

use headwater_documents::Documents;
use headwater_fraud::{Api, Config, MemoryStore, MongoStore, Rules, Store, mount, run};
use headwater_proto::topics;

use super::{Surroundings, together};
use crate::{
    Error, Role,
    documents::refused,
    live::Live,
    ports::Port,
    up::instances::{Birth, Life},
};

#[derive(Clone)]
pub(crate) enum Fraud {
    Memory(Service<MemoryStore>),
    Mongo(Service<MongoStore>),
}

impl Fraud {
    pub(crate) async fn open(around: &Surroundings, documents: Option<&Documents>) -> Result<Self, Error> {
        let config = Config { rules: around.settings.fraud_rules.clone() };
        config.validate().map_err(|problem| Error::Usage(format!("HEADWATER_FRAUD_RULES: {problem}")))?;
        let rules = config.rules().map_err(|error| Error::service("fraud", error))?;
        Ok(match documents {
            Some(documents) => {
                let store = MongoStore::open(documents).await.map_err(refused("fraud"))?;
                Self::Mongo(Service::new(rules, store))
            }
            None => Self::Memory(Service::new(rules, MemoryStore::default())),
        })
    }

    pub(crate) fn mount(&self, services: headwater_rpc::Services) -> headwater_rpc::Services {
        match self {
            Self::Memory(service) => mount(services, service.api.clone()),
            Self::Mongo(service) => mount(services, service.api.clone()),
        }
    }

    pub(crate) async fn live(&self) -> Result<Live, Error> {
        match self {
            Self::Memory(service) => Live::of_fraud(&service.store).await,
            Self::Mongo(service) => Live::of_fraud(&service.store).await,
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
    rules: Rules,
    store: S,
    api: Api<S>,
}

impl<S: Store> Service<S> {
    fn new(rules: Rules, store: S) -> Self {
        let api = Api::new(store.clone(), rules.thresholds);
        Self { rules, store, api }
    }

    fn birth(self, around: Surroundings, instance: String, port: Arc<Port>) -> Birth {
        Box::new(move |component, stop| -> Life {
            let (this, around, port) = (self.clone(), around.clone(), port.clone());
            let consumer = around.consumer(topics::FRAUD, Role::Fraud, &instance);
            Box::pin(async move {
                let services = mount(headwater_rpc::Services::new(), this.api);
                let serve = around.serve(Role::Fraud, &port, services, stop.clone());
                let consume = async {
                    let ran = run(this.rules, this.store, consumer, around.producer.clone(), component, stop.clone());
                    ran.await.map_err(|error| Error::service("fraud", error))
                };
                together(&stop, [Box::pin(serve), Box::pin(consume)]).await
            })
        })
    }
}
