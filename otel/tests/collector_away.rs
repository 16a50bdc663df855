//! A collector that is away costs nothing but the spans, and each of those is counted.
use std::time::{Duration, Instant};

use headwater_otel::{
    Metrics, Sampler, Span, TelemetryConfig, TraceContext, TracesConfig, flush_traces, init, is_recorded, names,
    span::Kind,
};

/// More than the queue holds.
const SPANS: u64 = 40_000;
const DEADLINE: Duration = Duration::from_secs(60);

fn dropped(metrics: &Metrics) -> u64 {
    let name = names::TRACES_DROPPED_SPANS.replace('.', "_");
    let text = metrics.render();
    let series = text.lines().filter(|line| line.starts_with(&format!("{name}{{")));
    series.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
}

#[test]
fn spans_that_no_collector_takes_are_counted_one_by_one_and_nobody_waits_for_them() {
    // a port that was free a moment ago
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap();
    let endpoint = format!("http://{free}");
    let traces = TracesConfig { endpoint, sampler: Sampler::default(), instance: "1".to_owned() };
    let metrics = init(&TelemetryConfig { log: "off".to_owned(), traces: Some(traces) }).unwrap();

    let unsampled = TraceContext { sampled: false, ..TraceContext::root() };
    assert!(!is_recorded(unsampled));
    assert!(Span::start("test", "unseen", Kind::Internal, unsampled, None).is_none());

    let started = Instant::now();
    for _ in 0..SPANS {
        let root = TraceContext::root();
        let span = Span::start("test", "lost", Kind::Internal, root, None).expect("traces are on");
        span.with(names::MESSAGE_ID, "an id").linked(unsampled).end();
    }
    let took = started.elapsed();
    assert!(took < Duration::from_secs(10), "{SPANS} spans took {took:?}: somebody waited for the collector");

    let deadline = Instant::now() + DEADLINE;
    loop {
        flush_traces(Duration::from_millis(100));
        let dropped = dropped(&metrics);
        if dropped == SPANS {
            return;
        }
        assert!(dropped < SPANS, "{dropped} of {SPANS} spans were counted");
        assert!(Instant::now() < deadline, "{dropped} of {SPANS} spans were counted within {DEADLINE:?}");
        std::thread::yield_now();
    }
}
