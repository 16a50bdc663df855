//! Bad input gets an error that names the field and the reason, nothing is half done, and nothing stops.
use headwater_proto::v1::RecordActionRequest;
use headwater_tests::{Running, reason, scenarios::bad_input};

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_field_is_named_at_once_with_its_reason() {
    let platform = Running::start().await;
    bad_input::every_bad_field_is_named_at_once(&platform).await;
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_item_is_answered_and_the_stream_goes_on() {
    let platform = Running::start().await;
    bad_input::a_bad_item_is_answered_and_the_stream_goes_on(&platform).await;
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_the_log_is_dead_lettered_by_every_group_and_nothing_stops() {
    let platform = Running::start().await;
    bad_input::garbage_is_dead_lettered_by_every_group(&platform).await;
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_reasons_come_over_grpc() {
    let platform = Running::start().await;
    let request =
        RecordActionRequest { user_id: "ada".into(), event_type: "user.flagged".into(), ..Default::default() };
    let refused = platform.actions().record_action(request).await.expect_err("a verdict by hand");
    assert_eq!((refused.code(), reason(&refused).as_str()), (tonic::Code::InvalidArgument, "EVENT_TYPE_NOT_ACCEPTED"));
    platform.stop().await;
}
