//! Packets as tests see them.

use std::{net::IpAddr, sync::Arc, time::Duration};

use crate::packet::{Body, Headers, TcpFlags};

/// A packet that crossed an access link.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Packet {
    /// When it was at the box, counted from the start of the lab.
    pub at: Duration,
    /// The host whose access link it crossed.
    pub host: Arc<str>,
    /// Which way it went on that link.
    pub direction: Direction,
    /// The source address.
    pub source: IpAddr,
    /// The destination address.
    pub destination: IpAddr,
    /// The transport header.
    pub transport: Transport,
    /// What became of it on that link.
    pub fate: Fate,
    /// Its place in the order of recording.
    pub(super) number: u64,
}

/// The way of a packet on an access link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the host, or its outermost NAT, towards the core.
    FromHost,
    /// From the core towards the host.
    ToHost,
}

/// What became of a packet on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fate {
    /// It was carried on.
    Carried,
    /// The link lost it.
    Lost,
    /// The core dropped it: its source address is private.
    PrivateSource,
    /// The core dropped it: nobody has its destination address.
    NoRoute,
    /// The core dropped it: more is under way than the lab keeps in memory.
    Overflow,
}

impl Fate {
    /// Returns the comment for the capture file, if the packet deserves one.
    pub(crate) const fn comment(self) -> Option<&'static str> {
        match self {
            Self::Carried => None,
            Self::Lost => Some("lost on the link"),
            Self::PrivateSource => Some("dropped by the core: private source address"),
            Self::NoRoute => Some("dropped by the core: no such destination"),
            Self::Overflow => Some("dropped by the core: too much under way"),
        }
    }
}

/// The transport header of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Transport {
    /// TCP.
    Tcp {
        /// The source port.
        source_port: u16,
        /// The destination port.
        destination_port: u16,
        /// SYN, ACK and so on.
        flags: TcpFlags,
        /// The sequence number.
        sequence: u32,
        /// The acknowledgement number.
        acknowledgement: u32,
        /// Bytes of data behind the header.
        payload: usize,
    },
    /// UDP.
    Udp {
        /// The source port.
        source_port: u16,
        /// The destination port.
        destination_port: u16,
    },
    /// ICMP or ICMPv6.
    Icmp {
        /// The type of message.
        kind: u8,
        /// The code within the type.
        code: u8,
    },
    /// Anything else, fragments and malformed packets too, by its IP protocol number.
    Other(u8),
}

impl Transport {
    /// Returns the TCP flags, or none if this is not TCP.
    pub fn tcp_flags(&self) -> Option<TcpFlags> {
        match self {
            Self::Tcp { flags, .. } => Some(*flags),
            Self::Udp { .. } | Self::Icmp { .. } | Self::Other(_) => None,
        }
    }

    /// Returns whether the packet opens or closes a connection or reports an error.
    pub(super) fn is_control(&self) -> bool {
        self.tcp_flags()
            .is_none_or(|flags| flags.has_syn() || flags.is_fin() || flags.is_rst())
    }

    fn of(headers: &Headers) -> Self {
        match headers.body {
            Body::Tcp(segment) => Self::Tcp {
                source_port: segment.flow.source.port(),
                destination_port: segment.flow.destination.port(),
                flags: segment.flow.flags,
                sequence: segment.flow.sequence,
                acknowledgement: segment.acknowledgement,
                payload: segment.payload,
            },
            Body::Udp(flow) => Self::Udp {
                source_port: flow.source.port(),
                destination_port: flow.destination.port(),
            },
            Body::Icmp(icmp) => Self::Icmp {
                kind: icmp.kind,
                code: icmp.code,
            },
            Body::Unread(_) => Self::Other(headers.ip.protocol.into()),
        }
    }
}

/// Returns whether an address must never appear on the public network.
pub(crate) fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_private() || address.is_link_local(),
        IpAddr::V6(address) => address.is_unique_local() || address.is_unicast_link_local(),
    }
}

impl Packet {
    /// Makes a record of a packet, or nothing if it is no whole IP packet.
    pub(crate) fn read(
        packet: &[u8],
        at: Duration,
        host: &Arc<str>,
        direction: Direction,
        fate: Fate,
    ) -> Option<Self> {
        let headers = Headers::read(packet)?;
        Some(Self {
            at,
            host: Arc::clone(host),
            direction,
            source: headers.ip.source,
            destination: headers.ip.destination,
            transport: Transport::of(&headers),
            fate,
            number: 0,
        })
    }
}
