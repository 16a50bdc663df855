//! The span of a call, between its caller's and those of what it leads to.
use headwater_otel::{OpenCall, Span, TraceContext, begin_trace, names, span::Kind};
use http::{HeaderMap, HeaderValue, StatusCode};
use tonic::Code;

use crate::{connect, trace::trace_in};

pub(crate) struct CallSpan {
    span: Span,
    call: OpenCall,
}

impl CallSpan {
    /// Of an RPC, by its path. `None` also where nothing of ours is called.
    pub(crate) fn of_rpc<B>(request: &mut http::Request<B>) -> Option<Self> {
        let method = request.uri().path().strip_prefix('/')?;
        let service = match method.split_once('/')?.0 {
            "headwater.v1.UserActions" => names::SERVICE_INGRESS,
            "headwater.v1.Analytics" => names::SERVICE_ANALYTICS,
            "headwater.v1.Fraud" => names::SERVICE_FRAUD,
            "headwater.v1.Activity" => names::SERVICE_ACTIVITY,
            _ => return None,
        };
        let method = method.to_owned();
        let Self { span, call } = Self::begin(service, method.clone(), request.headers_mut())?;
        Some(Self { span: span.with(names::RPC_METHOD, method), call })
    }

    /// Of a request that is no RPC.
    pub(crate) fn of_route<B>(service: &'static str, route: &str, request: &mut http::Request<B>) -> Option<Self> {
        let method = request.method().to_string();
        let Self { span, call } = Self::begin(service, format!("{method} {route}"), request.headers_mut())?;
        let span = span.with(names::HTTP_METHOD, method).with(names::HTTP_ROUTE, route.to_owned());
        Some(Self { span, call })
    }

    /// Puts the call's own context in place of its caller's, for all that is done behind the door. `None` where traces are
    /// off or this one is not sampled.
    fn begin(service: &'static str, name: String, headers: &mut HeaderMap) -> Option<Self> {
        let caller = trace_in(headers);
        let context = begin_trace(caller)?;
        if caller.is_none() {
            headers.remove(TraceContext::STATE_HEADER); // the state of no trace
        }
        let value = HeaderValue::from_str(&context.to_string()).expect("a traceparent is plain text");
        headers.insert(TraceContext::HEADER, value);
        let span = Span::start(service, name, Kind::Server, context, caller)?;
        Some(Self { span, call: OpenCall::new(context) })
    }

    pub(crate) fn end_rpc(self, system: &'static str, code: Code) {
        // as OpenTelemetry has it: a server's error is its own, not that it refuses
        let own = [Code::Unknown, Code::DeadlineExceeded, Code::Unimplemented, Code::Internal, Code::Unavailable];
        let name = connect::code(code).0;
        let span = self.answered().with(names::RPC_SYSTEM, system).with(names::RPC_STATUS, name);
        if own.contains(&code) { span.failed(name) } else { span }.end();
    }

    pub(crate) fn end_http(self, status: StatusCode) {
        let span = self.answered().with(names::HTTP_STATUS, i64::from(status.as_u16()));
        let failed = status.is_server_error().then(|| status.canonical_reason().unwrap_or("server error"));
        if let Some(reason) = failed { span.failed(reason) } else { span }.end();
    }

    fn answered(self) -> Span {
        let Self { span, call } = self;
        match call.message() {
            Some(id) => span.with(names::MESSAGE_ID, id),
            None => span,
        }
    }
}
