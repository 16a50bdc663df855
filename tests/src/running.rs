//! A whole platform of a test's own.
use std::{path::PathBuf, time::Duration};

use headwater_cli::{Platform, settings::Settings};
use headwater_proto::{
    Day, EventId, Millis, topics,
    v1::{
        AccountStatus, EventEnvelope, GetUserRequest, GetUserResponse, analytics_client::AnalyticsClient,
        fraud_client::FraudClient, user_actions_client::UserActionsClient,
    },
};
use headwater_stream::{
    Clock, EmbeddedKafka, SystemClock,
    testing::{OwnedRecord, RawWriter, read_topic},
};
use prost::Message;
use serde_json::Value;
use tonic::transport::{Channel, Endpoint};

use crate::{
    eventually,
    native::{self, Database},
};

/// What a platform stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parts {
    /// Its own broker and SQLite, inside this process.
    Embedded,
    /// The real Kafka and PostgreSQL of [`native`]. The log has what other runs wrote: user ids and days of
    /// [`Running::name`] and [`Running::day`] are nobody else's.
    Native,
}

/// A broker that outlives the platforms on it.
pub struct Broker {
    pub bootstrap: String,
    _embedded: Option<EmbeddedKafka>,
}

impl Broker {
    pub fn of(parts: Parts) -> Self {
        let embedded =
            (parts == Parts::Embedded).then(|| EmbeddedKafka::start(topics::ALL).expect("an embedded broker"));
        let bootstrap = embedded.as_ref().map_or_else(native::kafka, |broker| broker.brokers().to_owned());
        Self { bootstrap, _embedded: embedded }
    }
}

/// The platform in this process, on free ports, with consumer groups and a folder for notifications of its own.
pub struct Running {
    platform: Platform,
    http: reqwest::Client,
    folder: PathBuf,
    token: String,
    database: Option<Database>,
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

impl Running {
    pub async fn start() -> Self {
        Self::on(Parts::Embedded).await
    }

    pub async fn on(parts: Parts) -> Self {
        Self::on_with(parts, |_| {}).await
    }

    pub async fn on_with(parts: Parts, change: impl FnOnce(&mut Settings)) -> Self {
        let token = native::token();
        let folder = std::env::temp_dir().join(format!("headwater-{token}"));
        let mut settings = Settings {
            notification_dir: folder.clone(),
            group_suffix: format!("-{token}"),
            ..Settings::default().on_free_ports()
        };
        let database = match parts {
            Parts::Embedded => None,
            Parts::Native => Some(Database::create().await),
        };
        if let Some(database) = &database {
            settings.kafka_brokers = Some(native::kafka());
            settings.database_url = Some(database.url().to_owned().into());
        }
        change(&mut settings);
        let platform = Platform::start(settings).await.expect("the platform starts");
        Self { platform, http: reqwest::Client::new(), folder, token, database }
    }

    /// Ends it as Ctrl-C would.
    pub async fn stop(self) {
        self.platform.stop().await;
        std::fs::remove_dir_all(self.folder).expect("the notifications of this test");
        if let Some(database) = self.database {
            database.wipe().await;
        }
    }

    /// A user id of this run's own.
    pub fn name(&self, name: &str) -> String {
        format!("{name}-{}", self.token)
    }

    /// A past day on which, most likely, nobody else's events lie: one of 18,000.
    pub fn day(&self) -> Day {
        let number = u64::from_str_radix(&self.token, 16).expect("a token is hexadecimal");
        Day::from_epoch_days((number % 18_000) as i32)
    }

    pub fn platform(&self) -> &Platform {
        &self.platform
    }

    pub fn actions(&self) -> UserActionsClient<Channel> {
        UserActionsClient::new(channel(self.platform.addresses().ingress))
    }

    pub fn analytics(&self) -> AnalyticsClient<Channel> {
        AnalyticsClient::new(channel(self.platform.addresses().analytics))
    }

    pub fn fraud(&self) -> FraudClient<Channel> {
        FraudClient::new(channel(self.platform.addresses().fraud))
    }

    /// A unary RPC as Connect/JSON on the port that mounts all services: HTTP status and body.
    pub async fn json(&self, service: &str, method: &str, request: Value) -> (u16, Value) {
        let url = format!("http://{}/headwater.v1.{service}/{method}", self.platform.addresses().http);
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
        let records = read_topic(self.platform.kafka(), topic).await.expect("the topic is read");
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
        let writer = RawWriter::open(self.platform.kafka());
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
        let metrics = self.admin("metrics").await.text().await.expect("text");
        let carries = |line: &str| labels.iter().all(|(key, value)| line.contains(&format!("{key}=\"{value}\"")));
        let is_metric = |line: &&str| line.starts_with(&format!("{name}{{")) || line.starts_with(&format!("{name} "));
        let series = metrics.lines().filter(is_metric).filter(|line| carries(line));
        series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    pub async fn ready(&self) -> bool {
        self.admin("readyz").await.status().is_success()
    }

    async fn admin(&self, path: &str) -> reqwest::Response {
        let url = format!("http://{}/{path}", self.platform.addresses().admin);
        self.http.get(url).send().await.expect("the admin port answers")
    }
}

fn channel(address: std::net::SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
    endpoint.connect_timeout(Duration::from_secs(5)).connect_lazy()
}
