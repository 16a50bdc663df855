//! What an instance needs to know.
use std::{num::NonZeroU32, path::PathBuf, sync::Arc};

use headwater_stream::{KafkaConfig, Positions, RetryPolicy};
use reqwest::Url;

use crate::faults::FailRate;

#[derive(Debug, Clone)]
pub struct Config {
    pub kafka: KafkaConfig,
    /// Appended to the group id.
    pub group_suffix: String,
    /// Names this instance in the group, the file and the letters. Letters, digits, `.`, `_` and `-`.
    pub instance: String,
    /// Of a ledger in memory; `None` starts where the group committed.
    pub positions: Option<Arc<Positions>>,
    pub retry: RetryPolicy,
    pub channel: ChannelConfig,
    /// A failed login warns at each multiple of so many in a row.
    pub login_warning_threshold: u32,
    /// Share of delivery attempts that fail on purpose, 0 to 1.
    pub fail_rate: f64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChannelConfig {
    /// `<folder>/notification-<instance>.log`
    File { folder: PathBuf },
    /// POST to this http or https URL.
    Webhook { url: String },
}

/// What [`Config::validate`] has looked at.
pub(crate) struct Checked {
    pub(crate) warning_threshold: NonZeroU32,
    pub(crate) fail_rate: FailRate,
    pub(crate) channel: CheckedChannel,
}

pub(crate) enum CheckedChannel {
    File(PathBuf),
    Webhook(Url),
}

impl Config {
    /// Three retries, notifications in `var/notifications`, no failures on purpose.
    pub fn new(kafka: KafkaConfig, instance: impl Into<String>) -> Self {
        Self {
            kafka,
            group_suffix: String::new(),
            instance: instance.into(),
            positions: None,
            retry: RetryPolicy::default(),
            channel: ChannelConfig::File { folder: "var/notifications".into() },
            login_warning_threshold: 3,
            fail_rate: 0.0,
        }
    }

    /// The first bad value, named by its environment variable.
    pub fn validate(&self) -> Result<(), String> {
        self.checked().map(|_| ())
    }

    pub(crate) fn checked(&self) -> Result<Checked, String> {
        let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if self.instance.is_empty() || !self.instance.chars().all(named) {
            return Err("HEADWATER_INSTANCE must be letters, digits, '.', '_' and '-'".into());
        }
        let Some(warning_threshold) = NonZeroU32::new(self.login_warning_threshold) else {
            return Err("NOTIFY_LOGIN_WARNING_THRESHOLD must be 1 or more".into());
        };
        let Some(fail_rate) = FailRate::new(self.fail_rate) else {
            return Err(format!("NOTIFY_FAIL_RATE must be from 0 to 1, not {}", self.fail_rate));
        };
        let channel = match &self.channel {
            ChannelConfig::File { folder } => CheckedChannel::File(folder.clone()),
            // the URL is not repeated: it may hold the receiver's secret
            ChannelConfig::Webhook { url } => match Url::parse(url) {
                Ok(url) if matches!(url.scheme(), "http" | "https") => CheckedChannel::Webhook(url),
                _ => return Err("HEADWATER_NOTIFICATION_WEBHOOK must be an http or https URL".into()),
            },
        };
        Ok(Checked { warning_threshold, fail_rate, channel })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_value_is_named_by_its_variable() {
        let problem = |spoil: fn(&mut Config)| {
            let mut config = Config::new(KafkaConfig::new("127.0.0.1:9092"), "1");
            spoil(&mut config);
            config.validate().err().unwrap_or_default()
        };
        assert_eq!(problem(|_| ()), "");
        assert!(problem(|c| c.instance = "../1".into()).starts_with("HEADWATER_INSTANCE"));
        assert!(problem(|c| c.instance = String::new()).starts_with("HEADWATER_INSTANCE"));
        assert!(problem(|c| c.login_warning_threshold = 0).starts_with("NOTIFY_LOGIN_WARNING_THRESHOLD"));
        assert!(problem(|c| c.fail_rate = f64::NAN).starts_with("NOTIFY_FAIL_RATE"));
        for url in ["", "ftp://example.org/secret", "127.0.0.1:8080/secret"] {
            let mut config = Config::new(KafkaConfig::new("127.0.0.1:9092"), "1");
            config.channel = ChannelConfig::Webhook { url: url.into() };
            let problem = config.validate().unwrap_err();
            assert!(problem.starts_with("HEADWATER_NOTIFICATION_WEBHOOK") && !problem.contains("secret"), "{problem}");
        }
    }
}
