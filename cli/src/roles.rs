//! What can be served, what it needs, and how one instance of it lives.
use clap::ValueEnum;
use headwater_stream::KafkaConfig;
use serde::Serialize;

use crate::{Error, settings::Settings};

/// A service of the platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Ingress,
    Notification,
    Analytics,
    Fraud,
    Activity,
}

impl Role {
    pub const ALL: [Self; 5] = [Self::Ingress, Self::Notification, Self::Analytics, Self::Fraud, Self::Activity];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Notification => "notification",
            Self::Analytics => "analytics",
            Self::Fraud => "fraud",
            Self::Activity => "activity",
        }
    }

    /// How many instances `up` runs.
    pub(crate) const fn instances_in_up(self) -> u32 {
        match self {
            Self::Notification => 3,
            _ => 1,
        }
    }

    /// The variables without which the role cannot be served.
    const fn needs(self) -> &'static [&'static str] {
        match self {
            Self::Ingress => &["KAFKA_BROKERS", "DATABASE_URL"],
            Self::Notification | Self::Analytics | Self::Fraud => &["KAFKA_BROKERS", "MONGODB_URI"],
            Self::Activity => &["KAFKA_BROKERS"],
        }
    }

    /// Whether it keeps documents: a function of the log, in a store that may be shared.
    pub(crate) const fn keeps_documents(self) -> bool {
        matches!(self, Self::Notification | Self::Analytics | Self::Fraud)
    }

    /// Where a service with a document of its own is served alone, it goes by that document's variables: (ours, its).
    pub(crate) fn documented(roles: &[Self]) -> &'static [(&'static str, &'static str)] {
        match roles {
            [Self::Activity] => &[
                ("ACTIVITY_PORT", "PORT"),
                ("ACTIVITY_KAFKA_CLIENT_ID", "KAFKA_CLIENT_ID"),
                ("ACTIVITY_KAFKA_TOPIC", "KAFKA_TOPIC"),
                ("ACTIVITY_KAFKA_CONSUMER_GROUP", "KAFKA_CONSUMER_GROUP"),
                ("ACTIVITY_KAFKA_PRODUCER_RETRIES", "KAFKA_PRODUCER_RETRIES"),
                ("ACTIVITY_KAFKA_PRODUCER_RETRY_BACKOFF_MS", "KAFKA_PRODUCER_RETRY_BACKOFF_MS"),
                ("ACTIVITY_KAFKA_CONNECTION_TIMEOUT_MS", "KAFKA_CONNECTION_TIMEOUT_MS"),
                ("ACTIVITY_KAFKA_REQUEST_TIMEOUT_MS", "KAFKA_REQUEST_TIMEOUT_MS"),
            ],
            _ => &[],
        }
    }
}

/// Names every variable that `roles` need and that is not set.
pub(crate) fn require(roles: &[Role], settings: &Settings) -> Result<(), Error> {
    let missing = |variable: &str| match variable {
        "KAFKA_BROKERS" => settings.kafka_brokers.is_none(),
        "DATABASE_URL" => settings.database_url.is_none(),
        "MONGODB_URI" => settings.mongodb_uri.is_none(),
        _ => false,
    };
    let mut told: Vec<String> = Vec::new();
    for role in roles {
        for variable in role.needs().iter().filter(|variable| missing(variable)) {
            told.push(format!("{} needs {variable}", role.name()));
        }
    }
    if told.is_empty() {
        return Ok(());
    }
    let told = told.join(", ");
    Err(Error::Usage(format!("{told}: set it, or run `headwater up`, which embeds what is not configured")))
}

/// Documents are a function of the log and say where in it they stand: kept beyond their log, they would take the next
/// one for records they have seen.
pub(crate) fn require_log_of_documents(settings: &Settings) -> Result<(), Error> {
    if settings.mongodb_uri.is_none() || settings.kafka_brokers.is_some() {
        return Ok(());
    }
    Err(Error::Usage(
        "MONGODB_URI is set and KAFKA_BROKERS is not: the documents would outlive the embedded broker's log, of which \
         they are made; set KAFKA_BROKERS too, or unset MONGODB_URI"
            .to_owned(),
    ))
}

/// The configured broker.
pub(crate) fn kafka(settings: &Settings) -> Option<KafkaConfig> {
    let mut kafka = KafkaConfig::new(settings.kafka_brokers.clone()?);
    kafka.replication_factor = settings.kafka_replication_factor;
    kafka.min_insync_replicas = settings.kafka_min_insync_replicas;
    Some(kafka)
}
