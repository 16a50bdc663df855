//! The numbers of a running process, read off its admin port.
use std::net::SocketAddr;

use crate::{Error, target::reachable};

/// What `/metrics` said at one moment.
pub struct Scrape(String);

impl Scrape {
    /// Fails where nothing answers there, or not with metrics.
    pub async fn of(http: &reqwest::Client, admin: SocketAddr) -> Result<Self, Error> {
        let url = format!("http://{}/metrics", reachable(admin));
        let unreachable = |source| Error::unreachable(format!("no metrics at {url}; is the platform up?"), source);
        let answer = http.get(&url).send().await.and_then(reqwest::Response::error_for_status);
        Ok(Self(answer.map_err(unreachable)?.text().await.map_err(unreachable)?))
    }

    /// The sum over all series of the metric that carry these labels; `None` where there is no such series. Names as
    /// in `headwater_otel::names`.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let name = name.replace('.', "_");
        let labels: Vec<String> =
            labels.iter().map(|(key, value)| format!("{}=\"{value}\"", key.replace('.', "_"))).collect();
        let series = self.0.lines().filter_map(|line| {
            let rest = line.strip_prefix(&name)?;
            let (shown, value) = rest.rsplit_once(' ')?;
            let is_metric = shown.is_empty() || shown.starts_with('{');
            let carries = |label: &String| shown.split(['{', ',', '}']).any(|one| one == label);
            (is_metric && labels.iter().all(carries)).then(|| value.parse::<f64>().ok()).flatten()
        });
        series.fold(None, |sum, value| Some(sum.unwrap_or_default() + value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_summed_by_name_and_labels_and_absence_is_no_zero() {
        let scrape = Scrape(
            "# TYPE a_b counter\na_b{group=\"one\",why=\"x\"} 1\na_b{group=\"two\",why=\"x\"} 2\na_b_c 40\nplain 7\n"
                .into(),
        );
        assert_eq!(scrape.sum("a.b", &[]), Some(3.0));
        assert_eq!(scrape.sum("a.b", &[("group", "two"), ("why", "x")]), Some(2.0));
        assert_eq!(scrape.sum("a.b", &[("group", "three")]), None);
        assert_eq!(scrape.sum("plain", &[]), Some(7.0));
    }
}
