//! How often one client may call. Pure: time is an argument.
use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// What a client may save up by being quiet.
const BURST: Duration = Duration::from_secs(1);
/// Clients that have paid everything back are forgotten when so many are known.
const SWEEP_AT: usize = 10_000;

/// One rate per client over every port that is given a clone of it. A stream is one request, however many items it
/// brings.
#[derive(Debug, Clone)]
pub struct RateLimit(Arc<Mutex<Clients>>);

impl RateLimit {
    /// Requests per second and client address.
    pub fn new(per_second: NonZeroU32) -> Self {
        Self(Arc::new(Mutex::new(Clients::new(per_second))))
    }

    /// `Err` is how long to wait.
    pub fn admit(&self, client: IpAddr, now: Instant) -> Result<(), Duration> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).admit(client, now)
    }
}

/// So many requests per second and client, a second's worth of them at once (GCRA: one moment per client tells all).
/// A client is an IPv4 address or an IPv6 network of 64 bits; behind a proxy, all are one.
#[derive(Debug)]
struct Clients {
    interval: Duration,
    /// Until when each client has used up its rate.
    spent_until: HashMap<IpAddr, Instant>,
    sweep_at: usize,
}

impl Clients {
    fn new(per_second: NonZeroU32) -> Self {
        Self { interval: Duration::from_secs(1) / per_second.get(), spent_until: HashMap::new(), sweep_at: SWEEP_AT }
    }

    fn admit(&mut self, client: IpAddr, now: Instant) -> Result<(), Duration> {
        if self.spent_until.len() >= self.sweep_at {
            self.spent_until.retain(|_, until| *until > now);
            // were all of them busy, the next sweep would find nothing either
            self.sweep_at = SWEEP_AT.max(2 * self.spent_until.len());
        }
        let until = self.spent_until.entry(network(client)).or_insert(now);
        let spent = until.saturating_duration_since(now) + self.interval;
        if spent > BURST {
            return Err(spent - BURST);
        }
        *until = now + spent;
        Ok(())
    }
}

fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(per_second: u32) -> Clients {
        Clients::new(NonZeroU32::new(per_second).unwrap())
    }

    #[test]
    fn a_client_has_a_second_s_worth_at_once_and_then_its_rate() {
        let (mut limit, now, client) = (limit(4), Instant::now(), "198.51.100.7".parse().unwrap());
        for _ in 0..4 {
            assert_eq!(limit.admit(client, now), Ok(()));
        }
        assert_eq!(limit.admit(client, now), Err(Duration::from_millis(250)));
        assert_eq!(limit.admit(client, now + Duration::from_millis(250)), Ok(()));
        assert!(limit.admit(client, now + Duration::from_millis(250)).is_err());
        assert_eq!(limit.admit("198.51.100.8".parse().unwrap(), now), Ok(()), "another client");
    }

    #[test]
    fn an_ipv6_network_is_one_client_and_a_mapped_ipv4_address_is_that_address() {
        let (mut limit, now) = (limit(1), Instant::now());
        let mut admit = |client: &str| limit.admit(client.parse().unwrap(), now).is_ok();
        assert!(admit("2001:db8::1"));
        assert!(!admit("2001:db8::2"));
        assert!(admit("2001:db8:0:1::1"));
        assert!(admit("::ffff:198.51.100.7"));
        assert!(!admit("198.51.100.7"));
    }

    #[test]
    fn clients_that_went_quiet_are_forgotten() {
        let (mut limit, now) = (limit(1), Instant::now());
        for bits in 0..SWEEP_AT as u32 {
            limit.admit(IpAddr::V4(bits.into()), now).unwrap();
        }
        limit.admit("198.51.100.7".parse().unwrap(), now + Duration::from_secs(2)).unwrap();
        assert_eq!(limit.spent_until.len(), 1);
    }
}
