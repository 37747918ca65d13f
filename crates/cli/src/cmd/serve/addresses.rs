//! Where a coordinator and its STUN server listen.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
};

use anyhow::bail;
use p2pconnect::Shortage;
use p2pconnect_coordinator::tcp_addresses;
use p2pconnect_stun::DEFAULT_PORT;

use super::settings::Settings;

/// Where each of the two listens.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Addresses {
    pub(super) listen: SocketAddr,
    pub(super) stun: Vec<SocketAddr>,
    /// Whether the system has no IPv6.
    pub(super) is_without_ipv6: bool,
}

impl Addresses {
    /// Returns where to listen: on all addresses unless told otherwise, and on those of IPv4 where
    /// the system has no IPv6.
    ///
    /// # Errors
    ///
    /// An address that was named and that the machine does not have, or that is the broadcast
    /// address of a network.
    pub(super) fn wanted(settings: &Settings) -> anyhow::Result<Self> {
        let wanted = Self::of(settings.listen, &settings.stun);
        let addresses = match has_ipv6() {
            true => wanted,
            false => wanted.ipv4_only()?,
        };
        let stun = addresses.stun.iter().map(|it| ("--stun", it));
        for (option, address) in [("--listen", &addresses.listen)].into_iter().chain(stun) {
            let Some(why) = why_not(*address) else {
                continue;
            };
            bail!(
                "{address} cannot be listened on: {why}; name a port alone, {option} {}, to listen on all addresses, \
                 and give peers the one that leads here",
                address.port()
            );
        }
        Ok(addresses)
    }

    fn of(listen: SocketAddr, stun: &[SocketAddr]) -> Self {
        let beside = [SocketAddr::new(listen.ip(), DEFAULT_PORT)];
        let stun = match stun {
            [] => beside.as_slice(),
            wanted => wanted,
        };
        let mut addresses = Vec::new();
        for address in stun {
            for address in tcp_addresses(*address) {
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
        }
        Self {
            listen,
            stun: addresses,
            is_without_ipv6: false,
        }
    }

    /// Returns the same without IPv6.
    fn ipv4_only(self) -> anyhow::Result<Self> {
        let named = |address: &&SocketAddr| address.is_ipv6() && !address.ip().is_unspecified();
        if let Some(address) = [&self.listen].into_iter().chain(&self.stun).find(named) {
            bail!(
                "{address} cannot be listened on: this machine has no IPv6; name an IPv4 address, or a port alone"
            );
        }
        let listen = match self.listen.is_ipv6() {
            true => all_of_ipv4(self.listen.port()),
            false => self.listen,
        };
        // Those that stand for both families are there a second time, for IPv4.
        let stun = self.stun.into_iter().filter(SocketAddr::is_ipv4).collect();
        Ok(Self {
            listen,
            stun,
            is_without_ipv6: true,
        })
    }
}

/// Tells whether sockets of IPv6 can be had. A machine that has no file left for one may have IPv6
/// all the same.
pub(crate) fn has_ipv6() -> bool {
    let tells_otherwise = |error: io::Error| Shortage::of(&error).is_none();
    !UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).is_err_and(tells_otherwise)
}

/// Returns why an address cannot be listened on, if it is none of this machine's own.
pub(crate) fn why_not(address: SocketAddr) -> Option<&'static str> {
    if is_elsewhere(address) {
        Some("this machine has no such address")
    } else if is_broadcast(address) {
        Some("it is the broadcast address of a network, where no peer can reach this machine")
    } else {
        None
    }
}

/// Tells whether an address is none of this machine's: some router's or cloud's in front of it,
/// most likely.
fn is_elsewhere(mut address: SocketAddr) -> bool {
    address.set_port(0);
    UdpSocket::bind(address).is_err_and(|error| error.kind() == io::ErrorKind::AddrNotAvailable)
}

/// Tells whether an address that this machine has is that of all in a network. The system lets
/// servers listen there, but asks whoever sends there for a permission that nobody has asked for.
fn is_broadcast(address: SocketAddr) -> bool {
    let target = SocketAddr::new(address.ip().to_canonical(), address.port().max(1));
    if target.is_ipv6() {
        return false;
    }
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0));
    let connected = socket.and_then(|socket| socket.connect(target));
    connected.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

fn all_of_ipv4(port: u16) -> SocketAddr {
    (Ipv4Addr::UNSPECIFIED, port).into()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use super::*;

    fn v6(port: u16) -> SocketAddr {
        (Ipv6Addr::UNSPECIFIED, port).into()
    }

    #[test]
    fn stun_is_for_both_families_wherever_it_is() {
        let stun = |wanted: &[SocketAddr], listen| Addresses::of(listen, wanted).stun;
        let v4 = all_of_ipv4;
        assert_eq!(stun(&[], v6(4433)), [v6(DEFAULT_PORT), v4(DEFAULT_PORT)]);
        assert_eq!(stun(&[], v4(4433)), [v4(DEFAULT_PORT)]);
        assert_eq!(stun(&[v6(9), v4(9)], v6(4433)), [v6(9), v4(9)]);
    }

    #[test]
    fn nobody_listens_on_the_broadcast_address_of_a_network() {
        for (address, is_one) in [
            ("127.255.255.255:9", true),
            ("[::ffff:127.255.255.255]:0", true),
            ("127.0.0.1:9", false),
            ("0.0.0.0:9", false),
            ("[::1]:9", false),
        ] {
            assert_eq!(is_broadcast(address.parse().unwrap()), is_one, "{address}");
        }
    }

    #[test]
    fn without_ipv6_the_same_ports_of_ipv4_are_left() {
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
        let addresses = Addresses::of(v6(4433), &[v6(7), v6(8), loopback])
            .ipv4_only()
            .unwrap();
        let stun = vec![all_of_ipv4(7), all_of_ipv4(8), loopback];
        let listen = all_of_ipv4(4433);
        let expected = Addresses {
            listen,
            stun,
            is_without_ipv6: true,
        };
        assert_eq!(addresses, expected);
        let named = SocketAddr::from((Ipv6Addr::LOCALHOST, 9));
        for addresses in [
            Addresses::of(named, &[loopback]),
            Addresses::of(loopback, &[named]),
        ] {
            let error = addresses.ipv4_only().unwrap_err().to_string();
            assert!(error.contains("[::1]:9"), "{error}");
        }
    }
}
