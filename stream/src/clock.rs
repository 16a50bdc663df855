//! The one place that asks what time it is.
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use headwater_proto::Millis;

/// Where the present comes from. Never decides a metric or a rule: that is occurredAt.
pub trait Clock: Send + Sync + 'static {
    fn now(&self) -> Millis;
}

impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn now(&self) -> Millis {
        (**self).now()
    }
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)] // this is the place
    fn now(&self) -> Millis {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Millis::from_millis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
    }
}

/// A clock that stands where it was set. Clones share the hand.
#[derive(Debug, Clone)]
pub struct FixedClock(Arc<AtomicI64>);

impl FixedClock {
    pub fn at(now: Millis) -> Self {
        Self(Arc::new(AtomicI64::new(now.as_millis())))
    }

    pub fn set(&self, now: Millis) {
        self.0.store(now.as_millis(), Ordering::SeqCst);
    }

    /// Negative goes back.
    pub fn advance_millis(&self, millis: i64) {
        self.0.fetch_add(millis, Ordering::SeqCst);
    }
}

impl Clock for FixedClock {
    fn now(&self) -> Millis {
        Millis::from_millis(self.0.load(Ordering::SeqCst))
    }
}
