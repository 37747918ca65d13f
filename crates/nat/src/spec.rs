//! How a box behaves, in the words of RFC 4787, RFC 5382 and RFC 6888.

mod named;

use std::{fmt, net::Ipv6Addr, time::Duration};

/// The behaviour of a NAT or stateful firewall, whoever plays it.
///
/// The lab's model can be every such box. The kernel's netfilter can be most; building a lab says
/// what it cannot be.
///
/// ```
/// use p2pconnect_nat::{Dependence, NatSpec, PortAssignment};
///
/// let symmetric = NatSpec {
///     mapping: Dependence::AddressAndPortDependent,
///     filtering: Dependence::AddressAndPortDependent,
///     ports: PortAssignment::Random,
///     ..NatSpec::rfc5382()
/// };
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NatSpec {
    /// What the box rewrites in IPv4.
    pub translation: Translation,
    /// What the box rewrites in IPv6.
    pub translation6: Translation6,
    /// For which destinations an internal endpoint keeps its external one (RFC 4787 section 4.1,
    /// RFC 5382 REQ-1).
    pub mapping: Dependence,
    /// From which remote endpoints packets are let in (RFC 4787 section 5, RFC 5382 REQ-3).
    pub filtering: Dependence,
    /// Which external port a mapping gets (RFC 4787 section 4.2, RFC 5382 REQ-7).
    pub ports: PortAssignment,
    /// The external ports that are given out.
    pub port_range: PortRange,
    /// Which of several external addresses a mapping gets (RFC 4787 section 4.1).
    pub pooling: Pooling,
    /// The answer to a SYN that is not let in (RFC 5382 REQ-4).
    pub unsolicited: UnsolicitedSyn,
    /// Whether a SYN may come in as answer to a SYN (RFC 5382 REQ-2).
    pub simultaneous_open: SimultaneousOpen,
    /// What a reset does to the connection's state (RFC 7857 section 2.2).
    pub rst: RstEffect,
    /// Whether a segment of an unknown connection makes state, as it does after a reboot of Linux
    /// with `nf_conntrack_tcp_loose`. Without it such segments are dropped.
    pub pickup: bool,
    /// What becomes of packets from inside to an external endpoint of the box (RFC 5382 REQ-8).
    pub hairpinning: Hairpinning,
    /// How long idle sessions are remembered (RFC 5382 REQ-5).
    pub timers: Timers,
    /// Whether UDP packets from outside keep a session alive (RFC 4787 REQ-6).
    pub udp_inbound_refresh: bool,
    /// In which direction the window scale option is taken out of SYNs (RFC 7323 section 2), as
    /// some firewalls do.
    pub strip_window_scale: Directions,
    /// Whether ICMP echo requests from inside are dropped, which RFC 5508 REQ-1 leaves to local
    /// policy. Otherwise they go out as UDP does, with an identifier that [`NatSpec::ports`]
    /// chooses, and [`NatSpec::filtering`] decides which replies come in. Requests from outside
    /// never come in.
    pub drop_echo: bool,
    /// Whether UDP with an ECN mark (RFC 3168 section 5) is dropped, as on some paths.
    pub drop_ecn_udp: bool,
    /// Whether all UDP is dropped, in either direction, as by firewalls that know web pages alone.
    pub drop_udp: bool,
    /// How much is remembered.
    pub limits: Limits,
}

/// The directions in which a box does something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Directions {
    /// In none.
    Neither,
    /// To what comes from inside.
    Outbound,
    /// To what goes inside.
    Inbound,
    /// In both.
    Both,
}

/// What a box rewrites in IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Translation {
    /// Nothing: a stateful firewall.
    None,
    /// Addresses and ports.
    Nat44,
}

/// What a box rewrites in IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Translation6 {
    /// Nothing: a stateful firewall with the filtering of the box.
    None,
    /// Addresses and ports, as with IPv4.
    Nat66,
    /// The prefix of addresses, without a change of checksums (RFC 6296); a stateful firewall with
    /// the filtering of the box is part of it.
    Nptv6(PrefixPair),
}

/// An internal IPv6 prefix and the external one that stands for it (RFC 6296).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PrefixPair {
    /// An address in the internal prefix.
    pub internal: Ipv6Addr,
    /// An address in the external prefix.
    pub external: Ipv6Addr,
    /// The length of both in bits, 1 to 64.
    pub length: u8,
}

/// On which part of the remote endpoint a behaviour depends (RFC 4787 sections 4.1 and 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dependence {
    /// On none.
    EndpointIndependent,
    /// On its address.
    AddressDependent,
    /// On its address and port.
    AddressAndPortDependent,
}

/// Which external port a mapping gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PortAssignment {
    /// The internal port where no mapping has it, else a random one (RFC 4787 section 4.2.1, "port
    /// preservation"). Where the mapping depends on the remote endpoint, only the first of an
    /// internal endpoint's mappings can have its port.
    Preserved,
    /// The internal port even if another mapping has it ("port overloading"); only what would talk
    /// to the same remote endpoint gets a random one for that, as with Linux.
    PreservedWithOverload,
    /// The last port given out plus `delta`, starting at a random one.
    Sequential {
        /// The step, at least one.
        delta: u16,
    },
    /// A random one.
    Random,
    /// A random one out of the internal host's own block (RFC 7422 section 2).
    RandomInBlock {
        /// Ports in a block, at least one.
        size: u16,
    },
}

/// The external ports that a box gives out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    /// The lowest, at least one.
    pub first: u16,
    /// The highest.
    pub last: u16,
}

/// Which of several external addresses a mapping gets (RFC 4787 section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pooling {
    /// All mappings of an internal host have the same (RFC 4787 REQ-2).
    Paired,
    /// A random one each time.
    Arbitrary,
}

/// The answer to a SYN that is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UnsolicitedSyn {
    /// Silence (RFC 5382 REQ-4a).
    Nothing,
    /// A TCP reset.
    Rst,
    /// ICMP "communication administratively prohibited".
    IcmpProhibited,
    /// ICMP "port unreachable", at once.
    IcmpPortUnreachable,
    /// ICMP "port unreachable" after this time, unless a SYN from inside for the same connection
    /// comes first (RFC 5382 REQ-4).
    IcmpPortUnreachableAfter(Duration),
}

/// What becomes of a SYN from outside for a connection that has so far seen only a SYN from inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SimultaneousOpen {
    /// It passes (RFC 5382 REQ-2a).
    Allowed,
    /// It is dropped.
    Dropped,
    /// It is dropped, and its sender gets a TCP reset.
    Reset,
}

/// What a TCP reset, which always passes, does to the state of its connection.
///
/// The box does not look at sequence numbers: it believes every reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RstEffect {
    /// It ends at once, and with the last session the mapping.
    Closes,
    /// It ends after the transitory timeout (RFC 7857 section 2.2).
    Transitory,
    /// None.
    Ignored,
}

/// What becomes of packets from inside to an external endpoint of the box (RFC 4787 section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hairpinning {
    /// They are dropped.
    None,
    /// They come back with the sender's internal endpoint as source.
    InternalSource,
    /// They come back with the sender's external endpoint as source (RFC 5382 REQ-8a).
    ExternalSource,
}

/// How long a session without packets is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timers {
    /// TCP connections that are partially open or were reset.
    pub transitory: Duration,
    /// TCP connections that are established or closed in one direction only.
    pub established: Duration,
    /// TCP connections that both ends have closed.
    pub time_wait: Duration,
    /// UDP.
    pub udp: Duration,
    /// ICMP echo, from the last request on.
    pub echo: Duration,
}

/// How much a box remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Limits {
    /// Sessions in all, at least one.
    pub sessions: usize,
    /// Sessions of one internal host, at least one (RFC 6888 REQ-4).
    pub sessions_per_host: usize,
    /// What a new session meets where the limit is reached.
    pub when_full: WhenFull,
}

/// What a new session meets where a limit is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WhenFull {
    /// Its packet is dropped.
    Refuse,
    /// The session that would expire first makes room.
    EvictSoonestToExpire,
}

/// Why a specification describes no box.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// A NAT has no external address of a family that it translates.
    #[error("a NAT needs an external address of each family that it translates")]
    NoExternalAddress,
    /// The prefixes are one, or longer than 64 bits.
    #[error("prefix translation needs two prefixes of 1 to 64 bits")]
    Prefix,
    /// The range is empty or has port zero in it.
    #[error("the port range is empty or starts at zero")]
    PortRange,
    /// A step of zero would give out one port only.
    #[error("sequential port assignment needs a delta of at least one")]
    ZeroDelta,
    /// A block is empty or larger than the port range.
    #[error("a port block must have between one port and the whole range")]
    BlockSize,
    /// A table of size zero lets nothing pass.
    #[error("a table limit must be at least one")]
    ZeroLimit,
}

impl Timers {
    /// The least that RFC 5382 REQ-5 allows: 4 minutes, 2 hours 4 minutes; for UDP what RFC 4787
    /// REQ-5 recommends, 5 minutes; for echo the least that RFC 5508 REQ-2 allows, 1 minute.
    pub const RFC5382: Self = Self {
        transitory: Duration::from_secs(4 * 60),
        established: Duration::from_secs(124 * 60),
        time_wait: Duration::from_secs(4 * 60),
        udp: Duration::from_secs(5 * 60),
        echo: Duration::from_secs(60),
    };

    /// What Linux does unless told otherwise, as far as five numbers say it: 2 minutes, 5 days, 2
    /// minutes; 2 minutes for UDP that was answered, 30 s for echo.
    pub const LINUX: Self = Self {
        transitory: Duration::from_secs(2 * 60),
        established: Duration::from_secs(5 * 24 * 60 * 60),
        time_wait: Duration::from_secs(2 * 60),
        udp: Duration::from_secs(2 * 60),
        echo: Duration::from_secs(30),
    };
}

impl PortRange {
    /// All but the well-known ports, which RFC 4787 section 4.2.1 keeps apart.
    pub const UNPRIVILEGED: Self = Self {
        first: 1024,
        last: u16::MAX,
    };

    /// Returns how many ports it has.
    pub fn count(self) -> u32 {
        (u32::from(self.last) + 1).saturating_sub(u32::from(self.first))
    }
}

impl PrefixPair {
    /// The longest prefix that leaves room for a checksum in the interface identifier (RFC 6296
    /// section 3.5).
    const MAX_LENGTH: u8 = 64;

    /// Returns the bits of an address that are of the prefix.
    pub fn mask(&self) -> u128 {
        let host_bits = 128 - u32::from(self.length.min(128));
        u128::MAX.checked_shl(host_bits).unwrap_or_default()
    }

    fn is_valid(&self) -> bool {
        let mask = self.mask();
        let differ = self.internal.to_bits() & mask != self.external.to_bits() & mask;
        (1..=Self::MAX_LENGTH).contains(&self.length) && differ
    }
}

impl Limits {
    /// As many sessions as a host has ports: enough for all but tests of the limit.
    pub const GENEROUS: Self = Self {
        sessions: 65_536,
        sessions_per_host: 65_536,
        when_full: WhenFull::Refuse,
    };
}

impl NatSpec {
    /// How long RFC 5382 REQ-4 has a NAT wait before it answers an unsolicited SYN.
    pub const RFC5382_ANSWER_DELAY: Duration = Duration::from_secs(6);

    /// Returns the NAT that RFC 5382 asks for, with what its REQ-3 recommends where transparency
    /// matters most, and ports preserved.
    pub const fn rfc5382() -> Self {
        Self {
            translation: Translation::Nat44,
            translation6: Translation6::None,
            mapping: Dependence::EndpointIndependent,
            filtering: Dependence::EndpointIndependent,
            ports: PortAssignment::Preserved,
            port_range: PortRange::UNPRIVILEGED,
            pooling: Pooling::Paired,
            unsolicited: UnsolicitedSyn::IcmpPortUnreachableAfter(Self::RFC5382_ANSWER_DELAY),
            simultaneous_open: SimultaneousOpen::Allowed,
            rst: RstEffect::Transitory,
            pickup: false,
            hairpinning: Hairpinning::ExternalSource,
            timers: Timers::RFC5382,
            udp_inbound_refresh: false,
            strip_window_scale: Directions::Neither,
            drop_echo: false,
            drop_ecn_udp: false,
            drop_udp: false,
            limits: Limits::GENEROUS,
        }
    }

    /// Checks that there can be such a box.
    ///
    /// # Errors
    ///
    /// A [`SpecError`] that names the first thing that is wrong.
    pub fn check(&self) -> Result<(), SpecError> {
        let range = self.port_range.count();
        if range == 0 || self.port_range.first == 0 {
            return Err(SpecError::PortRange);
        }
        match self.ports {
            PortAssignment::Sequential { delta: 0 } => return Err(SpecError::ZeroDelta),
            PortAssignment::RandomInBlock { size } if size == 0 || u32::from(size) > range => {
                return Err(SpecError::BlockSize);
            }
            _ => {}
        }
        if let Translation6::Nptv6(prefixes) = self.translation6
            && !prefixes.is_valid()
        {
            return Err(SpecError::Prefix);
        }
        if self.limits.sessions == 0 || self.limits.sessions_per_host == 0 {
            return Err(SpecError::ZeroLimit);
        }
        Ok(())
    }
}

impl Directions {
    /// Returns whether what goes inside, or what comes from there, is meant.
    pub const fn include(self, inbound: bool) -> bool {
        match self {
            Self::Neither => false,
            Self::Outbound => !inbound,
            Self::Inbound => inbound,
            Self::Both => true,
        }
    }
}

impl NatSpec {
    /// Returns whether the box rewrites IPv4 addresses.
    pub const fn translates(&self) -> bool {
        matches!(self.translation, Translation::Nat44)
    }
}

impl fmt::Display for Dependence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EndpointIndependent => "endpoint-independent",
            Self::AddressDependent => "address-dependent",
            Self::AddressAndPortDependent => "address-and-port-dependent",
        })
    }
}

impl Default for NatSpec {
    fn default() -> Self {
        Self::rfc5382()
    }
}
