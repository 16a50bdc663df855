//! One unary RPC over HTTP in the Connect protocol with a JSON body: <https://connectrpc.com/docs/protocol#unary-request>.
use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, StatusCode, header};
use http_body_util::BodyExt as _;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::error::Category;
use tonic::{Code, Request, Response, Status, body::Body, metadata::MetadataMap};
use tonic_types::StatusExt as _;

use crate::{MAX_MESSAGE_BYTES, Reason, Violations, connect};

pub(crate) type Answer = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Refused>> + Send>>;
pub(crate) type Handler = Arc<dyn Fn(http::Request<Body>) -> Answer + Send + Sync>;

/// An error and, where it says more than the code's own, its HTTP status.
pub(crate) struct Refused {
    pub(crate) status: Status,
    pub(crate) http_status: Option<StatusCode>,
}

const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("connect-protocol-version");
const TIMEOUT_MS: HeaderName = HeaderName::from_static("connect-timeout-ms");
/// What is about the HTTP message, not about the call: the rest becomes metadata.
const NOT_METADATA: [HeaderName; 7] = [
    PROTOCOL_VERSION,
    TIMEOUT_MS,
    header::CONTENT_LENGTH,
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::EXPECT,
    header::HOST,
];
/// A refused body is read up to here, because a connection that is closed with unread bytes is reset, and the
/// client would never see the 413.
const DISCARD_MAX_BYTES: usize = 8 * MAX_MESSAGE_BYTES;

pub(crate) fn handler<Req, Res, A, F, Fut>(api: A, call: F) -> Handler
where
    Req: DeserializeOwned + Send + 'static,
    Res: Serialize + Send + 'static,
    A: Clone + Send + Sync + 'static,
    F: Fn(A, Request<Req>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<Response<Res>, Status>> + Send + 'static,
{
    Arc::new(move |request| {
        let (api, call) = (api.clone(), call.clone());
        Box::pin(async move {
            let answer = call(api, decode(request).await?).await?;
            Ok(encode(answer)?)
        })
    })
}

/// The caller's `connect-timeout-ms`, if it is shorter than `longest`.
pub(crate) fn time_allowed(headers: &HeaderMap, longest: Duration) -> Result<Duration, Refused> {
    let Some(value) = headers.get(TIMEOUT_MS) else { return Ok(longest) };
    let text = value.to_str().unwrap_or_default();
    let millis = if (1..=10).contains(&text.len()) { text.parse::<u64>().ok() } else { None };
    let millis = millis.ok_or_else(|| invalid(TIMEOUT_MS.as_str(), "must be 1 to 10 digits"))?;
    Ok(longest.min(Duration::from_millis(millis)))
}

async fn decode<Req: DeserializeOwned>(request: http::Request<Body>) -> Result<Request<Req>, Refused> {
    let (parts, body) = request.into_parts();
    if parts.headers.get(PROTOCOL_VERSION).is_some_and(|version| version != "1") {
        return Err(invalid(PROTOCOL_VERSION.as_str(), "must be 1").into());
    }
    if parts.headers.get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        return Err(Status::unimplemented("content-encoding: send the body as it is").into());
    }
    let body = read(body).await?;
    let message = serde_json::from_slice(&body).map_err(|error| misread(&error))?;
    let mut headers = parts.headers;
    for name in &NOT_METADATA {
        headers.remove(name);
    }
    Ok(Request::from_parts(MetadataMap::from_headers(headers), parts.extensions, message))
}

/// Why the body is not the request, by its place. serde's own words are left out where they may quote a value: it
/// could be a password.
fn misread(error: &serde_json::Error) -> Status {
    let (line, column) = (error.line(), error.column());
    let text = error.to_string();
    // a key is no value
    let key = text.strip_prefix("duplicate field `").and_then(|rest| rest.split('`').next());
    match (error.classify(), key) {
        (Category::Data, Some(key)) => invalid(key, format!("is given twice, at line {line} column {column}")),
        (Category::Data, None) => {
            invalid("body", format!("has a value that does not fit its field, at line {line} column {column}"))
        }
        (Category::Syntax | Category::Eof | Category::Io, _) => {
            invalid("body", format!("is not JSON, at line {line} column {column}"))
        }
    }
}

fn invalid(field: &str, description: impl Into<String>) -> Status {
    let mut violations = Violations::new();
    violations.add(field, Reason::InvalidField, description);
    violations.finish().expect_err("a violation was added")
}

async fn read(mut body: Body) -> Result<Bytes, Refused> {
    let (mut bytes, mut total) = (BytesMut::new(), 0);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Status::cancelled("the request body ended early"))?;
        let Ok(data) = frame.into_data() else { continue };
        total += data.len();
        if total <= MAX_MESSAGE_BYTES {
            bytes.extend_from_slice(&data);
        } else if total > DISCARD_MAX_BYTES {
            break;
        }
    }
    if total > MAX_MESSAGE_BYTES {
        let message = format!("the request body is over {MAX_MESSAGE_BYTES} bytes");
        let status = Status::with_error_details(Code::OutOfRange, message, Reason::InvalidField.details());
        return Err(Refused { status, http_status: Some(StatusCode::PAYLOAD_TOO_LARGE) });
    }
    Ok(bytes.freeze())
}

fn encode<Res: Serialize>(answer: Response<Res>) -> Result<http::Response<Body>, Status> {
    let (metadata, message, _) = answer.into_parts();
    let json =
        serde_json::to_vec(&message).map_err(|e| Status::internal(format!("the answer has no JSON form: {e}")))?;
    let mut response = connect::answer(StatusCode::OK, json);
    for (name, value) in metadata.into_headers() {
        if let Some(name) = name.filter(|name| name != header::CONTENT_TYPE) {
            response.headers_mut().append(name, value);
        }
    }
    Ok(response)
}

impl From<Status> for Refused {
    fn from(status: Status) -> Self {
        Self { status, http_status: None }
    }
}

impl Refused {
    pub(crate) fn code(&self) -> Code {
        self.status.code()
    }

    pub(crate) fn into_response(self) -> http::Response<Body> {
        match self.http_status {
            Some(http_status) => connect::error_under(http_status, self.status),
            None => connect::error(self.status),
        }
    }
}
