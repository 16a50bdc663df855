use std::sync::Arc;

use headwater_fraud::{Api, Config, MemoryStore, Rules, mount, run};
use headwater_proto::topics;

use super::{Surroundings, together};
use crate::{
    Error, Role,
    ports::Port,
    up::instances::{Birth, Life},
};

#[derive(Clone)]
pub(crate) struct Fraud {
    rules: Rules,
    store: MemoryStore,
    api: Api<MemoryStore>,
}

impl Fraud {
    pub(crate) fn open(around: &Surroundings) -> Result<Self, Error> {
        let config = Config { rules: around.settings.fraud_rules.clone() };
        config.validate().map_err(|problem| Error::Usage(format!("HEADWATER_FRAUD_RULES: {problem}")))?;
        let rules = config.rules().map_err(|error| Error::service("fraud", error))?;
        let store = MemoryStore::default();
        let api = Api::new(store.clone(), rules.thresholds);
        Ok(Self { rules, store, api })
    }

    pub(crate) fn mount(&self, services: headwater_rpc::Services) -> headwater_rpc::Services {
        mount(services, self.api.clone())
    }

    pub(crate) fn birth(self, around: Surroundings, instance: String, port: Arc<Port>) -> Birth {
        Box::new(move |component, stop| -> Life {
            let (this, around, port) = (self.clone(), around.clone(), port.clone());
            let consumer = around.consumer(topics::FRAUD, Role::Fraud, &instance);
            Box::pin(async move {
                let services = this.mount(headwater_rpc::Services::new());
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
