//! Coordinators behind a web server, for networks that let nothing else out. Peers are connected to
//! directly.

use netns_lab::{NatSpec, test};
use p2pconnect_tests::{
    intermediary::Intermediary,
    net::{Net, PROXY, WEB_SOCKETS},
    process::Process,
};

use crate::proxies::shut;

const NAT: [NatSpec; 1] = [NatSpec::port_preserving()];

/// Builds a lab whose coordinator is behind nginx, and whose peers know it by that alone.
fn behind_nginx() -> (Net, Intermediary) {
    let mut net = Net::with_options(&NAT, &NAT, &["--websocket", WEB_SOCKETS]);
    let nginx = Intermediary::nginx(net.lab.host("server"));
    let (id, _) = net.coordinator.split_once('@').unwrap();
    net.coordinator = format!("{id}@wss://{}/p2pconnect", net.external("server"));
    for host in ["a", "b"] {
        shut(&net, host);
    }
    (net, nginx)
}

#[test]
fn peers_that_reach_the_coordinator_by_nginx_alone_connect_directly() {
    test(|| {
        let (net, _nginx) = behind_nginx();
        let _listener = net.listen("b");
        let dialled = net.dial_echo("a", &net.id("b"), "by the web");
        let (_, _, remote) = net.reported(&dialled);
        assert_eq!(remote.ip(), net.external("b"));
        net.finish();
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
