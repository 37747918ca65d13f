use std::time::{Duration, Instant};

use netns_lab::{NatSpec, test};

use crate::{
    net::Net,
    router::{PUBLIC, Speaks},
};

/// What the peer without the router is behind: together they cannot be punched.
const OTHER: NatSpec = NatSpec::random_per_destination();

const MESSAGE: &[u8] = b"by the mapped port";

/// Has one host listen and the other dial, and asserts that the message arrives, and that the
/// router forwards nothing any more afterwards.
fn arrives(speaks: Speaks, router: &'static str, protocol: &str) {
    let net = Net::with_router(router, speaks, &at(router, "a"), &at(router, "b"));
    let peer = net.id("b");
    let mut listener = net.listen_with("b", &["--allow-any"]);
    if router == "b" {
        let mapped = listener.has_said("port-mapped");
        assert_eq!(mapped["protocol"], protocol);
        assert!(
            mapped["external"]
                .as_str()
                .unwrap()
                .starts_with(&PUBLIC.to_string())
        );
        assert_eq!(net.router().mappings(), 2);
    }
    drop(listener.stdin.take());
    let dialled = net.dial("a", &peer, MESSAGE);
    assert_eq!(dialled.code(), 0, "{:#?}", dialled.stderr);
    let heard = listener.finish();
    assert_eq!(heard.stdout, MESSAGE, "{:#?}", heard.stderr);
    let (how, _, remote) = net.reported(&dialled);
    if router == "b" {
        assert_eq!((how.as_str(), remote.ip()), ("connected", PUBLIC.into()));
    } else {
        assert_eq!(how, "accepted");
    }
    assert_eq!(net.router().mappings(), 0, "mappings are given back");
    net.finish();
}

/// Returns the boxes of a host: none if it is the router.
fn at(router: &str, host: &str) -> Vec<NatSpec> {
    if router == host { vec![] } else { vec![OTHER] }
}

#[test]
fn a_callee_is_reached_by_what_its_router_maps_by_pcp() {
    test(|| arrives(Speaks::Pcp, "b", "PCP"));
}

#[test]
fn a_callee_is_reached_by_what_its_router_maps_by_nat_pmp() {
    test(|| arrives(Speaks::NatPmp, "b", "NAT-PMP"));
}

#[test]
fn a_callee_is_reached_by_what_its_router_maps_by_upnp() {
    test(|| arrives(Speaks::Upnp, "b", "UPnP"));
}

#[test]
fn a_dialler_is_reached_by_what_its_router_maps() {
    test(|| arrives(Speaks::Pcp, "a", "PCP"));
}

/// Dials in vain, and asserts that a router that maps nothing costs no time.
fn fails(net: &Net, options: &[&str]) {
    let peer = net.id("b");
    let _listener = net.listen_with("b", options);
    let began = Instant::now();
    let dialled = net.dial("a", &peer, MESSAGE);
    assert!(
        began.elapsed() < Duration::from_secs(16),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(dialled.code(), 5, "{:#?}", dialled.stderr);
    assert_eq!(net.router().mappings(), 0);
}

#[test]
fn a_router_that_maps_nothing_is_not_waited_for() {
    test(|| {
        let net = Net::with_router("b", Speaks::Nothing, &[OTHER], &[]);
        fails(&net, &["--allow-any"]);
        net.finish();
    });
}

#[test]
fn nobody_asks_the_router_if_that_is_not_wanted() {
    test(|| {
        let net = Net::with_router("b", Speaks::Pcp, &[OTHER], &[]);
        fails(&net, &["--allow-any", "--no-port-mapping"]);
        net.finish();
    });
}

#[test]
fn a_router_behind_another_nat_maps_to_no_avail() {
    test(|| {
        let net = Net::with_router("b", Speaks::Pcp, &[OTHER], &[OTHER]);
        fails(&net, &["--allow-any"]);
        net.finish();
    });
}
