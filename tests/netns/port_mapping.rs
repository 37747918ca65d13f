//! Routers that map ports, and devices that only pretend to.

use std::{
    process::Command,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use netns_lab::{NatSpec, test};
use p2pconnect_tests::{
    net::Net,
    process::Process,
    router::{PUBLIC, ROUTER, Speaks},
};

use crate::upnp;

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

/// What a listener may take in all: many times what it needs.
const ADDRESS_SPACE: &str = "--as=1073741824";

/// Has a listener search for a router, with bounded memory, and returns it when it has given up.
fn searches_in_vain(net: &Net) -> Process {
    let listener = net.command("b", &["listen", "--json", "--allow-any"]);
    let mut bounded = Command::new("prlimit");
    bounded.arg(ADDRESS_SPACE).arg(listener.get_program());
    bounded.args(listener.get_args());
    let set = listener.get_envs();
    bounded.envs(set.filter_map(|(name, value)| Some((name, value?))));
    bounded
        .env("RUST_LOG", "error,p2pconnect::machine::port_mapping=debug")
        // What threads reserve is not what they use.
        .env("MALLOC_ARENA_MAX", "2");
    let mut listener = Process::spawn(bounded);
    listener.wait_for("registered");
    listener.wait_for_log("UPnP");
    listener
}

/// Asserts that a listener can still be dialled.
fn still_serves(net: &Net, mut listener: Process) {
    drop(listener.stdin.take());
    let dialled = net.dial("a", &net.id("b"), MESSAGE);
    assert_eq!(dialled.code(), 0, "{:#?}", dialled.stderr);
    assert_eq!(listener.finish().stdout, MESSAGE);
}

#[test]
fn a_device_that_is_not_the_router_is_not_asked() {
    test(|| {
        let net = Net::with_router("b", Speaks::Nothing, &[], &[]);
        let router = net.router();
        let heard = upnp::serve(router.host(), ROUTER, router.add_device());
        let listener = searches_in_vain(&net);
        assert!(
            heard.searches.load(Ordering::Relaxed) > 0,
            "nobody searched"
        );
        assert_eq!(heard.fetches.load(Ordering::Relaxed), 0);
        still_serves(&net, listener);
        net.finish();
    });
}

#[test]
fn a_description_that_takes_all_memory_takes_none() {
    test(|| {
        let net = Net::with_router("b", Speaks::Nothing, &[], &[]);
        let heard = upnp::serve(net.router().host(), ROUTER, ROUTER);
        let listener = searches_in_vain(&net);
        assert!(heard.fetches.load(Ordering::Relaxed) > 0, "nobody asked");
        still_serves(&net, listener);
        net.finish();
    });
}
