//! Packets as tests see them, parsed from frames. Malformed input never panics.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

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
    /// Anything else, by its IP protocol number.
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
        let decisive = TcpFlags::SYN | TcpFlags::FIN | TcpFlags::RST;
        self.tcp_flags().is_none_or(|flags| flags.0 & decisive != 0)
    }
}

/// The flags of a TCP header.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TcpFlags(u8);

impl TcpFlags {
    const FIN: u8 = 1;
    const SYN: u8 = 2;
    const RST: u8 = 4;
    const PSH: u8 = 8;
    const ACK: u8 = 16;

    /// Returns whether this is a SYN without ACK.
    pub const fn is_syn(self) -> bool {
        self.0 & (Self::SYN | Self::ACK) == Self::SYN
    }

    /// Returns whether this is a SYN with ACK.
    pub const fn is_syn_ack(self) -> bool {
        self.0 & (Self::SYN | Self::ACK) == Self::SYN | Self::ACK
    }

    /// Returns whether this is a reset.
    pub const fn is_rst(self) -> bool {
        self.0 & Self::RST != 0
    }

    /// Returns whether the sender has nothing more to send.
    pub const fn is_fin(self) -> bool {
        self.0 & Self::FIN != 0
    }

    /// Returns whether the acknowledgement number counts.
    pub const fn is_ack(self) -> bool {
        self.0 & Self::ACK != 0
    }
}

impl fmt::Debug for TcpFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (Self::SYN, "SYN"),
            (Self::FIN, "FIN"),
            (Self::RST, "RST"),
            (Self::PSH, "PSH"),
            (Self::ACK, "ACK"),
        ];
        let set: Vec<_> = names
            .iter()
            .filter(|(bit, _)| self.0 & bit != 0)
            .map(|(_, name)| *name)
            .collect();
        f.write_str(&set.join("-"))
    }
}

/// Reads source, destination and transport header of an Ethernet frame.
fn parse(packet: &[u8]) -> Option<(IpAddr, IpAddr, Transport)> {
    let (source, destination, protocol, header, length) = match packet.first()? >> 4 {
        4 => {
            let total = usize::from(u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]));
            let header = usize::from(packet[0] & 15) * 4;
            let source = Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(12..16)?).ok()?);
            (
                source.into(),
                Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(16..20)?).ok()?).into(),
                packet[9],
                header,
                total.checked_sub(header)?,
            )
        }
        6 => {
            let payload = usize::from(u16::from_be_bytes([*packet.get(4)?, *packet.get(5)?]));
            let source = Ipv6Addr::from(<[u8; 16]>::try_from(packet.get(8..24)?).ok()?);
            let destination = Ipv6Addr::from(<[u8; 16]>::try_from(packet.get(24..40)?).ok()?);
            (source.into(), destination.into(), packet[6], 40, payload)
        }
        _ => return None,
    };
    let transport = parse_transport(protocol, packet.get(header..)?, length)?;
    Some((source, destination, transport))
}

/// Returns whether an address must never appear on the public network.
pub(crate) fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_private() || address.is_link_local(),
        IpAddr::V6(address) => address.is_unique_local() || address.is_unicast_link_local(),
    }
}

fn parse_transport(protocol: u8, data: &[u8], length: usize) -> Option<Transport> {
    let be16 = |at: usize| Some(u16::from_be_bytes([*data.get(at)?, *data.get(at + 1)?]));
    let be32 = |at: usize| Some(u32::from_be_bytes(data.get(at..at + 4)?.try_into().ok()?));
    Some(match i32::from(protocol) {
        libc::IPPROTO_TCP => Transport::Tcp {
            source_port: be16(0)?,
            destination_port: be16(2)?,
            flags: TcpFlags(*data.get(13)?),
            sequence: be32(4)?,
            acknowledgement: be32(8)?,
            payload: length.saturating_sub(usize::from(data[12] >> 4) * 4),
        },
        libc::IPPROTO_UDP => Transport::Udp {
            source_port: be16(0)?,
            destination_port: be16(2)?,
        },
        libc::IPPROTO_ICMP | libc::IPPROTO_ICMPV6 => Transport::Icmp {
            kind: *data.first()?,
            code: *data.get(1)?,
        },
        _ => Transport::Other(protocol),
    })
}

impl Packet {
    /// Makes a record of a frame, or nothing if it is no IP packet.
    pub(crate) fn read(
        packet: &[u8],
        at: Duration,
        host: &Arc<str>,
        direction: Direction,
        fate: Fate,
    ) -> Option<Self> {
        let (source, destination, transport) = parse(packet)?;
        let host = Arc::clone(host);
        Some(Self {
            at,
            host,
            direction,
            source,
            destination,
            transport,
            fate,
            number: 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn arbitrary_packets_never_panic(packet in prop::collection::vec(any::<u8>(), 0..120)) {
            parse(&packet);
        }

        #[test]
        fn truncated_tcp_never_panics(cut in 0usize..40) {
            let mut packet = [0; 40];
            packet[0] = 0x45;
            packet[9] = 6;
            packet[3] = 40;
            prop_assert!(parse(&packet).is_some());
            // The flags, the last field that is read, end at 34.
            prop_assert_eq!(parse(&packet[..cut]).is_some(), cut >= 34);
        }
    }
}
