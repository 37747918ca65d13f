//! Pairs that cannot be connected, and what is said of them.

use std::time::{Duration, Instant};

use netns_lab::{NatSpec, test};
use p2pconnect_tests::{
    kinds::COUNTS,
    net::{Boxes, Net},
};

/// Dials from a to b and asserts that it fails in time and names the behaviour.
fn fails_and_says_why(a: Boxes<'_>, b: Boxes<'_>) {
    fails_in(Net::new(a, b));
}

fn fails_in(net: Net) {
    let peer = net.id("b");
    let mut listener = net.listen("b");
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
    let failed = dialled.event("failed").unwrap();
    let behaviours = ["local_nat", "remote_nat"].map(|side| failed[side]["mapping"].as_str());
    assert!(
        behaviours.contains(&Some("address-and-port-dependent")),
        "{failed}"
    );
    let pairs = failed["pairs"].as_array().unwrap();
    let there = net.external("b").to_string();
    let tried = |pair: &serde_json::Value| {
        let remote = pair["remote"].as_str().unwrap();
        remote.starts_with(&there) && pair["attempts"].as_u64() > Some(0)
    };
    assert!(pairs.iter().any(tried), "{failed}");
    // The other side knows as much, or more: it may have found out something meanwhile.
    let there = listener.wait_for("punch-failed");
    assert!(there["local_nat"].is_object(), "{there}");
    assert_eq!(there["verdict"], failed["verdict"]);
    assert!(!there["pairs"].as_array().unwrap().is_empty());
    net.finish();
}

#[test]
fn a_random_port_for_a_counted_one() {
    test(|| {
        fails_and_says_why(&[NatSpec::random_per_destination()], COUNTS.boxes);
    });
}

#[test]
fn a_counted_port_for_a_random_one() {
    test(|| {
        fails_and_says_why(COUNTS.boxes, &[NatSpec::random_per_destination()]);
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
        let net = Net::on_every_address(&random, &random);
        // Else they would meet by that.
        net.ip("b", "-6 addr flush dev eth0");
        fails_in(net);
    });
}

#[test]
fn people_see_what_was_found_and_tried() {
    test(|| {
        let random = [NatSpec::random_per_destination()];
        let net = Net::new(&random, &random);
        let peer = net.id("b");
        let _listener = net.listen("b");
        let dialled = net.dial_with("a", &["dial", "--no-port-mapping", &peer], b"");
        let said = dialled.stderr.join("\n");
        let there = format!("{}:", net.external("b"));
        for words in [
            "this side  address-and-port-dependent mapping",
            "the peer   address-and-port-dependent mapping",
            "what came back",
            &there,
            "without --no-port-mapping",
        ] {
            assert!(said.contains(words), "{words}: {said}");
        }
        net.finish();
    });
}
