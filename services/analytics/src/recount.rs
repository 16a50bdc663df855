//! Keeps the aggregates up with the memberships: one task, at most one round a second, only periods marked stale.
use std::time::Duration;

use headwater_otel::names;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::{StoreError, store::Store};

const EVERY: Duration = Duration::from_secs(1);

/// Until `shutdown`. A round that fails leaves its marks, so the next one does its work; readers count on the spot.
pub(crate) async fn run<S: Store>(store: S, shutdown: CancellationToken) {
    let mut rounds = interval(EVERY);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while shutdown.run_until_cancelled(rounds.tick()).await.is_some() {
        if let Err(error) = round(&store).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "active users not recounted, will try again");
        }
    }
}

/// Recounts every period that is stale now.
pub async fn round<S: Store>(store: &S) -> Result<(), StoreError> {
    for stale in store.stale().await? {
        store.recount(stale).await?;
        metrics::counter!(names::ANALYTICS_RECOUNTS, names::ROLE => crate::ROLE).increment(1);
    }
    Ok(())
}
