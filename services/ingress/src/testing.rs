//! What the tests of several files need: actions, a running api, and what the outbox holds.
use std::sync::Arc;

use headwater_otel::TraceContext;
use headwater_proto::{Decoded, Event, EventId, EventType, Millis, UserId};
use headwater_stream::FixedClock;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic_types::StatusExt;
use uuid::Uuid;

use crate::{
    Api, Config, Ingress, Store,
    action::{Action, Client, Head, Origin, What},
    outbox::unpack,
};

pub(crate) fn now() -> Millis {
    "2026-01-15T10:30:00Z".parse().unwrap()
}

pub(crate) fn user_id(name: &str) -> UserId {
    UserId::try_from(name).unwrap()
}

pub(crate) fn event_id(number: u8) -> EventId {
    EventId::from_bytes([number; 16])
}

pub(crate) fn origin() -> Origin {
    Origin { trace: TraceContext::root(), trace_state: None, correlation_id: None }
}

/// At [`now`], of a request that differs from those of other ids.
pub(crate) fn head(number: u8) -> Head {
    Head {
        id: event_id(number),
        digest: [number; 32],
        occurred_at: now(),
        received_at: now(),
        client: Client::default(),
        origin: origin(),
    }
}

pub(crate) fn record(number: u8, name: &str, event_type: EventType) -> Action {
    Action { head: head(number), what: What::Record { user_id: user_id(name), event_type, email: None } }
}

/// An api whose lanes run, without a log.
pub(crate) struct Running<S> {
    pub(crate) api: Api<S>,
    pub(crate) store: S,
    pub(crate) clock: FixedClock,
    /// Ends with the test.
    _lanes: JoinSet<()>,
}

pub(crate) async fn running<S: Store>(store: S) -> Running<S> {
    running_with(Config::default(), store).await
}

pub(crate) async fn running_with<S: Store>(config: Config, store: S) -> Running<S> {
    let clock = FixedClock::at(now());
    let ingress = Ingress::open(config, store.clone(), Arc::new(clock.clone())).await.unwrap();
    let api = ingress.api();
    let stop = CancellationToken::new();
    let lanes = ingress.workers.into_iter().map(|lane| lane.run(stop.clone())).collect();
    Running { api, store, clock, _lanes: lanes }
}

/// Everything in the outbox: each user's events in the order in which the relay will write them.
pub(crate) async fn outbox(store: &impl Store) -> Vec<Event> {
    let mut events = Vec::new();
    for lease in store.lease(Uuid::nil()).await.unwrap() {
        for row in store.unsent(&lease, &[], usize::MAX).await.unwrap() {
            for record in unpack(&row.bytes) {
                let record = record.unwrap();
                let decoded = Event::decode(Some(record.key), Some(record.value), Some(b"application/protobuf"), None);
                let Ok(Decoded::Event(event)) = decoded else { panic!("{decoded:?}") };
                assert_eq!(record.timestamp, event.received_at.as_millis());
                events.push(event);
            }
        }
    }
    events
}

/// The types of a user's events, in order, without their common prefix.
pub(crate) async fn story(store: &impl Store, name: &str) -> Vec<&'static str> {
    let events = outbox(store).await;
    let of_user = events.iter().filter(|event| event.user_id == user_id(name));
    of_user.map(|event| event.event_type.as_str().trim_start_matches("user.")).collect()
}

pub(crate) fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    let info = details.error_info().unwrap_or_else(|| panic!("no ErrorInfo: {status:?}"));
    assert_eq!(info.domain, "headwater");
    info.reason.clone()
}

/// The fields that BadRequest names, in order.
pub(crate) fn bad_fields(status: &Status) -> Vec<String> {
    let details = status.get_error_details();
    let violations = details.bad_request().map(|bad| bad.field_violations.clone()).unwrap_or_default();
    violations.into_iter().map(|violation| violation.field).collect()
}
