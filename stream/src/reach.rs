//! Whether a broker takes connections at all, asked without Kafka: it tells a stuck client from an outage.
use std::{
    net::{TcpStream, ToSocketAddrs as _},
    time::Duration,
};

/// For one address.
const TIMEOUT: Duration = Duration::from_secs(1);

/// A plain connection to one of the bootstrap addresses succeeds. Blocks, at most a second for each.
pub(crate) fn is_reachable(brokers: &str) -> bool {
    brokers.split(',').any(|broker| {
        let broker = broker.trim();
        let address = broker.split_once("://").map_or(broker, |(_, address)| address);
        let addresses = address.to_socket_addrs().into_iter().flatten();
        addresses.take(2).any(|address| TcpStream::connect_timeout(&address, TIMEOUT).is_ok())
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn one_open_door_is_enough_and_nonsense_is_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let open = listener.local_addr().unwrap().to_string();
        for (brokers, reachable) in [
            (open.clone(), true),
            (format!("127.0.0.1:1, PLAINTEXT://{open}"), true),
            ("127.0.0.1:1".to_owned(), false),
            ("nonsense,,:".to_owned(), false),
        ] {
            assert_eq!(is_reachable(&brokers), reachable, "{brokers}");
        }
    }
}
