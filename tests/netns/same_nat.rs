//! Peers behind the same NAT.

use netns_lab::{Hairpinning, NatSpec, test};
use p2pconnect_tests::net::{Boxes, Net};

const HOME: NatSpec = NatSpec::port_preserving();

/// A NAT like those that random ports are most trouble behind.
fn carrier(hairpinning: Hairpinning) -> NatSpec {
    NatSpec {
        hairpinning,
        ..NatSpec::random_per_destination()
    }
}

/// Dials both ways round and returns the addresses that the peers were reached at.
fn dials(shared: NatSpec, a: Boxes<'_>, b: Boxes<'_>) -> [String; 2] {
    let net = Net::behind_one(shared, a, b);
    let mut reached = [("a", "b"), ("b", "a")].map(|(from, to)| {
        let peer = net.id(to);
        let _listener = net.listen(to);
        let dialled = net.dial_echo(from, &peer, "neighbour");
        let remote = &dialled.event("established").unwrap()["remote"];
        remote.as_str().unwrap().to_owned()
    });
    net.finish();
    for address in &mut reached {
        let (ip, _port) = address.rsplit_once(':').unwrap();
        *address = ip.to_owned();
    }
    reached
}

#[test]
fn neighbours_meet_at_their_own_addresses() {
    test(|| {
        // Nothing about the box matters, not even that it would refuse everything.
        let reached = dials(carrier(Hairpinning::None), &[], &[]);
        for address in reached {
            assert!(address.starts_with("10."), "{address}");
        }
    });
}

#[test]
fn two_homes_behind_one_carrier_meet_by_its_hairpin() {
    test(|| {
        let shared = NatSpec {
            hairpinning: Hairpinning::ExternalSource,
            ..NatSpec::random_port()
        };
        let reached = dials(shared, &[HOME], &[HOME]);
        for address in reached {
            assert!(!address.starts_with("192.168."), "{address}");
        }
    });
}
