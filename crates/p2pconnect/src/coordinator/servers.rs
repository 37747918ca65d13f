//! Which of the servers that a coordinator names are asked.
//!
//! Asking one is to connect to it and write some bytes there, so a coordinator that need not be
//! honest could lead its peers to services inside their networks.

use std::net::{IpAddr, SocketAddr};

use p2pconnect_proto::{AddressScope, is_global};

use crate::machine::{surroundings::Surroundings, tcp};

/// Returns where to ask a server that a coordinator at `host` names, or `None` if it is not asked:
/// one on loopback, at an address of this machine's own or in a private network is asked only if
/// the coordinator is in such a place itself.
///
/// An address left open is the coordinator's own, and a link-local one is in the coordinator's
/// zone.
pub(crate) fn reached(
    named: SocketAddr,
    host: SocketAddr,
    surroundings: &Surroundings,
) -> Option<SocketAddr> {
    let mut server = named;
    if server.ip().is_unspecified() {
        server.set_ip(host.ip());
    }
    let is_asked = server.port() != 0 && is_asked(server.ip(), host.ip(), surroundings);
    if !is_asked {
        tracing::debug!("a stun server that the coordinator names is not asked");
    }
    is_asked.then(|| tcp::in_zone_of(server, host))
}

fn is_asked(server: IpAddr, host: IpAddr, surroundings: &Surroundings) -> bool {
    let (server, host) = (server.to_canonical(), host.to_canonical());
    server == host
        || match surroundings.scope(server) {
            AddressScope::Nobody => false,
            AddressScope::Loopback => host.is_loopback(),
            // What this machine sends to itself comes by its loopback interface, whatever the
            // address.
            _ if surroundings.is_own(server) => host.is_loopback() || surroundings.is_own(host),
            AddressScope::Local => !is_global(host),
            AddressScope::Global => true,
        }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use super::*;

    fn asked(host: &str, named: &[&str]) -> Vec<String> {
        let own = [("192.168.1.7", 24), ("198.51.100.7", 24), ("127.0.0.1", 8)];
        let surroundings = Surroundings::told(&own);
        let host = host.parse().unwrap();
        let named = named.iter().map(|it| it.parse().unwrap());
        let reached = named.filter_map(|it| reached(it, host, &surroundings));
        reached.map(|it| it.to_string()).collect()
    }

    #[test]
    fn a_coordinator_leads_nobody_into_its_own_network() {
        let named = [
            "0.0.0.0:3478",
            "203.0.113.9:3478",
            "[2001:db8::9]:3478",
            "127.0.0.1:6379",
            "[::1]:6379",
            "[::ffff:127.0.0.1]:6379",
            "192.168.1.1:80",
            "100.64.0.1:80",
            "[fe80::1]:80",
            "[fd00::1]:80",
            "224.0.0.1:80",
            "255.255.255.255:80",
            "203.0.113.9:0",
            "0.1.2.3:80",
            "[64:ff9b::7f00:1]:6379",
            "[64:ff9b::a00:1]:80",
            "[64:ff9b:1::a00:1]:80",
            "[2002:a00:1::1]:80",
            "[::10.0.0.1]:80",
        ];
        let public = ["203.0.113.1:3478", "203.0.113.9:3478", "[2001:db8::9]:3478"];
        assert_eq!(asked("203.0.113.1:4433", &named), public);
        // One inside a network names servers inside, and one on this machine those on this machine.
        let inside = asked("192.168.1.5:4433", &named);
        assert!(inside.contains(&"192.168.1.1:80".to_owned()));
        assert!(
            !inside
                .iter()
                .any(|it| it.contains("127.0.0.1") || it.contains("::1]:6379"))
        );
        let here = asked("127.0.0.1:4433", &named[..5]);
        let expected = ["127.0.0.1:3478", "203.0.113.9:3478", "[2001:db8::9]:3478"];
        assert_eq!(here[..3], expected);
        assert_eq!(here[3..], ["127.0.0.1:6379", "[::1]:6379"]);
    }

    #[test]
    fn a_coordinator_elsewhere_leads_nobody_to_his_own_services() {
        let own = [
            "192.168.1.7:22",
            "198.51.100.7:22",
            "[::ffff:198.51.100.7]:22",
            "[64:ff9b::198.51.100.7]:22",
            "[2002:c633:6407::1]:22",
        ];
        for elsewhere in ["203.0.113.1:4433", "192.168.1.5:4433", "10.0.0.1:4433"] {
            assert!(asked(elsewhere, &own).is_empty(), "{elsewhere}");
        }
        for here in ["127.0.0.1:4433", "192.168.1.7:4433", "198.51.100.7:4433"] {
            assert_eq!(asked(here, &own[..2]), own[..2], "{here}");
        }
    }

    #[test]
    fn a_link_local_server_is_in_the_coordinators_zone() {
        let named = ["[::]:3478", "[fe80::9]:3478", "[2001:db8::9]:3478"];
        let expected = ["[fe80::2%7]:3478", "[fe80::9%7]:3478", "[2001:db8::9]:3478"];
        assert_eq!(asked("[fe80::2%7]:4433", &named), expected);
    }
}
