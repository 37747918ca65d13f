//! nf_tables over nfnetlink: a whole ruleset in one atomic batch.

use super::rule::Rule;
use super::{Message, Netlink};
use crate::error::Error;

const SUBSYSTEM: u16 = 10;
const NEW_TABLE: u16 = 0;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
const NEW_SET: u16 = 9;
const DELETE_SET_ELEMENT: u16 = 14;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;

const SET_IS_MAP: u32 = 8;
const SET_HAS_TIMEOUT: u32 = 0x10;
const SET_IS_DYNAMIC: u32 = 0x20;

/// More endpoints than a host has ports, so that a set never refuses one.
const SET_SIZE: u32 = 65_536;

/// The types that the nft program knows keys by (`inet_service`, `ipv4_addr`,
/// `ipv6_addr`); the kernel only stores them, for people who look with nft.
const TYPE_PORT: u32 = 13;
const TYPE_V4: u32 = 7;
const TYPE_V6: u32 = 8;
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

/// What a set or map is keyed by.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Key {
    /// Port to IPv4 address and port.
    PortToEndpointV4,
    /// IPv4 address and port.
    EndpointV4,
    /// IPv6 address and port.
    EndpointV6,
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

    /// Adds a base chain that accepts what no rule decides, with its rules.
    pub(crate) fn chain(mut self, chain: Chain, rules: impl IntoIterator<Item = Rule>) -> Self {
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
    pub(crate) fn set(mut self, name: &'static str, key: Key, expires: bool) -> Self {
        self.sets += 1;
        let (key_type, key_length) = match key {
            Key::PortToEndpointV4 => (TYPE_PORT, 2),
            Key::EndpointV4 => (TYPE_V4 << TYPE_BITS | TYPE_PORT, 8),
            Key::EndpointV6 => (TYPE_V6 << TYPE_BITS | TYPE_PORT, 20),
        };
        let is_map = matches!(key, Key::PortToEndpointV4);
        let mut flags = SET_IS_DYNAMIC;
        flags |= if expires { SET_HAS_TIMEOUT } else { 0 };
        flags |= if is_map { SET_IS_MAP } else { 0 };
        let mut message = create(NEW_SET)
            .string(1, TABLE)
            .string(2, name)
            .be32(3, flags)
            .be32(4, key_type)
            .be32(5, key_length);
        if is_map {
            message = message.be32(6, TYPE_V4 << TYPE_BITS | TYPE_PORT).be32(7, 8);
        }
        let message = message
            .nest(9, |size| size.be32(1, SET_SIZE))
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
