use std::sync::Arc;

use headwater_ingress::{Config, Ingress as Instance, Log, OpenError, PostgresStore, SqliteStore, Store, mount};
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
    users: Users,
}

#[derive(Clone)]
enum Users {
    Sqlite(SqliteStore),
    Postgres(PostgresStore),
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
        let users = match &around.settings.database_url {
            Some(url) => PostgresStore::open(url.expose()).await.map(Users::Postgres).map_err(not_opened)?,
            None => {
                let store = SqliteStore::open().await;
                Users::Sqlite(store.map_err(|error| Error::service("the ingress' store", error))?)
            }
        };
        Ok(Self { config, users })
    }

    pub(crate) fn birth(self, around: Surroundings, instance: String, doors: Doors) -> Birth {
        match self.users {
            Users::Sqlite(store) => birth(self.config, store, around, instance, doors),
            Users::Postgres(store) => birth(self.config, store, around, instance, doors),
        }
    }
}

fn not_opened(error: OpenError) -> Error {
    match error {
        OpenError::Url => Error::Usage(error.to_string()),
        OpenError::Unreachable { .. } | OpenError::Migration { .. } => Error::service("the ingress' store", error),
    }
}

fn birth<S: Store>(config: Config, store: S, around: Surroundings, instance: String, doors: Doors) -> Birth {
    let doors = Arc::new(doors);
    Box::new(move |component, stop| -> Life {
        let (config, store) = (config.clone(), store.clone());
        let (around, doors) = (around.clone(), doors.clone());
        // apart from the ingress: while the broker is away, calls are answered all the same
        let following = around.readiness.component(format!("account-status-{instance}"));
        let log = Log {
            consumer: around.consumer(topics::ACCOUNT_STATUS, Role::Ingress, &instance),
            dead_letters: around.producer.clone(),
            readiness: following,
        };
        Box::pin(async move {
            let opened = Instance::open(config, store, Arc::new(SystemClock)).await;
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
