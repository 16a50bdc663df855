//! One RecordActions stream.
use std::sync::Arc;

use headwater_proto::v1::RecordActionsResponse;
use http::uri::PathAndQuery;
use tokio::time::Instant;
use tonic::{Request, Status, client::Grpc, transport::Channel};

use super::{
    action::{Accepted as _, Actions, Wire},
    window::{Sending, Window},
};
use crate::{Answers, Span};

const PATH: PathAndQuery = PathAndQuery::from_static("/headwater.v1.UserActions/RecordActions");

/// How many were accepted in all, and what was answered within the span.
pub(crate) async fn drive(
    channel: Channel,
    actions: Arc<Actions>,
    window: usize,
    rate: Option<f64>,
    span: Span,
) -> Result<(u64, Answers), Status> {
    let window = Window::new(window);
    let sending = Sending::new(window.clone(), actions.clone(), rate, span);
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let codec = Wire::<RecordActionsResponse>::new(actions);
    let mut stream = grpc.streaming(Request::new(sending), PATH, codec).await?.into_inner();
    let (mut accepted, mut measured, mut index) = (0, Answers::none(), 0);
    while let Some(answer) = stream.message().await? {
        let now = Instant::now();
        let sent = window.answered().filter(|_| answer.index == index);
        let sent = sent.ok_or_else(|| Status::internal("an answer without its action"))?;
        index += 1;
        accepted += u64::from(answer.accepted());
        if span.holds(now) {
            measured.count(answer.accepted(), now - sent);
        }
    }
    Ok((accepted, measured))
}
