//! In which address families two peers that are introduced know each other.
//!
//! A coordinator believes a public address only where it has seen the peer in that family, or where
//! a STUN server has. So peers that have named it by addresses of different families may know each
//! other in different ones.

use std::net::IpAddr;

use p2pconnect_proto::{Candidate, is_global, represented};

use crate::{
    introduction::remote_candidates::Vantage,
    nat::{families::Families, mappings::Mapped},
};

/// The families in which each side's public addresses are known to the other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct KnownFamilies {
    own: Families,
    peer: Families,
    /// Whether they know private addresses of each other as well.
    are_in_one_network: bool,
}

impl KnownFamilies {
    /// Takes in what both sides were told.
    ///
    /// This side has named `told`, was seen by the coordinator at `seen`, and was seen in the
    /// families `witnessed` by the STUN server beside that. `peers` are the candidates that the
    /// peer has named.
    pub(crate) fn new(
        told: &[Candidate],
        seen: IpAddr,
        witnessed: Families,
        peers: &[Candidate],
        vantage: &Vantage,
    ) -> Self {
        if vantage.is_in_one_network_with(peers) {
            return Self {
                are_in_one_network: true,
                ..Self::default()
            };
        }
        let is_seen = |ip: IpAddr| represented(ip).is_ipv4() == represented(seen).is_ipv4();
        let is_believed = |it: &&Candidate| {
            let ip = it.address.ip();
            is_global(ip) && (it.token.is_some() || is_seen(ip))
        };
        let believed = told.iter().filter(is_believed);
        let mut own: Families = believed.map(|it| represented(it.address.ip())).collect();
        for is_ipv4 in [true, false].into_iter().filter(|it| witnessed.has(*it)) {
            own.add(is_ipv4);
        }
        Self {
            own,
            peer: vantage.public_families(peers),
            are_in_one_network: false,
        }
    }

    /// Tells whether the peer was told of an address that this side has named: one that is public
    /// was passed on only if the coordinator believed it.
    pub(crate) fn were_passed_on(self, named: IpAddr) -> bool {
        self.are_in_one_network || !is_global(named) || self.own.has(represented(named).is_ipv4())
    }

    /// Returns what is known of a side that is known at these addresses.
    #[cfg(test)]
    pub(crate) fn of_own(known: impl IntoIterator<Item = IpAddr>) -> Self {
        Self {
            own: known.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Tells whether each side is known in one family alone, and these are different ones.
    pub(crate) const fn are_apart(self) -> bool {
        self.own.are_apart_from(self.peer)
    }

    /// Tells whether they are, and the peer would know this side in its own family if it were told
    /// of a mapping.
    pub(crate) fn would_meet_by(self, mapped: &Mapped) -> bool {
        let is_believed = mapped.token.is_some();
        self.are_apart() && is_believed && self.peer.has(mapped.mapped.is_ipv4())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use p2pconnect_proto::{PunchPort, ReflexiveToken};

    use super::*;
    use crate::machine::surroundings::Surroundings;

    const TOKEN: ReflexiveToken = ReflexiveToken {
        salt: [1; 16],
        expires_at: 2,
        mac: [3; 16],
    };

    fn host(address: &str) -> Candidate {
        Candidate::host(
            (address.parse::<IpAddr>().unwrap(), 1).into(),
            PunchPort::PRIMARY,
        )
    }

    fn attested(address: &str) -> Candidate {
        Candidate {
            token: Some(TOKEN),
            ..host(address)
        }
    }

    /// Returns what is known where this side, seen at `seen`, has named the first ones, and the
    /// peer the others.
    fn known(told: &[Candidate], seen: &str, peers: &[&str]) -> KnownFamilies {
        let seen = seen.parse().unwrap();
        let vantage = Vantage::new(
            Surroundings::told(&[("192.168.1.5", 24), ("2001:db8:5::5", 64)]),
            [seen],
            "203.0.113.1".parse().unwrap(),
            false,
        );
        let peers: Vec<_> = peers.iter().map(|it| host(it)).collect();
        KnownFamilies::new(told, seen, Families::default(), &peers, &vantage)
    }

    fn mapped(address: &str, token: Option<ReflexiveToken>) -> Mapped {
        let address = (address.parse::<IpAddr>().unwrap(), 1).into();
        Mapped {
            punch_port: PunchPort::PRIMARY,
            local: address,
            mapped: address,
            server: address,
            token,
        }
    }

    #[test]
    fn an_address_that_nobody_has_seen_makes_no_family_known() {
        let [v4, v6] = ["198.51.100.7", "2001:db8:5::5"];
        let told = [host(v4), host("192.168.1.5"), host(v6)];
        let peers_v6 = ["192.168.7.7", "2001:db8:9::9"];
        let apart = known(&told, v4, &peers_v6);
        assert!(apart.are_apart());
        assert!(!known(&told, v6, &peers_v6).are_apart());
        assert!(!known(&told, v4, &["203.0.113.9", "2001:db8:9::9"]).are_apart());
        let both = [host(v4), attested(v6)];
        assert!(!known(&both, v4, &peers_v6).are_apart());
        // Nothing is known of one that is in a network alone, or of one behind the same NAT.
        assert!(!known(&told, v4, &["192.168.7.7"]).are_apart());
        assert!(!known(&told, v4, &[v4]).are_apart());
        assert!(known(&told, "64:ff9b::198.51.100.7", &peers_v6).are_apart());
    }

    #[test]
    fn a_mapping_of_the_peers_family_that_is_attested_brings_them_together() {
        let [v4, v6] = ["198.51.100.7", "2001:db8:5::5"];
        let apart = known(&[host(v4)], v4, &["2001:db8:9::9"]);
        assert!(apart.would_meet_by(&mapped(v6, Some(TOKEN))));
        assert!(!apart.would_meet_by(&mapped(v6, None)));
        assert!(!apart.would_meet_by(&mapped(v4, Some(TOKEN))));
        let together = known(&[host(v4)], v4, &["203.0.113.9"]);
        assert!(!together.would_meet_by(&mapped(v6, Some(TOKEN))));
    }
}
