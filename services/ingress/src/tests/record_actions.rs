//! The stream of a trusted backend, and its unary twin.
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, stream};
use headwater_proto::{EventType, v1, v1::user_actions_server::UserActions};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Request, Status};
use uuid::Uuid;

use crate::{
    Config, SqliteStore,
    outbox::Outbox,
    testing::{bad_fields, event_id, origin, outbox, reason, running, running_with, story},
};

pub(super) fn action(number: u32, name: &str, event_type: &str) -> v1::RecordActionRequest {
    v1::RecordActionRequest {
        event_id: headwater_proto::EventId::from_bytes(u128::from(number).to_be_bytes()).to_string(),
        event_type: event_type.into(),
        user_id: name.into(),
        ..Default::default()
    }
}

fn reason_of(answer: &v1::RecordActionsResponse) -> Option<String> {
    let status = answer.status.as_ref()?;
    let bytes = prost::Message::encode_to_vec(status).into();
    Some(reason(&Status::with_details(Code::from_i32(status.code), status.message.clone(), bytes)))
}

#[tokio::test]
async fn a_stream_is_answered_in_order_and_survives_a_bad_item() {
    let running = running(SqliteStore::open().await.unwrap()).await;
    let users = ["ada", "bob", "eve"];
    let mut requests: Vec<_> = (0..3_000).map(|n| action(n, users[n as usize % 3], "user.logged_in")).collect();
    requests[10].user_id.clear();
    requests[11].event_type = "user.suspended".into();
    requests[12] = v1::RecordActionRequest { event_type: "user.logged_out".into(), ..requests[0].clone() };
    requests[13] = requests[1].clone();
    let ids: Vec<_> = requests.iter().map(|request| request.event_id.clone()).collect();

    let answers = running.api.record_all(stream::iter(requests).map(Ok), origin()).unwrap();
    let answers: Vec<_> = answers.map(Result::unwrap).collect().await;
    assert_eq!(answers.len(), 3_000);
    for (index, answer) in answers.iter().enumerate() {
        assert_eq!(answer.index, index as i64);
        let expected = match index {
            10 => Some("INVALID_FIELD"),
            11 => Some("EVENT_TYPE_NOT_ACCEPTED"),
            12 => Some("REQUEST_ID_REUSED"),
            _ => None,
        };
        assert_eq!(reason_of(answer).as_deref(), expected, "{index}");
        assert_eq!(answer.duplicate, index == 13, "{index}");
        assert_eq!(answer.event_id, ids[index], "{index}");
    }
    let events = outbox(&running.store).await;
    assert_eq!(events.len(), 3_000 - 4);
    for name in users {
        let of_user: Vec<_> = events.iter().filter(|event| event.user_id.as_str() == name).collect();
        assert!(of_user.is_sorted_by_key(|event| event.id), "{name}: not in the order sent");
    }
}

#[tokio::test]
async fn each_action_of_a_stream_has_a_trace_of_its_own() {
    let running = running(SqliteStore::open().await.unwrap()).await;
    let requests = stream::iter((0..3).map(|n| Ok(action(n, "ada", "user.logged_in"))));
    let _: Vec<_> = running.api.record_all(requests, origin()).unwrap().collect().await;
    let mut traces = Vec::new();
    for lease in running.store.lease(Uuid::nil()).await.unwrap() {
        for row in running.store.unsent(&lease, &[], usize::MAX).await.unwrap() {
            for record in crate::outbox::unpack(&row.bytes) {
                let header = record.unwrap().headers.clone().find(|(name, _)| *name == "traceparent").unwrap();
                traces.push(headwater_otel::TraceContext::from_header(header.1).unwrap().trace_id);
            }
        }
    }
    traces.sort_unstable();
    traces.dedup();
    assert_eq!(traces.len(), 3);
}

#[tokio::test]
async fn a_stream_whose_answers_are_not_taken_stops_being_read() {
    let config = Config { in_flight_per_stream: 8, ..Config::default() };
    let running = running_with(config, SqliteStore::open().await.unwrap()).await;
    let read = Arc::new(AtomicU32::new(0));
    let counting = read.clone();
    let requests = stream::iter(0..1_000).map(move |number| {
        counting.fetch_add(1, Ordering::SeqCst);
        Ok(action(number, "ada", "user.logged_in"))
    });
    let answers = running.api.record_all(requests, origin()).unwrap();
    let mut idle = 0;
    while idle < 1_000 {
        let before = read.load(Ordering::SeqCst);
        tokio::task::yield_now().await;
        idle = if before == read.load(Ordering::SeqCst) && before > 0 { idle + 1 } else { 0 };
    }
    assert_eq!(read.load(Ordering::SeqCst), 8, "as many as may be in flight");
    assert_eq!(answers.count().await, 1_000);
}

#[tokio::test]
async fn a_stream_that_brings_nothing_ends() {
    let config = Config { stream_idle: Duration::from_millis(20), ..Config::default() };
    let running = running_with(config, SqliteStore::open().await.unwrap()).await;
    let (sender, requests) = mpsc::unbounded_channel();
    sender.send(Ok(action(1, "ada", "user.logged_in"))).unwrap();
    let mut answers = running.api.record_all(UnboundedReceiverStream::new(requests), origin()).unwrap();
    assert!(answers.next().await.unwrap().is_ok());
    assert_eq!(answers.next().await.unwrap().unwrap_err().code(), Code::DeadlineExceeded);
    assert!(answers.next().await.is_none());
}

#[tokio::test]
async fn a_stream_whose_answers_are_not_taken_ends_too() {
    let config = Config { stream_idle: Duration::from_millis(20), in_flight_per_stream: 2, ..Config::default() };
    let running = running_with(config, SqliteStore::open().await.unwrap()).await;
    let (sender, requests) = mpsc::unbounded_channel();
    (0..10).for_each(|n| sender.send(Ok(action(n, "ada", "user.logged_in"))).unwrap());
    let answers = running.api.record_all(UnboundedReceiverStream::new(requests), origin()).unwrap();
    let let_go = tokio::time::timeout(Duration::from_secs(20), sender.closed()).await;
    assert!(let_go.is_ok(), "nobody took an answer, and the stream is still read");
    let mut answers: Vec<_> = answers.collect().await;
    assert_eq!(answers.pop().unwrap().unwrap_err().code(), Code::DeadlineExceeded);
    assert_eq!(answers.into_iter().map(|answer| answer.unwrap().index).collect::<Vec<_>>(), [0, 1]);
}

#[tokio::test]
async fn a_client_that_goes_away_loses_only_the_answers() {
    let running = running(SqliteStore::open().await.unwrap()).await;
    let (sender, requests) = mpsc::unbounded_channel();
    let mut answers = running.api.record_all(UnboundedReceiverStream::new(requests), origin()).unwrap();
    for n in 0..100 {
        sender.send(Ok(action(n, "ada", "user.login_failed"))).unwrap();
    }
    answers.next().await.unwrap().unwrap();
    drop(answers);
    sender.closed().await; // the reader has seen it
    running.api.record_action(Request::new(action(200, "ada", "user.logged_in"))).await.unwrap();
    let story = story(&running.store, "ada").await;
    let failures = story.len() - 1;
    assert!((1..=100).contains(&failures), "{failures}");
    assert_eq!(story[failures], "logged_in");
}

#[tokio::test]
async fn a_correlation_id_that_cannot_travel_is_refused_by_name() {
    let running = running(SqliteStore::open().await.unwrap()).await;
    let with = |id: &[u8]| {
        let mut headers = tonic::codegen::http::HeaderMap::new();
        headers.insert("x-correlation-id", tonic::codegen::http::HeaderValue::from_bytes(id).unwrap());
        let metadata = tonic::metadata::MetadataMap::from_headers(headers);
        Request::from_parts(metadata, tonic::Extensions::default(), action(1, "ada", "user.logged_in"))
    };
    for id in [&b"a\tb"[..], "ä".as_bytes(), b"\xff", &[b'x'; 129]] {
        let refused = running.api.record_action(with(id)).await.unwrap_err();
        assert_eq!((reason(&refused), bad_fields(&refused)), ("INVALID_FIELD".into(), vec!["x-correlation-id".into()]));
    }
    assert!(outbox(&running.store).await.is_empty());
    for id in [&b""[..], b"order 17", &[b'x'; 128]] {
        running.api.record_action(with(id)).await.unwrap();
    }
}

#[tokio::test]
async fn an_action_is_written_as_it_was_sent() {
    let running = running(SqliteStore::open().await.unwrap()).await;
    let occurred_at: headwater_proto::Millis = "2020-02-29T12:00:00.123Z".parse().unwrap();
    let payload = v1::Payload {
        email: " Ada@Example.com".into(),
        ip: "::ffff:10.0.0.1".into(),
        user_agent: "curl".into(),
        session_id: "s1".into(),
    };
    let request = v1::RecordActionRequest {
        occurred_at: Some(occurred_at.into()),
        payload: Some(payload),
        ..action(7, "ada", "user.ip_changed")
    };
    let mut request = Request::new(request);
    request.metadata_mut().insert("x-correlation-id", "order-17".parse().unwrap());
    running.api.record_action(request).await.unwrap();
    let event = outbox(&running.store).await.remove(0);
    assert_eq!((event.event_type, event.occurred_at), (EventType::UserIpChanged, occurred_at));
    assert_eq!(event.received_at, crate::testing::now());
    assert_eq!(event.email.as_deref(), Some("ada@example.com"));
    assert_eq!(event.ip.as_deref(), Some("10.0.0.1"));
    assert_eq!((event.user_agent.as_deref(), event.session_id.as_deref()), (Some("curl"), Some("s1")));
    assert_eq!(event.correlation_id.as_deref(), Some("order-17"));
    assert_ne!(event.id, event_id(7));
}
