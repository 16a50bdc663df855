/// Why a server could not be opened, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read the address of the listening socket")]
    Address(#[source] std::io::Error),
    #[error("the descriptor set for reflection is invalid")]
    Reflection(#[source] tonic_reflection::server::Error),
    #[error("the server on {address} failed")]
    Serve {
        address: std::net::SocketAddr,
        #[source]
        source: tonic::transport::Error,
    },
}
