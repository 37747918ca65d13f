//! Peers whose network leads to the coordinator by a proxy alone. Peers are connected to directly.

use netns_lab::{NatSpec, test};
use p2pconnect_tests::{
    intermediary::Intermediary,
    net::{Net, PROXY},
    process::{Finished, Process, run},
};

const NAT: [NatSpec; 1] = [NatSpec::port_preserving()];

/// Has a host send no UDP, and nothing to the coordinator's port.
pub(crate) fn shut(net: &Net, host: &str) {
    let rules = "add table ip shut
        add chain ip shut out { type filter hook output priority 0; }
        add rule ip shut out meta l4proto udp drop";
    run(net.lab.host(host).command("nft").arg(rules));
    net.drop_tcp(host, 4433);
}

/// Dials from a with a proxy, and sends a message.
fn dial(net: &Net, [variable, proxy]: [&str; 2]) -> Finished {
    let mut command = net.command("a", &["dial", "--json", &net.id("b")]);
    let mut dial = Process::spawn({
        command.env(variable, proxy);
        command
    });
    dial.give(b"by a proxy");
    dial.finish()
}

#[test]
fn peers_that_reach_the_coordinator_by_proxies_alone_connect_directly() {
    test(|| {
        let net = Net::with_proxy(&NAT, &NAT);
        let proxy = Intermediary::tinyproxy(net.lab.host(PROXY), Some(("me", "right")));
        for host in ["a", "b"] {
            shut(&net, host);
        }
        let url = format!("http://me:%72ight@{}", proxy.address());
        let _listener = net.listen_by(&url);
        let dialled = dial(&net, ["HTTPS_PROXY", &url]);
        assert_eq!(dialled.code(), 0, "{:#?}", dialled.stderr);
        assert_eq!(dialled.stdout, b"by a proxy");
        let (_, _, remote) = net.reported(&dialled);
        assert_eq!(remote.ip(), net.external("b"));
        net.finish();
    });
}

#[test]
fn a_proxy_that_speaks_socks_leads_to_the_coordinator() {
    test(|| {
        let net = Net::with_proxy(&NAT, &NAT);
        let proxy = Intermediary::microsocks(net.lab.host(PROXY));
        let _listener = net.listen("b");
        shut(&net, "a");
        for scheme in ["socks5", "socks5h"] {
            let url = format!("{scheme}://{}", proxy.address());
            let dialled = dial(&net, ["ALL_PROXY", &url]);
            assert_eq!(dialled.code(), 0, "{:#?}", dialled.stderr);
        }
        net.finish();
    });
}

#[test]
fn a_proxy_that_is_told_a_wrong_password_is_named_and_the_password_is_not() {
    test(|| {
        let net = Net::with_proxy(&NAT, &NAT);
        let proxy = Intermediary::tinyproxy(net.lab.host(PROXY), Some(("me", "right")));
        shut(&net, "a");
        let url = format!("http://me:not-right@{}", proxy.address());
        let dialled = dial(&net, ["P2PCONNECT_PROXY", &url]);
        assert_eq!(dialled.code(), 6, "{:#?}", dialled.stderr);
        let reason = dialled.reason();
        let shown = format!("http://{}", proxy.address());
        for told in [
            &shown,
            "does not accept this user and password",
            "UDP: no",
            "TCP: no",
        ] {
            assert!(reason.contains(told), "{told}: {reason}");
        }
        let said = dialled.stderr.concat();
        assert!(!said.contains("not-right"), "{said}");
        net.finish();
    });
}
