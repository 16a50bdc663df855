use std::sync::Arc;

use headwater_ingress::{Config, Ingress as Instance, Log, SqliteStore, mount};
use headwater_proto::topics;
use headwater_stream::SystemClock;

use super::{Mount, Surroundings, together};
use crate::{
    Error, Role,
    ports::Port,
    up::instances::{Birth, Life},
};

#[derive(Clone)]
pub(crate) struct Ingress {
    config: Config,
    store: SqliteStore,
}

/// The doors of the ingress: its own and the one for HTTP, behind which others may stand too.
pub(crate) struct Doors {
    pub(crate) own: Arc<Port>,
    pub(crate) http: Arc<Port>,
    pub(crate) beside: Mount,
}

impl Ingress {
    pub(crate) async fn open(around: &Surroundings) -> Result<Self, Error> {
        let config = Config { request_id_days: around.settings.request_id_days, ..Config::default() };
        config.validate().map_err(Error::Usage)?;
        let store = SqliteStore::open().await.map_err(|error| Error::service("the ingress' store", error))?;
        Ok(Self { config, store })
    }

    pub(crate) fn birth(self, around: Surroundings, instance: String, doors: Doors) -> Birth {
        let doors = Arc::new(doors);
        Box::new(move |component, stop| -> Life {
            let (this, around, doors) = (self.clone(), around.clone(), doors.clone());
            // apart from the ingress: while the broker is away, calls are answered all the same
            let following = around.readiness.component(format!("account-status-{instance}"));
            let log = Log {
                consumer: around.consumer(topics::ACCOUNT_STATUS, Role::Ingress, &instance),
                dead_letters: around.producer.clone(),
                readiness: following,
            };
            Box::pin(async move {
                let opened = Instance::open(this.config, this.store, Arc::new(SystemClock)).await;
                let ingress = opened.map_err(|error| Error::service("ingress", error))?;
                let services = mount(headwater_rpc::Services::new(), ingress.api());
                let on_http = (doors.beside)(mount(headwater_rpc::Services::new(), ingress.api()));
                let serve = around.serve(Role::Ingress, &doors.own, services, stop.clone());
                let serve_http = around.serve(Role::Ingress, &doors.http, on_http, stop.clone());
                let run = async {
                    let ran = ingress.run(log, component, stop.clone()).await;
                    ran.map_err(|error| Error::service("ingress", error))
                };
                together(&stop, [Box::pin(serve), Box::pin(serve_http), Box::pin(run)]).await
            })
        })
    }
}
