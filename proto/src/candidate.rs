//! Addresses at which a peer may be reached.

use std::net::SocketAddr;

use crate::{
    AddressScope, ReflexiveToken,
    codec::wire::{fields, numbers},
    portable,
};

/// What an address of a peer is, in the order of preference (RFC 8445 section 5.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CandidateKind {
    /// An address of one of the peer's own interfaces.
    Host,
    /// The address from which a STUN server saw the peer's connection come.
    ServerReflexive,
    /// An address of the NAT that it forwards to the peer on request (PCP, NAT-PMP, UPnP).
    Mapped,
    /// The address from which the first connection out of an unused local port is expected to
    /// come. What the next ones come from follows from the port assignment that the peer
    /// reports: the next port if ports are preserved, a step further if they are sequential, any
    /// of the range if they are random. Of a random range it names a port that is not in use, so
    /// that a peer with connections from all of its ports has one from this port too.
    ///
    /// With another punch port than [`FRESH`](PunchPort::FRESH), it is where that port is seen if
    /// the NAT keeps its number.
    Predicted,
    /// An address learnt from a connection that the peer made to us. Never sent.
    PeerReflexive,
    /// A kind that means nothing, see [`Grease`](crate::Grease). It is sent now and then, and never
    /// read: candidates of kinds that are not known are left out.
    Reserved(u16),
}
numbers!(CandidateKind {
    0 Host,
    1 ServerReflexive,
    2 Mapped,
    3 Predicted,
    4 PeerReflexive;
    Reserved
});

/// Which of its punch ports a peer connects from.
///
/// An endpoint binds several ports, each with a mapping of its own, because some NATs spoil a
/// pair of ports for minutes when an attempt between them fails. Two candidates with the same
/// punch port share a base port (RFC 8445 section 4, "base").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PunchPort(pub u8);
fields!(PunchPort { 0 });

impl PunchPort {
    /// The port that is tried first.
    pub const PRIMARY: Self = Self(0);
    /// The port that takes over when the primary one's path is spoilt or a packet was lost.
    pub const SPARE: Self = Self(1);
    /// The first of a row of local ports that nothing has been sent from yet, for NATs whose
    /// mappings depend on the destination.
    pub const FRESH: Self = Self(2);

    /// Tells whether the number has a meaning. What is named with another one is left out.
    #[must_use]
    pub const fn is_known(self) -> bool {
        self.0 <= Self::FRESH.0
    }
}

/// An address at which a peer may be reached over TCP.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Candidate {
    /// What the address is.
    pub kind: CandidateKind,
    /// The address itself.
    pub address: SocketAddr,
    /// The punch port that the address stands for.
    pub punch_port: PunchPort,
    /// The STUN server's word that this peer was seen at this address.
    pub token: Option<ReflexiveToken>,
}
fields!(sized Candidate { kind, address, punch_port, token });

impl Candidate {
    /// Returns a host candidate.
    #[must_use]
    pub const fn host(address: SocketAddr, punch_port: PunchPort) -> Self {
        Self {
            kind: CandidateKind::Host,
            address,
            punch_port,
            token: None,
        }
    }

    /// Tells whether this can be an address of a peer, whoever says so: it is one that a single
    /// host can have, with a port, of a kind that is sent and for a punch port that has a meaning.
    #[must_use]
    pub fn is_well_formed(&self) -> bool {
        !matches!(
            self.kind,
            CandidateKind::PeerReflexive | CandidateKind::Reserved(_)
        ) && self.punch_port.is_known()
            && self.address.port() != 0
            && AddressScope::of(self.address.ip()) != AddressScope::Nobody
    }

    /// Returns the candidate with its address as it is told to others, see [`portable`].
    #[must_use]
    pub fn portable(self) -> Self {
        Self {
            address: portable(self.address),
            ..self
        }
    }

    /// Returns a server-reflexive candidate.
    #[must_use]
    pub const fn server_reflexive(
        address: SocketAddr,
        punch_port: PunchPort,
        token: Option<ReflexiveToken>,
    ) -> Self {
        Self {
            kind: CandidateKind::ServerReflexive,
            address,
            punch_port,
            token,
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use super::*;

    fn host(text: &str) -> Candidate {
        Candidate::host(text.parse().unwrap(), PunchPort::PRIMARY)
    }

    #[test]
    fn what_no_host_can_have_is_malformed() {
        for good in [
            "192.0.2.1:1",
            "[2001:db8::1]:65535",
            "127.0.0.1:1",
            "10.0.0.1:1",
            "[64:ff9b::192.0.2.1]:1",
            "[64:ff9b:1::a00:1]:1",
            "[2002:c000:201::1]:1",
        ] {
            assert!(host(good).is_well_formed(), "{good}");
        }
        for bad in [
            "0.0.0.0:1",
            "0.1.2.3:1",
            "224.0.0.1:1",
            "255.255.255.255:1",
            "[::]:1",
            "[ff02::1]:1",
            "[::ffff:0.0.0.0]:1",
            "[::ffff:224.0.0.1]:1",
            "192.0.2.1:0",
            "[64:ff9b::127.0.0.1]:1",
            "[64:ff9b::10.0.0.1]:1",
            "[64:ff9b::224.0.0.1]:1",
            "[2002:a00:1::1]:1",
            "[2002:7f00:1::1]:1",
            "[2001::1]:1",
            "[::127.0.0.1]:1",
            "[::192.0.2.1]:1",
            "[::ffff:0:192.0.2.1]:1",
        ] {
            assert!(!host(bad).is_well_formed(), "{bad}");
        }
    }

    #[test]
    fn kinds_and_punch_ports_that_are_not_sent_are_malformed() {
        let good = host("192.0.2.1:1");
        let with_port = |number| Candidate {
            punch_port: PunchPort(number),
            ..good.clone()
        };
        assert!((0..=2).all(|number| with_port(number).is_well_formed()));
        assert!((3..=255).all(|number| !with_port(number).is_well_formed()));
        let learnt = Candidate {
            kind: CandidateKind::PeerReflexive,
            ..good
        };
        assert!(!learnt.is_well_formed());
    }
}
