//! Keys of sets and maps, and what is stored under them.

use super::{
    DATA, DYNSET_UPDATE, Direction, Family, Field, KEY, NETWORK_HEADER, PORT, Rule,
    TRANSPORT_HEADER,
};

/// `NFT_LOOKUP_F_INV`
const LOOKUP_INVERTED: u32 = 1;

/// A part of a key, a property of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Protocol,
    SourceAddress(Family),
    SourcePort,
    DestinationAddress(Family),
    DestinationPort,
    /// The IPv4 address that the connection began from, before source NAT.
    InternalAddress,
    /// The port that the connection began from, before source NAT.
    InternalPort,
    /// The external port of the connection's internal end, after source NAT.
    MappedPort,
}

impl Part {
    /// Returns how many registers it fills.
    pub(crate) const fn registers(self) -> u32 {
        match self {
            Self::SourceAddress(Family::V6) | Self::DestinationAddress(Family::V6) => 4,
            _ => 1,
        }
    }

    /// Returns the number that the nft program knows its type by: `inet_proto`,
    /// `ipv4_addr`, `ipv6_addr`, `inet_service`.
    pub(crate) const fn nft_type(self) -> u32 {
        match self {
            Self::Protocol => 12,
            Self::SourceAddress(Family::V4)
            | Self::DestinationAddress(Family::V4)
            | Self::InternalAddress => 7,
            Self::SourceAddress(Family::V6) | Self::DestinationAddress(Family::V6) => 8,
            Self::SourcePort | Self::DestinationPort | Self::InternalPort | Self::MappedPort => 13,
        }
    }
}

/// Returns how many bytes of registers a key fills.
pub(crate) fn length(key: &[Part]) -> u32 {
    key.iter().map(|part| part.registers() * 4).sum()
}

impl Rule {
    /// Loads a key.
    pub(crate) fn load(self, key: &[Part]) -> Self {
        let mut to = KEY;
        key.iter().fold(self, |rule, part| {
            let at = to;
            to += part.registers();
            rule.load_part(*part, at)
        })
    }

    /// Loads one part of a key into a register and those that follow.
    pub(super) fn load_part(self, part: Part, to: u32) -> Self {
        let (header, (offset, length)) = match part {
            Part::Protocol => return self.meta_to(libc::NFT_META_L4PROTO, to),
            Part::InternalAddress => {
                return self.ct(libc::NFT_CT_SRC_IP, Some(Direction::Original), to);
            }
            Part::InternalPort => {
                return self.ct(libc::NFT_CT_PROTO_SRC, Some(Direction::Original), to);
            }
            Part::MappedPort => {
                return self.ct(libc::NFT_CT_PROTO_DST, Some(Direction::Reply), to);
            }
            Part::SourceAddress(family) => (NETWORK_HEADER, family.source()),
            Part::DestinationAddress(family) => (NETWORK_HEADER, family.destination()),
            Part::SourcePort => (TRANSPORT_HEADER, (0, 2)),
            Part::DestinationPort => (TRANSPORT_HEADER, (2, 2)),
        };
        self.payload(header, offset, length, to)
    }

    /// Matches when the loaded key is in the set.
    pub(crate) fn key_in(self, set: &'static str) -> Self {
        self.push("lookup", vec![Field::Name(1, set), Field::Number(2, KEY)])
    }

    /// Matches when the loaded key is in the map, and loads its address and port.
    pub(crate) fn load_endpoint_from(self, map: &'static str) -> Self {
        self.load_from(map, DATA)
    }

    /// Matches when the loaded key is in the map, and loads its port.
    pub(crate) fn load_port_from(self, map: &'static str) -> Self {
        self.load_from(map, PORT)
    }

    /// Matches when the loaded port is not in a set of protocols with ports.
    pub(crate) fn port_is_not_in(self, set: &'static str) -> Self {
        let fields = vec![
            Field::Name(1, set),
            Field::Number(2, DATA),
            Field::Number(5, LOOKUP_INVERTED),
        ];
        // DATA and PORT are neighbours, and make a key.
        self.load_part(Part::Protocol, DATA).push("lookup", fields)
    }

    /// Adds or refreshes the loaded key in a set.
    pub(crate) fn remember_key(self, set: &'static str, timeout_ms: Option<u64>) -> Self {
        self.dynset(set, None, timeout_ms)
    }

    /// Adds or refreshes the loaded key in a map, with the internal source endpoint.
    pub(crate) fn remember_endpoint(self, map: &'static str, timeout_ms: Option<u64>) -> Self {
        self.load_part(Part::InternalAddress, DATA)
            .load_part(Part::InternalPort, PORT)
            .dynset(map, Some(DATA), timeout_ms)
    }

    /// Adds or refreshes the loaded key in a map, with the mapped port.
    pub(crate) fn remember_port(self, map: &'static str, timeout_ms: Option<u64>) -> Self {
        self.load_part(Part::MappedPort, PORT)
            .dynset(map, Some(PORT), timeout_ms)
    }

    fn load_from(self, map: &'static str, to: u32) -> Self {
        let fields = vec![
            Field::Name(1, map),
            Field::Number(2, KEY),
            Field::Number(3, to),
        ];
        self.push("lookup", fields)
    }

    fn dynset(self, set: &'static str, data: Option<u32>, timeout_ms: Option<u64>) -> Self {
        let mut fields = vec![
            Field::Name(1, set),
            Field::Number(3, DYNSET_UPDATE),
            Field::Number(4, KEY),
        ];
        fields.extend(data.map(|register| Field::Number(5, register)));
        fields.extend(timeout_ms.map(|timeout| Field::Timeout(6, timeout)));
        self.push("dynset", fields)
    }
}
