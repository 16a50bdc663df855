//! A platform as its clients and an outside reader of its log see it, wherever it runs.
use std::{net::SocketAddr, path::PathBuf, time::Duration};

use headwater_cli::up::Addresses;
use headwater_proto::{
    Day, EventId, Millis,
    v1::{
        AccountStatus, EventEnvelope, GetUserRequest, GetUserResponse, analytics_client::AnalyticsClient,
        fraud_client::FraudClient, user_actions_client::UserActionsClient,
    },
};
use headwater_stream::{
    Clock, KafkaConfig, SystemClock,
    testing::{OwnedRecord, RawWriter, read_topic},
};
use prost::Message;
use serde_json::Value;
use tonic::transport::{Channel, Endpoint};

use crate::eventually;

/// Everything that a scenario needs of a platform. Several scenarios may share one: what [`Reached::name`] and
/// [`Reached::day`] give is nobody else's.
pub struct Reached {
    pub addresses: Addresses,
    pub kafka: KafkaConfig,
    /// The admin port of every process; their metrics are summed.
    pub admins: Vec<SocketAddr>,
    /// Of the notification logs.
    pub folder: PathBuf,
    pub group_suffix: String,
    /// From [`crate::native::token`].
    pub token: String,
    pub http: reqwest::Client,
}

/// A record as an outside reader sees it.
pub struct Logged(OwnedRecord);

impl Logged {
    pub fn key(&self) -> &str {
        std::str::from_utf8(self.0.key.as_deref().unwrap_or_default()).expect("keys are user ids")
    }

    pub fn value(&self) -> &[u8] {
        self.0.value.as_deref().unwrap_or_default()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.0.header(name).map(|value| std::str::from_utf8(value).expect("headers are text"))
    }

    pub fn partition(&self) -> i32 {
        self.0.position.partition
    }
}

impl Reached {
    /// A user id of this run's own.
    pub fn name(&self, name: &str) -> String {
        format!("{name}-{}", self.token)
    }

    /// A past day on which, most likely, nobody else's events lie: one of 18,000.
    pub fn day(&self) -> Day {
        let number = u64::from_str_radix(&self.token, 16).expect("a token is hexadecimal");
        Day::from_epoch_days((number % 18_000) as i32)
    }

    pub fn actions(&self) -> UserActionsClient<Channel> {
        UserActionsClient::new(channel(self.addresses.ingress))
    }

    pub fn analytics(&self) -> AnalyticsClient<Channel> {
        AnalyticsClient::new(channel(self.addresses.analytics))
    }

    pub fn fraud(&self) -> FraudClient<Channel> {
        FraudClient::new(channel(self.addresses.fraud))
    }

    /// A unary RPC as Connect/JSON on the port that mounts all services: HTTP status and body.
    pub async fn json(&self, service: &str, method: &str, request: Value) -> (u16, Value) {
        let url = format!("http://{}/headwater.v1.{service}/{method}", self.addresses.http);
        let answer = self.http.post(url).json(&request).send().await.expect("an answer");
        (answer.status().as_u16(), answer.json().await.expect("JSON"))
    }

    pub fn today(&self) -> Day {
        SystemClock.now().day()
    }

    /// The account once it has this status.
    pub async fn user_once(&self, user_id: &str, status: AccountStatus) -> GetUserResponse {
        let mut actions = self.actions();
        eventually(&format!("{user_id} is {status:?}"), async || {
            let request = GetUserRequest { user_id: user_id.into() };
            let user = actions.get_user(request).await.expect("the account").into_inner();
            (user.status() == status).then_some(user)
        })
        .await
    }

    /// What this user was told, in the order of each instance's log.
    pub fn notifications_of(&self, user_id: &str) -> Vec<Value> {
        let mut lines = self.notifications();
        lines.retain(|line| line["userId"] == user_id);
        lines
    }

    /// Every line of every instance's notification log.
    pub fn notifications(&self) -> Vec<Value> {
        let files = std::fs::read_dir(&self.folder).into_iter().flatten();
        let texts = files.map(|file| std::fs::read_to_string(file.expect("a file").path()).expect("a log"));
        let texts: Vec<String> = texts.collect();
        // a line in the making has no end yet
        let lines = texts.iter().flat_map(|text| text.split_inclusive('\n')).filter(|line| line.ends_with('\n'));
        lines.map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }

    /// Everything in the topic, by partition and offset.
    pub async fn records(&self, topic: &str) -> Vec<Logged> {
        let records = read_topic(&self.kafka, topic).await.expect("the topic is read");
        records.into_iter().map(Logged).collect()
    }

    /// The topic once it has at least this many records.
    pub async fn settled(&self, topic: &str, at_least: usize) -> Vec<Logged> {
        eventually(&format!("{topic} has {at_least} records"), async || {
            let records = self.records(topic).await;
            (records.len() >= at_least).then_some(records)
        })
        .await
    }

    /// Past the ingress, without any header, as kcat would.
    pub async fn write(&self, topic: &str, key: &str, value: &[u8]) {
        let writer = RawWriter::open(&self.kafka);
        writer.write(topic, None, Some(key.as_bytes()), Some(value), &[]).await;
    }

    /// The same event once more, under an id nobody has seen.
    pub async fn write_again_with_new_id(&self, record: &Logged) {
        let mut event = EventEnvelope::decode(record.value()).expect("an envelope");
        event.event_id = EventId::new(Millis::from_millis(0)).to_string();
        self.write("user.events", record.key(), &event.encode_to_vec()).await;
    }

    /// The sum of a counter or gauge over all its series that carry these labels.
    pub async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let metrics = self.metrics().await;
        let carries = |line: &str| labels.iter().all(|(key, value)| line.contains(&format!("{key}=\"{value}\"")));
        let is_metric = |line: &&str| line.starts_with(&format!("{name}{{")) || line.starts_with(&format!("{name} "));
        let series = metrics.lines().filter(is_metric).filter(|line| carries(line));
        series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// What every process measures, in Prometheus' format.
    pub async fn metrics(&self) -> String {
        let mut metrics = String::new();
        for answer in self.admin("metrics").await {
            metrics.push_str(&answer.text().await.expect("text"));
        }
        metrics
    }

    /// POST /events/generate of the activity service: status and answer.
    pub async fn activity_post(&self, body: &str) -> (u16, Value) {
        let url = format!("http://{}/events/generate", self.addresses.activity);
        let answer = self.http.post(url).body(body.to_owned()).send().await.expect("an answer");
        (answer.status().as_u16(), answer.json().await.expect("JSON"))
    }

    /// GET /events/processed of the activity service, with this query.
    pub async fn activity_processed(&self, query: &[(&str, &str)]) -> Vec<Value> {
        let url = format!("http://{}/events/processed", self.addresses.activity);
        let url = reqwest::Url::parse_with_params(&url, query).expect("a URL");
        self.http.get(url).send().await.expect("an answer").json().await.expect("an array")
    }

    pub async fn ready(&self) -> bool {
        self.admin("readyz").await.iter().all(|answer| answer.status().is_success())
    }

    async fn admin(&self, path: &str) -> Vec<reqwest::Response> {
        let mut answers = Vec::with_capacity(self.admins.len());
        for admin in &self.admins {
            let answer = self.http.get(format!("http://{admin}/{path}")).send().await;
            answers.push(answer.expect("the admin port answers"));
        }
        answers
    }
}

fn channel(address: std::net::SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
    endpoint.connect_timeout(Duration::from_secs(5)).connect_lazy()
}
