//! Who was active, and in which sessions: `user.events` -> documents -> `headwater.v1.Analytics`.
//!
//! The events are stored once each, by eventId. Every other document is a function of the set of stored events, so any
//! order, duplication and batching of the same events ends in the same documents: late ones need no special path, a
//! crash between two writes is healed by the redelivery, and a replay into empty collections gives what is there.

mod activity;
mod canonical;
mod config;
mod digest;
mod error;
mod event;
mod grpc;
mod handler;
mod listing;
mod metric;
mod plan;
mod recount;
mod revisions;
mod sessions;
mod stats;
pub mod store;
#[cfg(test)]
mod tests;

pub use activity::{Member, Period};
pub use canonical::{Document, Kind};
pub use config::Config;
pub use digest::digest;
pub use error::{Error, StoreError};
pub use event::{SessionEvent, SessionKey, skip};
pub use grpc::Api;
pub use handler::Handler;
pub use metric::Metric;
pub use recount::round as recount;
pub use revisions::Revision;
pub use sessions::{End, Segment, Session, Timeout};
pub use store::{MemoryStore, MongoStore, Store};

use headwater_otel::Component;
use headwater_proto::{
    topics,
    v1::analytics_server::{Analytics, AnalyticsServer},
};
use headwater_rpc::{MAX_MESSAGE_BYTES, Services};
use headwater_stream::{ConsumerConfig, Producer, run_batches};
use tokio_util::sync::CancellationToken;

/// As metrics and logs name it.
const ROLE: &str = "analytics";

/// The service's RPCs, as gRPC and as JSON.
pub fn mount<S: Store>(services: Services, api: Api<S>) -> Services {
    let server = AnalyticsServer::new(api.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES);
    services
        .grpc(server)
        .json("/headwater.v1.Analytics/GetDailyActiveUsers", api.clone(), |api, request| async move {
            api.get_daily_active_users(request).await
        })
        .json("/headwater.v1.Analytics/GetMonthlyActiveUsers", api.clone(), |api, request| async move {
            api.get_monthly_active_users(request).await
        })
        .json("/headwater.v1.Analytics/ListDailyActiveUsers", api.clone(), |api, request| async move {
            api.list_daily_active_users(request).await
        })
        .json("/headwater.v1.Analytics/GetSessionStats", api.clone(), |api, request| async move {
            api.get_session_stats(request).await
        })
        .json(
            "/headwater.v1.Analytics/ListSessions",
            api,
            |api, request| async move { api.list_sessions(request).await },
        )
}

/// One instance: consumes as analytics-consumer-group and keeps the aggregates up, until `shutdown`. The group, the
/// role and the store's positions are set here, whatever `consumer` says.
pub async fn run<S: Store>(
    config: &Config,
    store: S,
    consumer: ConsumerConfig,
    dead_letters: Producer,
    readiness: Component,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let handler = Handler::new(store.clone(), config.timeout().map_err(Error::Config)?);
    let consumer = ConsumerConfig { group: topics::ANALYTICS, role: ROLE, positions: store.positions(), ..consumer };
    let consumed = shutdown.child_token();
    let consume = async {
        let _ends_the_recount = consumed.clone().drop_guard();
        run_batches(consumer, handler, dead_letters, readiness, shutdown).await
    };
    let (result, ()) = tokio::join!(consume, recount::run(store, consumed.clone()));
    Ok(result?)
}
