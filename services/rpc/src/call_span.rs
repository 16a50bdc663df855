//! The span of a call, between its caller's and those of what it leads to.
use headwater_otel::{OpenCall, Span, TraceContext, begin_trace, names, span::Kind};
use http::HeaderValue;
use tonic::Code;

use crate::connect;

pub(crate) struct CallSpan {
    span: Span,
    call: OpenCall,
}

impl CallSpan {
    /// Puts the call's own context in place of its caller's, for all that is done behind the door. `None` where traces are
    /// off, this one is not sampled or nothing of ours is called.
    pub(crate) fn begin<B>(request: &mut http::Request<B>) -> Option<Self> {
        let method = request.uri().path().strip_prefix('/')?;
        let service = match method.split_once('/')?.0 {
            "headwater.v1.UserActions" => names::SERVICE_INGRESS,
            "headwater.v1.Analytics" => names::SERVICE_ANALYTICS,
            "headwater.v1.Fraud" => names::SERVICE_FRAUD,
            "headwater.v1.Activity" => names::SERVICE_ACTIVITY,
            _ => return None,
        };
        let method = method.to_owned();
        let caller = request.headers().get(TraceContext::HEADER);
        let caller = caller.and_then(|value| TraceContext::from_header(value.as_bytes()));
        let context = begin_trace(caller)?;
        if caller.is_none() {
            request.headers_mut().remove(TraceContext::STATE_HEADER); // the state of no trace
        }
        let value = HeaderValue::from_str(&context.to_string()).expect("a traceparent is plain text");
        request.headers_mut().insert(TraceContext::HEADER, value);
        let span = Span::start(service, method.clone(), Kind::Server, context, caller)?;
        Some(Self { span: span.with(names::RPC_METHOD, method), call: OpenCall::new(context) })
    }

    pub(crate) fn end(self, system: &'static str, code: Code) {
        let Self { span, call } = self;
        let span = span.with(names::RPC_SYSTEM, system).with(names::RPC_STATUS, connect::code(code).0);
        let span = match call.message() {
            Some(id) => span.with(names::MESSAGE_ID, id),
            None => span,
        };
        // as OpenTelemetry has it: a server's error is its own, not that it refuses
        let own = [Code::Unknown, Code::DeadlineExceeded, Code::Unimplemented, Code::Internal, Code::Unavailable];
        if own.contains(&code) { span.failed(connect::code(code).0) } else { span }.end();
    }
}
