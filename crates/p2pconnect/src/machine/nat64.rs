//! The way to IPv4 for a machine that has IPv6 only, behind a NAT64.
//!
//! Servers keep their IPv4 addresses, and sockets are led to what stands for these
//! ([`Nat64::reach`]): the machine may be in another network when the next one is made.

mod prefix;

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use p2pconnect_host::{ELSEWHERE, Host, LOOKUP_LIMIT};
use p2pconnect_proto::{Candidate, is_global};
use p2pconnect_stun::next_keepalive;
use tokio::time::{Instant, sleep_until};

use crate::{machine::task::AbortOnDrop, sync::lock};
pub(crate) use prefix::Prefix;

/// The name that has IPv4 addresses only: a resolver that answers with IPv6 addresses has made them
/// with the prefix of the NAT64 (RFC 7050 section 3).
const IPV4_ONLY_NAME: &str = "ipv4only.arpa";

/// How long an answer counts as new: what begins at the same time asks once.
const NEW_FOR: Duration = Duration::from_secs(2);

/// How often it is looked whether the network is another one: a multiple of what wakes an idle
/// endpoint anyway.
const CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// The prefix of the NAT64 in front of this machine, if it has no other way to IPv4.
#[derive(Debug)]
pub(crate) struct Nat64 {
    shared: Arc<Shared>,
    _task: AbortOnDrop,
}

#[derive(Debug)]
struct Shared {
    host: Host,
    prefix: Mutex<Option<Prefix>>,
    /// When it was looked for last. Taken while somebody looks.
    looked: tokio::sync::Mutex<Option<Instant>>,
}

impl Nat64 {
    /// Starts to look for a prefix, in the background, as long as there is no route to IPv4.
    pub(crate) fn start(host: Host) -> Self {
        let shared = Arc::new(Shared {
            host,
            prefix: Mutex::default(),
            looked: tokio::sync::Mutex::default(),
        });
        let looking = Arc::clone(&shared);
        let task = AbortOnDrop::spawn(async move {
            loop {
                looking.look_unless(|at| at.elapsed() < NEW_FOR).await;
                sleep_until(next_keepalive(&looking.host, CHECK_INTERVAL)).await;
            }
        });
        Self {
            shared,
            _task: task,
        }
    }

    /// Returns the address to connect to in order to reach a server: where there is no route to an
    /// IPv4 address, the one that leads to it through the NAT64 (RFC 8305 section 7.1).
    ///
    /// Waits for the resolver only if there is no route and nobody has asked yet. Cancel safe.
    pub(crate) async fn reach(&self, server: SocketAddr) -> SocketAddr {
        let IpAddr::V4(address) = server.ip() else {
            return server;
        };
        if self.shared.is_routed(server) {
            return server;
        }
        self.shared.look_unless(|_| true).await;
        match self.shared.known() {
            Some(prefix) => SocketAddr::new(prefix.with(address).into(), server.port()),
            None => server,
        }
    }

    /// Puts the IPv4 addresses in the place of those that a resolver has made of them, each address
    /// once. A name with both would lead to each server twice.
    ///
    /// Asks the resolver anew if there is no route to one of them, as in a network that is another
    /// one by now. Cancel safe.
    pub(crate) async fn untranslate(&self, servers: &mut Vec<SocketAddr>) {
        for server in servers.iter().filter(|it| it.is_ipv4()) {
            if !self.shared.is_routed(*server) {
                self.shared.look_unless(|at| at.elapsed() < NEW_FOR).await;
            }
        }
        let Some(prefix) = self.shared.known() else {
            return;
        };
        let mut known = BTreeSet::new();
        servers.retain_mut(|server| {
            if let IpAddr::V6(v6) = server.ip()
                && let Some(v4) = prefix.without(v6)
            {
                server.set_ip(v4.into());
            }
            known.insert(*server)
        });
    }

    /// Puts the addresses that lead through the NAT64 in the place of a peer's public IPv4
    /// addresses that there is no route to, and returns them. Cancel safe.
    pub(crate) fn translate(&self, candidates: &mut [Candidate]) -> BTreeSet<IpAddr> {
        let is_routed = |remote| self.shared.is_routed(remote);
        match self.shared.known() {
            Some(prefix) => translate_with(prefix, candidates, is_routed),
            None => BTreeSet::new(),
        }
    }

    /// Returns the prefix that is known now.
    pub(crate) fn prefix(&self) -> Option<Prefix> {
        self.shared.known()
    }
}

fn translate_with(
    prefix: Prefix,
    candidates: &mut [Candidate],
    is_routed: impl Fn(SocketAddr) -> bool,
) -> BTreeSet<IpAddr> {
    let mut translated = BTreeSet::new();
    for candidate in candidates {
        if let IpAddr::V4(v4) = candidate.address.ip()
            // Others are not those of the network behind the NAT64.
            && is_global(v4.into())
            && !is_routed(candidate.address)
        {
            let v6 = prefix.with(v4).into();
            candidate.address.set_ip(v6);
            translated.insert(v6);
        }
    }
    translated
}

impl Shared {
    /// Tells whether there is a route to an address.
    fn is_routed(&self, remote: SocketAddr) -> bool {
        self.host.source_address(remote).is_ok()
    }

    fn known(&self) -> Option<Prefix> {
        *lock(&self.prefix)
    }

    fn set(&self, prefix: Option<Prefix>) {
        *lock(&self.prefix) = prefix;
    }

    /// Looks for the prefix, unless that has been done at a moment that will do.
    async fn look_unless(&self, will_do: impl FnOnce(Instant) -> bool) {
        let mut looked = self.looked.lock().await;
        if !looked.is_some_and(will_do) {
            self.look_anew().await;
            *looked = Some(Instant::now());
        }
    }

    async fn look_anew(&self) {
        if self.is_routed(ELSEWHERE[0]) {
            return self.set(None);
        }
        match discover(&self.host).await {
            Ok(prefix) => {
                tracing::debug!(found = prefix.is_some(), "looked for a NAT64");
                self.set(prefix);
            }
            // The NAT64 need not have gone with the resolver.
            Err(error) => tracing::debug!(%error, "the resolver tells of no NAT64"),
        }
    }
}

/// Asks the system's resolver for the prefix.
async fn discover(host: &Host) -> io::Result<Option<Prefix>> {
    // The port means nothing here.
    let found = host.look_up(IPV4_ONLY_NAME, 443, LOOKUP_LIMIT).await?;
    let prefix = found.iter().find_map(|it| match it.ip() {
        IpAddr::V6(address) => Prefix::of(address),
        IpAddr::V4(_) => None,
    });
    Ok(prefix)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
impl Nat64 {
    /// Returns what is known where the resolver has answered with this address of the IPv4-only
    /// name.
    pub(crate) fn told(address: &str) -> Self {
        let shared = Shared {
            host: Host::default(),
            prefix: Mutex::new(Prefix::of(address.parse().unwrap())),
            looked: tokio::sync::Mutex::new(Some(Instant::now())),
        };
        Self {
            shared: Arc::new(shared),
            _task: AbortOnDrop::spawn(async {}),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use p2pconnect_proto::PunchPort;

    use super::*;

    const WELL_KNOWN: &str = "64:ff9b::192.0.0.170";

    /// No machine lets anybody connect to this, as if there were no route.
    const NOWHERE: &str = "255.255.255.255:5";

    #[test]
    fn public_ipv4_candidates_are_translated_and_no_others() {
        let prefix = Prefix::of(WELL_KNOWN.parse().unwrap()).unwrap();
        let addresses = [
            "198.51.100.7:5",
            "192.168.1.2:5",
            "100.64.1.2:5",
            "[2001:db8::1]:5",
        ];
        let mut candidates = addresses
            .map(|it| Candidate::host(it.parse().unwrap(), PunchPort::PRIMARY))
            .to_vec();
        let translated = translate_with(prefix, &mut candidates, |_| false);
        let found: Vec<_> = candidates.iter().map(|it| it.address.to_string()).collect();
        let [_, others @ ..] = addresses;
        assert_eq!(found[0], "[64:ff9b::c633:6407]:5");
        assert_eq!(found[1..], others);
        assert_eq!(translated, BTreeSet::from([candidates[0].address.ip()]));
    }

    #[tokio::test]
    async fn a_server_with_both_addresses_is_one_server() {
        let nat64 = Nat64::told(WELL_KNOWN);
        let addresses = [
            "[64:ff9b::cb00:7109]:5",
            "[2001:db8::1]:5",
            "203.0.113.9:5",
            "203.0.113.9:6",
        ];
        let mut servers = addresses.map(|it| it.parse().unwrap()).to_vec();
        nat64.untranslate(&mut servers).await;
        let found: Vec<_> = servers.iter().map(SocketAddr::to_string).collect();
        assert_eq!(found, ["203.0.113.9:5", "[2001:db8::1]:5", "203.0.113.9:6"]);
    }

    #[tokio::test]
    async fn what_there_is_a_route_to_is_reached_as_it_is() {
        let nat64 = Nat64::told(WELL_KNOWN);
        for server in ["127.0.0.1:5", "[2001:db8::1]:5"] {
            assert_eq!(
                nat64.reach(server.parse().unwrap()).await,
                server.parse().unwrap()
            );
        }
        let led = "[64:ff9b::ffff:ffff]:5".parse().unwrap();
        assert_eq!(nat64.reach(NOWHERE.parse().unwrap()).await, led);
    }
}
