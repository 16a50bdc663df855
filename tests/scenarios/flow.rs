//! One event through: what goes in over gRPC or JSON comes out as metrics, notifications and fraud decisions,
//! and a decision comes back to the account.
use headwater_tests::{Parts, Running, scenarios::takeover};

/// How the names of metrics begin that a service has of itself.
const MEASURED: [&str; 7] = ["analytics", "consumer", "fraud", "ingress", "notification", "outbox", "relay"];

pub(crate) async fn a_takeover_is_seen_by_every_consumer_and_comes_back_as_a_forced_reset(parts: Parts) {
    let platform = Running::on(parts).await;
    takeover::a_takeover_comes_back_as_a_forced_reset(&platform).await;
    let metrics = platform.metrics().await;
    for measured in MEASURED {
        let prefix = format!("headwater_{measured}_");
        let series: Vec<&str> = metrics.lines().filter(|line| line.starts_with(&prefix)).collect();
        assert!(!series.is_empty(), "no {prefix}...");
        assert!(series.iter().all(|series| series.contains("role=\"")), "whose are they: {series:#?}");
    }
    platform.stop().await;
}

pub(crate) async fn a_reinstated_account_opens_again_and_an_old_verdict_does_not_close_it(parts: Parts) {
    let platform = Running::on(parts).await;
    takeover::a_reinstated_account_opens_again(&platform).await;
    platform.stop().await;
}
