//! Boxes that many tests want, and changes to them.

use std::time::Duration;

use super::{
    Dependence, Directions, Hairpinning, Limits, NatSpec, Pooling, PortAssignment, PortRange,
    RstEffect, SimultaneousOpen, Timers, Translation, Translation6, UnsolicitedSyn,
};

/// Apart from the ports that Linux gives to sockets (32,768 on), so that none is kept by chance.
const NOT_OF_SOCKETS: PortRange = PortRange {
    first: 20_000,
    last: 29_999,
};

impl NatSpec {
    /// Returns the NAT of most home routers, which is Linux `masquerade`: endpoint-independent
    /// mapping that keeps the port, address- and port-dependent filtering, silence to strangers.
    ///
    /// A reset ends a connection, one that was never answered at once and without a trace. A
    /// segment of an unknown connection from inside makes state, as after a restart of the router.
    /// Packets to its own external endpoint are dropped.
    pub const fn port_preserving() -> Self {
        Self {
            translation: Translation::Nat44,
            translation6: Translation6::None,
            mapping: Dependence::EndpointIndependent,
            filtering: Dependence::AddressAndPortDependent,
            ports: PortAssignment::PreservedWithOverload,
            port_range: PortRange::UNPRIVILEGED,
            pooling: Pooling::Paired,
            unsolicited: UnsolicitedSyn::Nothing,
            simultaneous_open: SimultaneousOpen::Allowed,
            rst: RstEffect::Closes,
            pickup: true,
            hairpinning: Hairpinning::None,
            timers: Timers::LINUX,
            udp_inbound_refresh: true,
            strip_window_scale: Directions::Neither,
            drop_echo: false,
            drop_ecn_udp: false,
            drop_udp: false,
            limits: Limits::GENEROUS,
        }
    }

    /// Returns a NAT with endpoint-independent mapping to a random port between 20,000 and 29,999,
    /// otherwise like [`port_preserving`](Self::port_preserving).
    pub const fn random_port() -> Self {
        Self {
            ports: PortAssignment::Random,
            port_range: NOT_OF_SOCKETS,
            ..Self::port_preserving()
        }
    }

    /// Returns a NAT with a new random port for every destination ("symmetric"),
    /// otherwise like [`port_preserving`](Self::port_preserving).
    pub const fn random_per_destination() -> Self {
        Self {
            mapping: Dependence::AddressAndPortDependent,
            ports: PortAssignment::Random,
            ..Self::port_preserving()
        }
    }

    /// Returns a stateful firewall that translates nothing, lets in only what was asked for and is
    /// silent to the rest (RFC 6092): the host behind it has a public address.
    pub const fn firewall() -> Self {
        Self {
            translation: Translation::None,
            ..Self::port_preserving()
        }
    }

    /// Sets the answer to SYNs that are not let in.
    #[must_use]
    pub const fn answering(mut self, unsolicited: UnsolicitedSyn) -> Self {
        self.unsolicited = unsolicited;
        self
    }

    /// Sets who may send to a mapped endpoint.
    #[must_use]
    pub const fn filtering(mut self, filtering: Dependence) -> Self {
        self.filtering = filtering;
        self
    }

    /// Sets for which destinations an internal endpoint keeps its external one.
    #[must_use]
    pub const fn mapping(mut self, mapping: Dependence) -> Self {
        self.mapping = mapping;
        self
    }

    /// Sets which external port a mapping gets.
    #[must_use]
    pub const fn ports(mut self, ports: PortAssignment) -> Self {
        self.ports = ports;
        self
    }

    /// Sets the external ports that are given out.
    #[must_use]
    pub const fn port_range(mut self, first: u16, last: u16) -> Self {
        self.port_range = PortRange { first, last };
        self
    }

    /// Forgets an established connection after this time without a packet.
    #[must_use]
    pub const fn established_timeout(mut self, idle: Duration) -> Self {
        self.timers.established = idle;
        self
    }

    /// Takes the window scale option out of SYNs in these directions.
    #[must_use]
    pub const fn strip_window_scale(mut self, directions: Directions) -> Self {
        self.strip_window_scale = directions;
        self
    }

    /// Drops ICMP echo requests from inside.
    #[must_use]
    pub const fn drop_echo(mut self) -> Self {
        self.drop_echo = true;
        self
    }

    /// Drops UDP with an ECN mark.
    #[must_use]
    pub const fn drop_ecn_udp(mut self) -> Self {
        self.drop_ecn_udp = true;
        self
    }

    /// Drops all UDP.
    #[must_use]
    pub const fn drop_udp(mut self) -> Self {
        self.drop_udp = true;
        self
    }

    /// Sets whether a segment of an unknown connection makes state; otherwise it is dropped.
    #[must_use]
    pub const fn pickup(mut self, pickup: bool) -> Self {
        self.pickup = pickup;
        self
    }
}
