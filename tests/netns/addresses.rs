//! Hosts with more than one address.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Stdio},
};

use netns_lab::{NatSpec, test};
use p2pconnect_host::Host;
use p2pconnect_tests::{
    net::{Boxes, Net, SECOND},
    process::run,
};

/// Two of these cannot be punched.
const HOPELESS: [NatSpec; 1] = [NatSpec::random_per_destination()];

const DROPS: [NatSpec; 1] = [NatSpec::port_preserving()];

/// The network of the private line, where a and b are the hosts 1 and 2.
const PRIVATE: &str = "10.77.0.";

/// A second line between the two peers, beside their uplinks.
struct PrivateLine {
    /// Holds the name of b's namespace.
    holder: Child,
}

impl PrivateLine {
    fn between_the_peers(net: &Net) -> Self {
        let mut cat = net.lab.host("b").command("cat");
        let holder = cat.stdin(Stdio::piped()).spawn().unwrap();
        let add = format!(
            "link add line type veth peer name line netns {}",
            holder.id()
        );
        net.ip("a", &add);
        for (host, number) in [("a", 1), ("b", 2)] {
            net.ip(host, &format!("addr add {PRIVATE}{number}/24 dev line"));
            net.ip(host, "link set line up");
        }
        Self { holder }
    }
}

impl Drop for PrivateLine {
    fn drop(&mut self) {
        // It may have ended with the lab.
        drop(self.holder.kill());
        drop(self.holder.wait());
    }
}

/// Dials both ways round, and returns the addresses that were reached.
fn dials(a: Boxes<'_>, b: Boxes<'_>, change: impl FnOnce(&Net)) -> [String; 2] {
    let net = Net::new(a, b);
    let _line = PrivateLine::between_the_peers(&net);
    change(&net);
    let reached = both_ways(&net);
    net.finish();
    reached
}

fn both_ways(net: &Net) -> [String; 2] {
    [("a", "b"), ("b", "a")].map(|(from, to)| {
        let peer = net.id(to);
        let _listener = net.listen(to);
        let dialled = net.dial_echo(from, &peer, &format!("{from} to {to}"));
        let (_, _, remote) = net.reported(&dialled);
        remote.ip().to_string()
    })
}

#[test]
fn a_private_line_serves_where_the_nats_do_not() {
    test(|| {
        let reached = dials(&HOPELESS, &HOPELESS, |_| {});
        assert_eq!(reached, [2, 1].map(|number| format!("{PRIVATE}{number}")));
    });
}

#[test]
fn a_line_that_was_pulled_out_is_in_nobodys_way() {
    test(|| {
        let reached = dials(&DROPS, &DROPS, |net| net.ip("b", "link set line down"));
        for address in reached {
            assert!(!address.starts_with(PRIVATE), "{address}");
        }
    });
}

#[test]
fn a_line_that_swallows_everything_is_in_nobodys_way() {
    test(|| {
        let swallow = "add table ip swallow
            add chain ip swallow in { type filter hook input priority 0; }
            add rule ip swallow in iifname line drop";
        let reached = dials(&DROPS, &DROPS, |net| {
            for host in ["a", "b"] {
                run(net.lab.host(host).command("nft").arg(swallow));
            }
        });
        for address in reached {
            assert!(!address.starts_with(PRIVATE), "{address}");
        }
    });
}

/// A VPN that everything goes through but what goes to the coordinator. Its server is on the same
/// machine, and sends what comes out of it from an address of its own.
#[test]
fn a_way_out_that_the_server_is_not_reached_by_is_mapped_too() {
    test(|| {
        let net = Net::with_second_address(&DROPS, &DROPS);
        let mut cat = net.lab.host("server").command("cat");
        let mut holder = cat.stdin(Stdio::piped()).spawn().unwrap();
        let far = format!("link add tun type veth peer name tun netns {}", holder.id());
        net.ip("a", &far);
        for (host, number) in [("a", 2), ("server", 1)] {
            net.ip(host, &format!("addr add 10.8.0.{number}/24 dev tun"));
            net.ip(host, "link set tun up");
        }
        let server = net.lab.host("server");
        let forward = || std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        server.run(forward).unwrap();
        let rules = format!(
            "add table ip vpn
             add chain ip vpn in {{ type nat hook input priority 100; }}
             add chain ip vpn out {{ type nat hook postrouting priority 100; }}
             add rule ip vpn in iifname tun snat to {SECOND}
             add rule ip vpn out iifname tun snat to {SECOND}"
        );
        run(server.command("nft").arg(rules));
        net.keep_way_to_server("a");
        net.ip("a", "route replace default via 10.8.0.1 dev tun");
        for (from, to) in [("b", "a"), ("a", "b")] {
            let peer = net.id(to);
            let _listener = net.listen(to);
            let dialled = net.dial_echo(from, &peer, &format!("{from} to {to}"));
            let (_, local, remote) = net.reported(&dialled);
            let tunnel = if from == "a" { local.ip() } else { remote.ip() };
            let expected = if from == "a" {
                "10.8.0.2".to_owned()
            } else {
                SECOND.to_string()
            };
            assert_eq!(tunnel.to_string(), expected);
        }
        drop(holder.kill());
        drop(holder.wait());
        net.finish();
    });
}

/// Two machines at the ends of one cable, with no addresses but those that they give themselves.
#[test]
fn link_local_addresses_keep_their_zone() {
    test(|| {
        let net = Net::new(&[], &[]);
        let _line = PrivateLine::between_the_peers(&net);
        for (host, number) in [("a", 1), ("b", 2)] {
            net.ip(host, "addr flush dev line");
            net.ip(host, &format!("addr add fe80::{number}/64 dev line nodad"));
            net.ip(host, "link set eth0 down");
        }
        let mut server = net.command("b", &["serve", "--listen", "[::]:4433"]);
        let key = tempfile::tempdir().unwrap();
        server.env("P2PCONNECT_COORDINATOR_KEY", key.path().join("key.pem"));
        let mut server = server.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
        let said = lines.next().unwrap().unwrap();
        let id = said.strip_prefix("coordinator: ").unwrap();
        let (id, _) = id.split_once('@').unwrap();
        let coordinator = format!("{id}@[fe80::2%line]:4433");
        let peer = net.id("b");
        let options = ["--allow-any", "--coordinator", &coordinator];
        let mut listener = net.listen_with("b", &options);
        drop(listener.stdin.take());
        let dial = ["dial", "--json", &peer, "--coordinator", &coordinator];
        let dialled = net.dial_with("a", &dial, b"by the cable");
        assert_eq!(dialled.code(), 0, "{:#?}", dialled.stderr);
        let (_, _, remote) = net.reported(&dialled);
        assert!(remote.to_string().starts_with("[fe80::2%"), "{remote}");
        drop(server.kill());
        drop(server.wait());
        net.finish();
    });
}

#[test]
fn an_address_that_both_hosts_have_is_in_nobodys_way() {
    test(|| {
        let net = Net::new(&DROPS, &DROPS);
        for host in ["a", "b"] {
            // What every machine with containers has.
            net.ip(host, "link add docker0 type veth peer name container");
            net.ip(host, "addr add 172.17.0.1/16 dev docker0");
            net.ip(host, "link set docker0 up");
            net.ip(host, "link set container up");
        }
        both_ways(&net);
        net.finish();
    });
}

#[test]
fn a_second_address_of_the_same_link_is_in_nobodys_way() {
    test(|| {
        let net = Net::new(&DROPS, &DROPS);
        for (host, network) in [("a", 2), ("b", 3)] {
            net.ip(host, &format!("addr add 192.168.{network}.77/24 dev eth0"));
        }
        both_ways(&net);
        net.finish();
    });
}

/// What the interfaces have is not asked for again as long as the kernel tells of no change.
#[test]
fn an_address_that_comes_or_goes_is_listed_at_once() {
    test(|| {
        let net = Net::new(&DROPS, &DROPS);
        let host = Host::default();
        let is_listed = || {
            let interfaces = || host.interfaces();
            let listed = net.lab.host("a").run(interfaces).unwrap();
            listed.iter().any(|it| it.ip.to_string() == "10.9.0.1")
        };
        for _ in 0..3 {
            assert!(!is_listed());
            net.ip("a", "addr add 10.9.0.1/24 dev lo");
            assert!(is_listed());
            net.ip("a", "addr del 10.9.0.1/24 dev lo");
        }
        net.finish();
    });
}
