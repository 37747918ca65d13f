use std::time::{Duration, Instant};

use netns_lab::{NatSpec, test};

use crate::net::{Boxes, Net};

/// Dials from a to b and asserts that it fails in time and names the behaviour.
fn fails_and_says_why(a: Boxes<'_>, b: Boxes<'_>) {
    fails_in(Net::new(a, b));
}

fn fails_in(net: Net) {
    let peer = net.id("b");
    let _listener = net.listen("b");
    let began = Instant::now();
    let dialled = net.dial("a", &peer, b"nobody will read this");
    assert!(
        began.elapsed() < Duration::from_secs(16),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(dialled.code(), 5, "{:#?}", dialled.stderr);
    assert!(dialled.stdout.is_empty());
    let reason = dialled.reason();
    for words in [
        "another external port for each destination",
        "address-and-port-dependent",
    ] {
        assert!(reason.contains(words), "{reason}");
    }
    net.finish();
}

#[test]
fn a_random_port_per_destination_on_the_diallers_side() {
    test(|| {
        fails_and_says_why(
            &[NatSpec::random_per_destination()],
            &[NatSpec::port_preserving()],
        );
    });
}

#[test]
fn a_random_port_per_destination_on_the_callees_side() {
    test(|| {
        fails_and_says_why(
            &[NatSpec::port_preserving()],
            &[NatSpec::random_per_destination()],
        );
    });
}

#[test]
fn a_random_port_per_destination_on_both_sides() {
    test(|| {
        let random = [NatSpec::random_per_destination()];
        fails_and_says_why(&random, &random);
    });
}

#[test]
fn a_server_on_every_address_lets_ipv4_peers_compare_too() {
    test(|| {
        let random = [NatSpec::random_per_destination()];
        fails_in(Net::on_every_address(
            &random,
            &[NatSpec::port_preserving()],
        ));
    });
}
