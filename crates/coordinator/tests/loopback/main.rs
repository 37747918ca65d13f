//! The coordinator over real QUIC connections on the loopback interface.

#![expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

mod allowed;
mod board;
mod by_tcp;
mod claims;
mod client;
mod draining;
mod hostile;
mod latency;
mod later;
mod lifetime;
mod limits;
mod meeting;
mod nodes;
mod path;
mod reflection;
mod relaying;
mod rendezvous;
mod silence;

use std::net::SocketAddr;

use p2pconnect_coordinator::{Config, Coordinator, RunningCoordinator};
use p2pconnect_identity::SecretKey;
use p2pconnect_proto::{PeerId, TokenKey};

const IPV4: &str = "127.0.0.1:0";
const IPV6: &str = "[::1]:0";

fn config(listen: &str) -> Config {
    let key = SecretKey::generate().unwrap();
    Config::new(listen.parse().unwrap(), key, token_key())
}

fn token_key() -> TokenKey {
    TokenKey::from_bytes([0x42; 32])
}

fn start(config: Config) -> RunningCoordinator {
    Coordinator::bind(config).unwrap().start()
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A peer id that nobody in these tests has the key of.
const STRANGER: PeerId = PeerId::from_public_key([0x55; 32]);
