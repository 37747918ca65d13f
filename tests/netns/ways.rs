use netns_lab::{Dependence, Handshake, NatSpec, test};

use crate::net::{Boxes, Net};

/// Dials from a to b and returns how the program says it was opened, and what the capture shows.
fn dial(a: Boxes<'_>, b: Boxes<'_>) -> (String, Handshake, Net) {
    let net = Net::new(a, b);
    let peer = net.id("b");
    let _listener = net.listen("b");
    let dialled = net.dial_echo("a", &peer, "which way?");
    let (how, _, remote) = net.reported(&dialled);
    assert_eq!(remote.ip(), net.external("b"));
    let seen = net.lab.capture().tcp_handshake(net.external("a"), remote);
    (how, seen, net)
}

#[test]
fn between_two_filtering_nats_the_syns_cross() {
    test(|| {
        let nat = [NatSpec::port_preserving()];
        let (how, seen, net) = dial(&nat, &nat);
        assert_eq!(
            (how.as_str(), seen),
            ("simultaneous-open", Handshake::Simultaneous)
        );
        net.finish();
    });
}

#[test]
fn a_peer_that_is_reached_from_an_unknown_port_accepts() {
    test(|| {
        let (how, seen, net) = dial(&[NatSpec::random_per_destination()], &[]);
        let client = net.external("a").into();
        assert_eq!(
            (how.as_str(), seen),
            ("connected", Handshake::Accepted { client })
        );
        net.finish();
    });
}

#[test]
fn a_dialler_that_filters_nothing_can_be_the_one_that_accepts() {
    test(|| {
        let open = NatSpec::port_preserving().filtering(Dependence::EndpointIndependent);
        let (how, seen, net) = dial(&[open], &[NatSpec::random_per_destination()]);
        let client = net.external("b").into();
        assert_eq!(
            (how.as_str(), seen),
            ("accepted", Handshake::Accepted { client })
        );
        net.finish();
    });
}
