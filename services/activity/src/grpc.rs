//! `headwater.v1.Activity`: the same by gRPC.
use std::time::Duration;

use headwater_proto::v1::{self, activity_server::Activity};
use headwater_rpc::{Reason, Violations, next_page_token, page_size, page_token, refuse_for_now, trace_of};
use tonic::{Request, Response, Status};

use crate::{
    event::{known_type, payload_of},
    publish::{Publisher, UNPUBLISHED},
    request::{EVENT_TYPE, USER_ID, Wanted},
    store::Store,
};

/// What a client is asked to wait when the broker is away.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Publishes, and answers from the store. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    pub(crate) publisher: Publisher,
    pub(crate) store: Store,
}

/// Names the field of each problem, in the document's words.
fn refused(problems: &[&'static str]) -> Status {
    let mut violations = Violations::new();
    for problem in problems {
        let field = match *problem {
            USER_ID => "user_id",
            EVENT_TYPE => "event_type",
            _ => "payload",
        };
        violations.add(field, Reason::InvalidField, *problem);
    }
    violations.finish().err().unwrap_or_else(|| Status::invalid_argument("the request cannot be read"))
}

#[tonic::async_trait]
impl Activity for Api {
    async fn generate_event(
        &self,
        request: Request<v1::GenerateEventRequest>,
    ) -> Result<Response<v1::GenerateEventResponse>, Status> {
        let (call, _) = trace_of(request.metadata());
        let v1::GenerateEventRequest { user_id, event_type, payload } = request.into_inner();
        let user_id = Some(user_id).filter(|user_id| !user_id.trim().is_empty());
        let wanted = Wanted::of(user_id, known_type(&event_type), payload_of(payload).ok());
        let wanted = wanted.map_err(|problems| refused(&problems))?;
        let published = self.publisher.publish(wanted, Some(call)).await;
        let event_id = published.map_err(|_told| refuse_for_now(Reason::StoreUnavailable, UNPUBLISHED, RETRY_AFTER))?;
        Ok(Response::new(v1::GenerateEventResponse { event_id: event_id.to_string() }))
    }

    async fn list_processed_events(
        &self,
        request: Request<v1::ListProcessedEventsRequest>,
    ) -> Result<Response<v1::ListProcessedEventsResponse>, Status> {
        let request = request.into_inner();
        let mut violations = Violations::new();
        let event_type = match request.event_type.as_str() {
            "" => None,
            text => violations.field("event_type", known_type(text).ok_or(EVENT_TYPE)),
        };
        let size = page_size(request.page_size, &mut violations);
        let first: u64 = page_token(&request.page_token, &mut violations).unwrap_or(0);
        violations.finish()?;
        let user_id = Some(request.user_id.as_str()).filter(|user_id| !user_id.is_empty());
        let mut found = self.store.find(user_id, event_type, first, size + 1);
        let next = found.get(size).map_or_else(String::new, |(number, _)| next_page_token(number));
        found.truncate(size);
        let events = found.iter().map(|(_, event)| v1::ActivityEvent::from(&**event)).collect();
        Ok(Response::new(v1::ListProcessedEventsResponse { events, next_page_token: next }))
    }
}
