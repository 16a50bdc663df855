//! What every ledger promises, as tests that any adapter runs.
use std::{future::Future, sync::Arc};

use headwater_proto::{EventId, Millis};

use super::{Claim, LEASE, Lease, Ledger};
use crate::decide::{Key, Kind};

/// Runs all of it, each promise on a ledger of its own from `fresh`. Panics at the first broken promise.
pub async fn run<L: Ledger, F: Future<Output = L>>(fresh: impl Fn() -> F) {
    a_claim_keeps_the_others_away_until_its_lease_ends(fresh().await).await;
    what_is_marked_is_never_claimed_again(fresh().await).await;
    kinds_and_events_do_not_know_each_other(fresh().await).await;
    a_withdrawn_claim_leaves_no_trace(fresh().await).await;
    an_expired_claim_is_taken_over_at_once(fresh().await).await;
    the_loser_of_a_lease_cannot_disturb_its_successor(fresh().await).await;
    of_many_that_claim_at_once_one_is_granted(fresh().await).await;
}

fn start() -> Millis {
    Millis::from_millis(1_768_473_000_000)
}

fn lease_end(claimed_at: Millis) -> Millis {
    claimed_at.plus_millis(LEASE.as_millis() as i64)
}

fn key(n: u8, kind: Kind) -> Key {
    Key { event_id: EventId::from_bytes([n; 16]), kind }
}

fn welcome() -> Key {
    key(1, Kind::Welcome)
}

async fn granted(ledger: &impl Ledger, key: Key, now: Millis) -> Lease {
    match ledger.claim(key, now).await.unwrap() {
        Claim::Granted(lease) => lease,
        other => panic!("{key} at {now}: expected a grant, got {other:?}"),
    }
}

async fn a_claim_keeps_the_others_away_until_its_lease_ends(ledger: impl Ledger) {
    let first = granted(&ledger, welcome(), start()).await;
    assert!(!first.taken_over);
    let end = lease_end(start());
    for now in [start(), end.plus_millis(-1)] {
        assert_eq!(ledger.claim(welcome(), now).await.unwrap(), Claim::Held { until: end }, "at {now}");
    }
    let second = granted(&ledger, welcome(), end).await;
    assert!(second.taken_over, "the first may have delivered");
    assert_ne!(first.token, second.token);
    assert_eq!(ledger.claim(welcome(), end).await.unwrap(), Claim::Held { until: lease_end(end) });
}

async fn what_is_marked_is_never_claimed_again(ledger: impl Ledger) {
    granted(&ledger, welcome(), start()).await;
    ledger.mark(welcome()).await.unwrap();
    ledger.mark(welcome()).await.unwrap();
    for now in [start(), lease_end(lease_end(start()))] {
        assert_eq!(ledger.claim(welcome(), now).await.unwrap(), Claim::Delivered, "at {now}");
    }
}

async fn kinds_and_events_do_not_know_each_other(ledger: impl Ledger) {
    granted(&ledger, welcome(), start()).await;
    ledger.mark(welcome()).await.unwrap();
    for other in [key(1, Kind::SecurityAlert), key(2, Kind::Welcome)] {
        assert!(!granted(&ledger, other, start()).await.taken_over, "{other}");
    }
}

async fn a_withdrawn_claim_leaves_no_trace(ledger: impl Ledger) {
    let lease = granted(&ledger, welcome(), start()).await;
    ledger.withdraw(&lease).await.unwrap();
    assert!(!granted(&ledger, welcome(), start()).await.taken_over);
}

async fn an_expired_claim_is_taken_over_at_once(ledger: impl Ledger) {
    let lease = granted(&ledger, welcome(), start()).await;
    let now = start().plus_millis(1_000);
    ledger.expire(&lease, now).await.unwrap();
    assert!(granted(&ledger, welcome(), now).await.taken_over);
}

async fn the_loser_of_a_lease_cannot_disturb_its_successor(ledger: impl Ledger) {
    let loser = granted(&ledger, welcome(), start()).await;
    let now = lease_end(start());
    granted(&ledger, welcome(), now).await;
    ledger.withdraw(&loser).await.unwrap();
    ledger.expire(&loser, now).await.unwrap();
    assert_eq!(ledger.claim(welcome(), now).await.unwrap(), Claim::Held { until: lease_end(now) });
    // but if it did deliver after all, that is true for everybody
    ledger.mark(loser.key).await.unwrap();
    ledger.withdraw(&loser).await.unwrap();
    ledger.expire(&loser, now).await.unwrap();
    assert_eq!(ledger.claim(welcome(), now).await.unwrap(), Claim::Delivered);
}

async fn of_many_that_claim_at_once_one_is_granted(ledger: impl Ledger) {
    for now in [start(), lease_end(start())] {
        let together = Arc::new(tokio::sync::Barrier::new(8));
        let claims = (0..8).map(|_| {
            let (ledger, together) = (ledger.clone(), together.clone());
            tokio::spawn(async move {
                together.wait().await;
                ledger.claim(welcome(), now).await.unwrap()
            })
        });
        let claims = futures::future::join_all(claims).await;
        let granted = claims.iter().filter(|claim| matches!(claim, Ok(Claim::Granted(_)))).count();
        assert_eq!(granted, 1, "at {now}: {claims:?}");
    }
}
