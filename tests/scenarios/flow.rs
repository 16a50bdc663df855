//! One event through: what goes in over gRPC or JSON comes out as metrics, notifications and fraud decisions,
//! and a decision comes back to the account.
use headwater_tests::{Parts, Running, scenarios::takeover};

pub(crate) async fn a_takeover_is_seen_by_every_consumer_and_comes_back_as_a_forced_reset(parts: Parts) {
    let platform = Running::on(parts).await;
    takeover::a_takeover_comes_back_as_a_forced_reset(&platform).await;
    platform.stop().await;
}

pub(crate) async fn a_reinstated_account_opens_again_and_an_old_verdict_does_not_close_it(parts: Parts) {
    let platform = Running::on(parts).await;
    takeover::a_reinstated_account_opens_again(&platform).await;
    platform.stop().await;
}
