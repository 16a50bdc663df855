use std::{io, net::SocketAddr};

use crate::settings::SourceError;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a verb failed: what, where, what to do. [`Error::exit_code`] tells scripts whose fault it is.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Setting(#[from] SourceError),
    #[error("{0}")]
    Usage(String),
    #[error("port {} on {} cannot be opened; set {variable} (or --{flag}) to another", address.port(), address.ip())]
    Port {
        address: SocketAddr,
        variable: &'static str,
        flag: String,
        #[source]
        source: io::Error,
    },
    #[error("telemetry cannot be set up")]
    Telemetry(#[from] headwater_otel::Error),
    #[error("the runtime cannot be started")]
    Runtime(#[source] io::Error),
    #[error("{what}")]
    Io {
        what: String,
        #[source]
        source: io::Error,
    },
    #[error("kafka")]
    Kafka(#[from] headwater_stream::Error),
    /// A service, or one instance of it, that could not start or ended by itself.
    #[error("{who} failed")]
    Service {
        who: String,
        #[source]
        source: BoxError,
    },
    #[error("{who} ended by itself")]
    Ended { who: String },
    #[error("{who} panicked; the log says where")]
    Panicked { who: String },
    /// A part of the platform, or all of it, does not answer.
    #[error("{what}")]
    Unreachable {
        what: String,
        #[source]
        source: BoxError,
    },
    /// A check that did not hold; what and why is in the text.
    #[error("{0}")]
    Failed(String),
    #[error("not ready after {seconds} s: {waiting}")]
    NotReady { seconds: u64, waiting: String },
}

impl Error {
    pub(crate) fn service(who: impl Into<String>, source: impl Into<BoxError>) -> Self {
        Self::Service { who: who.into(), source: source.into() }
    }

    pub(crate) fn unreachable(what: impl Into<String>, source: impl Into<BoxError>) -> Self {
        Self::Unreachable { what: what.into(), source: source.into() }
    }

    /// 1 failed, 2 usage or configuration, 3 a dependency unreachable.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Setting(_) | Self::Usage(_) | Self::Port { .. } | Self::Telemetry(_) => 2,
            _ if self.is_unreachable() => 3,
            _ => 1,
        }
    }

    /// The whole story in one line: the error and its causes.
    pub fn story(&self) -> String {
        self.causes().map(ToString::to_string).collect::<Vec<_>>().join(": ")
    }

    fn is_unreachable(&self) -> bool {
        if matches!(self, Self::Unreachable { .. }) {
            return true;
        }
        let broker = |cause: &headwater_stream::Error| cause.is_unreachable();
        let users = |cause: &headwater_ingress::OpenError| cause.is_unreachable();
        self.causes().any(|cause| cause.downcast_ref().is_some_and(broker) || cause.downcast_ref().is_some_and(users))
    }

    /// This error first.
    fn causes(&self) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
        std::iter::successors(Some(self as &(dyn std::error::Error + 'static)), |error| error.source())
    }
}
