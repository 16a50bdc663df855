use axum::{
    Json, Router,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use serde_json::{Value, json};

use crate::{Metrics, Readiness};

/// `/metrics` (Prometheus), `/healthz` (this process answers) and `/readyz` (503 with the list of who waits for what).
pub fn admin_routes(metrics: Metrics, readiness: Readiness) -> Router {
    Router::new()
        .route("/metrics", get(move || std::future::ready(render(&metrics))))
        .route("/healthz", get(async || Json(json!({ "status": "ok" }))))
        .route("/readyz", get(move || std::future::ready(ready(&readiness))))
}

fn render(metrics: &Metrics) -> impl IntoResponse + use<> {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics.render())
}

fn ready(readiness: &Readiness) -> (StatusCode, Json<Value>) {
    let waiting = readiness.waiting();
    let status = if waiting.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let list = waiting.iter().map(|(component, reason)| json!({ "component": component, "reason": reason }));
    (status, Json(json!({ "ready": waiting.is_empty(), "waiting": list.collect::<Vec<_>>() })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readyz_is_503_and_says_who_waits_for_what() {
        let readiness = Readiness::default();
        let component = readiness.component("fraud-1");
        component.not_ready("no broker is up");
        let (status, Json(body)) = ready(&readiness);
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(body["waiting"][0], json!({ "component": "fraud-1", "reason": "no broker is up" }));
        component.ready();
        assert_eq!(ready(&readiness).0, StatusCode::OK);
    }

    #[test]
    fn metrics_have_help_buckets_and_underscores_however_often_telemetry_is_set_up() {
        let metrics = crate::init(&crate::TelemetryConfig::default()).unwrap();
        let again = crate::init(&crate::TelemetryConfig::default()).unwrap();
        metrics::counter!(crate::names::CONSUMER_RETRIES, crate::names::GROUP => "a-group").increment(1);
        metrics::histogram!(crate::names::RPC_SERVER_DURATION).record(0.003);
        for metrics in [metrics, again] {
            let text = metrics.render();
            for line in [
                "# TYPE headwater_consumer_retries counter",
                "headwater_consumer_retries{messaging_consumer_group_name=\"a-group\"} 1",
                "rpc_server_call_duration_bucket{le=\"0.005\"} 1",
                "# HELP process_cpu_seconds_total",
            ] {
                assert!(text.contains(line), "no {line} in\n{text}");
            }
        }
    }
}
