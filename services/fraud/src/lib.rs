//! Who looks suspicious: `user.events` -> patterns per user -> verdicts on the same log, and `headwater.v1.Fraud`.
//!
//! A profile is a function of its user's own log: time is the user's newest occurredAt, ids of what is written are
//! derived from the triggering event, and a profile is stored with the log position it stands at. So a redelivery
//! finds everything done, and a replay repeats every decision.

mod cache;
mod canonical;
mod config;
pub mod decide;
mod emitted;
mod error;
mod findings;
mod grpc;
mod handler;
mod patterns;
mod profile;
mod rules;
pub mod store;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use canonical::{Document, Kind, digest};
pub use config::Config;
pub use emitted::{Announcer, Emitted, SOURCE, Silent};
pub use error::{Error, StoreError};
pub use findings::{Evaluation, EvaluationPlace, Findings, Report, ReportPlace, Trace};
pub use grpc::Api;
pub use handler::{Arrival, FOREIGN_VERDICT, Handler, OWN_VERDICT};
pub use profile::{Kept, KnownEmail, Match, Profile};
pub use rules::{HORIZON, InvalidRules, Level, MAX_EVENTS, Pattern, Rule, Rules, Thresholds};
pub use store::{MemoryStore, MongoStore, Store};

use headwater_otel::Component;
use headwater_proto::{
    topics,
    v1::fraud_server::{Fraud, FraudServer},
};
use headwater_rpc::{MAX_MESSAGE_BYTES, Services};
use headwater_stream::{ConsumerConfig, Producer, SystemClock, run_batches};
use tokio_util::sync::CancellationToken;

/// As metrics and logs name it.
const ROLE: &str = "fraud";

/// The service's RPCs, as gRPC and as JSON.
pub fn mount<S: Store>(services: Services, api: Api<S>) -> Services {
    let server = FraudServer::new(api.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES);
    services
        .grpc(server)
        .json("/headwater.v1.Fraud/GetRiskProfile", api.clone(), |api, request| async move {
            api.get_risk_profile(request).await
        })
        .json("/headwater.v1.Fraud/ListFraudReports", api.clone(), |api, request| async move {
            api.list_fraud_reports(request).await
        })
        .json("/headwater.v1.Fraud/ListRiskEvaluations", api.clone(), |api, request| async move {
            api.list_risk_evaluations(request).await
        })
        .json("/headwater.v1.Fraud/GetEventTrace", api.clone(), |api, request| async move {
            api.get_event_trace(request).await
        })
        .json(
            "/headwater.v1.Fraud/ExplainDecision",
            api,
            |api, request| async move { api.explain_decision(request).await },
        )
}

/// One instance: consumes as fraud-detection-group until `shutdown`. Verdicts and dead letters go out by `producer`,
/// which stays open. The group, the role and the store's positions are set here, whatever `consumer` says.
pub async fn run<S: Store>(
    rules: Rules,
    store: S,
    consumer: ConsumerConfig,
    producer: Producer,
    readiness: Component,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let consumer = ConsumerConfig { group: topics::FRAUD, role: ROLE, positions: store.positions(), ..consumer };
    let handler = Handler::new(store, producer.clone(), SystemClock, rules);
    Ok(run_batches(consumer, handler, producer, readiness, shutdown).await?)
}
