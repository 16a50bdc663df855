//! What the tests of several files need.
use headwater_proto::{EventId, Millis, UserId};
use headwater_stream::{Clock, FixedClock};
use tokio::time::Instant;

use crate::decide::{Key, Kind, Notification};

pub(crate) fn notification(n: u8) -> Notification {
    Notification {
        key: Key { event_id: EventId::from_bytes([n; 16]), kind: Kind::Welcome },
        user_id: UserId::try_from(format!("user-{n}").as_str()).unwrap(),
        email: format!("user-{n}@example.org"),
        subject: "Welcome",
        body: "Hello.".into(),
    }
}

pub(crate) fn clock() -> FixedClock {
    FixedClock::at(Millis::from_millis(1_768_473_000_000))
}

/// Follows tokio's time, so that it stands still and leaps with it.
#[derive(Clone)]
pub(crate) struct TokioClock(Instant);

impl TokioClock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Millis {
        Millis::from_millis(1_768_473_000_000).plus_millis(self.0.elapsed().as_millis() as i64)
    }
}
