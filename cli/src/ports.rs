//! Ports are bound before anything starts, so that a taken one is told first.
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::{
    Error, Role,
    settings::{Settings, TABLE},
};

/// Where each door is. Those of roles that do not run here are as configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// UserActions: gRPC and JSON.
    pub ingress: SocketAddr,
    /// UserActions, in `up` every service: JSON and gRPC.
    pub http: SocketAddr,
    /// Analytics: gRPC and JSON.
    pub analytics: SocketAddr,
    /// Fraud: gRPC and JSON.
    pub fraud: SocketAddr,
    /// The activity service: HTTP.
    pub activity: SocketAddr,
    /// Activity: gRPC and JSON.
    pub activity_grpc: SocketAddr,
    /// /metrics, /healthz, /readyz, /instances.
    pub admin: SocketAddr,
}

/// The port of each door.
pub(crate) struct Ports {
    pub(crate) ingress: Arc<Port>,
    pub(crate) http: Arc<Port>,
    pub(crate) analytics: Arc<Port>,
    pub(crate) fraud: Arc<Port>,
    pub(crate) activity: Arc<Port>,
    pub(crate) activity_grpc: Arc<Port>,
    pub(crate) admin: Arc<Port>,
}

impl Ports {
    /// Binds the port of every role that runs here, and the admin port.
    pub(crate) async fn bind(settings: &Settings, roles: &[Role]) -> Result<Self, Error> {
        let bind = async |role: Role, port, variable| {
            if roles.contains(&role) {
                Port::bind(settings, port, variable).await.map(Arc::new)
            } else {
                Ok(Arc::new(Port::elsewhere(settings, port, variable)))
            }
        };
        Ok(Self {
            ingress: bind(Role::Ingress, settings.ingress_grpc_port, "INGRESS_GRPC_PORT").await?,
            http: bind(Role::Ingress, settings.http_port, "HTTP_PORT").await?,
            analytics: bind(Role::Analytics, settings.analytics_grpc_port, "ANALYTICS_GRPC_PORT").await?,
            fraud: bind(Role::Fraud, settings.fraud_grpc_port, "FRAUD_GRPC_PORT").await?,
            activity: bind(Role::Activity, settings.activity_port, "ACTIVITY_PORT").await?,
            activity_grpc: bind(Role::Activity, settings.activity_grpc_port, "ACTIVITY_GRPC_PORT").await?,
            admin: Arc::new(Port::bind(settings, settings.admin_port, "ADMIN_PORT").await?),
        })
    }

    pub(crate) fn addresses(&self) -> Addresses {
        Addresses {
            ingress: self.ingress.address,
            http: self.http.address,
            analytics: self.analytics.address,
            fraud: self.fraud.address,
            activity: self.activity.address,
            activity_grpc: self.activity_grpc.address,
            admin: self.admin.address,
        }
    }
}

/// An address of this process for as long as it lives, also while nobody listens there.
#[derive(Debug)]
pub(crate) struct Port {
    address: SocketAddr,
    variable: &'static str,
    bound: Mutex<Option<TcpListener>>,
}

impl Port {
    async fn bind(settings: &Settings, port: u16, variable: &'static str) -> Result<Self, Error> {
        let listener = listen(SocketAddr::new(settings.host, port), variable).await?;
        let address = listener.local_addr();
        let address =
            address.map_err(|source| Error::Io { what: "cannot read a port's address".to_owned(), source })?;
        Ok(Self { address, variable, bound: Mutex::new(Some(listener)) })
    }

    /// For a role that does not run here.
    fn elsewhere(settings: &Settings, port: u16, variable: &'static str) -> Self {
        Self { address: SocketAddr::new(settings.host, port), variable, bound: Mutex::new(None) }
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
