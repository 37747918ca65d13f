//! Which STUN servers a client is told of.

use std::net::{IpAddr, SocketAddr};

use p2pconnect_proto::is_global;

/// Returns what a client that is seen at `seen` is told of these servers, those of its own family
/// first.
///
/// An unspecified address is this machine's. A client that came by that family has reached it
/// there, and reads the unspecified address as that one. Of the other family the client is told the
/// public address that `own` finds: it learns mappings in both families then, and its peers may
/// know this coordinator by the other one.
pub(super) fn told(
    servers: &[SocketAddr],
    seen: IpAddr,
    own: impl FnOnce(bool) -> Option<IpAddr>,
) -> Vec<SocketAddr> {
    let is_unknown = |it: &SocketAddr| it.ip().is_unspecified() && it.is_ipv4() != seen.is_ipv4();
    // Who is on this machine needs no mappings.
    let is_wanted = !seen.is_loopback() && servers.iter().any(is_unknown);
    let found = is_wanted.then(|| own(!seen.is_ipv4())).flatten();
    let found = found.filter(|it| is_global(*it));
    let named = |it: &SocketAddr| match is_unknown(it) {
        true => found.map(|found| SocketAddr::new(found, it.port())),
        false => Some(*it),
    };
    let mut told: Vec<_> = servers.iter().filter_map(named).collect();
    told.sort_by_key(|it| it.is_ipv4() != seen.is_ipv4());
    told
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use super::*;

    const EVERYWHERE: [&str; 3] = ["[::]:3478", "0.0.0.0:3478", "[::]:4433"];

    /// Returns what a client is told by a machine that has these addresses.
    fn at(own: [&str; 2], servers: &[&str], seen: &str) -> Vec<String> {
        let servers: Vec<_> = servers.iter().map(|it| it.parse().unwrap()).collect();
        let own = |is_ipv4| {
            let mut own = own.iter().filter_map(|it| it.parse().ok());
            own.find(|it: &IpAddr| it.is_ipv4() == is_ipv4)
        };
        let told = told(&servers, seen.parse().unwrap(), own);
        told.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_client_is_told_of_servers_of_both_families() {
        let own = ["203.0.113.1", "2001:db8::1"];
        assert_eq!(
            at(own, &EVERYWHERE, "198.51.100.7"),
            ["0.0.0.0:3478", "[2001:db8::1]:3478", "[2001:db8::1]:4433"]
        );
        assert_eq!(
            at(own, &EVERYWHERE, "2001:db8:7::7"),
            ["[::]:3478", "[::]:4433", "203.0.113.1:3478"]
        );
        assert_eq!(at(own, &EVERYWHERE, "127.0.0.1"), ["0.0.0.0:3478"]);
        let named = ["203.0.113.9:3478", "[2001:db8::9]:3478"];
        assert_eq!(at(own, &named, "198.51.100.7"), named);
    }

    #[test]
    fn addresses_that_mean_nothing_to_a_client_are_not_told() {
        for own in [["172.17.0.2", "fd00::2"], ["", ""]] {
            assert_eq!(at(own, &EVERYWHERE, "198.51.100.7"), ["0.0.0.0:3478"]);
            assert_eq!(
                at(own, &EVERYWHERE, "2001:db8:7::7"),
                ["[::]:3478", "[::]:4433"]
            );
        }
    }
}
