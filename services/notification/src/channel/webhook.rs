//! POST of the letter to one URL. The receiver tells repeats by the `idempotency-key` header.
use std::{error::Error, time::Duration};

use headwater_stream::Clock;
use reqwest::{Client, StatusCode, Url, header::CONTENT_TYPE, redirect::Policy};

use super::{Channel, Failure, letter};
use crate::decide::Notification;

/// Of one request, from connecting to the answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Its first part, told apart because nothing is handed over before it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// `<eventId>:<kind>`: the same at every attempt, from whichever instance.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

pub struct WebhookChannel<C> {
    client: Client,
    url: Url,
    instance: String,
    clock: C,
}

impl<C: Clock> WebhookChannel<C> {
    pub fn new(url: Url, instance: &str, clock: C) -> Result<Self, reqwest::Error> {
        // a followed redirect would turn the POST into a GET and its 200 into a delivery
        let client =
            Client::builder().timeout(TIMEOUT).connect_timeout(CONNECT_TIMEOUT).redirect(Policy::none()).build()?;
        Ok(Self { client, url, instance: instance.to_owned(), clock })
    }
}

impl<C: Clock> Channel for WebhookChannel<C> {
    const NAME: &'static str = "webhook";

    async fn deliver(&self, notification: &Notification) -> Result<(), Failure> {
        let request = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(IDEMPOTENCY_KEY, notification.key.to_string())
            .body(letter(notification, &self.instance, self.clock.now()));
        match request.send().await {
            Ok(answer) => judge(answer.status()),
            Err(error) => Err(no_answer(error)),
        }
    }
}

fn judge(status: StatusCode) -> Result<(), Failure> {
    let not_delivered = |reason| Err(Failure::NotDelivered { reason, source: None });
    match status {
        status if status.is_success() => Ok(()),
        StatusCode::REQUEST_TIMEOUT => not_delivered("http_408"),
        StatusCode::TOO_MANY_REQUESTS => not_delivered("http_429"),
        status if status.is_client_error() => Err(Failure::Refused { reason: "http_4xx" }),
        // a proxy speaks here, about a receiver that it lost sight of
        StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => {
            Err(Failure::Unknown { reason: "http_gateway", source: None })
        }
        status if status.is_server_error() => not_delivered("http_5xx"),
        _ => not_delivered("http_unexpected"),
    }
}

/// The URL is cut from the error: it may hold the receiver's secret.
fn no_answer(error: reqwest::Error) -> Failure {
    let (away, unsent, timed_out) = (error.is_connect(), error.is_builder(), error.is_timeout());
    let source: Option<Box<dyn Error + Send + Sync>> = Some(error.without_url().into());
    if away {
        Failure::Away { reason: "connect_failed", source }
    } else if unsent {
        Failure::NotDelivered { reason: "request_invalid", source }
    } else {
        Failure::Unknown { reason: if timed_out { "http_timeout" } else { "connection_lost" }, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{clock, notification};
    use axum::{Router, body::Bytes, extract::State, http::HeaderMap, http::header::LOCATION, routing::post};
    use headwater_stream::FixedClock;
    use tokio::{io::AsyncReadExt, net::TcpListener, sync::mpsc};

    type Seen = mpsc::UnboundedSender<(HeaderMap, serde_json::Value)>;

    async fn answer(
        status: StatusCode,
        State(seen): State<Seen>,
        headers: HeaderMap,
        body: Bytes,
    ) -> (StatusCode, [(axum::http::HeaderName, &'static str); 1]) {
        seen.send((headers, serde_json::from_slice(&body).unwrap())).unwrap();
        (status, [(LOCATION, "/200")])
    }

    /// Answers a POST to `/<status>` with that status.
    async fn receiver() -> (String, mpsc::UnboundedReceiver<(HeaderMap, serde_json::Value)>) {
        let (seen, received) = mpsc::unbounded_channel();
        let status = |axum::extract::Path(status): axum::extract::Path<u16>| StatusCode::from_u16(status).unwrap();
        let handler = move |path, state, headers, body| answer(status(path), state, headers, body);
        let app = Router::new().route("/{status}", post(handler)).with_state(seen);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        (base, received)
    }

    fn channel(url: String) -> WebhookChannel<FixedClock> {
        WebhookChannel::new(url.parse().unwrap(), "1", clock()).unwrap()
    }

    #[tokio::test]
    async fn the_receiver_gets_the_letter_and_a_key_to_tell_repeats_by() {
        let (base, mut received) = receiver().await;
        channel(format!("{base}/204")).deliver(&notification(7)).await.unwrap();
        let (headers, body) = received.recv().await.unwrap();
        assert_eq!(headers[CONTENT_TYPE], "application/json");
        assert_eq!(headers[IDEMPOTENCY_KEY], "07070707-0707-0707-0707-070707070707:WELCOME");
        assert_eq!((&body["userId"], &body["kind"]), (&"user-7".into(), &"WELCOME".into()));
    }

    #[tokio::test]
    async fn the_answer_decides_between_done_again_and_never() {
        let (base, _received) = receiver().await;
        for (status, expected) in [
            (200, "done"),
            (202, "done"),
            (302, "not delivered: http_unexpected"),
            (400, "refused: http_4xx"),
            (404, "refused: http_4xx"),
            (408, "not delivered: http_408"),
            (429, "not delivered: http_429"),
            (500, "not delivered: http_5xx"),
            (503, "not delivered: http_5xx"),
            (504, "perhaps delivered: http_gateway"),
        ] {
            let result = channel(format!("{base}/{status}")).deliver(&notification(1)).await;
            assert_eq!(result.map_or_else(|failure| failure.to_string(), |()| "done".into()), expected, "{status}");
        }
    }

    #[tokio::test]
    async fn nobody_there_is_away_and_a_lost_answer_is_unknown() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/secret-token", listener.local_addr().unwrap());
        let hang_up = tokio::spawn(async move {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 1_024];
            assert!(connection.read(&mut buffer).await.unwrap() > 0);
        });
        let lost = channel(url.clone()).deliver(&notification(1)).await.unwrap_err();
        assert!(matches!(lost, Failure::Unknown { reason: "connection_lost", .. }), "{lost:?}");
        assert!(!format!("{lost:?}").contains("secret-token"), "{lost:?}");
        hang_up.await.unwrap();
        let nobody = channel(url).deliver(&notification(1)).await.unwrap_err();
        assert!(matches!(nobody, Failure::Away { reason: "connect_failed", .. }), "{nobody:?}");
    }
}
