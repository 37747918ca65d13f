//! What `p2pconnect serve` runs, on a host of a lab, with STUN on two addresses.

use std::{future::pending, net::SocketAddr, sync::mpsc};

use netns_lab::{Host, matrix::Program};
use p2pconnect::{CoordinatorAddr, SecretKey};
use p2pconnect_coordinator::RendezvousPorts;
use p2pconnect_proto::TokenKey;
use p2pconnect_stun::{DEFAULT_PORT, StunServerConfig};
use tokio::sync::oneshot;

/// The lab's addresses are its own, so the port can be fixed.
const PORT: u16 = 4433;

/// Serves until the sender of `stop` is dropped; says first where.
pub(crate) async fn serve(
    host: &Host,
    at: mpsc::Sender<CoordinatorAddr>,
    stop: oneshot::Receiver<()>,
) {
    let address = host.ipv4();
    let stun = [address, Program::second_address()].map(|ip| SocketAddr::from((ip, DEFAULT_PORT)));
    let key = SecretKey::generate().unwrap();
    let (listen, token_key) = ((address, PORT).into(), TokenKey::from_bytes([7; 32]));
    let ports = RendezvousPorts::bind(listen, &stun, StunServerConfig::default(), token_key);
    let ports = ports.unwrap();
    let config = ports.config(key);
    let rendezvous = ports.coordinate(config).unwrap();
    let address = CoordinatorAddr {
        id: rendezvous.coordinator.server_id(),
        host: address.to_string(),
        port: PORT,
    };
    at.send(address).unwrap();
    tokio::select! {
        () = rendezvous.run(pending()) => {}
        // The sender is never used.
        _ = stop => {}
    }
}
