//! The way to IPv4 peers for a machine that has IPv6 only, behind a NAT64.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use p2pconnect_proto::Candidate;
use p2pconnect_stun::next_keepalive;
use tokio::time::{sleep_until, timeout};

use crate::{task::AbortOnDrop, tcp};

/// The name that has IPv4 addresses only: a resolver that answers with IPv6 addresses has made them
/// with the prefix of the NAT64 (RFC 7050 section 3). The port is there for the resolver's sake.
const IPV4_ONLY_NAME: &str = "ipv4only.arpa:443";

/// The addresses of that name (RFC 7050 section 8.1).
const IPV4_ONLY: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 0, 170), Ipv4Addr::new(192, 0, 0, 171)];

/// The lengths that a prefix can have, in octets (RFC 6052 section 2.2).
const PREFIX_LENGTHS: [usize; 6] = [12, 8, 7, 6, 5, 4];

/// The octet that is always zero (RFC 6052 section 2.2).
const ZERO_OCTET: usize = 8;

/// How long the resolver may take; nothing waits for it.
const LOOKUP_LIMIT: Duration = Duration::from_secs(10);

/// How often it is looked whether the network is another one: a multiple of what wakes an idle
/// endpoint anyway.
const CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// Any IPv4 address elsewhere, to ask for the route there; nothing is sent.
const ELSEWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 9);

/// The prefix of the NAT64 in front of this machine, if it has no other way to IPv4.
#[derive(Debug)]
pub(crate) struct Nat64 {
    prefix: Arc<Mutex<Option<Prefix>>>,
    _task: AbortOnDrop,
}

/// An IPv6 prefix that stands for all IPv4 addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Prefix {
    octets: [u8; 16],
    length: usize,
}

impl Nat64 {
    /// Starts to look for a prefix, in the background, as long as there is no route to IPv4.
    pub(crate) fn start() -> Self {
        let prefix = Arc::new(Mutex::new(None));
        let found = Arc::clone(&prefix);
        let task = AbortOnDrop::spawn(async move {
            loop {
                let has_ipv4 = tcp::source_address(ELSEWHERE).await.is_ok();
                let new = if has_ipv4 { None } else { discover().await };
                *found.lock().unwrap_or_else(PoisonError::into_inner) = new;
                sleep_until(next_keepalive(CHECK_INTERVAL)).await;
            }
        });
        Self {
            prefix,
            _task: task,
        }
    }

    /// Puts the addresses that lead through the NAT64 in the place of public IPv4 addresses.
    pub(crate) fn translate(&self, candidates: &mut [Candidate]) {
        let prefix = *self.prefix.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(prefix) = prefix else { return };
        for candidate in candidates {
            if let IpAddr::V4(v4) = candidate.address.ip()
                // Private addresses are not those of the network behind the NAT64.
                && !v4.is_private()
            {
                candidate.address.set_ip(prefix.with(v4).into());
            }
        }
    }
}

/// Asks the system's resolver for the prefix.
async fn discover() -> Option<Prefix> {
    let lookup = timeout(LOOKUP_LIMIT, tokio::net::lookup_host(IPV4_ONLY_NAME));
    let addresses = lookup.await.ok()?.ok()?;
    let prefix = addresses.into_iter().find_map(|it| match it.ip() {
        IpAddr::V6(address) => Prefix::of(address),
        IpAddr::V4(_) => None,
    });
    tracing::debug!(found = prefix.is_some(), "looked for a NAT64");
    prefix
}

impl Prefix {
    /// Returns the prefix that an address of the IPv4-only name was made with.
    fn of(address: Ipv6Addr) -> Option<Self> {
        let octets = address.octets();
        PREFIX_LENGTHS.into_iter().find_map(|length| {
            let prefix = Self { octets, length };
            let made = |known: &Ipv4Addr| prefix.with(*known) == address;
            IPV4_ONLY.iter().any(made).then_some(prefix)
        })
    }

    /// Returns the address that stands for an IPv4 address.
    fn with(&self, address: Ipv4Addr) -> Ipv6Addr {
        let mut octets = [0; 16];
        octets[..self.length].copy_from_slice(&self.octets[..self.length]);
        let places = (self.length..16).filter(|place| *place != ZERO_OCTET);
        for (place, octet) in places.zip(address.octets()) {
            octets[place] = octet;
        }
        octets.into()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use p2pconnect_proto::PunchPort;

    use super::*;

    /// The examples of RFC 6052 section 2.4, all for 192.0.2.33.
    const EXAMPLES: [(&str, usize, &str); 7] = [
        ("2001:db8::", 4, "2001:db8:c000:221::"),
        ("2001:db8:100::", 5, "2001:db8:1c0:2:21::"),
        ("2001:db8:122::", 6, "2001:db8:122:c000:2:2100::"),
        ("2001:db8:122:300::", 7, "2001:db8:122:3c0:0:221::"),
        ("2001:db8:122:344::", 8, "2001:db8:122:344:c0:2:2100::"),
        ("2001:db8:122:344::", 12, "2001:db8:122:344::192.0.2.33"),
        ("64:ff9b::", 12, "64:ff9b::192.0.2.33"),
    ];

    #[test]
    fn addresses_are_made_and_prefixes_found_as_in_the_rfc() {
        for (prefix, length, expected) in EXAMPLES {
            let prefix: Ipv6Addr = prefix.parse().unwrap();
            let octets = prefix.octets();
            let prefix = Prefix { octets, length };
            let address = Ipv4Addr::new(192, 0, 2, 33);
            let expected: Ipv6Addr = expected.parse().unwrap();
            assert_eq!(prefix.with(address), expected);
            for known in IPV4_ONLY {
                let found = Prefix::of(prefix.with(known)).unwrap();
                assert_eq!((found.length, found.with(address)), (length, expected));
            }
        }
        for other in [
            "2001:db8::1",
            "64:ff9b::192.0.2.1",
            "::",
            "::ffff:192.0.0.1",
        ] {
            assert_eq!(Prefix::of(other.parse().unwrap()), None, "{other}");
        }
    }

    #[tokio::test]
    async fn public_ipv4_candidates_are_translated_and_no_others() {
        let prefix = Prefix::of("64:ff9b::192.0.0.170".parse().unwrap());
        let nat64 = Nat64 {
            prefix: Arc::new(Mutex::new(prefix)),
            _task: AbortOnDrop::spawn(async {}),
        };
        let addresses = ["203.0.113.9:5", "192.168.1.2:5", "[2001:db8::1]:5"];
        let mut candidates = addresses
            .map(|it| Candidate::host(it.parse().unwrap(), PunchPort::PRIMARY))
            .to_vec();
        nat64.translate(&mut candidates);
        let translated: Vec<_> = candidates.iter().map(|it| it.address.to_string()).collect();
        assert_eq!(
            translated,
            ["[64:ff9b::cb00:7109]:5", addresses[1], addresses[2]]
        );
    }
}
