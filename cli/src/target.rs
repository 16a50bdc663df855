//! A running platform as its tools see it: where its doors are, and what of its settings decides what it makes of the
//! log. `up` writes it to `var/up.json`; of a platform in parts, the settings say it.
use std::{
    fs,
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use headwater_stream::KafkaConfig;
use serde::{Deserialize, Serialize};
use tonic::transport::{Channel, Endpoint};

use crate::{
    Error,
    settings::{Secret, Settings},
    up::Addresses,
};

/// In the working folder.
pub(crate) const PATH: &str = "var/up.json";
const CONNECT: Duration = Duration::from_secs(5);

/// What is needed to drive a platform and to hold it against what must be in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// Of `up`; absent where the platform runs in parts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    pub kafka: Broker,
    pub addresses: Addresses,
    /// The admin ports of all its processes.
    pub admins: Vec<SocketAddr>,
    /// Folder of the notification logs; absent where notifications go elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notifications: Option<PathBuf>,
    pub session_timeout_millis: i64,
    pub login_warning_threshold: u32,
    pub group_suffix: String,
    /// Whether the fraud rules are those that are built in.
    pub built_in_rules: bool,
    /// Whether its notification ledger is in the store that MONGODB_URI names.
    pub ledger_in_mongodb: bool,
    /// Not in the file: it has a password in it.
    #[serde(skip)]
    pub(crate) mongodb_uri: Option<Secret>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Broker {
    pub bootstrap: String,
    pub embedded: bool,
}

impl Target {
    /// The `up` that runs in this folder, else the platform that the settings name.
    pub(crate) fn find(settings: &Settings) -> Result<Self, Error> {
        if let Some(target) = Self::announced(Path::new(PATH))? {
            return Ok(Self { mongodb_uri: settings.mongodb_uri.clone(), ..target });
        }
        Self::in_parts(settings).ok_or_else(|| {
            Error::Usage(format!(
                "no `headwater up` runs in this folder ({PATH} is missing or of a process that has ended), and \
                 KAFKA_BROKERS is not set: start `headwater up` here, or name a platform by its settings"
            ))
        })
    }

    /// A platform of several processes, as its settings name it; `None` where they name no broker.
    pub fn in_parts(settings: &Settings) -> Option<Self> {
        let at = |port| SocketAddr::new(settings.host, port);
        let addresses = Addresses {
            ingress: at(settings.ingress_grpc_port),
            http: at(settings.http_port),
            analytics: at(settings.analytics_grpc_port),
            fraud: at(settings.fraud_grpc_port),
            activity: at(settings.activity_port),
            activity_grpc: at(settings.activity_grpc_port),
            admin: at(settings.admin_port),
        };
        let broker = Broker { bootstrap: settings.kafka_brokers.clone()?, embedded: false };
        Some(Self::new(None, broker, addresses, settings))
    }

    pub(crate) fn new(pid: Option<u32>, kafka: Broker, addresses: Addresses, settings: &Settings) -> Self {
        let folder = &settings.notification_dir;
        let to_files = settings.notification_webhook.is_none();
        // `up` is one process, whatever the settings say of others
        let admins = if pid.is_none() { settings.admin_addresses.clone() } else { Vec::new() };
        Self {
            pid,
            kafka,
            admins: if admins.is_empty() { vec![addresses.admin] } else { admins },
            addresses,
            // absolute where that can be told: the reader may be somewhere else
            notifications: to_files.then(|| std::path::absolute(folder).unwrap_or_else(|_| folder.clone())),
            session_timeout_millis: i64::try_from(settings.session_timeout.as_millis()).unwrap_or(i64::MAX),
            login_warning_threshold: settings.notify_login_warning_threshold,
            group_suffix: settings.group_suffix.clone(),
            built_in_rules: settings.fraud_rules.is_none(),
            ledger_in_mongodb: settings.mongodb_uri.is_some(),
            mongodb_uri: settings.mongodb_uri.clone(),
        }
    }

    /// `None` where nobody runs there.
    fn announced(path: &Path) -> Result<Option<Self>, Error> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::Io { what: format!("cannot read {}", path.display()), source }),
        };
        let target: Self = serde_json::from_str(&text).map_err(|error| {
            Error::Usage(format!("{} is not what this version of `up` writes ({error}); start it anew", path.display()))
        })?;
        Ok(target.pid.is_none_or(is_running).then_some(target))
    }

    pub(crate) fn kafka(&self) -> KafkaConfig {
        KafkaConfig::new(&self.kafka.bootstrap)
    }

    /// Connects at the first call, and again whenever the connection is lost.
    pub(crate) fn channel(address: SocketAddr) -> Result<Channel, Error> {
        let endpoint = Endpoint::from_shared(format!("http://{}", reachable(address)));
        let endpoint = endpoint.map_err(|source| Error::service(format!("the address {address}"), source))?;
        Ok(endpoint.connect_timeout(CONNECT).connect_lazy())
    }
}

fn is_running(pid: u32) -> bool {
    !Path::new("/proc/self").exists() || Path::new(&format!("/proc/{pid}")).exists()
}

/// Where a caller on this machine reaches a listener on every address.
pub(crate) fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), address.port()),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => SocketAddr::new(Ipv6Addr::LOCALHOST.into(), address.port()),
        _ => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_that_has_ended_left_behind_is_nobody() {
        let folder = std::env::temp_dir().join(format!("headwater-target-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("up.json");
        assert_eq!(Target::announced(&path).unwrap(), None);

        let at = |port| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
        let addresses = Addresses {
            ingress: at(1),
            http: at(2),
            analytics: at(3),
            fraud: at(4),
            activity: at(7),
            activity_grpc: at(8),
            admin: at(5),
        };
        let kafka = Broker { bootstrap: "127.0.0.1:6".into(), embedded: true };
        // no process has the highest number there is
        for (pid, expected) in [(std::process::id(), true), (u32::MAX, false)] {
            let target = Target::new(Some(pid), kafka.clone(), addresses, &Settings::default());
            fs::write(&path, serde_json::to_vec(&target).unwrap()).unwrap();
            assert_eq!(Target::announced(&path).unwrap(), expected.then_some(target));
        }
        let secret = Some(Secret::from("mongodb://ada:hunter2@db".to_owned()));
        let settings = Settings { mongodb_uri: secret, ..Settings::default() };
        let written = serde_json::to_string(&Target::new(None, kafka, addresses, &settings)).unwrap();
        assert!(written.contains("\"ledgerInMongodb\":true") && !written.contains("hunter2"), "{written}");

        fs::write(&path, "{}").unwrap();
        assert!(matches!(Target::announced(&path), Err(Error::Usage(_))));
        fs::remove_dir_all(folder).unwrap();
    }
}
