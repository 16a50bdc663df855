//! RecordActions: read ahead, decide in groups, answer in order.
//!
//! One task reads and queues, and the answers wait in the order of their requests; no task per action. When the store
//! fails, reading stops, everything read is answered, and the stream ends UNAVAILABLE: the client repeats what it
//! has no answer to, in order.
use std::{pin::Pin, time::Duration};

use futures::{Stream, StreamExt, stream};
use headwater_otel::{Span, TraceContext, names, span::Kind};
use headwater_proto::v1::{RecordActionRequest, RecordActionsResponse};
use headwater_rpc::Reason;
use prost::Message;
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{Api, refusal};
use crate::{
    action::Origin,
    lanes::{Failure, Reply},
    users::Store,
    validate,
};

pub(crate) type Answers = Pin<Box<dyn Stream<Item = Result<RecordActionsResponse, Status>> + Send>>;

/// A request that was read and is not yet answered.
enum Read {
    Queued {
        event_id: String,
        reply: Reply,
        span: Option<Span>,
    },
    /// Under the id that the client gave it.
    Refused {
        event_id: String,
        status: Status,
    },
}

/// Why no more is read; `None` where the client is done or gone.
type End = Option<Status>;

impl<S: Store> Api<S> {
    pub(crate) fn record_all(
        &self,
        requests: impl Stream<Item = Result<RecordActionRequest, Status>> + Send + Unpin + 'static,
        origin: Origin,
    ) -> Result<Answers, Status> {
        if self.shared.draining.is_cancelled() {
            return Err(refusal::draining());
        }
        let (sender, read) = mpsc::channel(self.shared.config.in_flight_per_stream);
        let failed = CancellationToken::new();
        let reader = self.shared.calls.spawn(reading(self.clone(), requests, origin, sender, failed.clone()));
        // in work until the last answer is taken
        let in_work = self.shared.calls.token();
        let answering = Some((Answering { read, reader, index: 0, failed }, in_work));
        Ok(stream::unfold(answering, |answering| async {
            let (mut answering, in_work) = answering?;
            let answer = answering.next().await?;
            let goes_on = answer.is_ok();
            Some((answer, goes_on.then_some((answering, in_work))))
        })
        .boxed())
    }
}

async fn reading<S: Store>(
    api: Api<S>,
    mut requests: impl Stream<Item = Result<RecordActionRequest, Status>> + Send + Unpin,
    origin: Origin,
    sender: mpsc::Sender<Read>,
    failed: CancellationToken,
) -> End {
    let idle = api.shared.config.stream_idle;
    let lanes = api.shared.lanes.view();
    let draining = api.shared.draining.clone().cancelled_owned();
    let failing = failed.cancelled();
    tokio::pin!(draining, failing);
    loop {
        // first the place, then the request: a client that takes no answers is not read on, and is as idle as one
        // that sends nothing
        let (place, request) = tokio::select! {
            biased;
            () = &mut failing => return Some(refusal::because(Reason::StoreUnavailable)),
            () = &mut draining => return Some(refusal::draining()),
            // who has gone is not read on: what is queued happens all the same
            () = sender.closed() => return None,
            next = next(&sender, &mut requests, idle) => match next {
                Ok(next) => next,
                Err(end) => return end,
            },
        };
        // a trace for each action: a stream may live for days
        let trace = TraceContext { sampled: origin.trace.sampled, ..TraceContext::root() };
        let span = Span::start(names::SERVICE_INGRESS, names::SPAN_ACTION, Kind::Server, trace, None);
        let given = request.event_id.clone();
        place.send(match validate::record_action(request, api.arrival(Origin { trace, ..origin.clone() })) {
            Ok(action) => {
                let event_id = action.head.id.to_string();
                let span = span.map(|span| span.with(names::MESSAGE_ID, event_id.clone()).linked(origin.trace));
                Read::Queued { event_id, reply: lanes.submit(action).await, span }
            }
            Err(status) => Read::Refused { event_id: given, status },
        });
    }
}

/// The next request and a place for its answer.
async fn next<'a>(
    sender: &'a mpsc::Sender<Read>,
    requests: &mut (impl Stream<Item = Result<RecordActionRequest, Status>> + Unpin),
    idle: Duration,
) -> Result<(mpsc::Permit<'a, Read>, RecordActionRequest), End> {
    let over =
        |what: &str| Some(Status::deadline_exceeded(format!("{what} for {} s; open a new stream", idle.as_secs())));
    let place = timeout(idle, sender.reserve()).await.map_err(|_| over("no answer was taken"))?;
    let place = place.map_err(|_gone| None)?;
    match timeout(idle, requests.next()).await {
        Ok(Some(Ok(request))) => Ok((place, request)),
        Ok(Some(Err(status))) => Err(Some(status)),
        Ok(None) => Err(None),
        Err(_) => Err(over("no request came")),
    }
}

struct Answering {
    read: mpsc::Receiver<Read>,
    reader: JoinHandle<End>,
    index: i64,
    /// Tells the reader that the store has failed.
    failed: CancellationToken,
}

impl Answering {
    /// `Err` ends the stream.
    async fn next(&mut self) -> Option<Result<RecordActionsResponse, Status>> {
        let Some(read) = self.read.recv().await else {
            let end = (&mut self.reader).await;
            return end
                .unwrap_or_else(|_| Some(Status::internal("the stream ended unexpectedly; the logs say why")))
                .map(Err);
        };
        let (event_id, settled) = match read {
            Read::Refused { event_id, status } => (event_id, Err(status)),
            Read::Queued { event_id, reply, span } => {
                let settled = refusal::settled(reply.await.unwrap_or(Err(Failure::Unavailable)));
                if let Some(span) = span {
                    if settled.is_ok() { span } else { span.failed("refused") }.end();
                }
                (event_id, settled)
            }
        };
        let index = self.index;
        self.index += 1;
        Some(Ok(match settled {
            Ok((_, duplicate)) => RecordActionsResponse { index, event_id, duplicate, status: None },
            Err(status) => {
                refusal::count(&status);
                if refusal::is_unknown(&status) {
                    self.failed.cancel();
                }
                RecordActionsResponse { index, event_id, duplicate: false, status: Some(as_message(&status)) }
            }
        }))
    }
}

/// The status as google.rpc.Status, which its details already are.
fn as_message(status: &Status) -> tonic_types::Status {
    let details = tonic_types::Status::decode(status.details()).map(|status| status.details).unwrap_or_default();
    tonic_types::Status { code: status.code() as i32, message: status.message().to_owned(), details }
}
