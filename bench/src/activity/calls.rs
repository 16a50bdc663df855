//! Callers of POST /events/generate, each on a connection of its own: a request, its answer, the next request.
use std::{net::SocketAddr, sync::Arc};

use anyhow::Context as _;
use bytes::Bytes;
use http::{
    Method, Request, StatusCode,
    header::{CONTENT_TYPE, HOST},
};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::{net::TcpStream, time::Instant};

use super::backlog::Draft;
use crate::{Answers, Span};

/// Of each user and type; made before the first is sent.
const BODIES: usize = 4_096;

/// A keep-alive connection.
pub(crate) struct Connection {
    address: String,
    sender: SendRequest<Full<Bytes>>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // it ends with the sender, and the sender says why
        tokio::spawn(connection);
        Ok(Self { address: address.to_string(), sender })
    }

    pub(crate) async fn get(&mut self, path: &str) -> anyhow::Result<(StatusCode, Bytes)> {
        self.call(Method::GET, path, Bytes::new()).await
    }

    pub(crate) async fn post(&mut self, path: &str, body: Bytes) -> anyhow::Result<(StatusCode, Bytes)> {
        self.call(Method::POST, path, body).await
    }

    async fn call(&mut self, method: Method, path: &str, body: Bytes) -> anyhow::Result<(StatusCode, Bytes)> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &self.address)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))?;
        self.sender.ready().await?;
        let answer = self.sender.send_request(request).await?;
        let status = answer.status();
        Ok((status, answer.into_body().collect().await?.to_bytes()))
    }
}

pub(crate) struct Requests {
    address: SocketAddr,
    bodies: Vec<Bytes>,
}

impl Requests {
    pub(crate) fn new(address: SocketAddr, users: u32) -> Self {
        let bodies = (0..BODIES).map(|_| Draft::draw(users).request()).collect();
        Self { address, bodies }
    }

    fn draw(&self) -> Bytes {
        self.bodies[fastrand::usize(..self.bodies.len())].clone()
    }
}

/// The answer to an event that is in the log.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Generated<'a> {
    event_id: &'a str,
}

/// How many were accepted in all, and what was answered within the span. A connection that breaks is opened again, and
/// its request counts as refused.
pub(crate) async fn drive(requests: Arc<Requests>, span: Span) -> anyhow::Result<(u64, Answers)> {
    let open = || async { Connection::open(requests.address).await.context("the service takes no connection") };
    let mut connection = open().await?;
    let (mut accepted, mut measured) = (0, Answers::none());
    loop {
        let sent = Instant::now();
        if sent >= span.end {
            return Ok((accepted, measured));
        }
        let answer = connection.post("/events/generate", requests.draw()).await;
        let now = Instant::now();
        let ok = answer.as_ref().is_ok_and(|(status, body)| is_accepted(*status, body));
        accepted += u64::from(ok);
        if span.holds(now) {
            measured.count(ok, now - sent);
        }
        if answer.is_err() {
            connection = open().await?;
        }
    }
}

pub(super) fn is_accepted(status: StatusCode, body: &[u8]) -> bool {
    let generated = serde_json::from_slice::<Generated<'_>>(body);
    status == StatusCode::CREATED && generated.is_ok_and(|generated| generated.event_id.len() == 36)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_201_with_an_event_id_is_accepted() {
        let body = br#"{"eventId":"7f8d9d4a-9058-4de8-8824-36431448c76f"}"#;
        assert!(is_accepted(StatusCode::CREATED, body));
        assert!(!is_accepted(StatusCode::OK, body));
        for other in [&b"{}"[..], br#"{"eventId":""}"#, br#"{"message":"Failed to publish event"}"#, b""] {
            assert!(!is_accepted(StatusCode::CREATED, other), "{}", String::from_utf8_lossy(other));
        }
    }
}
