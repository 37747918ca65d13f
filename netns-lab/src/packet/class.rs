//! The types of ICMP and ICMPv6 messages, as far as they matter here.

use smoltcp::wire::{Icmpv4Message, Icmpv6Message};

use super::IpHeader;

/// Bytes before what an error quotes and an echo carries (RFC 792, RFC 4443 sections 3
/// and 4).
pub(super) const ICMP_HEADER: usize = 8;

/// What ICMP messages of a type are, whatever the IP version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    EchoRequest,
    EchoReply,
    Error,
    Other,
}

impl Class {
    /// Returns the class of a type, which `kind` names as if it were of IPv4.
    pub(super) fn of(ip: &IpHeader, kind: Icmpv4Message) -> Self {
        if ip.source.is_ipv4() {
            return match kind {
                Icmpv4Message::EchoRequest => Self::EchoRequest,
                Icmpv4Message::EchoReply => Self::EchoReply,
                Icmpv4Message::DstUnreachable
                | Icmpv4Message::TimeExceeded
                | Icmpv4Message::ParamProblem => Self::Error,
                _ => Self::Other,
            };
        }
        match Icmpv6Message::from(u8::from(kind)) {
            Icmpv6Message::EchoRequest => Self::EchoRequest,
            Icmpv6Message::EchoReply => Self::EchoReply,
            kind if kind.is_error() => Self::Error,
            _ => Self::Other,
        }
    }
}
