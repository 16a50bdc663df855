use std::{sync::Arc, time::Duration};

use futures::StreamExt as _;
use headwater_otel::Readiness;
use tokio::{
    net::TcpListener,
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Server, server::TcpIncoming};
use tonic_health::server::health_reporter;
use tonic_reflection::server::Builder as Reflection;

use crate::{Error, MAX_MESSAGE_BYTES, Services, door::Door, health, rate::RateLimit};

const WINDOW_PER_STREAM: u32 = MAX_MESSAGE_BYTES as u32;
const WINDOW_PER_CONNECTION: u32 = 4 * WINDOW_PER_STREAM;
/// Streams that were reset before they were accepted. h2's own limit of 20 is below what one honest client does that
/// cancels all of its calls at once.
const PENDING_RESETS_PER_CONNECTION: usize = 256;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// After a failed accept (most likely out of file descriptors), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Limits of one port.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Answer gRPC reflection (v1 and v1alpha).
    pub reflection: bool,
    /// A unary call not answered by then is DEADLINE_EXCEEDED. Streams are not cut.
    pub unary_deadline: Duration,
    /// Calls in flight per connection; a client that obeys HTTP/2 waits with further ones.
    pub in_flight_per_connection: u32,
    /// Calls in flight on this port; further ones are refused as OVERLOADED.
    pub in_flight: usize,
    /// More requests are RATE_LIMITED. The one of a process, so that a client has the same rate over all its ports.
    pub rate_limit: Option<RateLimit>,
    /// How long open calls may take to end after shutdown.
    pub drain: Duration,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            reflection: true,
            unary_deadline: Duration::from_secs(10),
            in_flight_per_connection: 256,
            in_flight: 2_048,
            rate_limit: None,
            drain: Duration::from_secs(25),
        }
    }
}

/// Serves until `shutdown`, then stops accepting, lets open calls end and returns, after `config.drain` at the latest.
/// gRPC health says SERVING while nothing in `readiness` is waiting.
pub async fn serve(
    listener: TcpListener,
    services: Services,
    config: ServerConfig,
    readiness: Readiness,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let address = listener.local_addr().map_err(Error::Address)?;
    let names = services.names().to_vec();
    let (routes, json) = services.into_parts();
    let (reporter, health) = health_reporter();
    let mut routes = routes.add_service(health);
    if config.reflection {
        routes = routes
            .add_service(reflection(&names).build_v1().map_err(Error::Reflection)?)
            .add_service(reflection(&names).build_v1alpha().map_err(Error::Reflection)?);
    }
    let door = Door {
        json,
        room: Arc::new(Semaphore::new(config.in_flight)),
        longest: config.unary_deadline,
        shutdown: shutdown.clone(),
        rate: config.rate_limit,
    };
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true)).with_keepalive(Some(KEEPALIVE_INTERVAL));
    let incoming = incoming.then(|accepted| async {
        if accepted.is_err() {
            sleep(ACCEPT_PAUSE).await;
        }
        accepted
    });
    let served = Server::builder()
        .accept_http1(true)
        .max_concurrent_streams(config.in_flight_per_connection)
        .initial_stream_window_size(WINDOW_PER_STREAM)
        .initial_connection_window_size(WINDOW_PER_CONNECTION)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .http2_max_pending_accept_reset_streams(Some(PENDING_RESETS_PER_CONNECTION))
        .layer(door)
        .add_routes(routes)
        .serve_with_incoming_shutdown(incoming, shutdown.clone().cancelled_owned());
    let following = tokio::spawn(health::follow(reporter, names, readiness, shutdown.clone()));

    // The drain can hang on a connection that never closes (hyper#4170), so it has an end of its own.
    let mut served = std::pin::pin!(served);
    let ended = tokio::select! {
        ended = &mut served => Some(ended),
        () = shutdown.cancelled() => timeout(config.drain, served).await.ok(),
    };
    following.abort();
    match ended {
        Some(ended) => ended.map_err(|source| Error::Serve { address, source }),
        None => {
            tracing::warn!(%address, drain = ?config.drain, "open calls did not end in time and were cut");
            Ok(())
        }
    }
}

fn reflection(names: &[&'static str]) -> Reflection<'static> {
    let builder = Reflection::configure()
        .register_encoded_file_descriptor_set(headwater_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        // so that a client can read the details of an error
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        .with_service_name("grpc.health.v1.Health");
    names.iter().fold(builder, |builder, name| builder.with_service_name(*name))
}
