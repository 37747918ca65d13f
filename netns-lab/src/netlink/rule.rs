//! Expressions of nf_tables rules.
//!
//! A rule is a list of expressions that load values into registers, compare
//! them (a comparison that fails ends the rule) and finally act. The numbers
//! are those of `linux/netfilter/nf_tables.h`.

use std::net::Ipv4Addr;

use super::Message;
use crate::spec::PortRange;

/// The 32-bit register `n` (`NFT_REG32_00` + n).
const fn register(n: u32) -> u32 {
    8 + n
}

/// Where matches and keys are loaded.
const KEY: u32 = register(0);
/// Where map data and NAT addresses are loaded; clear of the largest key (an
/// IPv6 address and a port, five registers).
const DATA: u32 = register(8);
/// Where NAT ports are loaded.
const PORT: u32 = register(9);

const CT_STATE_INVALID: u32 = 1;
const CT_STATE_ESTABLISHED_OR_RELATED: u32 = 2 | 4;
const CT_STATE_NEW: u32 = 8;
/// `IPS_DST_NAT` of the connection's status.
const CT_STATUS_DNAT: u32 = 1 << 5;

const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
const COMPARE_EQUAL: u32 = 0;
const COMPARE_NOT_EQUAL: u32 = 1;
const VERDICT_DROP: u32 = 0;
const VERDICT_ACCEPT: u32 = 1;
const REJECT_TCP_RESET: u32 = 1;
const REJECT_ICMPX: u32 = 2;
const ICMPX_ADMIN_PROHIBITED: u8 = 3;
const SOURCE_NAT: u32 = 0;
const DESTINATION_NAT: u32 = 1;
const DYNSET_UPDATE: u32 = 1;
const HASH_JENKINS: u32 = 0;
const BYTEORDER_HTON: u32 = 1;
/// `NF_NAT_RANGE_PROTO_RANDOM_FULLY`.
const RANDOM_FULLY: u32 = 1 << 4;

/// The direction of a connection as seen by its first packet.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Direction {
    /// As the first packet went.
    Original = 0,
    /// The other way.
    Reply = 1,
}

/// The address family that a rule looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    const fn nfproto(self) -> u8 {
        match self {
            Self::V4 => libc::NFPROTO_IPV4 as u8,
            Self::V6 => libc::NFPROTO_IPV6 as u8,
        }
    }

    /// Offset of the source address in the header, and its length.
    const fn source(self) -> (u32, u32) {
        match self {
            Self::V4 => (12, 4),
            Self::V6 => (8, 16),
        }
    }

    /// Offset of the destination address in the header, and its length.
    const fn destination(self) -> (u32, u32) {
        match self {
            Self::V4 => (16, 4),
            Self::V6 => (24, 16),
        }
    }
}

/// The expressions of one rule.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rule {
    expressions: Vec<(&'static str, Fields)>,
}

#[derive(Debug, Clone, Default)]
struct Fields(Vec<Field>);

#[derive(Debug, Clone)]
enum Field {
    Number(u16, u32),
    Octet(u16, u8),
    Name(u16, &'static str),
    Bytes(u16, Vec<u8>),
    Timeout(u16, u64),
    Verdict(u16, u32),
}

impl Rule {
    /// Returns a rule that matches everything and does nothing.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Matches packets that came in by the named link.
    pub(crate) fn entering(self, name: &str) -> Self {
        self.meta(libc::NFT_META_IIFNAME)
            .equal(interface_name(name))
    }

    /// Matches packets that leave by the named link.
    pub(crate) fn leaving(self, name: &str) -> Self {
        self.meta(libc::NFT_META_OIFNAME)
            .equal(interface_name(name))
    }

    /// Matches one address family.
    pub(crate) fn family(self, family: Family) -> Self {
        self.meta(libc::NFT_META_NFPROTO)
            .equal(vec![family.nfproto()])
    }

    /// Matches TCP.
    pub(crate) fn tcp(self) -> Self {
        self.meta(libc::NFT_META_L4PROTO)
            .equal(vec![libc::IPPROTO_TCP as u8])
    }

    /// Matches packets of connections that were let through before.
    pub(crate) fn established(self) -> Self {
        self.state(CT_STATE_ESTABLISHED_OR_RELATED)
    }

    /// Matches packets that connection tracking cannot place.
    pub(crate) fn invalid(self) -> Self {
        self.state(CT_STATE_INVALID)
    }

    /// Matches the first packets of a connection.
    pub(crate) fn starts_connection(self) -> Self {
        self.state(CT_STATE_NEW)
    }

    /// Matches packets whose connection had its destination rewritten.
    pub(crate) fn destination_was_mapped(self) -> Self {
        self.ct(libc::NFT_CT_STATUS, None, KEY)
            .any_bit(CT_STATUS_DNAT)
    }

    /// Matches packets in one direction of their connection.
    pub(crate) fn direction(self, direction: Direction) -> Self {
        self.ct(libc::NFT_CT_DIRECTION, None, KEY)
            .equal(vec![direction as u8])
    }

    /// Loads the source address and port as a set key.
    pub(crate) fn load_source(self, family: Family) -> Self {
        self.load_endpoint(family.source(), 0)
    }

    /// Loads the destination address and port as a set key.
    pub(crate) fn load_destination(self, family: Family) -> Self {
        self.load_endpoint(family.destination(), 2)
    }

    /// Loads the TCP destination port as a set key.
    pub(crate) fn load_destination_port(self) -> Self {
        self.payload(TRANSPORT_HEADER, 2, 2, KEY)
    }

    /// Loads the mapped source port as key, and the original source endpoint as data.
    pub(crate) fn load_mapping(self) -> Self {
        self.ct(libc::NFT_CT_PROTO_DST, Some(Direction::Reply), KEY)
            .ct(libc::NFT_CT_SRC_IP, Some(Direction::Original), DATA)
            .ct(libc::NFT_CT_PROTO_SRC, Some(Direction::Original), PORT)
    }

    /// Matches when the loaded key is in the set.
    pub(crate) fn key_in(self, set: &'static str) -> Self {
        self.push("lookup", vec![Field::Name(1, set), Field::Number(2, KEY)])
    }

    /// Matches when the loaded key is in the map, and loads its address and port.
    pub(crate) fn load_from(self, map: &'static str) -> Self {
        let fields = vec![
            Field::Name(1, map),
            Field::Number(2, KEY),
            Field::Number(3, DATA),
        ];
        self.push("lookup", fields)
    }

    /// Adds or refreshes the loaded key in a set.
    pub(crate) fn remember_key(self, set: &'static str, timeout_ms: Option<u64>) -> Self {
        self.dynset(set, None, timeout_ms)
    }

    /// Adds or refreshes the loaded key and data in a map.
    pub(crate) fn remember_mapping(self, map: &'static str, timeout_ms: Option<u64>) -> Self {
        self.dynset(map, Some(DATA), timeout_ms)
    }

    /// Rewrites the source to the link's address, keeping the port where it is free.
    pub(crate) fn masquerade(self) -> Self {
        self.push("masq", vec![])
    }

    /// Rewrites the source to the link's address and a port drawn per connection.
    pub(crate) fn masquerade_random(self) -> Self {
        self.push("masq", vec![Field::Number(1, RANDOM_FULLY)])
    }

    /// Rewrites the source to `external` and a port that is a seeded hash of the
    /// internal source endpoint alone, so that it is the same for every destination.
    pub(crate) fn source_by_hash(self, external: Ipv4Addr, ports: PortRange, seed: u32) -> Self {
        let hash = vec![
            Field::Number(1, KEY),
            Field::Number(2, PORT),
            // The address and, in the first half of the next register, the port.
            Field::Number(3, 8),
            Field::Number(4, ports.count()),
            Field::Number(5, seed),
            Field::Number(6, u32::from(ports.first)),
            Field::Number(7, HASH_JENKINS),
        ];
        let order = vec![
            Field::Number(1, PORT),
            Field::Number(2, PORT),
            Field::Number(3, BYTEORDER_HTON),
            Field::Number(4, 2),
            Field::Number(5, 2),
        ];
        self.load_source(Family::V4)
            .push("hash", hash)
            .push("byteorder", order)
            .immediate(DATA, external.octets().to_vec())
            .nat(SOURCE_NAT)
    }

    /// Rewrites the destination to the loaded address and port.
    pub(crate) fn destination_from_map(self) -> Self {
        self.nat(DESTINATION_NAT)
    }

    /// Lets the packet pass.
    pub(crate) fn accept(self) -> Self {
        self.verdict(VERDICT_ACCEPT)
    }

    /// Drops the packet.
    pub(crate) fn drop(self) -> Self {
        self.verdict(VERDICT_DROP)
    }

    /// Answers with a TCP reset.
    pub(crate) fn reject_with_reset(self) -> Self {
        self.push(
            "reject",
            vec![Field::Number(1, REJECT_TCP_RESET), Field::Octet(2, 0)],
        )
    }

    /// Answers with ICMP or ICMPv6 "administratively prohibited".
    pub(crate) fn reject_as_prohibited(self) -> Self {
        let fields = vec![
            Field::Number(1, REJECT_ICMPX),
            Field::Octet(2, ICMPX_ADMIN_PROHIBITED),
        ];
        self.push("reject", fields)
    }

    /// Appends the expressions to a rule message.
    pub(crate) fn encode(&self, message: Message) -> Message {
        self.expressions
            .iter()
            .fold(message, |message, (name, fields)| {
                // NFTA_LIST_ELEM { NFTA_EXPR_NAME, NFTA_EXPR_DATA }
                message.nest(1, |element| {
                    element
                        .string(1, name)
                        .nest(2, |data| fields.0.iter().fold(data, encode_field))
                })
            })
    }

    fn push(mut self, name: &'static str, fields: Vec<Field>) -> Self {
        self.expressions.push((name, Fields(fields)));
        self
    }

    fn meta(self, key: libc::c_int) -> Self {
        self.push(
            "meta",
            vec![Field::Number(1, KEY), Field::Number(2, key.cast_unsigned())],
        )
    }

    fn ct(self, key: libc::c_int, direction: Option<Direction>, to: u32) -> Self {
        let mut fields = vec![Field::Number(1, to), Field::Number(2, key.cast_unsigned())];
        if let Some(direction) = direction {
            fields.push(Field::Octet(3, direction as u8));
        }
        self.push("ct", fields)
    }

    fn state(self, bits: u32) -> Self {
        self.ct(libc::NFT_CT_STATE, None, KEY).any_bit(bits)
    }

    fn equal(self, value: Vec<u8>) -> Self {
        self.compare(COMPARE_EQUAL, value)
    }

    fn any_bit(self, bits: u32) -> Self {
        let fields = vec![
            Field::Number(1, KEY),
            Field::Number(2, KEY),
            Field::Number(3, 4),
            Field::Bytes(4, bits.to_ne_bytes().to_vec()),
            Field::Bytes(5, vec![0; 4]),
        ];
        self.push("bitwise", fields)
            .compare(COMPARE_NOT_EQUAL, vec![0; 4])
    }

    fn compare(self, operation: u32, value: Vec<u8>) -> Self {
        let fields = vec![
            Field::Number(1, KEY),
            Field::Number(2, operation),
            Field::Bytes(3, value),
        ];
        self.push("cmp", fields)
    }

    fn payload(self, base: u32, offset: u32, length: u32, to: u32) -> Self {
        let fields = vec![
            Field::Number(1, to),
            Field::Number(2, base),
            Field::Number(3, offset),
            Field::Number(4, length),
        ];
        self.push("payload", fields)
    }

    fn load_endpoint(self, (offset, length): (u32, u32), port_offset: u32) -> Self {
        self.payload(NETWORK_HEADER, offset, length, KEY).payload(
            TRANSPORT_HEADER,
            port_offset,
            2,
            KEY + length / 4,
        )
    }

    fn immediate(self, to: u32, value: Vec<u8>) -> Self {
        self.push(
            "immediate",
            vec![Field::Number(1, to), Field::Bytes(2, value)],
        )
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

    fn nat(self, kind: u32) -> Self {
        let fields = vec![
            Field::Number(1, kind),
            Field::Number(2, libc::NFPROTO_IPV4.cast_unsigned()),
            Field::Number(3, DATA),
            Field::Number(5, PORT),
        ];
        self.push("nat", fields)
    }

    fn verdict(self, code: u32) -> Self {
        self.push(
            "immediate",
            vec![Field::Number(1, 0), Field::Verdict(2, code)],
        )
    }
}

fn encode_field(message: Message, field: &Field) -> Message {
    match field {
        Field::Number(kind, value) => message.be32(*kind, *value),
        Field::Octet(kind, value) => message.attribute(*kind, &[*value]),
        Field::Name(kind, name) => message.string(*kind, name),
        Field::Timeout(kind, value) => message.attribute(*kind, &value.to_be_bytes()),
        // NFTA_DATA_VALUE
        Field::Bytes(kind, value) => message.nest(*kind, |data| data.attribute(1, value)),
        // NFTA_DATA_VERDICT { NFTA_VERDICT_CODE }
        Field::Verdict(kind, code) => {
            message.nest(*kind, |data| data.nest(2, |verdict| verdict.be32(1, *code)))
        }
    }
}

/// Interface names are compared over their whole 16 bytes, zero padded.
fn interface_name(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(libc::IFNAMSIZ, 0);
    bytes
}
