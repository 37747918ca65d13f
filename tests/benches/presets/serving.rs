//! What `p2pconnect serve` runs, on a host of a lab, with STUN on two addresses.

use std::{net::SocketAddr, sync::mpsc};

use netns_lab::{Host, matrix::Program};
use p2pconnect::{CoordinatorAddr, SecretKey};
use p2pconnect_coordinator::{Config, Coordinator};
use p2pconnect_proto::TokenKey;
use p2pconnect_stun::{DEFAULT_PORT, StunServer, StunServerConfig, Witness};
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
    let listen = SocketAddr::from((address, PORT));
    let token_key = TokenKey::from_bytes([7; 32]);
    let witness = Witness::default();
    let mut config = StunServerConfig::default();
    config.token_key = Some(token_key.clone());
    let alternate = StunServer::bind(&[listen], config.clone()).unwrap().spawn();
    config.witness = Some(witness.clone());
    let main = StunServer::bind(&stun, config).unwrap().spawn();
    let key = SecretKey::generate().unwrap();
    let mut config = Config::new(listen, key, token_key);
    config.stun_servers = stun.to_vec();
    config.stun_alternates = vec![listen];
    config.witness = Some(witness);
    let coordinator = Coordinator::bind(config).unwrap().start();
    let address = CoordinatorAddr {
        id: coordinator.server_id(),
        host: address.to_string(),
        port: PORT,
    };
    at.send(address).unwrap();
    // The sender is never used.
    drop(stop.await);
    drop((alternate, main, coordinator));
}
