//! Firewalls that ban, for a while, whoever sends a SYN that they do not expect.

use std::{net::IpAddr, time::Duration};

use netns_lab::{Direction, Packet, TcpFlags, test};
use p2pconnect::{DialError, Endpoint};
use p2pconnect_tests::{net::Net, settled::block_on};

/// How long a dial puts off what may get its server banned, at least.
const PUT_OFF: Duration = Duration::from_secs(2);

/// Returns the SYNs that the server has sent to a host.
fn connections_back(net: &Net, host: &str) -> Vec<Packet> {
    let (server, host) = (net.external("server"), net.external(host));
    net.lab.capture().select(|packet| {
        packet.direction == Direction::FromHost
            && (packet.source, packet.destination) == (server.into(), host.into())
            && packet.transport.tcp_flags().is_some_and(TcpFlags::is_syn)
    })
}

/// Returns when a host sent its first packet.
fn first_packet(net: &Net, host: &str) -> Duration {
    let sent = net.lab.capture().select(|packet| {
        packet.direction == Direction::FromHost && packet.source == IpAddr::from(net.external(host))
    });
    sent.iter().map(|packet| packet.at).min().unwrap()
}

#[test]
fn a_dial_does_not_risk_its_server() {
    test(|| {
        let net = Net::with_jitter(Duration::from_millis(30));
        let (coordinator, peer) = (net.coordinator.parse().unwrap(), net.id("b"));
        let _listener = net.listen("b");
        // The dial waits for that peer.
        net.lab.set_link_up("b", false).unwrap();
        let dial = async || {
            let builder = Endpoint::builder().coordinator(coordinator);
            let endpoint = builder.port_mapping(false).bind().await.unwrap();
            endpoint.dial(peer.parse().unwrap()).await.map(drop)
        };
        let dialled = net.lab.host("a").run(|| block_on(dial())).unwrap();
        assert!(
            matches!(dialled, Err(DialError::PeerSilent(_))),
            "{dialled:?}"
        );
        let began = first_packet(&net, "a");
        for back in connections_back(&net, "a") {
            assert!(back.at > began + PUT_OFF, "{began:?}: {back:?}");
        }
        net.finish();
    });
}

#[test]
fn a_listener_says_that_its_server_is_banned_and_risks_it_once() {
    test(|| {
        let net = Net::new(&[], &[]);
        net.ban_strangers("b", None);
        let mut listener = net.listen("b");
        let told = listener.wait_for("firewall-bans");
        assert_eq!(told["server"], net.external("server").to_string());
        net.end_bans("b");
        let found = listener.wait_for("nat-found");
        assert_eq!(found["local_nat"]["unsolicited"], "dropped", "{found}");
        net.dial_echo("a", &net.id("b"), "heard again");
        assert_eq!(connections_back(&net, "b").len(), 1);
        net.finish();
    });
}
