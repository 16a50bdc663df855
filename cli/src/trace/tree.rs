//! A trace as lines: each span under its parent, in the order in which they began.
use std::{collections::HashMap, fmt::Write as _};

use headwater_otel::names;

use super::jaeger::{Span, Trace};

/// What says most about a span, behind its name.
const SHOWN: [&str; 5] = [names::GROUP, names::OUTCOME, names::REASON, names::RPC_STATUS, names::MESSAGE_ID];

/// The trace's id, then a line per span. A span whose parent is not there is a root.
pub(super) fn render(trace: &Trace) -> String {
    let mut spans: Vec<&Span> = trace.spans.iter().collect();
    spans.sort_by_key(|span| (span.start_time, &span.id));
    let known: Vec<&str> = spans.iter().map(|span| span.id.as_str()).collect();
    let mut children: HashMap<Option<&str>, Vec<&Span>> = HashMap::new();
    for span in &spans {
        children.entry(parent(trace, span).filter(|parent| known.contains(parent))).or_default().push(span);
    }
    let begin = spans.first().map_or(0, |span| span.start_time);
    let mut text = format!("trace {}\n", trace.id);
    let roots = children.get(&None).cloned().unwrap_or_default();
    for (index, root) in roots.iter().enumerate() {
        branch(&mut text, "", index + 1 == roots.len(), root, &Printing { trace, children: &children, begin });
    }
    text
}

/// Jaeger shows a span that is a child of another and linked to it as following from it only.
fn parent<'a>(trace: &Trace, span: &'a Span) -> Option<&'a str> {
    let of = |kind: &str| span.references.iter().find(|one| one.kind == kind && one.trace == trace.id);
    of("CHILD_OF").or_else(|| of("FOLLOWS_FROM")).map(|reference| reference.span.as_str())
}

struct Printing<'a> {
    trace: &'a Trace,
    children: &'a HashMap<Option<&'a str>, Vec<&'a Span>>,
    begin: u64,
}

fn branch(text: &mut String, indent: &str, last: bool, span: &Span, printing: &Printing<'_>) {
    let service = printing.trace.processes.get(&span.process).map_or("?", |process| process.service_name.as_str());
    let milliseconds = |micros: u64| micros as f64 / 1_000.0;
    let (after, took) = (milliseconds(span.start_time - printing.begin), milliseconds(span.duration));
    let corner = if last { "└─ " } else { "├─ " };
    let _ = write!(text, "{indent}{corner}{service}: {} +{after:.1} ms, {took:.1} ms", span.operation_name);
    for tag in SHOWN.iter().filter_map(|name| span.tags.iter().find(|tag| tag.key == *name)) {
        let value = tag.value.as_str().map_or_else(|| tag.value.to_string(), str::to_owned);
        let _ = write!(text, " {value}");
    }
    text.push('\n');
    let indent = format!("{indent}{}", if last { "   " } else { "│  " });
    let below = printing.children.get(&Some(span.id.as_str())).map_or(&[][..], Vec::as_slice);
    for (index, child) in below.iter().enumerate() {
        branch(text, &indent, index + 1 == below.len(), child, printing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_span_stands_under_its_parent_in_the_order_of_time() {
        let span = |id: &str, parent: Option<&str>, name: &str, start: u64| {
            let kind = if name == "process" { "FOLLOWS_FROM" } else { "CHILD_OF" };
            let parent = parent.map(|parent| serde_json::json!({"refType": kind, "traceID": "ab", "spanID": parent}));
            let link = serde_json::json!({"refType": "FOLLOWS_FROM", "traceID": "other", "spanID": "2"});
            let references: Vec<_> = [link].into_iter().chain(parent).collect();
            serde_json::json!({"spanID": id, "operationName": name, "startTime": start, "duration": 1_500,
                "references": references, "tags": [{"key": "outcome", "value": "done"}], "processID": "p1"})
        };
        let trace = serde_json::json!({"traceID": "ab", "processes": {"p1": {"serviceName": "ingress"}}, "spans": [
            span("4", Some("2"), "write", 9_000), span("1", Some("lost"), "call", 5_000),
            span("3", Some("1"), "process", 8_000), span("2", Some("1"), "send", 7_000),
        ]});
        let expected = "trace ab
└─ ingress: call +0.0 ms, 1.5 ms done
   ├─ ingress: send +2.0 ms, 1.5 ms done
   │  └─ ingress: write +4.0 ms, 1.5 ms done
   └─ ingress: process +3.0 ms, 1.5 ms done
";
        assert_eq!(render(&serde_json::from_value(trace).unwrap()), expected);
    }
}
