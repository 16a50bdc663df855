//! One caller of RecordAction: a call, its answer, the next call.
use std::{sync::Arc, time::Duration};

use headwater_proto::v1::RecordActionResponse;
use http::uri::PathAndQuery;
use tokio::time::{Instant, sleep_until};
use tonic::{Request, Status, client::Grpc, transport::Channel};

use super::action::{Accepted as _, Actions, Wire};
use crate::{Answers, Span};

const PATH: PathAndQuery = PathAndQuery::from_static("/headwater.v1.UserActions/RecordAction");

/// How many were accepted in all, and what was answered within the span.
pub(crate) async fn drive(
    channel: Channel,
    actions: Arc<Actions>,
    rate: Option<f64>,
    span: Span,
) -> Result<(u64, Answers), Status> {
    let pace = rate.map(|rate| Duration::from_secs_f64(1.0 / rate));
    let (mut accepted, mut measured) = (0, Answers::none());
    let mut grpc = Grpc::new(channel);
    let mut due = Instant::now();
    loop {
        match pace {
            Some(pace) => {
                sleep_until(due).await;
                due += pace;
            }
            None => due = Instant::now(),
        }
        if due >= span.end {
            return Ok((accepted, measured));
        }
        grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let codec = Wire::<RecordActionResponse>::new(actions.clone());
        let answer = grpc.unary(Request::new(actions.draw()), PATH, codec).await;
        let now = Instant::now();
        let ok = answer.as_ref().is_ok_and(|answer| answer.get_ref().accepted());
        accepted += u64::from(ok);
        if span.holds(now) {
            measured.count(ok, now - due);
        }
    }
}
