//! nf_tables over nfnetlink: a whole ruleset in one atomic batch.

use super::{
    Message, Netlink,
    rule::{Family, Part, Rule, length},
};
use crate::error::Error;

const SUBSYSTEM: u16 = 10;
const NEW_TABLE: u16 = 0;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
const NEW_SET: u16 = 9;
const NEW_SET_ELEMENT: u16 = 12;
const DELETE_SET_ELEMENT: u16 = 14;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;

const SET_IS_MAP: u32 = 8;
const SET_HAS_TIMEOUT: u32 = 0x10;
const SET_IS_DYNAMIC: u32 = 0x20;

/// More endpoints than a host has ports, so that a set never refuses one.
const SET_SIZE: u32 = 65_536;

const TYPE_BITS: u32 = 6;

/// The one table of a box.
const TABLE: &str = "lab";

/// Where and how a base chain is attached.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chain {
    pub(crate) name: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) hook: i32,
    pub(crate) priority: i32,
}

/// A set or map that rules fill or that is full from the start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Set {
    pub(crate) name: &'static str,
    pub(crate) key: &'static [Part],
    pub(crate) value: Value,
}

/// What is stored under a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value {
    /// Nothing: a set.
    Nothing,
    /// An IPv4 address and port.
    EndpointV4,
    /// A port.
    Port,
}

impl Value {
    /// The parts that it is made of.
    const fn parts(self) -> &'static [Part] {
        match self {
            Self::Nothing => &[],
            Self::EndpointV4 => &[Part::SourceAddress(Family::V4), Part::SourcePort],
            Self::Port => &[Part::SourcePort],
        }
    }
}

/// Returns the number that the nft program knows a tuple by; the kernel only stores it, for people
/// who look with nft.
fn nft_type(parts: &[Part]) -> u32 {
    parts
        .iter()
        .fold(0, |tuple, part| tuple << TYPE_BITS | part.nft_type())
}

/// A ruleset under construction.
#[derive(Debug)]
pub(crate) struct Ruleset {
    messages: Vec<Message>,
    sets: u32,
}

impl Ruleset {
    /// Starts a ruleset with one empty table for both address families.
    pub(crate) fn new() -> Self {
        let table = create(NEW_TABLE).string(1, TABLE);
        Self {
            messages: vec![batch(BATCH_BEGIN), table],
            sets: 0,
        }
    }

    /// Adds a base chain that accepts what no rule decides, with its rules; none without rules.
    pub(crate) fn chain(mut self, chain: Chain, rules: Vec<Rule>) -> Self {
        if rules.is_empty() {
            return self;
        }
        let message = create(NEW_CHAIN)
            .string(1, TABLE)
            .string(3, chain.name)
            .nest(4, |hook| {
                hook.be32(1, chain.hook.cast_unsigned())
                    .be32(2, chain.priority.cast_unsigned())
            })
            .string(7, chain.kind);
        self.messages.push(message);
        for rule in rules {
            let message = append(NEW_RULE)
                .string(1, TABLE)
                .string(2, chain.name)
                .nest(4, |expressions| rule.encode(expressions));
            self.messages.push(message);
        }
        self
    }

    /// Adds a set or map that rules fill.
    pub(crate) fn set(self, set: Set, expires: bool) -> Self {
        let timeout = if expires { SET_HAS_TIMEOUT } else { 0 };
        self.any_set(set, SET_IS_DYNAMIC | timeout, SET_SIZE)
    }

    /// Adds a map from 0, 1, and so on to ports.
    pub(crate) fn port_list(mut self, name: &'static str, ports: &[u16]) -> Self {
        // A number is as long as a port's register.
        let key = &[Part::SourcePort];
        let value = Value::Port;
        self = self.any_set(Set { name, key, value }, 0, ports.len() as u32);
        let message = create(NEW_SET_ELEMENT)
            .string(1, TABLE)
            .string(2, name)
            .nest(3, |list| {
                (0_u32..).zip(ports).fold(list, |list, (number, port)| {
                    // NFTA_LIST_ELEM { NFTA_SET_ELEM_KEY, NFTA_SET_ELEM_DATA }
                    list.nest(1, |element| {
                        element
                            .nest(1, |key| key.attribute(1, &number.to_ne_bytes()))
                            .nest(2, |data| data.attribute(1, &port.to_be_bytes()))
                    })
                })
            });
        self.messages.push(message);
        self
    }

    fn any_set(mut self, set: Set, mut flags: u32, size: u32) -> Self {
        self.sets += 1;
        let is_map = set.value != Value::Nothing;
        flags |= if is_map { SET_IS_MAP } else { 0 };
        let mut message = create(NEW_SET)
            .string(1, TABLE)
            .string(2, set.name)
            .be32(3, flags)
            .be32(4, nft_type(set.key))
            .be32(5, length(set.key));
        if is_map {
            let parts = set.value.parts();
            // A port alone is two bytes; in a tuple, each part fills registers.
            let length = if set.value == Value::Port {
                2
            } else {
                length(parts)
            };
            message = message.be32(6, nft_type(parts)).be32(7, length);
        }
        let message = message
            .nest(9, |description| description.be32(1, size))
            .be32(10, self.sets);
        self.messages.push(message);
        self
    }

    /// Puts the ruleset into the network namespace of this thread, all or nothing.
    pub(crate) fn install(mut self) -> Result<(), Error> {
        self.messages.push(batch(BATCH_END));
        Netlink::open(libc::NETLINK_NETFILTER)?.request("install NAT rules", self.messages)
    }
}

/// Empties a set or map in the network namespace of this thread.
pub(crate) fn empty_set(name: &str) -> Result<(), Error> {
    let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK;
    let delete = message(DELETE_SET_ELEMENT, flags)
        .string(1, TABLE)
        .string(2, name);
    let messages = vec![batch(BATCH_BEGIN), delete, batch(BATCH_END)];
    Netlink::open(libc::NETLINK_NETFILTER)?.request("empty a NAT map", messages)
}

const CREATE: i32 = libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_CREATE;

fn create(operation: u16) -> Message {
    message(operation, CREATE)
}

/// Without this flag a rule goes before those that exist.
fn append(operation: u16) -> Message {
    message(operation, CREATE | libc::NLM_F_APPEND)
}

fn message(operation: u16, flags: i32) -> Message {
    // struct nfgenmsg: family, version, resource.
    Message::new(SUBSYSTEM << 8 | operation, flags).raw(&[libc::NFPROTO_INET as u8, 0, 0, 0])
}

fn batch(kind: u16) -> Message {
    let [high, low] = SUBSYSTEM.to_be_bytes();
    Message::new(kind, libc::NLM_F_REQUEST).raw(&[libc::AF_UNSPEC as u8, 0, high, low])
}
