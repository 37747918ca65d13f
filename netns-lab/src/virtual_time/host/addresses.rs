//! The addresses of a host, and which of them its packets come from.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::virtual_time::socket::SocketError;

/// The addresses of a host, in the order in which it got them.
#[derive(Debug)]
pub(super) struct Addresses(Vec<IpAddr>);

/// How far an address leads (RFC 6724 section 3.1), as far as hosts of a world tell addresses
/// apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    LinkLocal,
    /// IPv6 alone: unique local addresses (RFC 4193) talk to each other.
    UniqueLocal,
    Global,
}

impl Scope {
    const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) if v4.is_link_local() => Self::LinkLocal,
            IpAddr::V6(v6) if v6.is_unicast_link_local() => Self::LinkLocal,
            IpAddr::V6(v6) if v6.is_unique_local() => Self::UniqueLocal,
            IpAddr::V4(_) | IpAddr::V6(_) => Self::Global,
        }
    }
}

impl Addresses {
    pub(super) const fn new(addresses: Vec<IpAddr>) -> Self {
        Self(addresses)
    }

    pub(super) fn all(&self) -> &[IpAddr] {
        &self.0
    }

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }

    pub(super) fn set(&mut self, addresses: &[IpAddr]) {
        self.0 = addresses.to_vec();
    }

    /// Returns whether packets to an address come to the host itself.
    pub(super) fn is_own(&self, address: IpAddr) -> bool {
        address.is_loopback() || self.contains(address)
    }

    /// Returns the address that packets to another one come from where a socket does not say: of
    /// those of its family the first of its scope, or else the first. What the host sends to itself
    /// comes from where it goes.
    pub(super) fn source_for(&self, destination: IpAddr) -> Option<IpAddr> {
        if destination.is_loopback() {
            return Some(match destination {
                IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
        }
        if self.contains(destination) {
            return Some(destination);
        }
        let of_family = |own: &&IpAddr| own.is_ipv4() == destination.is_ipv4();
        let of_scope = |own: &&IpAddr| Scope::of(**own) == Scope::of(destination);
        let mut candidates = self.0.iter().filter(of_family);
        let first = candidates.clone().next();
        candidates.find(of_scope).or(first).copied()
    }

    /// Returns the address that a socket that is bound to `local` sends from.
    pub(super) fn bound_source(
        &self,
        local: IpAddr,
        destination: IpAddr,
    ) -> Result<IpAddr, SocketError> {
        if local.is_ipv4() != destination.is_ipv4() {
            return Err(SocketError::AddressNotAvailable);
        }
        if local.is_unspecified() {
            self.source_for(destination)
                .ok_or(SocketError::NetworkUnreachable)
        } else if self.can_send(local, destination) {
            Ok(local)
        } else {
            Err(SocketError::NetworkUnreachable)
        }
    }

    /// Returns whether packets from one address to another may go. Linux holds those of IPv4 back
    /// whose source the host does not have, and lets those of IPv6 go. None leaves the host from a
    /// loopback address.
    pub(super) fn can_send(&self, source: IpAddr, destination: IpAddr) -> bool {
        let is_free = !source.is_loopback() || self.is_own(destination);
        is_free && (source.is_ipv6() || self.is_own(source))
    }

    /// Returns whether a socket can be bound to an address.
    pub(super) fn can_bind(&self, address: IpAddr) -> bool {
        address.is_unspecified() || self.is_own(address)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use super::*;

    #[test]
    fn the_source_has_the_scope_of_the_destination() {
        let own = [
            "192.168.1.2",
            "203.0.113.1",
            "fe80::1",
            "fd00::1",
            "2001:db8::1",
        ];
        let own = Addresses::new(own.iter().map(|it| it.parse().unwrap()).collect());
        for (destination, source) in [
            ("198.51.100.7", "192.168.1.2"),
            ("169.254.0.1", "192.168.1.2"),
            ("2001:db8:7::1", "2001:db8::1"),
            ("fd00:7::1", "fd00::1"),
            ("fe80::7", "fe80::1"),
            ("203.0.113.1", "203.0.113.1"),
            ("fd00::1", "fd00::1"),
            ("127.0.0.2", "127.0.0.1"),
            ("::1", "::1"),
        ] {
            let source = source.parse().ok();
            assert_eq!(
                own.source_for(destination.parse().unwrap()),
                source,
                "{destination}"
            );
        }
        let ipv4 = Addresses::new(vec!["203.0.113.1".parse().unwrap()]);
        assert_eq!(ipv4.source_for("2001:db8::1".parse().unwrap()), None);
    }
}
