//! One event through: what goes in over gRPC or JSON comes out as metrics, notifications and fraud decisions,
//! and a decision comes back to the account.
use headwater_tests::{Running, scenarios::takeover};

#[tokio::test(flavor = "multi_thread")]
async fn a_takeover_is_seen_by_every_consumer_and_comes_back_as_a_forced_reset() {
    let platform = Running::start().await;
    takeover::a_takeover_comes_back_as_a_forced_reset(&platform, "ada").await;
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reinstated_account_opens_again_and_an_old_verdict_does_not_close_it() {
    let platform = Running::start().await;
    takeover::a_reinstated_account_opens_again(&platform, "ada").await;
    platform.stop().await;
}
