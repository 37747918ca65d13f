//! What `p2pconnect serve` runs, on a host of a lab.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result};
use p2pconnect::{CoordinatorAddr, Host, SecretKey};
use p2pconnect_coordinator::{Rendezvous, RendezvousPorts};
use p2pconnect_proto::TokenKey;
use p2pconnect_stun::{DEFAULT_PORT, StunServerConfig};

/// The port of the coordinator. The lab's addresses are its own, so it can be fixed.
pub const COORDINATOR_PORT: u16 = 4433;

/// Opens the ports of a coordinator at the first IPv4 address of a host, and of STUN at all of
/// them; returns what serves there, and where peers find it. Must be called within a Tokio runtime.
///
/// # Errors
///
/// The host has no IPv4 address, or something else has one of the ports.
pub fn rendezvous(host: Host, key: SecretKey) -> Result<(Rendezvous, CoordinatorAddr)> {
    rendezvous_of(host, key, None)
}

/// Does what [`rendezvous`] does, for one of the coordinators of a cluster of this name.
///
/// # Errors
///
/// As [`rendezvous`].
pub fn rendezvous_of(
    host: Host,
    key: SecretKey,
    cluster: Option<&str>,
) -> Result<(Rendezvous, CoordinatorAddr)> {
    let addresses = host.interfaces().into_iter().map(|interface| interface.ip);
    let addresses: Vec<IpAddr> = addresses
        .filter(|ip| ip.is_ipv4() && !ip.is_loopback())
        .collect();
    let first = addresses.first().context("the server has no address")?;
    let stun = addresses
        .iter()
        .map(|ip| SocketAddr::new(*ip, DEFAULT_PORT));
    let mut config = StunServerConfig::default();
    config.host = host;
    let listen = SocketAddr::new(*first, COORDINATOR_PORT);
    let token_key = TokenKey::from_bytes([7; 32]);
    let ports = RendezvousPorts::bind(listen, &stun.collect::<Vec<_>>(), config, token_key)?;
    let mut config = ports.config(key);
    config.cluster = cluster.map(|it| it.as_bytes().to_vec());
    let rendezvous = ports.coordinate(config)?;
    let id = rendezvous.coordinator.server_id();
    let address = CoordinatorAddr::at(id, (*first, COORDINATOR_PORT).into());
    Ok((rendezvous, address))
}
