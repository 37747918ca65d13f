//! Two machines with IPv4 and IPv6 that name the coordinator by addresses of different families.

use netns_lab::{NatSpec, test};
use p2pconnect_tests::{
    net::Net,
    process::{Finished, Process, run},
};

/// A NAT for IPv4, and a firewall for IPv6.
const DROPS: [NatSpec; 1] = [NatSpec::port_preserving()];

/// Dials from one host to the other, and returns what the dialler said.
fn dial(net: &Net, from: &str, to: &str) -> Finished {
    let peer = net.id(to);
    let _listener = net.listen(to);
    net.dial(from, &peer, b"by another family")
}

#[test]
fn peers_that_name_the_coordinator_by_different_families_connect() {
    test(|| {
        let net = Net::named_by_two_families(&DROPS, &DROPS);
        for (from, to) in [("a", "b"), ("b", "a")] {
            let dialled = dial(&net, from, to);
            assert_eq!(dialled.code(), 0, "{from} to {to}: {:#?}", dialled.stderr);
            assert_eq!(dialled.stdout, b"by another family");
        }
        net.finish();
    });
}

#[test]
fn what_no_punch_over_ipv4_can_do_ipv6_does_where_the_coordinator_is_known_by_ipv4() {
    test(|| {
        let random = [NatSpec::random_per_destination()];
        let net = Net::on_every_address(&random, &random);
        let dialled = dial(&net, "a", "b");
        assert_eq!(dialled.code(), 0, "{:#?}", dialled.stderr);
        let (_, _, remote) = net.reported(&dialled);
        assert!(remote.is_ipv6(), "{remote}");
        net.finish();
    });
}

/// The coordinator, which sees the dialler over IPv4, passes on its address of IPv6 only once a
/// STUN server has seen it.
#[test]
fn a_dialler_that_no_stun_server_answers_over_ipv4_is_met_by_ipv6_as_soon_as_that_is_proved() {
    test(|| {
        let net = Net::on_every_address(&DROPS, &DROPS);
        let rules = "add table ip closed
            add chain ip closed out { type filter hook output priority 0; }
            add rule ip closed out tcp dport { 3478, 4433 } drop";
        run(net.lab.host("a").command("nft").arg(rules));
        let peer = net.id("b");
        let _listener = net.listen("b");
        // An attempt that is in vain takes longer.
        let dial = net.command("a", &["dial", "--json", "--timeout", "3s", &peer]);
        Process::spawn(dial).wait_for("established");
        net.finish();
    });
}

/// As with a coordinator that does not know its own addresses: a reaches none of its IPv6
/// addresses, and b none of its IPv4 addresses.
#[test]
fn peers_that_are_known_in_different_families_are_told_so_soon() {
    test(|| {
        let net = Net::named_by_two_families(&DROPS, &DROPS);
        let server = net.lab.host("server");
        for (host, family, address) in [
            ("a", "ip6", server.ipv6().to_string()),
            ("b", "ip", server.ipv4().to_string()),
        ] {
            let rules = format!(
                "add table {family} apart
                add chain {family} apart out {{ type filter hook output priority 0; }}
                add rule {family} apart out {family} daddr {address} drop"
            );
            run(net.lab.host(host).command("nft").arg(rules));
        }
        for (from, to) in [("a", "b"), ("b", "a")] {
            let dialled = dial(&net, from, to);
            assert_eq!(dialled.code(), 5, "{from} to {to}: {:#?}", dialled.stderr);
            let failed = dialled.event("failed").unwrap();
            assert_eq!(failed["verdict"], "known-in-different-families");
            let reason = dialled.reason();
            assert!(reason.contains("host name"), "{reason}");
            assert!(failed["hint"].is_null(), "{failed}");
        }
        net.finish();
    });
}
