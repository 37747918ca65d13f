//! Whether something in front of the coordinator hides from it where its clients are.

use std::{collections::BTreeMap, net::IpAddr};

use p2pconnect_proto::{Candidate, CandidateKind, PeerId, is_local};

/// The most addresses that are watched. What hides clients has one or two.
const MAX_ADDRESSES: usize = 16;

/// Looks at where clients are seen, until it is clear that they are hidden.
///
/// A container with published ports, or a router that lets those inside reach it by its public address, puts an
/// address of its own in the place of each client's. So different clients are seen at one private address
/// that none of them has. The same is true of clients behind a NAT inside a private network, which is no
/// harm if the coordinator is for that network: who runs it has to judge.
#[derive(Debug, Default)]
pub(crate) struct Concealed {
    /// Who was seen first at each address.
    first: BTreeMap<IpAddr, PeerId>,
    is_found: bool,
}

impl Concealed {
    /// Takes in where a client is seen and what it says of itself. Returns the address that hides clients when
    /// that becomes clear, once.
    pub(crate) fn note(
        &mut self,
        peer: PeerId,
        seen: IpAddr,
        candidates: &[Candidate],
    ) -> Option<IpAddr> {
        let seen = seen.to_canonical();
        let is_host = |it: &&Candidate| it.kind == CandidateKind::Host;
        let mut own = candidates.iter().filter(is_host).peekable();
        if self.is_found || !is_local(seen) || own.peek().is_none() {
            return None;
        }
        if own.any(|it| it.address.ip().to_canonical() == seen) {
            return None;
        }
        match self.first.get(&seen) {
            Some(first) => self.is_found = *first != peer,
            None if self.first.len() < MAX_ADDRESSES => {
                self.first.insert(seen, peer);
            }
            None => {}
        }
        self.is_found.then_some(seen)
    }
}

#[cfg(test)]
mod tests {
    use p2pconnect_proto::PunchPort;

    use super::*;

    fn note(watch: &mut Concealed, peer: u8, seen: [u8; 4], own: [u8; 4]) -> Option<IpAddr> {
        let candidates = [Candidate::host((own, 5000).into(), PunchPort::PRIMARY)];
        watch.note(
            PeerId::from_public_key([peer; 32]),
            seen.into(),
            &candidates,
        )
    }

    #[test]
    fn two_clients_at_one_private_address_that_neither_has_are_hidden() {
        let bridge = [172, 17, 0, 1];
        let mut watch = Concealed::default();
        assert_eq!(note(&mut watch, 1, bridge, [192, 168, 1, 5]), None);
        assert_eq!(
            note(&mut watch, 1, bridge, [192, 168, 1, 5]),
            None,
            "the same"
        );
        let found = note(&mut watch, 2, bridge, [10, 0, 0, 5]);
        assert_eq!(found, Some(bridge.into()));
        assert_eq!(note(&mut watch, 3, bridge, [10, 0, 0, 6]), None, "once");
    }

    #[test]
    fn clients_with_addresses_of_their_own_are_not() {
        let mut watch = Concealed::default();
        for peer in 1..100 {
            let own = [192, 168, 1, peer];
            assert_eq!(note(&mut watch, peer, own, own), None);
            assert_eq!(note(&mut watch, peer, [203, 0, 113, 9], own), None);
            assert_eq!(note(&mut watch, peer, [10, 0, 0, peer], own), None);
        }
        assert!(watch.first.len() <= MAX_ADDRESSES);
    }
}
