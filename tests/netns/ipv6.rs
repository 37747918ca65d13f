//! Firewalls of IPv6.

use std::net::SocketAddr;

use netns_lab::{Handshake, NatSpec, test};
use p2pconnect_tests::net::Net;

#[test]
fn two_firewalls_are_passed_twenty_times_of_twenty() {
    test(|| {
        let firewall = [NatSpec::firewall()];
        let net = Net::over_ipv6(&firewall, &firewall);
        let peer = net.id("b");
        let _listener = net.listen("b");
        let mut crossed = 0;
        for run in 1..=20 {
            let dialled = net.dial_echo("a", &peer, &format!("run {run}"));
            let (how, local, remote) = net.reported(&dialled);
            assert!(
                matches!((local, remote), (SocketAddr::V6(_), SocketAddr::V6(_))),
                "{remote}"
            );
            let seen = net.lab.capture().tcp_handshake(local, remote);
            // One side may be so late, on a busy machine, that its SYN leaves behind the peer's.
            match seen {
                Handshake::Simultaneous => assert_eq!(how, "simultaneous-open"),
                _ => assert!(
                    matches!(seen, Handshake::Accepted { .. }),
                    "{how}: {seen:?}"
                ),
            }
            crossed += u32::from(seen == Handshake::Simultaneous);
        }
        assert!(crossed > 10, "SYNs have crossed {crossed} times only");
        net.finish();
    });
}
