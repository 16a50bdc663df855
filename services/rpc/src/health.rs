use headwater_otel::Readiness;
use tokio_util::sync::CancellationToken;
use tonic_health::{ServingStatus, server::HealthReporter};

/// Keeps gRPC health in step with the readiness until shutdown, then says NOT_SERVING and ends every watch, so that
/// no watcher holds up the drain.
pub(crate) async fn follow(
    mut reporter: HealthReporter,
    names: Vec<&'static str>,
    readiness: Readiness,
    shutdown: CancellationToken,
) {
    let mut changes = readiness.changes();
    let names = || names.iter().copied().chain([""]);
    loop {
        changes.mark_unchanged();
        let status = if readiness.waiting().is_empty() { ServingStatus::Serving } else { ServingStatus::NotServing };
        for name in names() {
            reporter.set_service_status(name, status).await;
        }
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Ok(()) = changes.changed() => {}
        }
    }
    for name in names() {
        reporter.set_service_status(name, ServingStatus::NotServing).await;
        reporter.clear_service_status(name).await;
    }
}
