//! What the platform does, told once and run twice: on the embedded parts, and on a real Kafka, PostgreSQL and document store.
mod flow;
mod isolation;
mod order;
mod time;

macro_rules! on_both {
    ($($room:ident::$scenario:ident)*) => {
        mod embedded {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $scenario() { crate::$room::$scenario(headwater_tests::Parts::Embedded).await })*
        }
        mod native {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $scenario() { crate::$room::$scenario(headwater_tests::Parts::Native).await })*
        }
    };
}

on_both! {
    flow::a_takeover_is_seen_by_every_consumer_and_comes_back_as_a_forced_reset
    flow::a_reinstated_account_opens_again_and_an_old_verdict_does_not_close_it
    isolation::a_group_of_ones_own_begins_at_the_beginning_and_moves_nobody_else
    order::what_a_user_does_is_in_the_log_and_with_its_consumers_in_the_order_it_was_accepted
    time::what_is_derived_tells_when_it_happened_and_nothing_of_when_it_was_processed
}
