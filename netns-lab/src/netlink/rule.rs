//! Expressions of nf_tables rules.
//!
//! A rule is a list of expressions that load values into registers, compare them (a comparison that
//! fails ends the rule) and finally act. The numbers are those of `linux/netfilter/nf_tables.h`.

mod key;
mod port;

use std::net::Ipv4Addr;

use super::Message;

pub(crate) use key::{Part, length};

/// The 32-bit register `n` (`NFT_REG32_00` + n).
const fn register(n: u32) -> u32 {
    8 + n
}

/// Where matches and keys are loaded.
const KEY: u32 = register(0);
/// Where map data and NAT addresses are loaded; clear of the largest key (an IPv6 address and a
/// port, five registers).
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
const TCP_FLAGS_OFFSET: u32 = 13;
const TCP_SYN: u8 = 0x02;
const TCP_ACK: u8 = 0x10;
/// `NFT_CONNLIMIT_F_INV`: more, instead of at most.
const CONNLIMIT_INVERTED: u32 = 1;
/// Any number but zero, which all packets have at first.
const MARK: u32 = 1;
const VERDICT_DROP: u32 = 0;
const VERDICT_ACCEPT: u32 = 1;
const REJECT_TCP_RESET: u32 = 1;
const REJECT_ICMPX: u32 = 2;
const ICMPX_PORT_UNREACHABLE: u8 = 1;
const ICMPX_ADMIN_PROHIBITED: u8 = 3;
const DESTINATION_NAT: u32 = 1;
const DYNSET_UPDATE: u32 = 1;
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

    /// The type of an echo request (RFC 792, RFC 4443 section 4.1).
    const fn echo_request(self) -> u8 {
        match self {
            Self::V4 => 8,
            Self::V6 => 128,
        }
    }

    const fn icmp(self) -> u8 {
        match self {
            Self::V4 => libc::IPPROTO_ICMP as u8,
            Self::V6 => libc::IPPROTO_ICMPV6 as u8,
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

    /// Matches everything that has ports, as far as labs know.
    pub(crate) fn has_ports(self, family: Family) -> Self {
        self.meta(libc::NFT_META_L4PROTO)
            .compare(COMPARE_NOT_EQUAL, vec![family.icmp()])
    }

    /// Matches ICMP echo requests of one address family.
    pub(crate) fn echo_request(self, family: Family) -> Self {
        self.family(family)
            .meta(libc::NFT_META_L4PROTO)
            .equal(vec![family.icmp()])
            .payload(TRANSPORT_HEADER, 0, 1, KEY)
            .equal(vec![family.echo_request()])
    }

    /// Matches a SYN that acknowledges nothing.
    pub(crate) fn syn_alone(self) -> Self {
        let mask = vec![TCP_SYN | TCP_ACK];
        self.tcp()
            .payload(TRANSPORT_HEADER, TCP_FLAGS_OFFSET, 1, KEY)
            .masked(mask)
            .equal(vec![TCP_SYN])
    }

    /// Matches packets to this address.
    pub(crate) fn to(self, address: Ipv4Addr) -> Self {
        let (offset, length) = Family::V4.destination();
        self.payload(NETWORK_HEADER, offset, length, KEY)
            .equal(address.octets().to_vec())
    }

    /// Matches packets that were marked.
    pub(crate) fn marked(self) -> Self {
        self.meta(libc::NFT_META_MARK)
            .equal(MARK.to_ne_bytes().to_vec())
    }

    /// Marks the packet, for as long as it is on this box.
    pub(crate) fn mark(self) -> Self {
        let key = libc::NFT_META_MARK.cast_unsigned();
        self.immediate(KEY, MARK.to_ne_bytes().to_vec())
            .push("meta", vec![Field::Number(2, key), Field::Number(3, KEY)])
    }

    /// Matches where more connections than this have come to this rule.
    pub(crate) fn more_connections_than(self, limit: u32) -> Self {
        let fields = vec![
            Field::Number(1, limit),
            Field::Number(2, CONNLIMIT_INVERTED),
        ];
        self.push("connlimit", fields)
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

    /// Matches packets that answer their connection's first packet.
    pub(crate) fn reply(self) -> Self {
        self.direction(Direction::Reply)
    }

    /// Matches packets in one direction of their connection.
    pub(crate) fn direction(self, direction: Direction) -> Self {
        self.ct(libc::NFT_CT_DIRECTION, None, KEY)
            .equal(vec![direction as u8])
    }

    /// Rewrites the destination to the loaded address and port.
    pub(crate) fn destination_from_map(self) -> Self {
        self.nat(DESTINATION_NAT, Some((PORT, PORT)), 0)
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
        self.reject_with_icmp(ICMPX_ADMIN_PROHIBITED)
    }

    /// Answers with ICMP or ICMPv6 "port unreachable".
    pub(crate) fn reject_as_unreachable(self) -> Self {
        self.reject_with_icmp(ICMPX_PORT_UNREACHABLE)
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

    fn reject_with_icmp(self, code: u8) -> Self {
        let fields = vec![Field::Number(1, REJECT_ICMPX), Field::Octet(2, code)];
        self.push("reject", fields)
    }

    fn push(mut self, name: &'static str, fields: Vec<Field>) -> Self {
        self.expressions.push((name, Fields(fields)));
        self
    }

    fn meta(self, key: libc::c_int) -> Self {
        self.meta_to(key, KEY)
    }

    fn meta_to(self, key: libc::c_int, to: u32) -> Self {
        let fields = vec![Field::Number(1, to), Field::Number(2, key.cast_unsigned())];
        self.push("meta", fields)
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
        self.masked(bits.to_ne_bytes().to_vec())
            .compare(COMPARE_NOT_EQUAL, vec![0; 4])
    }

    fn masked(self, mask: Vec<u8>) -> Self {
        let zero = vec![0; mask.len()];
        let fields = vec![
            Field::Number(1, KEY),
            Field::Number(2, KEY),
            Field::Number(3, mask.len() as u32),
            Field::Bytes(4, mask),
            Field::Bytes(5, zero),
        ];
        self.push("bitwise", fields)
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

    fn immediate(self, to: u32, value: Vec<u8>) -> Self {
        self.push(
            "immediate",
            vec![Field::Number(1, to), Field::Bytes(2, value)],
        )
    }

    fn nat(self, kind: u32, ports: Option<(u32, u32)>, flags: u32) -> Self {
        let mut fields = vec![
            Field::Number(1, kind),
            Field::Number(2, libc::NFPROTO_IPV4.cast_unsigned()),
            Field::Number(3, DATA),
        ];
        if let Some((first, last)) = ports {
            fields.extend([Field::Number(5, first), Field::Number(6, last)]);
        }
        if flags != 0 {
            fields.push(Field::Number(7, flags));
        }
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
