//! The numbers of a running platform, read off the admin ports of its processes.
use std::net::SocketAddr;

use futures::future::try_join_all;
use headwater_proto::Millis;

use crate::{Error, target::reachable};

/// In seconds since the Unix epoch.
const PROCESS_START: &str = "process_start_time_seconds";

/// What `/metrics` of each process said at one moment.
pub(crate) struct Scrape(Vec<(SocketAddr, String)>);

impl Scrape {
    /// Of all these admin ports, or the error of the first that does not answer.
    pub(crate) async fn of(http: &reqwest::Client, admins: &[SocketAddr]) -> Result<Self, Error> {
        let texts = admins.iter().map(async |&admin| {
            let url = format!("http://{}/metrics", reachable(admin));
            let unreachable = |source| Error::unreachable(format!("no metrics at {url}; is the platform up?"), source);
            let answer = http.get(&url).send().await.and_then(reqwest::Response::error_for_status);
            let text = answer.map_err(unreachable)?.text().await.map_err(unreachable)?;
            Ok::<_, Error>((admin, text))
        });
        Ok(Self(try_join_all(texts).await?))
    }

    /// When each process began, where it says so.
    pub(crate) fn starts(&self) -> impl Iterator<Item = (SocketAddr, Option<Millis>)> {
        self.0.iter().map(|(admin, text)| {
            let seconds = sum(text, PROCESS_START, &[]);
            (*admin, seconds.map(|seconds| Millis::from_millis((seconds * 1_000.0) as i64)))
        })
    }

    /// The sum over all series of the metric that carry these labels, of all processes; `None` where there is no such
    /// series. Names as in `headwater_otel::names`.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        self.0.iter().filter_map(|(_, text)| sum(text, name, labels)).reduce(|sum, value| sum + value)
    }
}

fn sum(text: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let name = name.replace('.', "_");
    let labels: Vec<String> =
        labels.iter().map(|(key, value)| format!("{}=\"{value}\"", key.replace('.', "_"))).collect();
    let series = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(&name)?;
        let (shown, value) = rest.rsplit_once(' ')?;
        let is_metric = shown.is_empty() || shown.starts_with('{');
        let carries = |label: &String| shown.split(['{', ',', '}']).any(|one| one == label);
        (is_metric && labels.iter().all(carries)).then(|| value.parse::<f64>().ok()).flatten()
    });
    series.reduce(|sum, value| sum + value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_summed_by_name_and_labels_over_all_processes_and_absence_is_no_zero() {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let one = "# TYPE a_b counter\na_b{group=\"one\",why=\"x\"} 1\na_b{group=\"two\",why=\"x\"} 2\na_b_c 40\n";
        let two = "a_b{group=\"two\",why=\"x\"} 5\nplain 7\nprocess_start_time_seconds 1.5\n";
        let scrape = Scrape(vec![(at(1), one.to_owned()), (at(2), two.to_owned())]);
        assert_eq!(scrape.sum("a.b", &[]), Some(8.0));
        assert_eq!(scrape.sum("a.b", &[("group", "two"), ("why", "x")]), Some(7.0));
        assert_eq!(scrape.sum("a.b", &[("group", "three")]), None);
        assert_eq!(scrape.sum("plain", &[]), Some(7.0));
        let starts: Vec<_> = scrape.starts().collect();
        assert_eq!(starts, [(at(1), None), (at(2), Some(Millis::from_millis(1_500)))]);
    }
}
