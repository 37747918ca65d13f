//! Choosing external ports, and source NAT to them.

use std::net::Ipv4Addr;

use p2pconnect_nat::PortRange;

use super::{
    DATA, Field, KEY, PORT, Rule,
    key::{self, Part},
};

/// The end of a range that starts in [`PORT`].
const LAST_PORT: u32 = PORT + 1;

const SOURCE_NAT: u32 = 0;
const HASH_JENKINS: u32 = 0;
const NUMBERS_IN_TURN: u32 = 0;
const BYTEORDER_HTON: u32 = 1;
/// `NF_NAT_RANGE_PROTO_RANDOM_FULLY`
const RANDOM_FULLY: u32 = 1 << 4;

impl Rule {
    /// Chooses the packet's own source port.
    pub(crate) fn choose_own_port(self) -> Self {
        self.load_part(Part::SourcePort, PORT)
    }

    /// Chooses a port by a seeded hash of the key, which it loads.
    pub(crate) fn choose_port_by_hash(self, key: &[Part], range: PortRange, seed: u32) -> Self {
        let hash = vec![
            Field::Number(1, KEY),
            Field::Number(2, PORT),
            Field::Number(3, key::length(key)),
            Field::Number(4, range.count()),
            Field::Number(5, seed),
            Field::Number(6, u32::from(range.first)),
            Field::Number(7, HASH_JENKINS),
        ];
        self.load(key).push("hash", hash).number_to_port()
    }

    /// Chooses the ports of a range one after the other, and again from the first one.
    pub(crate) fn choose_port_by_count(self, range: PortRange) -> Self {
        let number = vec![
            Field::Number(1, PORT),
            Field::Number(2, range.count()),
            Field::Number(3, NUMBERS_IN_TURN),
            Field::Number(4, u32::from(range.first)),
        ];
        self.push("numgen", number).number_to_port()
    }

    /// Makes a port of the number in its place.
    fn number_to_port(self) -> Self {
        let order = vec![
            Field::Number(1, PORT),
            Field::Number(2, PORT),
            Field::Number(3, BYTEORDER_HTON),
            Field::Number(4, 2),
            Field::Number(5, 2),
        ];
        self.push("byteorder", order)
    }

    /// Chooses the next port of a map from 0, 1, and so on below `length` to ports.
    pub(crate) fn choose_port_in_turn(self, map: &'static str, length: u32) -> Self {
        let number = vec![
            Field::Number(1, KEY),
            Field::Number(2, length),
            Field::Number(3, NUMBERS_IN_TURN),
        ];
        self.push("numgen", number).load_port_from(map)
    }

    /// Rewrites the source to this address and the chosen port.
    pub(crate) fn source_with_port(self, external: Ipv4Addr) -> Self {
        self.immediate(DATA, external.octets().to_vec())
            .nat(SOURCE_NAT, Some((PORT, PORT)), 0)
    }

    /// Rewrites the source to this address, keeping the port where it is in the range, if there is
    /// one, and free.
    pub(crate) fn source(self, external: Ipv4Addr, range: Option<PortRange>) -> Self {
        self.source_in(external, range, 0)
    }

    /// Rewrites the source to this address and a port that the kernel draws.
    pub(crate) fn source_random(self, external: Ipv4Addr, range: PortRange) -> Self {
        self.source_in(external, Some(range), RANDOM_FULLY)
    }

    fn source_in(self, external: Ipv4Addr, range: Option<PortRange>, flags: u32) -> Self {
        let rule = self.immediate(DATA, external.octets().to_vec());
        let Some(PortRange { first, last }) = range else {
            return rule.nat(SOURCE_NAT, None, flags);
        };
        rule.immediate(PORT, first.to_be_bytes().to_vec())
            .immediate(LAST_PORT, last.to_be_bytes().to_vec())
            .nat(SOURCE_NAT, Some((PORT, LAST_PORT)), flags)
    }
}
