//! The services of the platform, each a process with ports of its own, on the parts of one row.
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
};

use anyhow::{Context as _, Result};
use headwater_cli::settings::{Secret, Settings};
use headwater_stream::KafkaConfig;

use crate::{
    apart::ADVERTISED,
    proxy::Proxy,
    rows::Row,
    stack::Stack,
    supervisor::{Launch, free_port},
};

/// Where the parts are, as the services see them, and what of them belongs to this row.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    /// Of its databases.
    pub name: String,
    pub brokers: String,
    /// Of its consumer groups.
    pub suffix: String,
    /// The row's database of the ingress.
    pub database: String,
    /// Where databases are made and dropped.
    pub administration: String,
    /// The row's database of the consumers.
    pub documents: String,
}

impl Parts {
    pub(crate) async fn of(stack: &Stack, name: &str) -> Result<Self> {
        let named = |url: &str| {
            let (server, _) = url.rsplit_once('/').with_context(|| format!("no database in the URL of {name}"))?;
            Ok::<_, anyhow::Error>(format!("{server}/{name}"))
        };
        let administration = stack.address("postgres", "DATABASE_URL").await?;
        Ok(Self {
            name: name.to_owned(),
            brokers: stack.address("kafka", "KAFKA_BROKERS").await?,
            suffix: format!("-{}", name.replace('_', "-")),
            database: named(&administration)?,
            documents: named(&stack.address("mongo", "MONGODB_URI").await?)?,
            administration,
        })
    }

    /// From now on the services reach every part through a proxy of its own.
    pub(crate) async fn behind_proxies(&mut self, stack: &Stack) -> Result<Vec<Proxy>> {
        let mut proxies = Vec::new();
        for (url, port) in [
            (&mut self.brokers, stack.variable(ADVERTISED).and_then(|port| port.parse().ok())),
            (&mut self.database, None),
            (&mut self.documents, None),
        ] {
            let part = address(url)?;
            let proxy = Proxy::before(part, port.unwrap_or_else(free_port)).await?;
            *url = url.replace(&part.to_string(), &format!("{}:{}", Ipv4Addr::LOCALHOST, proxy.port()));
            proxies.push(proxy);
        }
        Ok(proxies)
    }
}

/// The host and port in a URL, or in what is nothing else.
fn address(url: &str) -> Result<SocketAddr> {
    let after = url.rsplit('@').next().unwrap_or(url);
    let after = after.split_once("://").map_or(after, |(_, after)| after);
    let host = after.split('/').next().unwrap_or(after);
    host.parse().with_context(|| format!("no address: {host}"))
}

/// Name and role of every process.
const SERVICES: [(&str, &str); 6] = [
    ("ingress", "ingress"),
    ("analytics", "analytics"),
    ("fraud", "fraud"),
    ("notification-1", "notification"),
    ("notification-2", "notification"),
    ("notification-3", "notification"),
];

/// How to start each. Whoever has a `webhook` is told there.
pub(crate) fn launches(row: &Row, parts: &Parts, folder: &Path, webhook: Option<&str>) -> Vec<Launch> {
    let services = SERVICES.iter().chain(row.beside);
    services.map(|&(name, role)| launch(name, role, parts, folder, webhook)).collect()
}

/// The platform that these processes are, for tools that drive it and hold it against a journal. `letters` is the
/// folder in which all notifications end.
pub(crate) fn settings(launches: &[Launch], kafka: &KafkaConfig, parts: &Parts, letters: &Path) -> Settings {
    let port = |name: &str, variable: &str| {
        let launch = launches.iter().find(|launch| launch.name == name);
        let port = launch.and_then(|launch| launch.environment.iter().find(|(key, _)| key == variable));
        port.and_then(|(_, port)| port.parse().ok()).expect("every process has its ports")
    };
    let admin = |launch: &Launch| SocketAddr::from((Ipv4Addr::LOCALHOST, launch.admin));
    Settings {
        kafka_brokers: Some(kafka.brokers.clone()),
        mongodb_uri: Some(Secret::from(parts.documents.clone())),
        ingress_grpc_port: port("ingress", "INGRESS_GRPC_PORT"),
        http_port: port("ingress", "HTTP_PORT"),
        analytics_grpc_port: port("analytics", "ANALYTICS_GRPC_PORT"),
        fraud_grpc_port: port("fraud", "FRAUD_GRPC_PORT"),
        admin_port: port("ingress", "ADMIN_PORT"),
        admin_addresses: launches.iter().map(admin).collect(),
        notification_dir: letters.to_owned(),
        group_suffix: parts.suffix.clone(),
        ..Settings::default()
    }
}

fn launch(name: &str, role: &str, parts: &Parts, folder: &Path, webhook: Option<&str>) -> Launch {
    let admin = free_port();
    let mut environment = vec![
        ("KAFKA_BROKERS", parts.brokers.clone()),
        ("HEADWATER_GROUP_SUFFIX", parts.suffix.clone()),
        ("HEADWATER_INSTANCE", name.to_owned()),
        ("ADMIN_PORT", admin.to_string()),
        ("RUST_LOG", "info".to_owned()),
    ];
    let ports: &[&str] = match role {
        "ingress" => &["INGRESS_GRPC_PORT", "HTTP_PORT"],
        "analytics" => &["ANALYTICS_GRPC_PORT"],
        "fraud" => &["FRAUD_GRPC_PORT"],
        _ => &[],
    };
    environment.extend(ports.iter().map(|variable| (*variable, free_port().to_string())));
    match role {
        "ingress" => environment.push(("DATABASE_URL", parts.database.clone())),
        _ => environment.push(("MONGODB_URI", parts.documents.clone())),
    }
    match webhook.filter(|_| role == "notification") {
        Some(url) => environment.push(("HEADWATER_NOTIFICATION_WEBHOOK", url.to_owned())),
        None => environment.push(("HEADWATER_NOTIFICATION_DIR", folder.join("notifications").display().to_string())),
    }
    Launch {
        name: name.to_owned(),
        arguments: vec!["serve".to_owned(), role.to_owned()],
        environment: environment.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
        admin,
        folder: folder.to_owned(),
    }
}
