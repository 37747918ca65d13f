//! Peers behind a NAT64.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use netns_lab::{Handshake, NatSpec, test};
use p2pconnect_tests::{
    net::{Boxes, Net},
    process::Finished,
    router::{PUBLIC, Ports},
    tayga::{HOME, translated},
};

const KEEPS: Boxes<'_> = &[NatSpec::port_preserving()];

const RANDOM: Boxes<'_> = &[NatSpec::random_per_destination()];

/// How many fresh processes dial in each direction.
const RUNS: usize = 5;

/// Dials in both directions, and asserts that every dial connects, between a's IPv6 address and
/// what stands for b's, and between b and the NAT64. Returns what was reported, the diallers'
/// first.
fn dials(net: &Net) -> Vec<Finished> {
    let (id_a, id_b) = (net.id("a"), net.id("b"));
    let _listeners = [net.listen("a"), net.listen("b")];
    let mut all = Vec::new();
    for run in 1..=RUNS {
        let there = net.dial_echo("a", &id_b, &format!("run {run}, a to b"));
        let (_, local, remote) = net.reported(&there);
        assert_eq!(local.ip(), HOME);
        assert_eq!(remote.ip(), translated(net.external("b")));
        let back = net.dial_echo("b", &id_a, &format!("run {run}, b to a"));
        let (_, _, remote) = net.reported(&back);
        assert_eq!(remote.ip(), PUBLIC);
        all.extend([there, back]);
    }
    all
}

/// Does so where both sides keep ports, and asserts that SYNs crossed. On a machine that is busy
/// one side may start too late for that once in a while.
fn crosses(net: Net) {
    let seen = dials(&net).into_iter().map(|dialled| {
        let (how, local, remote) = net.reported(&dialled);
        let (home, there) = if local.ip() == HOME {
            (local.port(), remote.port())
        } else {
            (remote.port(), local.port())
        };
        let home = SocketAddr::new(PUBLIC.into(), home);
        let there = SocketAddr::new(net.external("b").into(), there);
        (how, net.lab.capture().tcp_handshake(home, there))
    });
    let seen: Vec<_> = seen.collect();
    let crossed = ("simultaneous-open".to_owned(), Handshake::Simultaneous);
    assert!(seen.contains(&crossed), "{seen:?}");
    net.finish();
}

#[test]
fn a_coordinator_that_is_known_by_its_ipv4_address_is_reached() {
    test(|| crosses(Net::with_nat64(Ports::Kept, KEEPS)));
}

#[test]
fn a_coordinator_whose_name_the_resolver_translates_is_reached() {
    test(|| crosses(Net::with_nat64_and_name(false, KEEPS)));
}

#[test]
fn a_peer_with_ipv4_is_reached_where_the_coordinator_is_without_the_nat64() {
    test(|| {
        let net = Net::with_nat64_and_name(true, KEEPS);
        net.ip("b", "-6 addr flush dev eth0");
        crosses(net);
    });
}

#[test]
fn a_port_is_guessed_where_the_nat64_has_a_random_one_for_each_destination() {
    test(|| {
        let net = Net::with_nat64(Ports::Random, KEEPS);
        dials(&net);
        net.finish();
    });
}

#[test]
fn a_port_is_guessed_where_the_peers_nat_has_a_random_one_for_each_destination() {
    test(|| {
        let net = Net::with_nat64(Ports::Kept, RANDOM);
        dials(&net);
        net.finish();
    });
}

#[test]
fn what_is_out_of_reach_is_given_up_as_soon_as_without_a_nat64() {
    test(|| {
        let net = Net::with_nat64(Ports::Random, RANDOM);
        let peer = net.id("b");
        let mut listener = net.listen("b");
        let began = Instant::now();
        let dialled = net.dial("a", &peer, b"nobody will read this");
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "{:?}",
            began.elapsed()
        );
        assert_eq!(dialled.code(), 5, "{:#?}", dialled.stderr);
        let failed = dialled.event("failed").unwrap();
        assert_eq!(failed["verdict"], "both-mappings-vary");
        // Nothing was sent to the peer's private addresses, which are not those behind the NAT64.
        let remotes = failed["pairs"].as_array().unwrap().iter().map(|pair| {
            let remote: SocketAddr = pair["remote"].as_str().unwrap().parse().unwrap();
            remote.ip()
        });
        let remotes: Vec<IpAddr> = remotes.collect();
        let there = translated(net.external("b"));
        assert!(!remotes.is_empty(), "{failed}");
        assert!(remotes.iter().all(|it| *it == there), "{failed}");
        assert_eq!(failed["nat64"], true);
        let there = listener.wait_for("punch-failed");
        assert_eq!(there["verdict"], failed["verdict"]);
        net.finish();
    });
}
