//! How a `tonic::Status` looks in the Connect protocol: <https://connectrpc.com/docs/protocol#error-codes>.
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use http::{HeaderValue, StatusCode, header};
use prost::Message;
use serde_json::{Value, json};
use tonic::{Code, Status, body::Body};
use tonic_types::pb;

const TYPE_PREFIX: &str = "type.googleapis.com/";

/// Connect's word for a code, and the HTTP status it travels under.
pub(crate) const fn code(code: Code) -> (&'static str, StatusCode) {
    match code {
        Code::Ok => ("ok", StatusCode::OK),
        // 499 is nginx' "client closed request"; http has no constant for it.
        Code::Cancelled => ("canceled", CLIENT_CLOSED_REQUEST),
        Code::Unknown => ("unknown", StatusCode::INTERNAL_SERVER_ERROR),
        Code::InvalidArgument => ("invalid_argument", StatusCode::BAD_REQUEST),
        Code::DeadlineExceeded => ("deadline_exceeded", StatusCode::GATEWAY_TIMEOUT),
        Code::NotFound => ("not_found", StatusCode::NOT_FOUND),
        Code::AlreadyExists => ("already_exists", StatusCode::CONFLICT),
        Code::PermissionDenied => ("permission_denied", StatusCode::FORBIDDEN),
        Code::ResourceExhausted => ("resource_exhausted", StatusCode::TOO_MANY_REQUESTS),
        Code::FailedPrecondition => ("failed_precondition", StatusCode::BAD_REQUEST),
        Code::Aborted => ("aborted", StatusCode::CONFLICT),
        Code::OutOfRange => ("out_of_range", StatusCode::BAD_REQUEST),
        Code::Unimplemented => ("unimplemented", StatusCode::NOT_IMPLEMENTED),
        Code::Internal => ("internal", StatusCode::INTERNAL_SERVER_ERROR),
        Code::Unavailable => ("unavailable", StatusCode::SERVICE_UNAVAILABLE),
        Code::DataLoss => ("data_loss", StatusCode::INTERNAL_SERVER_ERROR),
        Code::Unauthenticated => ("unauthenticated", StatusCode::UNAUTHORIZED),
    }
}

const CLIENT_CLOSED_REQUEST: StatusCode = match StatusCode::from_u16(499) {
    Ok(status) => status,
    Err(_) => StatusCode::BAD_REQUEST,
};

/// The error under its code's HTTP status.
pub(crate) fn error(status: Status) -> http::Response<Body> {
    let (_, http_status) = code(status.code());
    error_under(http_status, status)
}

/// The error under a status of its own: 404, 405, 413 and 415 say more than their code's would.
pub(crate) fn error_under(http_status: StatusCode, status: Status) -> http::Response<Body> {
    let details = details(&status);
    let retry_after =
        details.iter().find_map(|(_, debug)| debug.as_ref()?.get("retryDelay")?.as_str().and_then(whole_seconds));
    let mut body = json!({ "code": code(status.code()).0 });
    if !status.message().is_empty() {
        body["message"] = status.message().into();
    }
    if !details.is_empty() {
        body["details"] = details.into_iter().map(|(detail, debug)| as_json(&detail, debug)).collect();
    }
    let mut response = answer(http_status, body.to_string().into_bytes());
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

pub(crate) fn answer(http_status: StatusCode, json: Vec<u8>) -> http::Response<Body> {
    let mut response = http::Response::new(Body::new(http_body_util::Full::from(json)));
    *response.status_mut() = http_status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

type Any = (String, Vec<u8>);

/// Each detail as (type, bytes) and, for the types we send, its proto3 JSON.
fn details(status: &Status) -> Vec<(Any, Option<Value>)> {
    let Ok(details) = pb::Status::decode(status.details()) else { return Vec::new() };
    details
        .details
        .into_iter()
        .map(|any| {
            let name = any.type_url.strip_prefix(TYPE_PREFIX).unwrap_or(&any.type_url).to_owned();
            let debug = debug(&name, &any.value);
            ((name, any.value), debug)
        })
        .collect()
}

fn as_json((name, bytes): &Any, debug: Option<Value>) -> Value {
    let mut detail = json!({ "type": name, "value": STANDARD_NO_PAD.encode(bytes) });
    if let Some(debug) = debug {
        detail["debug"] = debug;
    }
    detail
}

fn debug(name: &str, bytes: &[u8]) -> Option<Value> {
    Some(match name {
        "google.rpc.BadRequest" => {
            let violations = pb::BadRequest::decode(bytes).ok()?.field_violations;
            let violations = violations
                .into_iter()
                .map(|v| json!({ "field": v.field, "description": v.description, "reason": v.reason }));
            json!({ "fieldViolations": violations.collect::<Vec<_>>() })
        }
        "google.rpc.ErrorInfo" => {
            let info = pb::ErrorInfo::decode(bytes).ok()?;
            let mut debug = json!({ "reason": info.reason, "domain": info.domain });
            if !info.metadata.is_empty() {
                debug["metadata"] = json!(info.metadata);
            }
            debug
        }
        "google.rpc.RetryInfo" => {
            let delay = pb::RetryInfo::decode(bytes).ok()?.retry_delay.unwrap_or_default();
            json!({ "retryDelay": format!("{}.{:03}s", delay.seconds, delay.nanos / 1_000_000) })
        }
        _ => return None,
    })
}

/// `retry-after` has no fractions: rounded up, so that nobody comes too early.
fn whole_seconds(delay: &str) -> Option<u64> {
    let seconds: f64 = delay.strip_suffix('s')?.parse().ok()?;
    Some(seconds.ceil() as u64)
}
