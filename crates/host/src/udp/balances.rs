//! How much a server may send to addresses that have not shown that they receive anything (RFC 9000
//! section 8.1).
//!
//! QUIC's own count is kept by connection, and lets a whole datagram go while one byte of it is
//! allowed (<https://github.com/quinn-rs/quinn/issues/1082>).

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
};

/// How many bytes may be sent for each that has come.
const FACTOR: usize = 3;

/// The most addresses that are known, in some 2 MiB: those of five seconds in which 3,000
/// connections are begun in each. Of others, QUIC's own count has to do.
const MAX_ADDRESSES: usize = 16_384;

/// The first bit of the packets of a handshake, which have a long header (RFC 9000 section 17.2).
const LONG_HEADER: u8 = 0x80;

/// Tells whether a datagram is one of a handshake, which may go to somebody who has asked for
/// nothing.
pub(crate) fn is_handshake(datagram: &[u8]) -> bool {
    datagram.first().is_some_and(|it| it & LONG_HEADER != 0)
}

/// What may be sent to whom.
#[derive(Debug, Default)]
pub(crate) struct Balances {
    left: HashMap<SocketAddr, usize>,
    /// The same addresses, the one first that has been known for longest.
    known: VecDeque<SocketAddr>,
}

impl Balances {
    /// Takes in that a datagram of a handshake has come.
    pub(crate) fn received(&mut self, from: SocketAddr, bytes: usize) {
        if !self.left.contains_key(&from) {
            if self.known.len() == MAX_ADDRESSES
                && let Some(oldest) = self.known.pop_front()
            {
                self.left.remove(&oldest);
            }
            self.known.push_back(from);
        }
        let left = self.left.entry(from).or_default();
        *left = left.saturating_add(bytes.saturating_mul(FACTOR));
    }

    /// Takes the bytes of a datagram off what may be sent to an address; tells whether the datagram
    /// may be sent. What is no part of a handshake may always be.
    pub(crate) fn take(&mut self, to: SocketAddr, datagram: &[u8]) -> bool {
        let Some(left) = self.left.get_mut(&to) else {
            return true;
        };
        let is_allowed = datagram.len() <= *left || !is_handshake(datagram);
        if is_allowed {
            *left = left.saturating_sub(datagram.len());
        }
        is_allowed
    }

    /// Takes back that a datagram has been sent.
    pub(crate) fn give_back(&mut self, to: SocketAddr, bytes: usize) {
        if let Some(left) = self.left.get_mut(&to) {
            *left = left.saturating_add(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    /// A datagram of a handshake.
    const HANDSHAKE: [u8; 1200] = [0xc0; 1200];

    /// One of a connection.
    const SHORT: [u8; 240] = [0x40; 240];

    fn address(number: u32) -> SocketAddr {
        (Ipv4Addr::from_bits(number), 4433).into()
    }

    #[test]
    fn what_is_sent_in_handshakes_is_three_times_what_came_at_most() {
        // Each of these overshoots if a datagram is allowed while any byte is left.
        for first in [&HANDSHAKE[..48], &SHORT] {
            let mut balances = Balances::default();
            balances.received(address(1), 1200);
            balances.received(address(2), 1200);
            let datagrams = [first].into_iter().chain([&HANDSHAKE[..]; 9]);
            let allowed = datagrams.filter(|it| balances.take(address(1), it));
            let sent: usize = allowed.map(<[u8]>::len).sum();
            assert!((2 * 1200..=3 * 1200).contains(&sent), "{sent}");
            assert!(balances.take(address(2), &HANDSHAKE), "what is another's");
            balances.received(address(1), 400);
            assert!(balances.take(address(1), &HANDSHAKE), "more has come");
        }
    }

    #[test]
    fn what_could_not_be_sent_does_not_count() {
        let mut balances = Balances::default();
        balances.received(address(1), 400);
        for _ in 0..3 {
            assert!(balances.take(address(1), &HANDSHAKE));
            balances.give_back(address(1), HANDSHAKE.len());
        }
    }

    #[test]
    fn connections_are_not_held_up() {
        let mut balances = Balances::default();
        balances.received(address(1), 1200);
        for _ in 0..100 {
            assert!(balances.take(address(1), &SHORT));
        }
        balances.received(address(1), 1200);
        assert!(
            balances.take(address(1), &HANDSHAKE),
            "a new one from there"
        );
    }

    #[test]
    fn a_flood_takes_bounded_memory() {
        let mut balances = Balances::default();
        let most = u32::try_from(MAX_ADDRESSES).expect("a small number");
        for number in 0..3 * most {
            balances.received(address(number), 1200);
            balances.received(address(number), 1200);
        }
        assert_eq!(balances.left.len(), MAX_ADDRESSES);
        assert_eq!(balances.known.len(), MAX_ADDRESSES);
        for _ in 0..9 {
            assert!(
                balances.take(address(0), &HANDSHAKE),
                "nobody knows it any more"
            );
        }
    }
}
