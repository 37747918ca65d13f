use std::time::{Duration, Instant};

use netns_lab::{NatSpec, test};

use crate::net::{Boxes, Net};

/// Dials from a to b and asserts that it fails in time and names the behaviour.
fn fails_and_says_why(a: Boxes<'_>, b: Boxes<'_>) {
    let net = Net::new(a, b);
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
