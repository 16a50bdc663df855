//! RecordActions: read ahead, decide in groups, answer in order.
//!
//! One task reads and queues, and the answers wait in the order of their requests; no task per action. When the store
//! fails, reading stops, everything read is answered, and the stream ends UNAVAILABLE: the client repeats what it
//! has no answer to, in order.
use std::{pin::Pin, time::Duration};

use futures::{Stream, StreamExt, stream};
use headwater_otel::TraceContext;
use headwater_proto::v1::{RecordActionRequest, RecordActionsResponse};
use headwater_rpc::Reason;
use prost::Message;
use tokio::{sync::mpsc, time::timeout};
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
    },
    Refused(Status),
    /// No more is read, for this reason; `None` where the client is done.
    End(Option<Status>),
}

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
        self.shared.calls.spawn(reading(self.clone(), requests, origin, sender, failed.clone()));
        // in work until the last answer is taken
        let in_work = self.shared.calls.token();
        let answering = Some((Answering { read, index: 0, failed }, in_work));
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
) {
    let lanes = api.shared.lanes.view();
    let draining = api.shared.draining.clone().cancelled_owned();
    let failing = failed.cancelled();
    tokio::pin!(draining, failing);
    loop {
        let next = tokio::select! {
            biased;
            () = &mut failing => Err(Some(refusal::because(Reason::StoreUnavailable))),
            () = &mut draining => Err(Some(refusal::draining())),
            // who has gone is not read on: what is queued happens all the same
            () = sender.closed() => return,
            next = timeout(api.shared.config.stream_idle, requests.next()) => ended(next, api.shared.config.stream_idle),
        };
        let read = match next {
            Err(reason) => Read::End(reason),
            // a trace for each action: a stream may live for days
            Ok(request) => {
                let trace = TraceContext { sampled: origin.trace.sampled, ..TraceContext::root() };
                match validate::record_action(request, api.arrival(Origin { trace, ..origin.clone() })) {
                    Ok(action) => {
                        let event_id = action.head.id.to_string();
                        Read::Queued { event_id, reply: lanes.submit(action).await }
                    }
                    Err(status) => Read::Refused(status),
                }
            }
        };
        let end = matches!(read, Read::End(_));
        if sender.send(read).await.is_err() || end {
            return;
        }
    }
}

type Next = Option<Result<RecordActionRequest, Status>>;

/// The next request, or why there is none.
fn ended(
    next: Result<Next, tokio::time::error::Elapsed>,
    idle: Duration,
) -> Result<RecordActionRequest, Option<Status>> {
    match next {
        Ok(Some(Ok(request))) => Ok(request),
        Ok(Some(Err(status))) => Err(Some(status)),
        Ok(None) => Err(None),
        Err(_) => Err(Some(Status::deadline_exceeded(format!(
            "no request for {} s; open a new stream when there are some",
            idle.as_secs()
        )))),
    }
}

struct Answering {
    read: mpsc::Receiver<Read>,
    index: i64,
    /// Tells the reader that the store has failed.
    failed: CancellationToken,
}

impl Answering {
    /// `Err` ends the stream.
    async fn next(&mut self) -> Option<Result<RecordActionsResponse, Status>> {
        let (event_id, settled) = match self.read.recv().await? {
            Read::End(reason) => return reason.map(Err),
            Read::Refused(status) => (String::new(), Err(status)),
            Read::Queued { event_id, reply } => {
                (event_id, refusal::settled(reply.await.unwrap_or(Err(Failure::Unavailable))))
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
