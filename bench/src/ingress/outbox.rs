//! The outbox of the ingress, off its metrics: whether the relay keeps up.
use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, bail};
use headwater_cli::Scrape;
use headwater_otel::names;
use serde::Serialize;
use tokio::time::{Instant, interval};

const LOOKS: Duration = Duration::from_secs(1);
/// For what is committed to arrive, once nothing more comes.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct Outbox {
    http: reqwest::Client,
    admin: SocketAddr,
}

/// At one moment. The gauges are a second old at most.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Look {
    pub(crate) rows: f64,
    /// Age of the oldest row, in seconds.
    pub(crate) age: f64,
    /// Events committed by this ingress so far.
    pub(crate) committed: f64,
    /// Records in the log by this ingress so far.
    pub(crate) sent: f64,
}

impl Outbox {
    pub(crate) fn new(admin: SocketAddr) -> anyhow::Result<Self> {
        Ok(Self { http: reqwest::Client::builder().build()?, admin })
    }

    pub(crate) async fn look(&self) -> anyhow::Result<Look> {
        let scrape = Scrape::of(&self.http, &[self.admin]).await?;
        let gauge = |name| scrape.sum(name, &[]).with_context(|| format!("the ingress does not show {name}"));
        Ok(Look {
            rows: gauge(names::OUTBOX_ROWS)?,
            age: gauge(names::OUTBOX_OLDEST_AGE)?,
            // absent before the first
            committed: scrape.sum(names::INGRESS_EVENTS, &[]).unwrap_or_default(),
            sent: scrape.sum(names::PRODUCER_SENT, &[]).unwrap_or_default(),
        })
    }

    /// Looks every second until the end; at least once.
    pub(crate) async fn watch(&self, end: Instant) -> anyhow::Result<Vec<Look>> {
        let mut looks = Vec::new();
        let mut between = interval(LOOKS);
        loop {
            between.tick().await;
            if Instant::now() >= end {
                looks.push(self.look().await?);
                return Ok(looks);
            }
            looks.push(self.look().await?);
        }
    }

    /// Waits until everything that was accepted since then is in the log; how long that took.
    pub(crate) async fn until_sent(&self, before: &Look, accepted: u64) -> anyhow::Result<Duration> {
        let start = Instant::now();
        let mut between = interval(LOOKS / 10);
        loop {
            between.tick().await;
            let look = self.look().await?;
            let (committed, sent) = (look.committed - before.committed, look.sent - before.sent);
            if committed >= accepted as f64 && sent >= committed && look.rows == 0.0 {
                return Ok(start.elapsed());
            }
            if start.elapsed() > PATIENCE {
                bail!(
                    "of {accepted} accepted actions {committed} are committed and {sent} sent, with {} rows in the \
                     outbox, {PATIENCE:?} after the last",
                    look.rows
                );
            }
        }
    }
}
