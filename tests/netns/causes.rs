//! Dials that fail for a reason that the attempts alone do not tell.

use std::net::TcpListener;

use netns_lab::{NatSpec, test};
use p2pconnect_tests::{
    net::{Boxes, Net},
    process::{Finished, Process, run},
};

const DROPS: [NatSpec; 1] = [NatSpec::port_preserving()];

/// Builds a lab in which something is in the way, dials in vain, and returns what the dialler said,
/// the listener that goes on, and the lab.
fn fails(a: Boxes<'_>, change: impl FnOnce(&mut Net)) -> (Finished, Process, Net) {
    let mut net = Net::new(a, &DROPS);
    change(&mut net);
    let peer = net.id("b");
    let listener = net.listen_with("b", &["--allow-any"]);
    let dialled = net.dial("a", &peer, b"never arrives");
    assert_eq!(dialled.code(), 5, "{:#?}", dialled.stderr);
    (dialled, listener, net)
}

fn verdict(dialled: &Finished) -> String {
    let failed = dialled.event("failed").unwrap();
    failed["verdict"].as_str().unwrap().to_owned()
}

/// Asserts that the side which cannot see the cause says where it may be found.
fn points_to_the_other_side(mut listener: Process) {
    let failed = listener.has_said("punch-failed");
    assert_eq!(failed["verdict"], "silent", "{failed}");
    let reason = failed["reason"].as_str().unwrap();
    assert!(reason.contains("the other side's report may"), "{reason}");
}

fn filter(net: &Net, host: &str, rules: &str) {
    run(net.lab.host(host).command("nft").arg(rules));
}

/// What a container engine does where it forwards published ports itself.
#[test]
fn a_coordinator_that_sees_everybody_at_a_bridge_is_named() {
    test(|| {
        let mut server = None;
        let (dialled, mut listener, net) = fails(&DROPS, |net| {
            net.ip("server", "route add 172.17.0.0/16 dev eth0");
            let rules = "add table ip engine
                add chain ip engine in { type nat hook input priority 100; }
                add rule ip engine in udp dport 4433 snat to 172.17.0.1
                add rule ip engine in tcp dport { 3478, 4433 } snat to 172.17.0.1";
            filter(net, "server", rules);
            server = Some(net.start_server_again());
        });
        assert_eq!(verdict(&dialled), "concealed-from-coordinator");
        assert!(dialled.reason().contains("published ports"));
        let failed = listener.has_said("punch-failed");
        assert_eq!(failed["verdict"], "concealed-from-coordinator");
        // Whoever runs the server is told as well.
        let mut server = server.unwrap();
        server.wait_for_log("warning: different peers are seen at 172.17.0.1");
        net.finish();
    });
}

/// Starts the server again behind a router that leads `beside` to it by an address of its own, as
/// one does at home with those inside.
fn serve_at_home_of(net: &mut Net, beside: &str) -> Process {
    net.ip("server", "route add 192.168.77.0/24 dev eth0");
    let beside = net.external(beside);
    let rules = format!(
        "add table ip router
        add chain ip router in {{ type nat hook input priority 100; }}
        add rule ip router in ip saddr {beside} snat to 192.168.77.1"
    );
    filter(net, "server", &rules);
    net.start_server_again()
}

#[test]
fn a_coordinator_that_sees_one_peer_inside_a_network_is_named() {
    test(|| {
        let mut server = None;
        let (dialled, mut listener, net) = fails(&DROPS, |net| {
            server = Some(serve_at_home_of(net, "b"));
        });
        assert_eq!(verdict(&dialled), "peer-known-inside-only");
        assert!(dialled.reason().contains("outside that network"));
        // The coordinator would believe no port that a router forwards, as it sees nobody there.
        assert!(dialled.event("failed").unwrap()["hint"].is_null());
        let seen = listener.has_said("seen-inside");
        assert_eq!(seen["address"], "192.168.77.1");
        // Whoever runs the server is told as well.
        let mut server = server.unwrap();
        server.wait_for_log("warning: a peer is seen inside a network");
        net.finish();
    });
}

#[test]
fn a_peer_that_is_known_inside_only_reaches_a_dialler_that_lets_it_in() {
    test(|| {
        let mut net = Net::new(&[], &DROPS);
        let _server = serve_at_home_of(&mut net, "b");
        let peer = net.id("b");
        let _listener = net.listen("b");
        let dialled = net.dial_echo("a", &peer, "from a public host");
        let (how, _, remote) = net.reported(&dialled);
        assert_eq!(how, "accepted");
        assert_eq!(remote.ip(), net.external("b"));
        net.finish();
    });
}

/// A proxy in front of one side takes each connection before it knows whether it can make it.
#[test]
fn a_transparent_proxy_is_named() {
    test(|| {
        let (dialled, listener, net) = fails(&DROPS, |net| {
            let proxy = net
                .lab
                .host("a")
                .run(|| TcpListener::bind(("0.0.0.0", 9999)).unwrap());
            std::thread::spawn(move || {
                // It waits for its own connection to the other side, which never comes to be.
                let mut taken = Vec::new();
                for stream in proxy.unwrap().incoming() {
                    taken.push(stream);
                }
            });
            let rules = "add table ip proxy
                add chain ip proxy out { type nat hook output priority -100; }
                add rule ip proxy out tcp dport != { 3478, 4433 } redirect to :9999";
            filter(net, "a", rules);
        });
        assert_eq!(verdict(&dialled), "intercepted", "{:#?}", dialled.stderr);
        assert!(dialled.reason().contains("transparent proxy"));
        points_to_the_other_side(listener);
        net.finish();
    });
}

/// A VPN whose own server, which is the coordinator's host, is reached outside it.
#[test]
fn another_way_to_the_peer_than_to_the_coordinator_is_named() {
    test(|| {
        let (dialled, listener, net) = fails(&DROPS, |net| {
            net.ip("a", "link add tun type veth peer name far");
            net.ip("a", "addr add 10.8.0.2/24 dev tun");
            for link in ["tun", "far"] {
                net.ip("a", &format!("link set {link} up"));
            }
            net.keep_way_to_server("a");
            net.ip("a", "neigh add 10.8.0.1 lladdr 02:00:00:00:00:01 dev tun");
            net.ip("a", "route replace default via 10.8.0.1 dev tun");
        });
        assert_eq!(verdict(&dialled), "unmapped-route");
        assert!(dialled.reason().contains("VPN"));
        points_to_the_other_side(listener);
        net.finish();
    });
}
