//! What the box did with a packet, and why.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use p2pconnect_nat::{Dependence, UnsolicitedSyn};

/// What became of a packet. Its `Display` form is one line for captures and diagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verdict {
    /// It made a mapping, and left with the external endpoint as its source.
    Mapped {
        /// The source it came with.
        internal: SocketAddr,
        /// The source it left with.
        external: SocketAddr,
    },
    /// It belongs to a mapping, and left with one endpoint translated: the source if it came from
    /// inside, the destination if from outside.
    Translated {
        /// The endpoint it came with.
        from: SocketAddr,
        /// The endpoint it left with.
        to: SocketAddr,
    },
    /// It left inside again, to the host that has the external endpoint it was for.
    Hairpinned {
        /// The external endpoint it was for.
        external: SocketAddr,
        /// The internal endpoint it went to.
        internal: SocketAddr,
        /// The source it left with.
        source: SocketAddr,
    },
    /// It left as it came.
    Passed,
    /// It was dropped.
    Dropped(DropReason),
    /// It was dropped, and its sender has got an answer, or will.
    Answered {
        /// The answer.
        answer: Answer,
        /// Why it was dropped.
        drop: DropReason,
    },
}

/// Why a packet was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum DropReason {
    /// It is no IP packet, or a header is cut off or contradicts itself.
    Malformed,
    /// The checksum of its IPv4 header is wrong (RFC 1812 section 5.2.2).
    HeaderChecksum,
    /// It is a fragment; the model does not reassemble.
    Fragment,
    /// It is of an IP protocol that the model does not carry; its number.
    Protocol(u8),
    /// It is neither an ICMP echo nor an error, or quotes such a message; its type.
    IcmpType(u8),
    /// It came from outside for an address that the NAT does not have.
    NotOurs(SocketAddr),
    /// No mapping has this external endpoint.
    NoMapping(SocketAddr),
    /// There is a mapping, but this remote endpoint may not use it.
    NoPermission {
        /// Who sent it.
        remote: SocketAddr,
        /// The filtering that does not let it in.
        filtering: Dependence,
    },
    /// It neither belongs to a TCP connection that the box knows nor starts one.
    NoConnection {
        /// Its source.
        source: SocketAddr,
        /// Its destination.
        destination: SocketAddr,
    },
    /// It is a SYN in answer to a SYN, which this box refuses.
    SimultaneousOpen(SocketAddr),
    /// It is for an external endpoint of the box, which does not hairpin.
    NoHairpinning(SocketAddr),
    /// Prefix translation has no external address for this endpoint (RFC 6296 section 3).
    Untranslatable(SocketAddr),
    /// No external port is left for this internal endpoint.
    NoPort(SocketAddr),
    /// The table of sessions, or the host's share of it, is full.
    TableFull,
    /// It is an ICMP error about no session that the box knows.
    UnrelatedIcmp,
    /// It is an echo request that does not come from inside and go out, or a reply that goes out:
    /// whom it is for cannot be told, or nobody has asked for it.
    UnaskedEcho {
        /// Its source.
        source: IpAddr,
        /// Its destination.
        destination: IpAddr,
    },
    /// It is an echo request, which this box drops (RFC 5508 REQ-1).
    EchoRequest,
    /// It is UDP with an ECN mark, which this box drops.
    EcnMark,
    /// It is UDP, which this box drops.
    Udp,
}

/// What the sender of a dropped SYN gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Answer {
    /// A TCP reset.
    Rst,
    /// ICMP "communication administratively prohibited".
    IcmpProhibited,
    /// ICMP "port unreachable".
    IcmpPortUnreachable,
    /// The same later, unless a SYN from inside comes first.
    IcmpPending,
}

impl Verdict {
    /// Returns whether the packet left the box.
    pub const fn forwarded(&self) -> bool {
        !matches!(self, Self::Dropped(_) | Self::Answered { .. })
    }
}

impl DropReason {
    /// Returns whether the model carries no such packets at all, whatever the box.
    pub const fn is_not_carried(&self) -> bool {
        matches!(self, Self::Fragment | Self::Protocol(_) | Self::IcmpType(_))
    }

    /// Returns whether a SYN dropped for this is an unsolicited one (RFC 5382 REQ-4).
    pub(super) const fn is_unsolicited(&self) -> bool {
        matches!(self, Self::NoMapping(_) | Self::NoPermission { .. })
    }
}

impl Answer {
    /// Returns the answer that a box gives to unsolicited SYNs, if any.
    pub(super) const fn of(unsolicited: UnsolicitedSyn) -> Option<Self> {
        match unsolicited {
            UnsolicitedSyn::Nothing => None,
            UnsolicitedSyn::Rst => Some(Self::Rst),
            UnsolicitedSyn::IcmpProhibited => Some(Self::IcmpProhibited),
            UnsolicitedSyn::IcmpPortUnreachable => Some(Self::IcmpPortUnreachable),
            UnsolicitedSyn::IcmpPortUnreachableAfter(_) => Some(Self::IcmpPending),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mapped { internal, external } => write!(f, "MAP {internal} -> {external}"),
            Self::Translated { from, to } => write!(f, "NAT {from} -> {to}"),
            Self::Hairpinned {
                external,
                internal,
                source,
            } => write!(f, "HAIRPIN {external} -> {internal} from {source}"),
            Self::Passed => f.write_str("PASS"),
            Self::Dropped(drop) => write!(f, "DROP {drop}"),
            Self::Answered { answer, drop } => write!(f, "DROP {drop}, {answer}"),
        }
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str("malformed packet"),
            Self::HeaderChecksum => f.write_str("wrong header checksum"),
            Self::Fragment => f.write_str("fragment, not carried by the model"),
            Self::Protocol(number) => {
                write!(f, "IP protocol {number}, not carried by the model")
            }
            Self::IcmpType(kind) => write!(f, "ICMP type {kind}, not carried by the model"),
            Self::NotOurs(endpoint) => write!(f, "not for this NAT: {endpoint}"),
            Self::NoMapping(endpoint) => write!(f, "no mapping for {endpoint}"),
            Self::NoPermission { remote, filtering } => {
                write!(f, "no permission for {remote} ({filtering} filtering)")
            }
            Self::NoConnection {
                source,
                destination,
            } => write!(f, "no connection {source} -> {destination}"),
            Self::SimultaneousOpen(remote) => {
                write!(f, "simultaneous open by {remote} refused")
            }
            Self::NoHairpinning(endpoint) => write!(f, "no hairpinning to {endpoint}"),
            Self::Untranslatable(internal) => {
                write!(f, "no external address for {internal}")
            }
            Self::NoPort(internal) => write!(f, "no external port left for {internal}"),
            Self::TableFull => f.write_str("session table full"),
            Self::UnrelatedIcmp => f.write_str("ICMP error about no known session"),
            Self::UnaskedEcho {
                source,
                destination,
            } => write!(
                f,
                "echo {source} -> {destination} that nobody inside has asked for"
            ),
            Self::EchoRequest => f.write_str("echo request, which this box lets out to nobody"),
            Self::EcnMark => f.write_str("UDP with an ECN mark"),
            Self::Udp => f.write_str("UDP"),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rst => "answered by RST",
            Self::IcmpProhibited => "answered by ICMP administratively prohibited",
            Self::IcmpPortUnreachable => "answered by ICMP port unreachable",
            Self::IcmpPending => "ICMP port unreachable pending",
        })
    }
}
