use std::net::SocketAddr;

use netns_lab::{Handshake, NatSpec, test};

use crate::net::Net;

#[test]
fn two_firewalls_are_passed_twenty_times_of_twenty() {
    test(|| {
        let firewall = [NatSpec::firewall()];
        let net = Net::over_ipv6(&firewall, &firewall);
        let peer = net.id("b");
        let _listener = net.listen("b");
        for run in 1..=20 {
            let dialled = net.dial_echo("a", &peer, &format!("run {run}"));
            let (how, local, remote) = net.reported(&dialled);
            assert!(
                matches!((local, remote), (SocketAddr::V6(_), SocketAddr::V6(_))),
                "{remote}"
            );
            let seen = net.lab.capture().tcp_handshake(local, remote);
            assert_eq!(
                (how.as_str(), seen),
                ("simultaneous-open", Handshake::Simultaneous)
            );
        }
        net.finish();
    });
}
