//! NATs with another external port for each destination, beyond what `pairs` shows.

use std::net::TcpStream;

use netns_lab::{Dependence, NatSpec, PortAssignment, UnsolicitedSyn, preset, test};
use p2pconnect::{Endpoint, Verdict};
use p2pconnect_tests::{
    kinds::{BLOCK, COUNTS},
    net::{Boxes, Net},
    settled::{block_on, settled},
};

/// How many fresh processes dial in each direction.
const RUNS: usize = 5;

/// A port that is kept, towards the first destination only. The kernel has no such NAT.
const KEEPS: NatSpec = NatSpec::port_preserving()
    .mapping(Dependence::AddressAndPortDependent)
    .ports(PortAssignment::Preserved);

const DROPS: NatSpec = NatSpec::port_preserving();

const RESETS: NatSpec = DROPS.answering(UnsolicitedSyn::Rst);

/// Dials in both directions, and asserts that every dial connects.
fn connects(a: Boxes<'_>, b: Boxes<'_>) {
    test(|| {
        let net = Net::on_model(a, b);
        let (id_a, id_b) = (net.id("a"), net.id("b"));
        let _listeners = [net.listen("a"), net.listen("b")];
        for run in 1..=RUNS {
            net.dial_echo("a", &id_b, &format!("run {run}, a to b"));
            net.dial_echo("b", &id_a, &format!("run {run}, b to a"));
        }
        net.finish();
    });
}

#[test]
fn a_kept_port_is_predicted() {
    connects(&[KEEPS], &[DROPS]);
}

#[test]
fn a_kept_port_is_predicted_where_early_syns_are_reset() {
    connects(&[KEEPS], &[RESETS]);
}

#[test]
fn both_sides_can_be_predicted() {
    connects(&[KEEPS], &[KEEPS]);
}

#[test]
fn kept_ports_meet_counted_ones() {
    connects(&[KEEPS], COUNTS.boxes);
}

/// Filling a range leaves no port of it for some minutes, so each dial has a lab of its own.
fn fills(a: Boxes<'_>, b: Boxes<'_>) {
    test(|| {
        for _ in 0..RUNS {
            let net = Net::new(a, b);
            let peer = net.id("b");
            let _listener = net.listen("b");
            net.dial_echo("a", &peer, "a to b");
            net.finish();
        }
    });
}

/// The kernel gives a port out for several destinations; these NATs do not, so that each connection
/// too many leaves one port less to meet at. A fresh process dials, which does not know its NAT.
fn fills_where_each_port_is_given_once(preset: &str) {
    test(|| {
        let boxes = preset::find(preset).unwrap().specs();
        for _ in 0..RUNS {
            let net = Net::on_model(&boxes, &boxes);
            let peer = net.id("b");
            let mut listener = net.listen("b");
            listener.wait_for("nat-found");
            net.dial_echo("a", &peer, preset);
            net.finish();
        }
    });
}

#[test]
fn two_carriers_blocks_are_filled() {
    fills_where_each_port_is_given_once("cgnat-strict");
}

#[test]
fn the_fewest_ports_that_a_cloud_gives_are_filled() {
    fills_where_each_port_is_given_once("gcp-cloud-nat");
}

#[test]
fn two_small_ranges_are_filled() {
    fills(BLOCK.boxes, BLOCK.boxes);
}

/// A dialler that has looked lately dials at once, and sees beside that who has got the ports.
#[test]
fn ports_that_others_have_got_meanwhile_cost_one_introduction() {
    // More than are waited for.
    dials_while_others_get_ports(128, &[DROPS], 2, None);
}

/// The first one that is missing could not be made up for: no other dial is possible soon.
#[test]
fn a_small_range_is_filled_while_others_get_two_ports() {
    for others in [1, 2] {
        dials_while_others_get_ports(others, BLOCK.boxes, 1, None);
    }
}

#[test]
fn ports_that_nobody_expects_may_be_got_by_others() {
    let random = [NatSpec::random_per_destination()];
    dials_while_others_get_ports(32, &random, 1, Some(Verdict::BothMappingsVary));
}

/// Dials from behind a NAT that gives out ports in sequence, so many of which others get meanwhile.
/// Asserts how many introductions that takes, and why it fails, if it does.
fn dials_while_others_get_ports(
    others: usize,
    b: Boxes<'_>,
    introductions: u64,
    verdict: Option<Verdict>,
) {
    test(|| {
        let net = Net::new(COUNTS.boxes, b);
        let peer = net.id("b").parse().unwrap();
        let mut listener = net.listen("b");
        listener.wait_for("nat-found");
        let server = (net.lab.host("server").ipv4(), 3478);
        let dialling = async {
            let builder = Endpoint::builder().coordinator(net.coordinator.parse().unwrap());
            let (endpoint, _) = settled(builder).await;
            let others = (0..others).map(|_| TcpStream::connect(server).unwrap());
            let others: Vec<_> = others.collect();
            let dialled = endpoint.dial(peer).await;
            let failed = dialled.err().map(|error| error.report().unwrap().verdict);
            assert_eq!(failed, verdict);
            assert_eq!(endpoint.metrics().introduced, introductions);
            drop(others);
        };
        net.lab.host("a").run(|| block_on(dialling)).unwrap();
        net.finish();
    });
}

/// The NATs have no port left for another connection in the end, which is not tried for long: three
/// times, since many NATs give a port out again for another destination.
#[test]
fn ranges_that_are_used_up_are_given_up_soon() {
    test(|| {
        let net = Net::on_model(BLOCK.boxes, BLOCK.boxes);
        let peer = net.id("b").parse().unwrap();
        let mut listener = net.listen("b");
        listener.wait_for("nat-found");
        let dialling = async {
            let builder = Endpoint::builder().coordinator(net.coordinator.parse().unwrap());
            let (endpoint, _) = settled(builder).await;
            // A connection that comes about early leaves ports for another one.
            let mut open = Vec::new();
            let error = loop {
                match endpoint.dial(peer).await {
                    Ok(connection) => {
                        // The peer answers one dial at a time.
                        connection.confirmed().await;
                        open.push(connection);
                    }
                    Err(error) => break error,
                }
            };
            assert!((1..=4).contains(&open.len()), "{error}");
            let verdict = error.report().unwrap().verdict;
            assert_eq!(verdict, Verdict::PortsExhausted, "{error}");
            // The last one has had three tries.
            let dials = u64::try_from(open.len()).unwrap() + 3;
            assert_eq!(endpoint.metrics().introduced, dials);
        };
        net.lab.host("a").run(|| block_on(dialling)).unwrap();
        net.finish();
    });
}

#[test]
fn a_small_range_is_filled_for_counted_ports() {
    fills(BLOCK.boxes, COUNTS.boxes);
}

#[test]
fn a_small_range_is_filled_from_counted_ports() {
    fills(COUNTS.boxes, BLOCK.boxes);
}
