//! What an instance needs to know.
use std::{fmt, num::NonZeroU32, path::PathBuf};

use reqwest::Url;

use crate::faults::FailRate;

#[derive(Debug, Clone)]
pub struct Config {
    pub channel: ChannelConfig,
    /// A failed login warns at each multiple of so many in a row.
    pub login_warning_threshold: u32,
    /// Share of delivery attempts that fail on purpose, 0 to 1.
    pub fail_rate: f64,
}

impl Default for Config {
    fn default() -> Self {
        let channel = ChannelConfig::File { folder: "var/notifications".into() };
        Self { channel, login_warning_threshold: 3, fail_rate: 0.0 }
    }
}

#[derive(Clone, PartialEq, Eq)]
pub enum ChannelConfig {
    /// `<folder>/notification-<instance>.log`
    File { folder: PathBuf },
    /// POST to this http or https URL.
    Webhook { url: String },
}

/// Without the URL: it may hold the receiver's secret.
impl fmt::Debug for ChannelConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { folder } => f.debug_struct("File").field("folder", folder).finish(),
            Self::Webhook { .. } => f.debug_struct("Webhook").finish_non_exhaustive(),
        }
    }
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
    /// The first bad value, named by its environment variable.
    pub fn validate(&self) -> Result<(), String> {
        self.checked().map(|_| ())
    }

    pub(crate) fn checked(&self) -> Result<Checked, String> {
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
        let problem = |config: Config| config.validate().err().unwrap_or_default();
        assert_eq!(problem(Config::default()), "");
        let warn_never = Config { login_warning_threshold: 0, ..Config::default() };
        assert!(problem(warn_never).starts_with("NOTIFY_LOGIN_WARNING_THRESHOLD"));
        assert!(problem(Config { fail_rate: f64::NAN, ..Config::default() }).starts_with("NOTIFY_FAIL_RATE"));
        for url in ["", "ftp://example.org/secret", "127.0.0.1:8080/secret"] {
            let config = Config { channel: ChannelConfig::Webhook { url: url.into() }, ..Config::default() };
            assert!(!format!("{config:?}").contains("secret"));
            let problem = problem(config);
            assert!(problem.starts_with("HEADWATER_NOTIFICATION_WEBHOOK") && !problem.contains("secret"), "{problem}");
        }
    }
}
