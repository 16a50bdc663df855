//! The ingress: gRPC -> validate -> commit with outbox -> relay. An answer means that the event is committed.

mod account_status;
pub mod action;
mod config;
mod digest;
mod error;
pub mod fields;
mod grpc;
mod lanes;
pub mod outbox;
mod pack;
mod passwords;
mod relay;
mod shares;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod users;
mod validate;

use std::{convert::Infallible, sync::Arc, time::Duration};

use headwater_otel::Component;
use headwater_proto::{
    Day, topics,
    v1::user_actions_server::{UserActions, UserActionsServer},
};
use headwater_rpc::{MAX_MESSAGE_BYTES, Services};
use headwater_stream::{Clock, ConsumerConfig, Producer, run_batches};
use tokio::{
    sync::{Notify, Semaphore},
    task::JoinSet,
    time::{self, MissedTickBehavior},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

pub use config::Config;
pub use error::{Error, StoreError};
pub use grpc::Api;
pub use users::{OpenError, PostgresStore, SqliteStore, Store};

use crate::{account_status::AccountStatus, digest::Digests, grpc::Shared, lanes::Worker, passwords::Passwords};

/// As metrics and logs name it.
const ROLE: &str = "ingress";
/// How long calls in work may take at shutdown.
const DRAIN: Duration = Duration::from_secs(20);
/// How often the store is asked whether it answers.
const ATTENTION: Duration = Duration::from_secs(1);
/// How often request ids that have expired are looked for.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(3_600);

/// The ingress before it runs: calls of its [`Api`] are taken and wait.
pub struct Ingress<S> {
    api: Api<S>,
    store: S,
    clock: Arc<dyn Clock>,
    workers: Vec<Worker<S>>,
    committed: Arc<Notify>,
    calls: TaskTracker,
    draining: CancellationToken,
    request_id_days: u32,
}

/// The log as the ingress uses it: the relay writes to `consumer.kafka`, the account status consumer reads verdicts.
pub struct Log {
    /// Group, role and the store's positions are set here, whatever it says.
    pub consumer: ConsumerConfig,
    pub dead_letters: Producer,
    /// Of the account status consumer, apart from the ingress's own: while the broker is away, calls are answered.
    pub readiness: Component,
}

impl<S: Store> Ingress<S> {
    /// Fails where the configuration is invalid or the store cannot be read.
    pub async fn open(config: Config, store: S, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        config.validate().map_err(Error::Config)?;
        let digests = Digests::new(&store.digest_key().await?);
        let committed = Arc::new(Notify::new());
        let (lanes, workers) = Worker::open(config.lanes, config.lane_capacity, &store, &clock, &committed);
        let (calls, draining) = (TaskTracker::new(), CancellationToken::new());
        let request_id_days = config.request_id_days;
        let api = Api::new(Shared {
            room: Arc::new(Semaphore::new(config.calls)),
            passwords: Passwords::new(config.waiting_passwords),
            config,
            store: store.clone(),
            lanes,
            digests,
            clock: clock.clone(),
            calls: calls.clone(),
            draining: draining.clone(),
        });
        Ok(Self { api, store, clock, workers, committed, calls, draining, request_id_days })
    }

    /// What [`mount`] puts on a port.
    pub fn api(&self) -> Api<S> {
        self.api.clone()
    }

    /// Runs lanes, relay, account status consumer and the expiry of request ids until `shutdown`. Then new calls are
    /// refused, those in work are answered, and what does not reach the log in a few seconds stays in the outbox.
    pub async fn run(self, log: Log, readiness: Component, shutdown: CancellationToken) -> Result<(), Error> {
        let Self { api: _, store, clock, workers: lanes, committed, calls, draining, request_id_days } = self;
        // lanes and relay outlive the calls; the others end with shutdown, or with the first worker that ends by itself
        let (stop, ending) = (CancellationToken::new(), shutdown.child_token());
        let mut workers = JoinSet::new();
        for lane in lanes {
            let stop = stop.clone();
            workers.spawn(async move {
                lane.run(stop).await;
                Ok(())
            });
        }
        let Log { consumer, dead_letters, readiness: consumer_readiness } = log;
        let consumer =
            ConsumerConfig { group: topics::ACCOUNT_STATUS, role: ROLE, positions: store.positions(), ..consumer };
        let relaying = relay::run(store.clone(), consumer.kafka.clone(), clock.clone(), committed, stop.clone());
        workers.spawn(relaying);
        workers.spawn(expire(store.clone(), clock, request_id_days, ending.clone()));
        let handler = AccountStatus::new(store.clone());
        let consuming = run_batches(consumer, handler, dead_letters, consumer_readiness, ending.clone());
        workers.spawn(async { consuming.await.map_err(Error::from) });

        let mut result = tokio::select! {
            biased; // shutdown ends workers too
            () = shutdown.cancelled() => Ok(()),
            never = attend(&store, &readiness) => match never {},
            // nothing but shutdown ends a worker: whatever it says, the ingress cannot go on without it
            Some(ended) = workers.join_next() => ended.map_err(Error::Worker).flatten().and(Err(Error::Ended)),
        };
        readiness.not_ready("shutting down");
        ending.cancel();
        draining.cancel();
        calls.close();
        if time::timeout(DRAIN, calls.wait()).await.is_err() {
            warn!(calls = calls.len(), "calls were still in work after {} s; they are not answered", DRAIN.as_secs());
        }
        stop.cancel();
        while let Some(ended) = workers.join_next().await {
            result = result.and(ended.map_err(Error::Worker).flatten());
        }
        result
    }
}

/// Ready for as long as the store answers.
async fn attend(store: &impl Store, readiness: &Component) -> Infallible {
    let mut interval = time::interval(ATTENTION);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        match store.occupied().await {
            Ok(_) => readiness.ready(),
            Err(error) => readiness.not_ready(error.to_string()),
        }
    }
}

/// Forgets request ids after their days, whole days at a time.
async fn expire<S: Store>(
    store: S,
    clock: Arc<dyn Clock>,
    days: u32,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let mut interval = time::interval(EXPIRY_INTERVAL);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            _ = interval.tick() => {}
        }
        let first_kept = Day::from_epoch_days(clock.now().day().epoch_days() - days as i32);
        match store.expire_request_ids(first_kept).await {
            Ok(0) => {}
            Ok(days) => info!(days, %first_kept, "request ids expired"),
            Err(error) => warn!(%error, "request ids could not be expired; it is tried again in an hour"),
        }
    }
}

/// Adds `headwater.v1.UserActions` to what a port serves: over gRPC, and its unary RPCs as Connect/JSON.
pub fn mount<S: Store>(services: Services, api: Api<S>) -> Services {
    let server = UserActionsServer::new(api.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES);
    services
        .grpc(server)
        .json("/headwater.v1.UserActions/RegisterUser", api.clone(), |api, request| async move {
            api.register_user(request).await
        })
        .json("/headwater.v1.UserActions/Login", api.clone(), |api, request| async move { api.login(request).await })
        .json("/headwater.v1.UserActions/Logout", api.clone(), |api, request| async move { api.logout(request).await })
        .json("/headwater.v1.UserActions/ChangePassword", api.clone(), |api, request| async move {
            api.change_password(request).await
        })
        .json("/headwater.v1.UserActions/ReportIpChange", api.clone(), |api, request| async move {
            api.report_ip_change(request).await
        })
        .json(
            "/headwater.v1.UserActions/GetUser",
            api.clone(),
            |api, request| async move { api.get_user(request).await },
        )
        .json("/headwater.v1.UserActions/ReinstateUser", api.clone(), |api, request| async move {
            api.reinstate_user(request).await
        })
        .json(
            "/headwater.v1.UserActions/RecordAction",
            api,
            |api, request| async move { api.record_action(request).await },
        )
}
