//! Each metric's help, taken from its doc comment in names.rs, so that it is written once.
use std::sync::LazyLock;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    /// Of seconds, or else of counts and bytes.
    Histogram {
        seconds: bool,
    },
}

#[derive(Debug)]
pub(crate) struct Metric {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) help: String,
}

pub(crate) static METRICS: LazyLock<Vec<Metric>> = LazyLock::new(|| {
    let constants = constants(include_str!("names.rs"));
    let metrics = constants.iter().filter_map(|constant| {
        let (what, text) = constant.doc.split_once(": ")?;
        let kind = match what.split_once(", ").map_or((what, ""), |(kind, unit)| (kind, unit)) {
            ("Counter", _) => Kind::Counter,
            ("Gauge", _) => Kind::Gauge,
            ("Histogram", unit) => Kind::Histogram { seconds: unit == "seconds" },
            _ => return None,
        };
        Some(Metric { name: constant.value, kind, help: with_labels(text, &constants) })
    });
    metrics.collect()
});

struct Constant {
    identifier: &'static str,
    value: &'static str,
    doc: String,
}

fn constants(source: &'static str) -> Vec<Constant> {
    let (mut constants, mut doc, mut identifier) = (Vec::new(), Vec::new(), None);
    for line in source.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("///") {
            doc.push(text.trim());
            continue;
        }
        if let Some((name, _)) = line.strip_prefix("pub const ").and_then(|rest| rest.split_once(':')) {
            identifier = Some(name);
        }
        // a long value stands on a line of its own
        if let (Some(name), Some(value)) = (identifier, line.split('"').nth(1)) {
            constants.push(Constant { identifier: name, value, doc: doc.join(" ") });
        }
        // also one whose value is no text
        if line.ends_with(';') {
            (identifier, doc) = (None, Vec::new());
        }
    }
    constants
}

/// ``[`GROUP`]`` -> messaging_consumer_group_name
fn with_labels(text: &str, constants: &[Constant]) -> String {
    let mut text = text.to_owned();
    for constant in constants {
        let link = format!("[`{}`]", constant.identifier);
        text = text.replace(&link, &constant.value.replace('.', "_"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_says_what_it_means_and_no_help_has_a_link_left() {
        for constant in constants(include_str!("names.rs")) {
            assert!(!constant.doc.is_empty(), "{} has no doc comment", constant.identifier);
        }
        for metric in METRICS.iter() {
            assert!(!metric.help.contains('`'), "{metric:?}");
        }
    }

    #[test]
    fn a_doc_comment_becomes_kind_and_help() {
        let retries = METRICS.iter().find(|metric| metric.name == crate::names::CONSUMER_RETRIES).unwrap();
        assert_eq!(retries.kind, Kind::Counter);
        assert!(retries.help.ends_with("by messaging_consumer_group_name and reason."), "{}", retries.help);
        let duration = METRICS.iter().find(|metric| metric.name == crate::names::RPC_SERVER_DURATION).unwrap();
        assert_eq!(duration.kind, Kind::Histogram { seconds: true });
        let rows = METRICS.iter().find(|metric| metric.name == crate::names::OUTBOX_ROWS).unwrap();
        assert_eq!((rows.kind, rows.help.as_str()), (Kind::Gauge, "rows in the outbox."));
    }
}
