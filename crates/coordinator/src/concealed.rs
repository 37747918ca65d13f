//! Whether the coordinator can tell where its clients are.

use std::{collections::BTreeMap, net::IpAddr};

use p2pconnect_proto::{Candidate, CandidateKind, PeerId, is_global, is_local};

/// The most addresses that are watched. What hides clients has one or two.
const MAX_ADDRESSES: usize = 16;

/// What has become clear of where clients are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    /// The private address that different clients are seen at, and none of them has.
    pub(crate) hidden_behind: Option<IpAddr>,
    /// Where a client is seen that is known inside a network only, while others are seen outside.
    pub(crate) inside: Option<IpAddr>,
}

/// Looks at where clients are seen, until it is clear that they are hidden, or on both sides of a
/// NAT.
///
/// A container with published ports, or a router that lets those inside reach it by its public
/// address, puts an address of its own in the place of each client's. So different clients are seen
/// at one private address that none of them has. The same is true of clients behind a NAT inside a
/// private network, which is no harm if the coordinator is for that network: who runs it has to
/// judge.
///
/// A coordinator at home sees the clients beside it inside, and those elsewhere outside. It cannot
/// tell these where the former are.
#[derive(Debug, Default)]
pub(crate) struct Concealed {
    /// Who was seen first at each address.
    first: BTreeMap<IpAddr, PeerId>,
    /// Where a client was seen first that is known inside only.
    inside: Option<IpAddr>,
    is_any_outside: bool,
    findings: Findings,
}

impl Concealed {
    /// Takes in where a client is seen and what it says of itself. Returns what is clear by now if
    /// that has changed.
    pub(crate) fn note(
        &mut self,
        peer: PeerId,
        seen: IpAddr,
        candidates: &[Candidate],
    ) -> Option<Findings> {
        let seen = seen.to_canonical();
        let before = self.findings;
        let hidden_behind = before.hidden_behind;
        self.findings = Findings {
            hidden_behind: hidden_behind.or_else(|| self.hidden_behind(peer, seen, candidates)),
            inside: before.inside.or_else(|| self.inside(seen, candidates)),
        };
        (self.findings != before).then_some(self.findings)
    }

    fn hidden_behind(
        &mut self,
        peer: PeerId,
        seen: IpAddr,
        candidates: &[Candidate],
    ) -> Option<IpAddr> {
        let is_host = |it: &&Candidate| it.kind == CandidateKind::Host;
        let mut own = candidates.iter().filter(is_host).peekable();
        if !is_local(seen) || own.peek().is_none() {
            return None;
        }
        if own.any(|it| it.address.ip().to_canonical() == seen) {
            return None;
        }
        match self.first.get(&seen) {
            Some(first) => (*first != peer).then_some(seen),
            None => {
                if self.first.len() < MAX_ADDRESSES {
                    self.first.insert(seen, peer);
                }
                None
            }
        }
    }

    fn inside(&mut self, seen: IpAddr, candidates: &[Candidate]) -> Option<IpAddr> {
        // Somebody who has told a server-reflexive address outside is known there, by IPv6 perhaps.
        let is_outside = |it: &Candidate| {
            it.kind == CandidateKind::ServerReflexive && is_global(it.address.ip())
        };
        self.is_any_outside |= is_global(seen);
        if is_local(seen) && !candidates.is_empty() && !candidates.iter().any(is_outside) {
            self.inside = self.inside.or(Some(seen));
        }
        self.inside.filter(|_| self.is_any_outside)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use p2pconnect_proto::PunchPort;

    use super::*;

    fn noted(watch: &mut Concealed, peer: u8, seen: [u8; 4], own: [u8; 4]) -> Option<Findings> {
        let candidates = [Candidate::host((own, 5000).into(), PunchPort::PRIMARY)];
        let peer = PeerId::from_public_key([peer; 32]);
        watch.note(peer, seen.into(), &candidates)
    }

    fn note(watch: &mut Concealed, peer: u8, seen: [u8; 4], own: [u8; 4]) -> Option<IpAddr> {
        noted(watch, peer, seen, own)?.hidden_behind
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

    #[test]
    fn clients_on_both_sides_of_a_nat_are_noticed_once() {
        let (home, outside) = ([192, 168, 1, 5], [203, 0, 113, 9]);
        let inside = |found: Option<Findings>| found.and_then(|it| it.inside);
        for order in [[home, outside], [outside, home]] {
            let mut watch = Concealed::default();
            assert_eq!(inside(noted(&mut watch, 1, order[0], home)), None);
            assert_eq!(inside(noted(&mut watch, 1, order[0], home)), None);
            let found = inside(noted(&mut watch, 2, order[1], home));
            assert_eq!(found, Some(home.into()));
            assert_eq!(noted(&mut watch, 3, home, home), None, "once");
        }
    }

    #[test]
    fn a_client_inside_that_is_known_outside_as_well_is_none_to_speak_of() {
        let mut watch = Concealed::default();
        assert_eq!(noted(&mut watch, 1, [203, 0, 113, 9], [10, 0, 0, 5]), None);
        let at = |address: [u8; 4]| SocketAddr::from((address, 5000));
        let candidates = [
            Candidate::host(at([192, 168, 1, 5]), PunchPort::PRIMARY),
            Candidate::server_reflexive(at([198, 51, 100, 7]), PunchPort::PRIMARY, None),
        ];
        let peer = PeerId::from_public_key([2; 32]);
        let seen = [192, 168, 1, 5].into();
        assert_eq!(watch.note(peer, seen, &candidates), None);
        assert!(watch.note(peer, seen, &candidates[..1]).is_some());
    }
}
