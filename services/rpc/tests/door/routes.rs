//! Routes of a document's own, over a real connection.
use std::{num::NonZeroU32, sync::Arc, time::Duration};

use axum::{Router, http::StatusCode, response::IntoResponse as _, routing::get};
use headwater_rpc::{RateLimit, limited, serve_routes};
use tokio::{net::TcpListener, sync::Notify, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::api::soon;

struct Serving {
    url: String,
    shutdown: CancellationToken,
    served: JoinHandle<std::io::Result<()>>,
}

async fn serving(routes: Router, drain: Duration) -> Serving {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let shutdown = CancellationToken::new();
    let served = tokio::spawn(serve_routes(listener, routes, drain, shutdown.clone()));
    Serving { url, shutdown, served }
}

/// A route whose handler tells that it was reached and answers when it may.
fn held() -> (Router, Arc<Notify>, Arc<Notify>) {
    let (arrived, answers) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (tells, waits) = (arrived.clone(), answers.clone());
    let handler = move || async move {
        tells.notify_one();
        waits.notified().await;
        "done"
    };
    (Router::new().route("/", get(handler)), arrived, answers)
}

#[tokio::test]
async fn what_is_in_work_at_shutdown_is_answered_and_nothing_new_is_taken() {
    let (routes, arrived, answers) = held();
    let Serving { url, shutdown, served } = serving(routes, Duration::from_secs(60)).await;
    let request = tokio::spawn(reqwest::get(url.clone()));
    soon("the request", arrived.notified()).await;
    shutdown.cancel();
    let refused = async { while reqwest::get(&url).await.is_ok() {} };
    soon("a refusal", refused).await;
    assert!(!served.is_finished());
    answers.notify_one();
    let answer = soon("the answer", request).await.unwrap().unwrap();
    assert_eq!(answer.text().await.unwrap(), "done");
    soon("the end", served).await.unwrap().unwrap();
}

#[tokio::test]
async fn what_does_not_end_holds_up_the_end_for_no_longer_than_the_drain() {
    let (routes, arrived, _never) = held();
    let Serving { url, shutdown, served } = serving(routes, Duration::from_millis(50)).await;
    let request = tokio::spawn(reqwest::get(url));
    soon("the request", arrived.notified()).await;
    shutdown.cancel();
    soon("the end", served).await.unwrap().unwrap();
    request.abort();
}

#[tokio::test]
async fn a_client_beyond_its_rate_is_refused_on_that_route_alone_and_told_when_to_come_back() {
    let limit = Some(RateLimit::new(NonZeroU32::MIN));
    let refusal = || (StatusCode::TOO_MANY_REQUESTS, "slower").into_response();
    let routes = Router::new().route("/", limited(limit, refusal, get("ok"))).route("/free", get("ok"));
    let Serving { url, .. } = serving(routes, Duration::ZERO).await;
    assert_eq!(reqwest::get(&url).await.unwrap().status(), StatusCode::OK);
    assert_eq!(reqwest::Client::new().post(&url).send().await.unwrap().status(), StatusCode::METHOD_NOT_ALLOWED);
    let refused = reqwest::get(&url).await.unwrap();
    assert_eq!(
        (refused.status(), &refused.headers()["retry-after"]),
        (StatusCode::TOO_MANY_REQUESTS, &"1".parse().unwrap())
    );
    assert_eq!(refused.text().await.unwrap(), "slower");
    assert_eq!(reqwest::get(format!("{url}free")).await.unwrap().status(), StatusCode::OK);
}
