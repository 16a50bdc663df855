//! Holds the dashboards of Grafana and the alerts of Prometheus against the names that there are, so that neither can
//! drift from the other.
use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;

use crate::describe::{Kind, METRICS};

/// Those of metrics-process and of Prometheus itself.
const FOREIGN: [&str; 2] = ["up", "ALERTS"];
const FOREIGN_PREFIX: &str = "process_";
/// Set by Prometheus on every series, or by a function.
const COMMON_LABELS: [&str; 4] = ["job", "instance", "le", "alertstate"];
const KEYWORDS: [&str; 10] =
    ["by", "without", "on", "ignoring", "group_left", "group_right", "and", "or", "unless", "offset"];

/// What an expression of PromQL names.
#[derive(Debug, Default, PartialEq)]
struct Named {
    metrics: BTreeSet<String>,
    labels: BTreeSet<String>,
}

/// Reads names off an expression without understanding it: what stands in braces or in the parentheses of `by` is a
/// label, what is called is a function, every other word is a metric.
fn named(expression: &str) -> Named {
    let mut named = Named::default();
    let mut rest = expression;
    // of the parentheses that are open, whether they list labels
    let mut lists = Vec::new();
    let (mut braces, mut brackets, mut lists_labels) = (0, 0, false);
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '$');
        if first == '"' {
            let end = rest[1..].find('"').map_or(rest.len(), |end| end + 2);
            rest = &rest[end..];
            continue;
        }
        if !is_word(first) {
            match first {
                '{' => braces += 1,
                '}' => braces -= 1,
                '[' => brackets += 1,
                ']' => brackets -= 1,
                '(' => lists.push(std::mem::take(&mut lists_labels)),
                ')' => drop(lists.pop()),
                _ => {}
            }
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        rest = after;
        let next = after.trim_start();
        let is_called = next.starts_with('(') || next.starts_with("by (") || next.starts_with("without (");
        if KEYWORDS.contains(&word) {
            lists_labels = is_called;
        } else if brackets > 0 || first.is_ascii_digit() || first == '$' {
            // a window or a number
        } else if braces > 0 || lists.last() == Some(&true) {
            named.labels.insert(word.to_owned());
        } else if !is_called {
            named.metrics.insert(word.to_owned());
        }
    }
    named
}

/// What is wrong with the names of an expression.
fn wrong(expression: &str) -> Vec<String> {
    let named = named(expression);
    let mut wrong = Vec::new();
    let mut labels: Vec<String> = COMMON_LABELS.map(str::to_owned).into();
    for metric in &named.metrics {
        if FOREIGN.contains(&metric.as_str()) || metric.starts_with(FOREIGN_PREFIX) {
            continue;
        }
        let known = METRICS.iter().find(|known| {
            let name = known.name.replace('.', "_");
            match known.kind {
                Kind::Histogram { .. } => {
                    ["_bucket", "_sum", "_count"].iter().any(|part| metric.strip_suffix(part) == Some(&name))
                }
                Kind::Counter | Kind::Gauge => *metric == name,
            }
        });
        match known {
            // its help names its labels
            Some(known) => labels.extend(known.help.split([' ', ',', '.', ';', ':']).map(str::to_owned)),
            None => wrong.push(format!("{metric} is not in names.rs")),
        }
    }
    if named.metrics.is_empty() {
        wrong.push("names no metric".to_owned());
    }
    let unknown = named.labels.iter().filter(|label| !labels.contains(label));
    wrong.extend(unknown.map(|label| format!("{label} is no label of {:?}", named.metrics)));
    wrong
}

fn files(folder: &str, extension: &str) -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let paths = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let paths = paths.filter(|path| path.extension().is_some_and(|found| found == extension));
    paths.map(|path| (path.display().to_string(), fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn every_name_on_a_dashboard_is_a_metric_and_its_labels_are_its_own() {
    let dashboards = files("grafana/dashboards", "json");
    assert!(!dashboards.is_empty());
    for (path, text) in dashboards {
        let dashboard: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"));
        let panels = dashboard["panels"].as_array().unwrap();
        let targets: Vec<_> = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap()).collect();
        assert!(targets.len() >= panels.len(), "{path} has panels that show nothing");
        for target in targets {
            let expression = target["expr"].as_str().unwrap();
            assert_eq!(wrong(expression), Vec::<String>::new(), "{path}: {expression}");
        }
    }
}

#[test]
fn every_name_in_an_alert_is_a_metric_and_its_labels_are_its_own() {
    let alerts = files("prometheus", "yaml").into_iter().find(|(path, _)| path.ends_with("/alerts.yaml")).unwrap().1;
    let expressions: Vec<_> = alerts.lines().filter_map(|line| line.trim().strip_prefix("expr: ")).collect();
    assert_eq!(expressions.len(), alerts.matches("- alert: ").count(), "an expression is not on one line");
    assert!(expressions.len() > 4);
    for expression in expressions {
        assert_eq!(wrong(expression), Vec::<String>::new(), "{expression}");
    }
}

#[test]
fn a_name_that_nothing_has_is_found() {
    let seen = named(r#"sum by (le, a) (rate(b_bucket{c="d e",f!~"g"}[$__rate_interval])) / 2 > on (h) i offset 5m"#);
    let set = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(seen.labels, set(&["le", "a", "c", "f", "h"]));
    assert_eq!(seen.metrics, set(&["b_bucket", "i"]));

    assert!(wrong("sum(rate(headwater_consumer_outcomes[1m]))").is_empty());
    assert_eq!(wrong("headwater_consumer_outcome"), ["headwater_consumer_outcome is not in names.rs"]);
    assert_eq!(wrong("rpc_server_call_duration").len(), 1, "a histogram has no series of its own name");
    assert_eq!(wrong(r#"headwater_outbox_rows{rule="x"}"#), [r#"rule is no label of {"headwater_outbox_rows"}"#]);
    assert_eq!(wrong("1 + 1"), ["names no metric"]);
}
