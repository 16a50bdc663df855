//! The ledger of one process. Its handle outlives the instances that share it.
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use headwater_proto::Millis;
use headwater_stream::{Positions, Unavailable};

use super::{Claim, LEASE, Lease, Ledger};
use crate::decide::Key;

/// Grows by some 30 bytes a notification and is never cut: it may not forget before the log does.
#[derive(Clone)]
pub struct MemoryLedger {
    entries: Arc<Mutex<Entries>>,
    positions: Arc<Positions>,
}

#[derive(Default)]
struct Entries {
    delivered: HashSet<Key>,
    claimed: HashMap<Key, Claimed>,
    last_token: u128,
}

struct Claimed {
    token: u128,
    until: Millis,
}

impl MemoryLedger {
    pub fn new() -> Self {
        Self { entries: Arc::default(), positions: Positions::new() }
    }

    /// Every operation leaves the entries whole at each step, so a panic elsewhere spoils nothing.
    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryLedger {
    fn default() -> Self {
        Self::new()
    }
}

impl Entries {
    fn claim(&mut self, key: Key, now: Millis) -> Claim {
        if self.delivered.contains(&key) {
            return Claim::Delivered;
        }
        let standing = self.claimed.get(&key);
        if let Some(&Claimed { until, .. }) = standing.filter(|claimed| now < claimed.until) {
            return Claim::Held { until };
        }
        let taken_over = standing.is_some();
        self.last_token += 1;
        let token = self.last_token;
        self.claimed.insert(key, Claimed { token, until: now.plus_millis(LEASE.as_millis() as i64) });
        Claim::Granted(Lease { key, token, taken_over })
    }

    fn held(&mut self, lease: &Lease) -> Option<&mut Claimed> {
        self.claimed.get_mut(&lease.key).filter(|claimed| claimed.token == lease.token)
    }
}

impl Ledger for MemoryLedger {
    fn positions(&self) -> Option<Arc<Positions>> {
        Some(self.positions.clone())
    }

    async fn claim(&self, key: Key, now: Millis) -> Result<Claim, Unavailable> {
        Ok(self.entries().claim(key, now))
    }

    async fn mark(&self, key: Key) -> Result<(), Unavailable> {
        let mut entries = self.entries();
        entries.claimed.remove(&key);
        entries.delivered.insert(key);
        Ok(())
    }

    async fn withdraw(&self, lease: &Lease) -> Result<(), Unavailable> {
        let mut entries = self.entries();
        if entries.held(lease).is_some() {
            entries.claimed.remove(&lease.key);
        }
        Ok(())
    }

    async fn expire(&self, lease: &Lease, now: Millis) -> Result<(), Unavailable> {
        if let Some(claimed) = self.entries().held(lease) {
            claimed.until = now;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_memory_ledger_conforms() {
        super::super::conformance::run(|| async { MemoryLedger::new() }).await;
    }
}
