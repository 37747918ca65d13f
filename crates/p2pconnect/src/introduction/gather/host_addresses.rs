//! Which of this machine's addresses are offered, where there is not room for all.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use p2pconnect_host::{ELSEWHERE, Host};
use p2pconnect_proto::{AddressScope, is_global};

use crate::machine::interfaces::Interfaces;

/// An address of this machine, and what is known of its interface.
#[derive(Debug, Clone, Copy)]
struct HostAddress<'a> {
    interface: &'a str,
    ip: IpAddr,
    /// Whether the interface is up and has a carrier. A bridge has none while it has no members.
    is_running: bool,
    is_bridge: bool,
}

/// Lists this machine's addresses that a peer could make use of, the most useful ones first.
pub(super) fn by_usefulness(interfaces: &Interfaces) -> Vec<IpAddr> {
    let offerable: Vec<_> = interfaces
        .iter()
        .filter(|it| is_offerable(&it.ip))
        .collect();
    let names: BTreeSet<&str> = offerable.iter().map(|it| &*it.name).collect();
    // The routes are asked for only where they tell interfaces apart.
    let ways_out = match names.len() {
        0 | 1 => Vec::new(),
        _ => ways_out(interfaces.host()),
    };
    let addresses: Vec<_> = offerable
        .iter()
        .map(|it| HostAddress {
            interface: &it.name,
            ip: it.ip,
            is_running: it.is_running,
            is_bridge: it.is_bridge,
        })
        .collect();
    order(&addresses, &ways_out)
}

/// Returns the addresses that default routes begin at.
fn ways_out(host: &Host) -> Vec<IpAddr> {
    ELSEWHERE
        .into_iter()
        .filter_map(|it| host.source_address(it).ok())
        .collect()
}

/// Orders addresses by how likely a peer can reach them: those of interfaces without a carrier come
/// last; one of each interface and family comes before any second one, so that the temporary IPv6
/// addresses of one interface do not crowd out the others; then the interfaces that default routes
/// begin at, as `ways_out` shows; bridges, which are the networks of containers as a rule, after
/// others; and public addresses before private ones.
fn order(addresses: &[HostAddress<'_>], ways_out: &[IpAddr]) -> Vec<IpAddr> {
    let leading: BTreeSet<_> = addresses
        .iter()
        .filter(|it| ways_out.contains(&it.ip))
        .map(|it| it.interface)
        .collect();
    let mut counts = BTreeMap::new();
    let mut ordered: Vec<_> = addresses
        .iter()
        .map(|it| {
            let nth = counts
                .entry((it.interface, it.ip.is_ipv4()))
                .or_insert(0_usize);
            *nth += 1;
            let leads_out = leading.contains(it.interface);
            let rank = (
                !it.is_running,
                *nth,
                !leads_out,
                it.is_bridge,
                scope_rank(it.ip),
            );
            (rank, it.ip)
        })
        .collect();
    // Stable: the system's own order stays otherwise.
    ordered.sort_by_key(|(rank, _)| *rank);
    ordered.into_iter().map(|(_, ip)| ip).collect()
}

/// Public addresses first, then private IPv4, then unique local IPv6.
fn scope_rank(ip: IpAddr) -> u8 {
    match ip {
        _ if is_global(ip) => 0,
        IpAddr::V4(_) => 1,
        IpAddr::V6(_) => 2,
    }
}

/// Tells whether a peer elsewhere could make use of an address. A link-local one means nothing
/// without the name of an interface, which differs between machines.
fn is_offerable(address: &IpAddr) -> bool {
    let is_link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    match AddressScope::of(*address) {
        AddressScope::Nobody | AddressScope::Loopback => false,
        AddressScope::Local | AddressScope::Global => !is_link_local,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("the test names addresses")
    }

    fn lan<'a>(interface: &'a str, text: &str) -> HostAddress<'a> {
        HostAddress {
            interface,
            ip: ip(text),
            is_running: true,
            is_bridge: false,
        }
    }

    #[test]
    fn addresses_that_mean_nothing_elsewhere_are_not_offered() {
        for text in [
            "127.0.0.1",
            "169.254.3.4",
            "0.0.0.0",
            "::1",
            "::",
            "fe80::1",
            // Teredo, and 6to4 behind a NAT.
            "2001:0:c000:201::1",
            "2002:a00:1::1",
        ] {
            assert!(!is_offerable(&ip(text)), "{text}");
        }
        for text in ["10.0.0.1", "192.0.2.7", "2001:db8::1", "fd00::1"] {
            assert!(is_offerable(&ip(text)), "{text}");
        }
    }

    #[test]
    fn no_interface_is_crowded_out() {
        let addresses = [
            lan("wlan0", "2001:db8::1"),
            lan("wlan0", "2001:db8::2"),
            lan("wlan0", "2001:db8::3"),
            lan("wlan0", "192.168.1.2"),
            lan("eth0", "10.0.0.2"),
            lan("eth0", "10.0.0.3"),
            lan("eth0", "fd00::1"),
        ];
        let found: BTreeSet<_> = order(&addresses, &[]).into_iter().take(4).collect();
        let expected = [0, 3, 4, 6].map(|place: usize| addresses[place].ip);
        assert_eq!(found, BTreeSet::from(expected));
    }

    #[test]
    fn bridges_of_containers_come_after_the_lan() {
        let bridge = |interface, text, is_running| HostAddress {
            is_running,
            is_bridge: true,
            ..lan(interface, text)
        };
        let addresses = [
            bridge("docker0", "172.17.0.1", false),
            bridge("br-1", "172.18.0.1", true),
            bridge("br-2", "172.19.0.1", true),
            bridge("br-3", "172.20.0.1", false),
            bridge("br-4", "172.21.0.1", false),
            lan("wlan0", "192.168.8.2"),
            lan("eth0", "192.168.1.2"),
            lan("eth0", "2a00:1450:4001::2"),
        ];
        let ordered = order(&addresses, &[ip("192.168.1.2")]);
        let expected = [7, 6, 5, 1, 2, 0, 3, 4].map(|place: usize| addresses[place].ip);
        assert_eq!(ordered, expected);
        // A bridge that the LAN card is a member of is the way out itself.
        assert_eq!(order(&addresses, &[ip("172.19.0.1")])[0], ip("172.19.0.1"));
    }
}
