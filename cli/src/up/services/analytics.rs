use std::sync::Arc;

use headwater_analytics::{Api, Config, MemoryStore, mount, run};
use headwater_proto::topics;
use headwater_stream::SystemClock;

use super::{Surroundings, together};
use crate::{
    Error, Role,
    ports::Port,
    up::instances::{Birth, Life},
};

#[derive(Clone)]
pub(crate) struct Analytics {
    config: Config,
    store: MemoryStore,
    api: Api<MemoryStore>,
}

impl Analytics {
    pub(crate) fn open(around: &Surroundings) -> Result<Self, Error> {
        let config = Config { session_timeout: around.settings.session_timeout };
        config.validate().map_err(|problem| Error::Usage(format!("SESSION_TIMEOUT: {problem}")))?;
        let store = MemoryStore::default();
        let api = Api::new(&config, store.clone(), Arc::new(SystemClock));
        Ok(Self { config, store, api: api.map_err(|error| Error::service("analytics", error))? })
    }

    pub(crate) fn mount(&self, services: headwater_rpc::Services) -> headwater_rpc::Services {
        mount(services, self.api.clone())
    }

    pub(crate) fn birth(self, around: Surroundings, instance: String, port: Arc<Port>) -> Birth {
        Box::new(move |component, stop| -> Life {
            let (this, around, port) = (self.clone(), around.clone(), port.clone());
            let consumer = around.consumer(topics::ANALYTICS, Role::Analytics, &instance);
            Box::pin(async move {
                let services = this.mount(headwater_rpc::Services::new());
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
