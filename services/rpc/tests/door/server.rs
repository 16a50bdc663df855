//! Limits, health, reflection and the end of a server, over a real connection.
use std::{num::NonZeroU32, time::Duration};

use crate::api::{Running, soon};
use futures::StreamExt as _;
use headwater_proto::v1::{GetUserRequest, RecordActionRequest};
use headwater_rpc::{RateLimit, ServerConfig};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};
use tonic_types::StatusExt as _;

fn action(event_id: &str) -> RecordActionRequest {
    RecordActionRequest { event_id: event_id.into(), ..Default::default() }
}

#[tokio::test]
async fn a_refusal_has_its_code_its_reason_and_its_fields() {
    let running = Running::start(ServerConfig::default()).await;
    assert_eq!(running.get_user("ada").await.unwrap().into_inner().user_id, "ada");
    let status = running.get_user("bad").await.unwrap_err();
    let details = status.get_error_details();
    assert_eq!(
        (status.code(), details.error_info().unwrap().reason.as_str()),
        (Code::InvalidArgument, "INVALID_FIELD")
    );
    assert_eq!(details.bad_request().unwrap().field_violations.len(), 2);
    let status = running.get_user("nobody").await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::NotFound, "user_id: no such user"));
}

#[tokio::test]
async fn a_request_over_one_mebibyte_is_out_of_range() {
    let running = Running::start(ServerConfig::default()).await;
    let status = running.grpc().await.record_action(action(&"x".repeat(2 << 20))).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
}

#[tokio::test]
async fn a_panic_fails_its_own_call_and_nothing_else_on_the_connection() {
    let running = Running::start(ServerConfig::default()).await;
    let mut client = running.grpc().await;
    let status = client.get_user(GetUserRequest { user_id: "panic".into() }).await.unwrap_err();
    assert_eq!(status.code(), Code::Internal);
    assert!(client.record_action(action("e")).await.is_ok());
}

#[tokio::test]
async fn a_deadline_cuts_a_unary_call_and_never_a_stream() {
    let running =
        Running::start(ServerConfig { unary_deadline: Duration::from_millis(50), ..Default::default() }).await;
    let (send, receive) = mpsc::channel(1);
    send.send(action("before")).await.unwrap();
    let mut answers = running.grpc().await.record_actions(ReceiverStream::new(receive)).await.unwrap().into_inner();
    assert_eq!(soon("the first answer", answers.next()).await.unwrap().unwrap().event_id, "before");
    let status = soon("the deadline", running.get_user("for-ever")).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    send.send(action("after")).await.unwrap();
    assert_eq!(soon("the second answer", answers.next()).await.unwrap().unwrap().event_id, "after");
}

#[tokio::test]
async fn with_no_room_left_calls_are_shed_in_either_protocol_and_health_still_answers() {
    let running = Running::start(ServerConfig { in_flight: 1, ..Default::default() }).await;
    let held = running.grpc().await;
    let held = tokio::spawn({
        let mut held = held;
        async move { held.get_user(GetUserRequest { user_id: "held".into() }).await }
    });
    soon("the held call", running.api.arrived.notified()).await;

    let status = running.get_user("ada").await.unwrap_err();
    let details = status.get_error_details();
    assert_eq!((status.code(), details.error_info().unwrap().reason.as_str()), (Code::ResourceExhausted, "OVERLOADED"));
    assert!(details.retry_info().unwrap().retry_delay.is_some());
    let (status, body) = running.post("GetUser", "{}").await;
    assert_eq!((status, body["code"].as_str()), (429, Some("resource_exhausted")), "{body}");
    HealthClient::new(running.channel().await).check(HealthCheckRequest::default()).await.unwrap();

    running.api.released.notify_one();
    soon("the held call's answer", held).await.unwrap().unwrap();
    assert!(running.get_user("ada").await.is_ok());
}

#[tokio::test]
async fn a_client_above_its_rate_is_told_when_to_come_again() {
    let config = ServerConfig { rate_limit: NonZeroU32::new(1).map(RateLimit::new), ..Default::default() };
    let (running, other_port) = (Running::start(config.clone()).await, Running::start(config).await);
    assert!(running.get_user("ada").await.is_ok());
    let status = running.get_user("ada").await.unwrap_err();
    let details = status.get_error_details();
    assert_eq!(
        (status.code(), details.error_info().unwrap().reason.as_str()),
        (Code::ResourceExhausted, "RATE_LIMITED")
    );
    assert!(details.retry_info().unwrap().retry_delay.is_some_and(|delay| delay <= Duration::from_secs(1)));
    assert_eq!(other_port.get_user("ada").await.unwrap_err().code(), Code::ResourceExhausted, "one rate over all");
}

#[tokio::test]
async fn health_follows_readiness_and_ends_its_watches_at_shutdown() {
    let running = Running::start(ServerConfig::default()).await;
    let component = running.readiness.component("ingress-1");
    let mut health = HealthClient::new(running.channel().await);
    let asked = HealthCheckRequest { service: "headwater.v1.UserActions".into() };
    let mut watch = health.watch(asked).await.unwrap().into_inner();
    let mut until = async |wanted: ServingStatus| {
        soon(wanted.as_str_name(), async {
            while watch.next().await.map(|seen| seen.unwrap().status()) != Some(wanted) {}
        })
        .await;
    };
    until(ServingStatus::NotServing).await;
    component.ready();
    until(ServingStatus::Serving).await;
    running.shutdown.cancel();
    until(ServingStatus::NotServing).await;
    soon("the end of the watch", async { while watch.next().await.is_some() {} }).await;
    soon("the end of the server", running.served).await.unwrap().unwrap();
}

#[tokio::test]
async fn reflection_names_the_services_and_gives_their_files_unless_switched_off() {
    let running = Running::start(ServerConfig::default()).await;
    let ask = |message_request| {
        let request = ServerReflectionRequest { host: String::new(), message_request: Some(message_request) };
        let channel = running.channel();
        async move {
            let mut client = ServerReflectionClient::new(channel.await);
            let answers = client.server_reflection_info(tokio_stream::iter([request])).await?;
            answers.into_inner().next().await.unwrap().map(|answer| answer.message_response.unwrap())
        }
    };
    let MessageResponse::ListServicesResponse(list) = ask(MessageRequest::ListServices(String::new())).await.unwrap()
    else {
        panic!("not a list")
    };
    let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    assert!(names.iter().any(|name| name == "headwater.v1.UserActions"), "{names:?}");
    assert!(!names.iter().any(|name| name == "headwater.v1.Fraud"), "not served here: {names:?}");
    for symbol in ["headwater.v1.UserActions", "google.rpc.Status", "google.rpc.ErrorInfo", "google.rpc.BadRequest"] {
        let file = ask(MessageRequest::FileContainingSymbol(symbol.into())).await.unwrap();
        assert!(matches!(file, MessageResponse::FileDescriptorResponse(_)), "{symbol}: {file:?}");
    }

    let without = Running::start(ServerConfig { reflection: false, ..Default::default() }).await;
    let refused = ServerReflectionClient::new(without.channel().await)
        .server_reflection_info(tokio_stream::iter([ServerReflectionRequest::default()]))
        .await;
    assert_eq!(refused.unwrap_err().code(), Code::Unimplemented);
}

#[tokio::test]
async fn an_open_reflection_stream_does_not_hold_up_the_drain() {
    let running = Running::start(ServerConfig::default()).await;
    let (_keeps_it_open, requests) = mpsc::channel(1);
    let mut client = ServerReflectionClient::new(running.channel().await);
    let mut answers = client.server_reflection_info(ReceiverStream::new(requests)).await.unwrap().into_inner();
    running.shutdown.cancel();
    assert!(soon("the end of the stream", answers.next()).await.is_none());
    soon("the end of the server", running.served).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_drain_lets_open_calls_end_but_not_for_ever() {
    let running = Running::start(ServerConfig::default()).await;
    let mut client = running.grpc().await;
    let held = tokio::spawn(async move { client.get_user(GetUserRequest { user_id: "held".into() }).await });
    soon("the held call", running.api.arrived.notified()).await;
    running.shutdown.cancel();
    running.api.released.notify_one();
    soon("the held call's answer", held).await.unwrap().unwrap();
    soon("the end of the server", running.served).await.unwrap().unwrap();

    let running = Running::start(ServerConfig { drain: Duration::from_millis(50), ..Default::default() }).await;
    let mut client = running.grpc().await;
    let _stuck = tokio::spawn(async move { client.get_user(GetUserRequest { user_id: "held".into() }).await });
    soon("the stuck call", running.api.arrived.notified()).await;
    running.shutdown.cancel();
    soon("the end of the server", running.served).await.unwrap().unwrap();
}
