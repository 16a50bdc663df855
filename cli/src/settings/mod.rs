//! Everything an operator can set, declared once: flags, then environment, then headwater.toml, then defaults.
mod flags;
mod source;
mod value;

pub use flags::Flags;
pub use source::{Resolved, Source, SourceError, Sources};
pub use value::{RateLimit, Secret};

use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroUsize,
    path::PathBuf,
    time::Duration,
};

use headwater_otel::{Sampler, TelemetryConfig, TracesConfig};
use headwater_proto::Encoding;

/// A row of the table.
#[derive(Debug)]
pub struct Setting {
    /// In headwater.toml; with dashes, the flag.
    pub key: &'static str,
    /// The environment variable.
    pub variable: &'static str,
    /// As it would be written; empty means unset.
    pub default: &'static str,
    pub help: &'static str,
    /// Never shown: neither its value nor why that is bad.
    pub secret: bool,
}

macro_rules! settings {
    ($($key:ident: $type:ty = $default:literal, $variable:literal, $parse:expr, $shown:ident, $help:literal;)*) => {
        /// The effective values, typed and checked.
        #[derive(Debug, Clone)]
        pub struct Settings { $(#[doc = $help] pub $key: $type,)* }

        /// Every setting, in the order in which they are shown.
        pub const TABLE: &[Setting] = &[$(Setting {
            key: stringify!($key), variable: $variable, default: $default, help: $help, secret: settings!(@ $shown),
        },)*];

        impl Settings {
            /// The typed values of [`Sources::resolve`], or the first bad one, named with its source.
            pub fn parse(resolved: &[Resolved]) -> Result<Self, SourceError> {
                let mut resolved = resolved.iter();
                Ok(Self { $($key: {
                    let value = resolved.next().expect("Sources::resolve answers every row of the table, in its order");
                    ($parse)(&value.text).map_err(|expected| value.bad(expected))?
                },)* })
            }
        }
    };
    (@ open) => { false };
    (@ secret) => { true };
}

settings! {
    host: IpAddr = "127.0.0.1", "HEADWATER_HOST", value::ip, open, "address that every port listens on";
    ingress_grpc_port: u16 = "50051", "INGRESS_GRPC_PORT", value::port, open, "UserActions: gRPC and JSON; 0 takes a free port";
    http_port: u16 = "8000", "HTTP_PORT", value::port, open, "UserActions once more, in `up` all services; 0 takes a free port";
    analytics_grpc_port: u16 = "50052", "ANALYTICS_GRPC_PORT", value::port, open, "Analytics: gRPC and JSON; 0 takes a free port";
    fraud_grpc_port: u16 = "50053", "FRAUD_GRPC_PORT", value::port, open, "Fraud: gRPC and JSON; 0 takes a free port";
    activity_port: u16 = "3000", "ACTIVITY_PORT", value::port, open, "the activity service: HTTP, as its document says; 0 takes a free port";
    activity_grpc_port: u16 = "50055", "ACTIVITY_GRPC_PORT", value::port, open, "Activity: gRPC and JSON; 0 takes a free port";
    admin_port: u16 = "9464", "ADMIN_PORT", value::port, open, "/metrics, /healthz, /readyz, /instances; 0 takes a free port";
    admin_addresses: Vec<SocketAddr> = "", "HEADWATER_ADMIN_ADDRESSES", value::addresses, open, "of a platform in parts, for simulate and verify: the admin port of every process, ip:port separated by commas; unset: only this process's";
    kafka_brokers: Option<String> = "", "KAFKA_BROKERS", value::optional(value::text), open, "bootstrap addresses, separated by commas; unset: `up` embeds a broker";
    kafka_replication_factor: i32 = "1", "KAFKA_REPLICATION_FACTOR", value::from_one, open, "of topics that are created";
    kafka_min_insync_replicas: i32 = "1", "KAFKA_MIN_INSYNC_REPLICAS", value::from_one, open, "of topics that are created";
    database_url: Option<Secret> = "", "DATABASE_URL", value::optional(value::postgres), secret, "PostgreSQL of the ingress; unset: `up` embeds SQLite";
    mongodb_uri: Option<Secret> = "", "MONGODB_URI", value::optional(value::mongodb), secret, "MongoDB of the consumers, its database the URI's path or else headwater; unset: `up` keeps it in memory";
    session_timeout: Duration = "30m", "SESSION_TIMEOUT", value::session_timeout, open, "a longer pause between two events ends a session";
    notify_login_warning_threshold: u32 = "3", "NOTIFY_LOGIN_WARNING_THRESHOLD", value::from_one, open, "failed logins in a row per warning";
    notify_fail_rate: f64 = "0", "NOTIFY_FAIL_RATE", value::share, open, "share of deliveries that fail on purpose, 0 to 1";
    notification_dir: PathBuf = "var/notifications", "HEADWATER_NOTIFICATION_DIR", value::path, open, "folder of notification-<instance>.log";
    notification_webhook: Option<Secret> = "", "HEADWATER_NOTIFICATION_WEBHOOK", value::optional(value::webhook), secret, "POST notifications to this URL instead of writing files";
    request_id_days: u32 = "3", "HEADWATER_REQUEST_ID_DAYS", value::days, open, "days that a repeated event_id is recognised";
    fraud_rules: Option<PathBuf> = "", "HEADWATER_FRAUD_RULES", value::optional(value::path), open, "TOML file of rules and thresholds; unset: built in";
    activity_kafka_client_id: String = "event-driven-user-activity-service", "ACTIVITY_KAFKA_CLIENT_ID", value::some_text, open, "of the activity service, as brokers log it";
    activity_kafka_topic: String = "user-activity-events", "ACTIVITY_KAFKA_TOPIC", value::name, open, "that the activity service writes and reads; created where missing";
    activity_kafka_consumer_group: String = "user-activity-consumer-group", "ACTIVITY_KAFKA_CONSUMER_GROUP", value::some_text, open, "of the activity service";
    activity_kafka_producer_retries: u32 = "3", "ACTIVITY_KAFKA_PRODUCER_RETRIES", value::whole, open, "how often the activity service repeats a request to a broker that failed";
    activity_kafka_producer_retry_backoff_ms: Duration = "500", "ACTIVITY_KAFKA_PRODUCER_RETRY_BACKOFF_MS", value::millis, open, "before the first repetition, in milliseconds; it grows from there";
    activity_kafka_connection_timeout_ms: Duration = "10000", "ACTIVITY_KAFKA_CONNECTION_TIMEOUT_MS", value::millis, open, "for a connection of the activity service to a broker, in milliseconds";
    activity_kafka_request_timeout_ms: Duration = "30000", "ACTIVITY_KAFKA_REQUEST_TIMEOUT_MS", value::millis, open, "an event that is not in the log by then was not published, in milliseconds";
    activity_store_limit: NonZeroUsize = "100000", "ACTIVITY_STORE_LIMIT", value::count, open, "processed events that the activity service keeps; it knows ten times as many again";
    activity_rate_limit: Option<RateLimit> = "", "ACTIVITY_RATE_LIMIT", value::optional(value::rate_limit), open, "events to be published per second and client address; unset: none";
    topic_encoding: Encoding = "json", "HEADWATER_TOPIC_ENCODING", value::encoding, open, "json or protobuf: how services with topics of their own write; both are read";
    rate_limit: Option<RateLimit> = "", "HEADWATER_RATE_LIMIT", value::optional(value::rate_limit), open, "requests per second and client address, a stream counting as one; unset: none";
    instance: Option<String> = "", "HEADWATER_INSTANCE", value::optional(value::name), open, "name of this instance; unset: the host name, in `up` 1, 2, 3";
    group_suffix: String = "", "HEADWATER_GROUP_SUFFIX", value::suffix, open, "appended to every consumer group id";
    accept_truncation: bool = "false", "HEADWATER_ACCEPT_TRUNCATION", value::switch, open, "go on where the log begins where records are gone from it unread; otherwise their partition stops";
    reflection: bool = "true", "HEADWATER_REFLECTION", value::switch, open, "answer gRPC reflection";
    otel_exporter_otlp_endpoint: Option<String> = "", "OTEL_EXPORTER_OTLP_ENDPOINT", value::optional(value::http), open, "gRPC port of an OTLP collector, which gets the traces; unset: none are made";
    otel_traces_sampler: Sampler = "parentbased_always_on", "OTEL_TRACES_SAMPLER", value::sampler, open, "always_on, always_off or traceidratio, with parentbased_ in front a caller's decision is kept";
    otel_traces_sampler_arg: f64 = "1", "OTEL_TRACES_SAMPLER_ARG", value::share, open, "share of traces that traceidratio takes, 0 to 1";
    jaeger_url: Option<String> = "", "JAEGER_URL", value::optional(value::http), open, "Jaeger's query service, which `trace` asks";
    log: String = "info", "RUST_LOG", value::log_filter, open, "what is logged, like info,headwater_stream=debug";
}

/// The variables of the table that are ports.
pub fn ports() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|setting| setting.variable).filter(|variable| variable.ends_with("_PORT"))
}

impl Default for Settings {
    fn default() -> Self {
        let defaults = Sources::default().resolve().and_then(|resolved| Self::parse(&resolved));
        defaults.expect("every default in the table is valid")
    }
}

impl Settings {
    /// What tells this process from others of its role.
    pub fn instance_name(&self) -> String {
        let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
        let host = || host().and_then(|name| value::name(name.trim()).ok());
        self.instance.clone().or_else(host).unwrap_or_else(|| "1".to_owned())
    }

    /// Logs and traces of this process.
    pub fn telemetry(&self) -> TelemetryConfig {
        let traces = self.otel_exporter_otlp_endpoint.clone().map(|endpoint| {
            let sampler = self.otel_traces_sampler.with_argument(self.otel_traces_sampler_arg);
            TracesConfig { endpoint, sampler, instance: self.instance_name() }
        });
        TelemetryConfig { log: self.log.clone(), traces }
    }

    /// Every port a free one: any number of platforms beside each other.
    #[must_use]
    pub fn on_free_ports(self) -> Self {
        Self {
            ingress_grpc_port: 0,
            http_port: 0,
            analytics_grpc_port: 0,
            fraud_grpc_port: 0,
            activity_port: 0,
            activity_grpc_port: 0,
            admin_port: 0,
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, path::Path};

    use super::*;

    fn sources(flags: &[(&'static str, &str)], environment: &[(&str, &str)], file: &str) -> Sources {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).into());
        Sources {
            flags: flags.iter().map(|(key, value)| (*key, (*value).to_owned())).collect(),
            environment: environment.iter().map(owned).collect(),
            file: Some((Path::new("headwater.toml").to_owned(), file.parse().unwrap())),
            ..Sources::default()
        }
    }

    fn read(sources: &Sources) -> Result<Settings, String> {
        let resolved = sources.resolve().map_err(|error| error.to_string())?;
        Settings::parse(&resolved).map_err(|error| error.to_string())
    }

    #[test]
    fn a_flag_wins_over_the_environment_over_the_file_over_the_default() {
        let file = "http_port = 3\nadmin_port = 3\nfraud_grpc_port = 3\nnotify_fail_rate = 0.5\nreflection = false";
        let environment = [("HTTP_PORT", "2"), ("ADMIN_PORT", "2"), ("SESSION_TIMEOUT", "")];
        let sources = sources(&[("http_port", "1")], &environment, file);
        let settings = read(&sources).unwrap();
        assert_eq!((settings.http_port, settings.admin_port, settings.fraud_grpc_port), (1, 2, 3));
        assert_eq!((settings.ingress_grpc_port, settings.notify_fail_rate, settings.reflection), (50051, 0.5, false));
        assert_eq!(settings.session_timeout, Duration::from_secs(1_800), "an empty variable is an unset one");
        let shown: BTreeMap<_, _> =
            sources.resolve().unwrap().iter().map(|value| (value.setting.key, value.source.to_string())).collect();
        assert_eq!(shown["http_port"], "--http-port");
        assert_eq!(shown["admin_port"], "ADMIN_PORT");
        assert_eq!(shown["fraud_grpc_port"], "headwater.toml");
        assert_eq!(shown["log"], "default");
    }

    #[test]
    fn a_bad_value_is_named_with_its_source_and_a_secret_never_shown() {
        #[rustfmt::skip]
        let table: &[(&str, &str, &str)] = &[
            ("HTTP_PORT", "eighty", "HTTP_PORT: \"eighty\" must be a port, 0 to 65535"),
            ("HEADWATER_HOST", "localhost:80", "HEADWATER_HOST: \"localhost:80\" must be an ip address"),
            ("HEADWATER_ADMIN_ADDRESSES", "127.0.0.1:9464,db", "HEADWATER_ADMIN_ADDRESSES: \"127.0.0.1:9464,db\" must be addresses like 127.0.0.1:9464,127.0.0.1:9465"),
            ("SESSION_TIMEOUT", "30", "SESSION_TIMEOUT: \"30\" must be a duration like 30m, 1h30m or 500ms"),
            ("SESSION_TIMEOUT", "366d", "SESSION_TIMEOUT: \"366d\" must be at most 365d"),
            ("HEADWATER_REQUEST_ID_DAYS", "0", "HEADWATER_REQUEST_ID_DAYS: \"0\" must be a whole number from 1"),
            ("HEADWATER_REQUEST_ID_DAYS", "3651", "HEADWATER_REQUEST_ID_DAYS: \"3651\" must be at most 3650"),
            ("NOTIFY_FAIL_RATE", "1.5", "NOTIFY_FAIL_RATE: \"1.5\" must be a number from 0 to 1"),
            ("NOTIFY_LOGIN_WARNING_THRESHOLD", "0", "NOTIFY_LOGIN_WARNING_THRESHOLD: \"0\" must be a whole number from 1"),
            ("HEADWATER_REFLECTION", "yes", "HEADWATER_REFLECTION: \"yes\" must be true or false"),
            ("HEADWATER_INSTANCE", "../1", "HEADWATER_INSTANCE: \"../1\" must be letters, digits, '.', '_' and '-', and begin with a letter or digit"),
            ("RUST_LOG", "headwater=loud", "RUST_LOG: \"headwater=loud\" must be a log filter like info,headwater_stream=debug"),
            ("ACTIVITY_KAFKA_PRODUCER_RETRIES", "-1", "ACTIVITY_KAFKA_PRODUCER_RETRIES: \"-1\" must be a whole number from 0"),
            ("ACTIVITY_KAFKA_REQUEST_TIMEOUT_MS", "0", "ACTIVITY_KAFKA_REQUEST_TIMEOUT_MS: \"0\" must be milliseconds, a whole number from 1 to 3600000"),
            ("ACTIVITY_KAFKA_CLIENT_ID", " ", "ACTIVITY_KAFKA_CLIENT_ID: \" \" must not be blank"),
            ("ACTIVITY_STORE_LIMIT", "0", "ACTIVITY_STORE_LIMIT: \"0\" must be a whole number from 1"),
            ("HEADWATER_TOPIC_ENCODING", "avro", "HEADWATER_TOPIC_ENCODING: \"avro\" must be json or protobuf"),
            ("DATABASE_URL", "mysql://hunter2@db", "DATABASE_URL: must be a PostgreSQL URL like postgres://user:password@host:5432/database"),
            ("MONGODB_URI", "postgres://hunter2@db", "MONGODB_URI: must be a MongoDB URI like mongodb://user:password@host:27017/database"),
            ("HEADWATER_NOTIFICATION_WEBHOOK", "hunter2", "HEADWATER_NOTIFICATION_WEBHOOK: must be an http or https URL"),
        ];
        for (variable, value, told) in table {
            assert_eq!(read(&sources(&[], &[(variable, value)], "")).unwrap_err(), *told);
        }
        let secret = read(&sources(&[], &[("DATABASE_URL", "postgres://hunter2")], "")).unwrap();
        assert!(!format!("{secret:?}").contains("hunter2"));
        assert_eq!(
            read(&sources(&[], &[], "http_port = \"x\"")).unwrap_err(),
            "http_port in headwater.toml: \"x\" must be a port, 0 to 65535"
        );
    }

    #[test]
    fn a_role_that_is_served_alone_takes_the_variables_of_its_document() {
        let environment =
            [("PORT", "3001"), ("ACTIVITY_PORT", "3002"), ("KAFKA_TOPIC", "activity"), ("ADMIN_PORT", "1")];
        let mut sources = sources(&[], &environment, "");
        let together = read(&sources).unwrap();
        assert_eq!((together.activity_port, &*together.activity_kafka_topic), (3_002, "user-activity-events"));
        sources.documented = crate::Role::documented(&[crate::Role::Activity]);
        let alone = read(&sources).unwrap();
        assert_eq!((alone.activity_port, &*alone.activity_kafka_topic, alone.admin_port), (3_001, "activity", 1));
        sources.environment.insert("PORT".to_owned(), "x".into());
        assert_eq!(read(&sources).unwrap_err(), "PORT: \"x\" must be a port, 0 to 65535");
        assert!(crate::Role::documented(&[crate::Role::Activity, crate::Role::Fraud]).is_empty());
    }

    #[test]
    fn a_file_that_is_not_toml_is_told_by_its_place_and_never_shown() {
        let path = std::env::temp_dir().join(format!("headwater-not-toml-{}.toml", std::process::id()));
        for (line, place) in [
            ("database_url = postgres://ada:hunter2@db", "line 2, column 16"),
            ("database_url = \"postgres://ada:hunter2@db", "line 2, column "),
            ("mongodb_uri = 'hunter2' hunter2", "line 2, column 25"),
        ] {
            std::fs::write(&path, format!("http_port = 8000\n{line}\n")).unwrap();
            let told = crate::Error::from(Sources::gather(BTreeMap::new(), Some(&path), &[]).unwrap_err()).story();
            assert!(told.contains(&format!("is not TOML at {place}")) && !told.contains("hunter2"), "{told}");
        }
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_key_that_nobody_knows_stops_the_start() {
        let told = read(&sources(&[], &[], "http_prot = 8000")).unwrap_err();
        assert_eq!(told, "headwater.toml: no setting is called http_prot; `headwater config` lists them");
        let told = read(&sources(&[], &[], "http_port = [8000]")).unwrap_err();
        assert_eq!(told, "headwater.toml: http_port must be text, a number, true or false");
    }

    #[test]
    fn the_table_names_everything_once_and_its_defaults_are_valid() {
        let _ = Settings::default();
        for (index, setting) in TABLE.iter().enumerate() {
            let again = TABLE[..index].iter().find(|s| s.key == setting.key || s.variable == setting.variable);
            assert!(again.is_none(), "{setting:?}");
        }
    }
}
