//! A coordinator with STUN servers beside it.

use std::{io, net::SocketAddr};

use p2pconnect_coordinator::{Rendezvous, RendezvousPorts};
use p2pconnect_identity::SecretKey;
use p2pconnect_stun::{StunServer, StunServerConfig};
use tokio::net::TcpListener;

use crate::{IPV4, address, client::Client, token_key};

/// Binds the ports of a coordinator at an address, and makes it one.
fn bind(listen: SocketAddr) -> (Option<io::ErrorKind>, Rendezvous) {
    let stun = StunServerConfig::default();
    let ports = RendezvousPorts::bind(listen, &[address(IPV4)], stun, token_key()).unwrap();
    let no_alternates = ports.no_alternates().map(io::Error::kind);
    let config = ports.config(SecretKey::generate().unwrap());
    (no_alternates, ports.coordinate(config).unwrap())
}

#[tokio::test]
async fn clients_are_told_of_stun_at_its_own_port_and_at_the_coordinators() {
    let (no_alternates, rendezvous) = bind(address(IPV4));
    assert_eq!(no_alternates, None);
    let at = |server: &StunServer| SocketAddr::from(([0; 4], server.local_addrs()[0].port()));
    let (stun, alternates) = (&rendezvous.stun, &rendezvous.alternates);
    let beside = [rendezvous.coordinator.local_addr()];
    assert_eq!(alternates[0].local_addrs(), beside);
    let (stun, alternate) = (at(stun), at(&alternates[0]));
    let server = rendezvous.coordinator.start();
    let welcome = Client::connect(&server).await.welcome().await;
    assert_eq!(welcome.stun_servers, [stun]);
    assert_eq!(welcome.stun_alternates, [alternate]);
}

#[tokio::test]
async fn a_port_that_something_else_has_on_tcp_is_served_on_udp_alone() {
    let holder = TcpListener::bind(IPV4).await.unwrap();
    let taken = holder.local_addr().unwrap();
    let (no_alternates, rendezvous) = bind(taken);
    assert_eq!(no_alternates, Some(io::ErrorKind::AddrInUse));
    assert_eq!(rendezvous.coordinator.local_addr(), taken);
    assert!(rendezvous.alternates.is_empty());
}
