//! Paths that change or lose what TCP needs.

use std::time::{Duration, Instant};

use netns_lab::{Directions, NatSpec, UnsolicitedSyn, test};
use p2pconnect_tests::net::{Boxes, Net};

/// More than goes into the buffers of both ends, whose windows then count.
const PAYLOAD: usize = 400_000;

/// How long the payload may take there and back: it takes 1.5 s with windows of 64 KiB. Read
/// wrongly, they let through 400 bytes a second.
const PATIENCE: Duration = Duration::from_secs(15);

/// Dials with a payload that comes back, and returns how long that took.
fn carries(net: &Net) -> Duration {
    let peer = net.id("b");
    let message = "p2pconnect ".repeat(PAYLOAD / 11);
    let began = Instant::now();
    net.dial_echo("a", &peer, &message);
    began.elapsed()
}

fn carries_in_time(a: Boxes<'_>, b: Boxes<'_>) {
    let net = Net::on_model(a, b);
    let _listener = net.listen("b");
    // By a pair of ports that has carried a stream already, and by another one.
    for _ in 0..2 {
        let took = carries(&net);
        assert!(took < PATIENCE, "{took:?}");
    }
    net.finish();
}

#[test]
fn syns_that_lose_their_window_scale_make_no_stream_slow() {
    test(|| {
        let nat = NatSpec::port_preserving();
        for directions in [Directions::Both, Directions::Outbound, Directions::Inbound] {
            let strips = [nat.strip_window_scale(directions)];
            carries_in_time(&strips, &[nat]);
            carries_in_time(&[nat], &strips);
        }
    });
}

#[test]
fn nor_between_nats_that_reset_or_guess() {
    test(|| {
        let nat = NatSpec::port_preserving().answering(UnsolicitedSyn::Rst);
        let strips = [nat.strip_window_scale(Directions::Both)];
        carries_in_time(&strips, &strips);
        let random = NatSpec::random_per_destination().strip_window_scale(Directions::Both);
        carries_in_time(&[random], &[nat]);
        carries_in_time(&[nat], &[random]);
    });
}

#[test]
fn large_packets_that_vanish_do_not_stop_a_stream() {
    test(|| {
        let nat = [NatSpec::port_preserving()];
        for at in ["a", "b"] {
            let net = Net::with_small_packets(at, 1400, &nat, &nat);
            let _listener = net.listen("b");
            let took = carries(&net);
            assert!(took < PATIENCE, "{took:?}");
            net.finish();
        }
    });
}

#[test]
fn peers_whose_nats_drop_all_udp_connect() {
    test(|| {
        let without = [NatSpec::port_preserving().drop_udp()];
        let with = [NatSpec::port_preserving()];
        for (a, b) in [(&without, &without), (&without, &with), (&with, &without)] {
            let net = Net::on_model(a, b);
            let _listener = net.listen("b");
            net.dial_echo("a", &net.id("b"), "by TCP");
            net.finish();
        }
    });
}

#[test]
fn a_coordinator_is_reached_over_paths_that_drop_marked_udp() {
    test(|| {
        let nat = [NatSpec::port_preserving().drop_ecn_udp()];
        let net = Net::on_model(&nat, &nat);
        let _listener = net.listen("b");
        net.dial_echo("a", &net.id("b"), "unmarked");
        net.finish();
    });
}
