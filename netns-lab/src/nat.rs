//! How a NAT or firewall behaves, in the words of RFC 4787 and RFC 5382.

use std::time::Duration;

/// A NAT or firewall between a host and the core, made of the kernel's netfilter.
///
/// Whatever it does to IPv4, IPv6 is routed without translation, through a
/// firewall with the same filtering and the same answers. Packets that
/// connection tracking calls invalid are dropped, as home routers do; without
/// that, Linux would let some of them out with their private source address.
///
/// ```
/// use netns_lab::{NatSpec, Unsolicited};
///
/// let home_router = NatSpec::port_preserving();
/// let openwrt = NatSpec::port_preserving().answering(Unsolicited::Rst);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NatSpec {
    pub(crate) mapping: Mapping,
    pub(crate) filtering: Filtering,
    pub(crate) unsolicited: Unsolicited,
    pub(crate) established_timeout: Option<Duration>,
}

/// How internal endpoints are translated to external ones (RFC 4787 section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mapping {
    /// Not at all: public addresses behind a stateful firewall.
    None,
    /// Endpoint-independent, with the internal port where it is free: Linux `masquerade`.
    PortPreserving,
    /// Endpoint-independent, for TCP with a random port between 20,000 and 29,999
    /// that depends only on the internal endpoint and the lab's seed. Of two
    /// internal endpoints with the same one, only the first gets through to a
    /// destination. UDP keeps its ports.
    RandomPort,
    /// Address- and port-dependent: a new random port for every destination,
    /// Linux `masquerade fully-random`. The kernel draws it; the lab's seed has no say.
    RandomPerDestination,
}

/// Who may send to a mapped endpoint (RFC 4787 section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Filtering {
    /// Only the address and port that the host itself has sent to.
    AddressAndPortDependent,
    /// Anyone, once the host has sent from that endpoint to anywhere.
    EndpointIndependent,
}

/// The answer to a TCP SYN that nobody inside has asked for (RFC 5382 section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unsolicited {
    /// Silence.
    Drop,
    /// A TCP reset; `connect` fails with `ECONNREFUSED`.
    Rst,
    /// ICMP "administratively prohibited"; `connect` fails with `EHOSTUNREACH`,
    /// and with `EACCES` over IPv6. Linux limits these answers to a burst of
    /// about six and then one a second for each address.
    Icmp,
}

impl NatSpec {
    /// Returns the NAT of most home routers: endpoint-independent mapping that
    /// keeps the port, address- and port-dependent filtering, silence to strangers.
    pub const fn port_preserving() -> Self {
        Self {
            mapping: Mapping::PortPreserving,
            filtering: Filtering::AddressAndPortDependent,
            unsolicited: Unsolicited::Drop,
            established_timeout: None,
        }
    }

    /// Returns a NAT with endpoint-independent mapping to a random port.
    pub const fn random_port() -> Self {
        Self {
            mapping: Mapping::RandomPort,
            ..Self::port_preserving()
        }
    }

    /// Returns a NAT with a new random port for every destination ("symmetric").
    pub const fn random_per_destination() -> Self {
        Self {
            mapping: Mapping::RandomPerDestination,
            ..Self::port_preserving()
        }
    }

    /// Returns a stateful firewall that translates nothing: the host behind it
    /// has a public address.
    pub const fn firewall() -> Self {
        Self {
            mapping: Mapping::None,
            ..Self::port_preserving()
        }
    }

    /// Sets the answer to SYNs that nobody inside has asked for.
    #[must_use]
    pub const fn answering(mut self, unsolicited: Unsolicited) -> Self {
        self.unsolicited = unsolicited;
        self
    }

    /// Sets who may send to a mapped endpoint.
    #[must_use]
    pub const fn filtering(mut self, filtering: Filtering) -> Self {
        self.filtering = filtering;
        self
    }

    /// Forgets an established connection after this time without a packet,
    /// in whole seconds; what comes for it afterwards is dropped.
    ///
    /// Without this the kernel's default of five days holds, and a packet from
    /// inside would revive a forgotten connection.
    #[must_use]
    pub const fn established_timeout(mut self, idle: Duration) -> Self {
        self.established_timeout = Some(idle);
        self
    }

    /// Returns whether the NAT rewrites IPv4 addresses.
    pub(crate) const fn translates(&self) -> bool {
        !matches!(self.mapping, Mapping::None)
    }
}
