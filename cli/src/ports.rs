//! Ports are bound before anything starts, so that a taken one is told first.
use std::{
    net::SocketAddr,
    sync::{Mutex, PoisonError},
};

use serde::Serialize;
use tokio::net::TcpListener;

use crate::{
    Error,
    settings::{Settings, TABLE},
};

/// Where each door is. Those of roles that do not run here are as configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Addresses {
    /// UserActions: gRPC and JSON.
    pub ingress: SocketAddr,
    /// UserActions, in `up` every service: JSON and gRPC.
    pub http: SocketAddr,
    /// Analytics: gRPC and JSON.
    pub analytics: SocketAddr,
    /// Fraud: gRPC and JSON.
    pub fraud: SocketAddr,
    /// /metrics, /healthz, /readyz, /instances.
    pub admin: SocketAddr,
}

/// An address of this process for as long as it lives, also while nobody listens there.
#[derive(Debug)]
pub(crate) struct Port {
    address: SocketAddr,
    variable: &'static str,
    bound: Mutex<Option<TcpListener>>,
}

impl Port {
    pub(crate) async fn bind(settings: &Settings, port: u16, variable: &'static str) -> Result<Self, Error> {
        let listener = listen(SocketAddr::new(settings.host, port), variable).await?;
        let address = listener.local_addr();
        let address =
            address.map_err(|source| Error::Io { what: "cannot read a port's address".to_owned(), source })?;
        Ok(Self { address, variable, bound: Mutex::new(Some(listener)) })
    }

    /// For a role that does not run here.
    pub(crate) fn elsewhere(settings: &Settings, port: u16, variable: &'static str) -> Self {
        Self { address: SocketAddr::new(settings.host, port), variable, bound: Mutex::new(None) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The listener that was bound first; once that was given away, a new one on the same address.
    pub(crate) async fn listen(&self) -> Result<TcpListener, Error> {
        let first = self.bound.lock().unwrap_or_else(PoisonError::into_inner).take();
        match first {
            Some(listener) => Ok(listener),
            None => listen(self.address, self.variable).await,
        }
    }
}

async fn listen(address: SocketAddr, variable: &'static str) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| {
        let key = TABLE.iter().find(|setting| setting.variable == variable).map_or("", |setting| setting.key);
        Error::Port { address, variable, flag: key.replace('_', "-"), source }
    })
}
