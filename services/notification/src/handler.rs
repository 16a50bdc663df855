//! One event to its verdict: claim, deliver, mark.
//!
//! The order is the promise. The claim comes first, so that of all instances one delivers. The mark comes last, so
//! that a death at any point leaves either nothing done or a claim that ends and is taken over, never a notification
//! that everybody believes delivered and nobody did.
use std::{error::Error as _, future::Future, num::NonZeroU32, time::Duration};

use headwater_otel::{Component, names, store_write};
use headwater_proto::Millis;
use headwater_stream::{
    Clock, Decoded, Delivery, EventHandler, Poison, Record, RetryPolicy, Unavailable, Verdict, decode_event, headers,
};
use metrics::{counter, histogram};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    ROLE,
    channel::{Channel, DELIVERY_TIMEOUT, Failure},
    complaints::Complaints,
    decide::{Notification, decide},
    faults::{FailRate, INJECTED},
    ledger::{Claim, Lease, Ledger},
    outage::Outage,
};

/// A replay wrote it: the user was told when it first happened.
const REPLAY: &str = "replay";
/// It was delivered before.
const DUPLICATE: &str = "duplicate";
/// Somebody else may be delivering it right now.
const CLAIMED: &str = "claimed";
/// The process ends before the ledger has come back.
const LEDGER_AWAY: &str = "ledger_away";

pub(crate) struct Handler<N, L, C> {
    pub(crate) channel: N,
    pub(crate) ledger: L,
    /// Not ready while some record waits for the ledger: the consumer itself does not see that wait.
    pub(crate) ledger_readiness: Component,
    pub(crate) clock: C,
    pub(crate) warning_threshold: NonZeroU32,
    pub(crate) fail_rate: FailRate,
    /// Ends the waiting for a ledger that is away.
    pub(crate) shutdown: CancellationToken,
    pub(crate) complaints: Complaints,
    pub(crate) outage: Outage,
}

impl<N: Channel, L: Ledger, C: Clock> EventHandler for Handler<N, L, C> {
    type Item = Notification;

    fn decode(&self, record: &Record<'_>) -> Result<Decoded<Notification>, Poison> {
        if record.headers.iter().any(|(name, _)| name == headers::REPLAY_ID) {
            return Ok(Decoded::Skip(REPLAY));
        }
        Ok(match decode_event(record)? {
            Decoded::Item(event) => decide(event, self.warning_threshold),
            Decoded::Skip(reason) => Decoded::Skip(reason),
        })
    }

    async fn handle(&self, delivery: &Delivery<Notification>) -> Verdict {
        let notification = &delivery.item;
        let lease = match self.patiently(|| self.ledger.claim(notification.key, self.clock.now())).await {
            Some(Claim::Granted(lease)) => lease,
            Some(Claim::Delivered) => return Verdict::Skip(DUPLICATE),
            Some(Claim::Held { until }) => return Verdict::Wait(CLAIMED, time_to(until, self.clock.now())),
            None => return Verdict::Wait(LEDGER_AWAY, RetryPolicy::UNTIL_UP.longest),
        };
        match self.deliver(&lease, notification, delivery.attempt).await {
            Ok(()) => {
                // a shutdown may leave it unmarked: the user has been told, so it is done all the same
                let marking = self.patiently(|| self.ledger.mark(notification.key));
                store_write(names::SPAN_WRITE_LEDGER, marking).await;
                Verdict::Done
            }
            Err(failure) => {
                self.give_up(&lease, &failure).await;
                match failure {
                    Failure::Away { reason, .. } => {
                        Verdict::Wait(reason, self.outage.wait(Instant::now(), fastrand::f64()))
                    }
                    Failure::NotDelivered { reason, .. } | Failure::Unknown { reason, .. } => Verdict::Retry(reason),
                    Failure::Refused { reason } => Verdict::Dead(reason),
                }
            }
        }
    }
}

impl<N: Channel, L: Ledger, C: Clock> Handler<N, L, C> {
    async fn deliver(&self, lease: &Lease, notification: &Notification, attempt: u32) -> Result<(), Failure> {
        let kind = lease.key.kind.as_str();
        if self.fail_rate.strikes(lease.key, attempt) {
            counter!(names::NOTIFICATION_INJECTED_FAILURES, names::ROLE => ROLE, names::NOTIFICATION_KIND => kind)
                .increment(1);
            return Err(Failure::NotDelivered { reason: INJECTED, source: None });
        }
        let started = Instant::now();
        let delivered = timeout(DELIVERY_TIMEOUT, self.channel.deliver(notification)).await;
        histogram!(names::NOTIFICATION_DELIVERY_DURATION, names::ROLE => ROLE, names::NOTIFICATION_CHANNEL => N::NAME)
            .record(started.elapsed().as_secs_f64());
        let delivered = delivered.unwrap_or(Err(Failure::Unknown { reason: "timeout", source: None }));
        if !matches!(delivered, Err(Failure::Away { .. })) {
            self.outage.over();
        }
        delivered.inspect_err(|failure| {
            if self.complaints.due(self.clock.now()) {
                let cause = failure.source().map(tracing::field::display);
                warn!(notification = %lease.key, attempt, channel = N::NAME, %failure, cause, "delivery failed");
            }
        })?;
        counter!(
            names::NOTIFICATIONS_DELIVERED,
            names::ROLE => ROLE, names::NOTIFICATION_KIND => kind, names::NOTIFICATION_CHANNEL => N::NAME
        )
        .increment(1);
        if lease.taken_over {
            counter!(names::NOTIFICATION_POSSIBLE_DUPLICATES, names::ROLE => ROLE, names::NOTIFICATION_KIND => kind)
                .increment(1);
            info!(notification = %lease.key, "possible duplicate: an earlier delivery was begun and not marked");
        }
        Ok(())
    }

    /// Lets the next attempt, here or elsewhere, begin at once. Tried once: without it the lease ends by itself.
    async fn give_up(&self, lease: &Lease, failure: &Failure) {
        let perhaps_delivered = lease.taken_over || matches!(failure, Failure::Unknown { .. });
        let given_up = if perhaps_delivered {
            self.ledger.expire(lease, self.clock.now()).await
        } else {
            self.ledger.withdraw(lease).await
        };
        if let Err(error) = given_up {
            debug!(notification = %lease.key, cause = %error.source, "the claim stands until its lease ends");
        }
    }

    /// Until the ledger answers; `None` if the process ends first.
    async fn patiently<T, F>(&self, operation: impl Fn() -> F) -> Option<T>
    where
        F: Future<Output = Result<T, Unavailable>>,
    {
        for attempt in 1.. {
            let error = match operation().await {
                Ok(answer) => {
                    if attempt > 1 {
                        self.ledger_readiness.ready();
                    }
                    return Some(answer);
                }
                Err(error) => error,
            };
            self.ledger_readiness.not_ready(error.to_string());
            let pause = RetryPolicy::until_up(attempt, fastrand::f64());
            if self.complaints.due(self.clock.now()) {
                warn!(dependency = error.dependency, cause = %error.source, ?pause, "unavailable; trying again");
            }
            tokio::select! {
                () = self.shutdown.cancelled() => return None,
                () = sleep(pause) => {}
            }
        }
        None
    }
}

fn time_to(then: Millis, now: Millis) -> Duration {
    Duration::from_millis(u64::try_from(then.since(now)).unwrap_or(0))
}

#[cfg(test)]
mod tests;
