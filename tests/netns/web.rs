//! Coordinators behind a web server, for networks that let nothing else out. Peers are connected to
//! directly.

use std::fs;

use netns_lab::{NatSpec, test};
use p2pconnect_tests::{
    intermediary::{Intermediary, certificate},
    net::{Boxes, Net, PROXY, WEB_SOCKETS},
    process::{Process, run},
};

use crate::proxies::shut;

const NAT: [NatSpec; 1] = [NatSpec::port_preserving()];

/// Builds a lab whose coordinator is behind nginx, and whose peers know it by that alone.
fn at_nginx(a: Boxes<'_>, b: Boxes<'_>) -> (Net, Intermediary) {
    let mut net = Net::with_options(a, b, &["--websocket", WEB_SOCKETS]);
    let nginx = Intermediary::nginx(net.lab.host("server"));
    let (id, _) = net.coordinator.split_once('@').unwrap();
    net.coordinator = format!("{id}@wss://{}/p2pconnect", net.external("server"));
    (net, nginx)
}

/// Builds such a lab whose peers reach the STUN server by TCP.
fn behind_nginx() -> (Net, Intermediary) {
    let (net, nginx) = at_nginx(&NAT, &NAT);
    for host in ["a", "b"] {
        shut(&net, host);
    }
    (net, nginx)
}

/// Has a host's firewall let out no UDP, and of the connections to an address, or to all, those to
/// port 443 alone.
fn let_out_https(net: &Net, host: &str, towards: &str) {
    let rules = format!(
        "add table ip shut
        add chain ip shut out {{ type filter hook output priority 0; }}
        add rule ip shut out oif lo accept
        add rule ip shut out ct state established accept
        add rule ip shut out meta l4proto udp drop
        add rule ip shut out {towards} tcp dport != 443 drop"
    );
    run(net.lab.host(host).command("nft").arg(rules));
}

/// Has both firewalls let out nothing but port 443 to the coordinator's machine.
fn shut_but_443(net: &Net) {
    let towards = format!("ip daddr {}", net.external("server"));
    for host in ["a", "b"] {
        let_out_https(net, host, &towards);
    }
}

/// Dials from one peer to the other, whose own address has to be reached.
fn connects_directly(net: Net, words: &str) {
    let _listener = net.listen("b");
    let dialled = net.dial_echo("a", &net.id("b"), words);
    let (_, _, remote) = net.reported(&dialled);
    assert_eq!(remote.ip(), net.external("b"));
    net.finish();
}

/// Dials between peers whose firewalls let out nothing but port 443 to the coordinator's machine,
/// STUN included.
fn dial_by_443(a: Boxes<'_>, b: Boxes<'_>) {
    let (net, _nginx) = at_nginx(a, b);
    shut_but_443(&net);
    connects_directly(net, "by port 443");
}

#[test]
fn peers_that_reach_port_443_of_the_coordinator_alone_connect_directly() {
    test(|| dial_by_443(&NAT, &NAT));
}

#[test]
fn port_443_shows_which_port_a_nat_gives() {
    test(|| dial_by_443(&[NatSpec::random_port()], &[NatSpec::random_port()]));
}

#[test]
fn peers_without_a_nat_connect_by_port_443() {
    test(|| dial_by_443(&[], &[NatSpec::firewall()]));
}

#[test]
fn caddy_shows_which_port_a_nat_gives_as_well() {
    test(|| {
        let random = [NatSpec::random_port()];
        let net = Net::with_options(&random, &random, &["--websocket", WEB_SOCKETS]);
        let _caddy = Intermediary::caddy(net.lab.host("server"));
        shut_but_443(&net);
        connects_directly(net, "by Caddy");
    });
}

/// What `serve` prints is all that a peer needs there.
#[test]
fn the_web_is_found_by_a_plain_address_where_nothing_else_passes() {
    test(|| {
        let net = Net::with_options(&NAT, &NAT, &["--websocket", WEB_SOCKETS]);
        let _nginx = Intermediary::nginx(net.lab.host("server"));
        let towards = format!("ip daddr {}", net.external("server"));
        let_out_https(&net, "a", &towards);
        connects_directly(net, "by the web");
    });
}

#[test]
fn a_coordinator_with_a_certificate_needs_no_web_server() {
    test(|| {
        let folder = tempfile::tempdir().unwrap();
        let [chain, key] = ["chain.pem", "key.pem"].map(|it| folder.path().join(it));
        let [of_chain, of_key] = certificate();
        fs::write(&chain, of_chain).unwrap();
        fs::write(&key, of_key).unwrap();
        let [chain, key] = [chain, key].map(|it| it.to_str().unwrap().to_owned());
        let options = ["--websocket", "0.0.0.0:443", "--websocket-certificate"];
        let options = [&options[..], &[&chain, "--websocket-key", &key]].concat();
        let net = Net::with_options(&NAT, &NAT, &options);
        shut_but_443(&net);
        connects_directly(net, "by port 443");
    });
}

/// No SYN to a peer passes such a firewall, as no peer is at port 443: there is nothing to punch.
/// What comes from a peer does not pass it, either.
#[test]
fn who_reaches_port_443_alone_wherever_that_is_reaches_no_peer_and_is_told_so() {
    test(|| {
        let (net, _nginx) = at_nginx(&[NatSpec::firewall()], &NAT);
        let_out_https(&net, "a", "");
        let _listener = net.listen("b");
        let dialled = net.dial("a", &net.id("b"), b"nowhere");
        assert_eq!(dialled.code(), 5, "{:#?}", dialled.stderr);
        let reason = dialled.reason();
        assert!(
            reason.contains("drops everything it did not expect"),
            "{reason}"
        );
        net.finish();
    });
}

#[test]
fn peers_that_reach_the_coordinator_by_nginx_alone_connect_directly() {
    test(|| {
        let (net, _nginx) = behind_nginx();
        connects_directly(net, "by the web");
    });
}

/// mitmproxy makes certificates of its own for all that goes through it.
#[test]
fn a_proxy_that_intercepts_tls_is_named_and_sees_frames_only() {
    test(|| {
        let (net, _nginx) = behind_nginx();
        let mitmproxy = Intermediary::mitmproxy(net.lab.host(PROXY));
        let _listener = net.listen("b");
        let mut command = net.command("a", &["dial", "--json", &net.id("b")]);
        command.env("HTTPS_PROXY", format!("http://{}", mitmproxy.address()));
        net.drop_tcp("a", 443);
        let mut dial = Process::spawn(command);
        dial.give(b"intercepted");
        let dialled = dial.finish();
        assert_eq!(dialled.code(), 0, "{:#?}", dialled.stderr);
        assert_eq!(dialled.stdout, b"intercepted");
        let told = dialled.event("intercepted").unwrap();
        assert_eq!(told["issuer"], "mitmproxy");
        net.finish();
    });
}

#[test]
fn who_intercepts_tls_on_the_coordinators_port_is_named() {
    test(|| {
        let net = Net::with_proxy(&NAT, &NAT);
        let mitmproxy = Intermediary::mitmproxy(net.lab.host(PROXY));
        shut(&net, "a");
        let mut command = net.command("a", &["dial", "--json", &net.id("b")]);
        command.env("HTTPS_PROXY", format!("http://{}", mitmproxy.address()));
        let dialled = Process::spawn(command).finish();
        assert_eq!(dialled.code(), 6, "{:#?}", dialled.stderr);
        let reason = dialled.reason();
        assert!(reason.contains("issued by mitmproxy"), "{reason}");
        net.finish();
    });
}
