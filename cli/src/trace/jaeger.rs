//! The part of Jaeger's HTTP API that is needed: services, and traces by a tag.
use std::collections::{BTreeMap, HashMap};

use reqwest::{Client, Response, Url};
use serde::{Deserialize, de::DeserializeOwned};

use crate::Error;

/// Of one service that knows the tag.
const TRACES: &str = "100";

#[derive(Debug, Deserialize)]
struct Answer<T> {
    data: Option<T>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Trace {
    #[serde(rename = "traceID")]
    pub(super) id: String,
    pub(super) spans: Vec<Span>,
    pub(super) processes: HashMap<String, Process>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Process {
    pub(super) service_name: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Span {
    #[serde(rename = "spanID")]
    pub(super) id: String,
    pub(super) operation_name: String,
    #[serde(default)]
    pub(super) references: Vec<Reference>,
    /// Microseconds since the Unix epoch.
    pub(super) start_time: u64,
    /// Microseconds.
    pub(super) duration: u64,
    #[serde(default)]
    pub(super) tags: Vec<Tag>,
    #[serde(rename = "processID")]
    pub(super) process: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Reference {
    #[serde(rename = "refType")]
    pub(super) kind: String,
    #[serde(rename = "traceID")]
    pub(super) trace: String,
    #[serde(rename = "spanID")]
    pub(super) span: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Tag {
    pub(super) key: String,
    pub(super) value: serde_json::Value,
}

/// Every trace with a span that carries the tag, whichever service made it; ordered by id.
pub(super) async fn traces(base: &str, tag: &str, value: &str) -> Result<Vec<Trace>, Error> {
    let http = Client::new();
    let services: Vec<String> = get(&http, base, "/api/services", &[]).await?;
    let tags = serde_json::json!({ tag: value }).to_string();
    let mut found = BTreeMap::new();
    for service in services {
        let query = [("service", service.as_str()), ("tags", &tags), ("limit", TRACES)];
        let traces: Vec<Trace> = get(&http, base, "/api/traces", &query).await?;
        found.extend(traces.into_iter().map(|trace| (trace.id.clone(), trace)));
    }
    Ok(found.into_values().collect())
}

async fn get<T: DeserializeOwned + Default>(
    http: &Client,
    base: &str,
    path: &str,
    query: &[(&str, &str)],
) -> Result<T, Error> {
    let unreachable = |source: reqwest::Error| Error::unreachable(format!("Jaeger does not answer at {base}"), source);
    let mut url = Url::parse(&format!("{base}{path}")).map_err(|error| Error::Usage(format!("{base}: {error}")))?;
    url.query_pairs_mut().extend_pairs(query);
    let answer = http.get(url).send().await.and_then(Response::error_for_status).map_err(unreachable)?;
    let answer: Answer<T> = answer.json().await.map_err(unreachable)?;
    Ok(answer.data.unwrap_or_default())
}
