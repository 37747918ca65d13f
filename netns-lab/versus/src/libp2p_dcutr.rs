//! rust-libp2p's TCP hole punching as a program for a lab: a relay, a peer
//! that waits at it, and a peer that dials.
//!
//! It sets libp2p up as libp2p's own example `dcutr` does: one TCP listener on
//! a port of the kernel's choice whose port every outgoing connection reuses,
//! Noise, Yamux, and the observed address from the relay by identify. TCP is
//! the only transport, so that what is measured is TCP.
//!
//! ```text
//! libp2p-dcutr relay <IPv4 address> <port>     prints: relay <multiaddr>
//! libp2p-dcutr listen <multiaddr of the relay> prints: listening <peer id>
//! libp2p-dcutr dial <multiaddr of the relay> <peer id> <limit in seconds>
//! ```
//!
//! `dial` prints one line. With a direct connection it exits with 0:
//!
//! ```text
//! direct since_start_ms=824.1 since_relayed_ms=410.7 ping_ms=491.2
//! ```
//!
//! The first two end when the direct connection is authenticated and ready for
//! streams; `ping_ms` counts from the relayed connection as well and ends when a
//! ping over the direct connection has come back. Without one it prints
//! `failed <reason>` and exits with 1.

use std::collections::BTreeSet;
use std::error::Error;
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use libp2p::core::transport::TransportError;
use libp2p::futures::StreamExt as _;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{ConnectionId, DialError, NetworkBehaviour, SwarmEvent};
use libp2p::{
    Multiaddr, PeerId, Swarm, SwarmBuilder, dcutr, identify, noise, ping, relay, tcp, yamux,
};

/// What identify calls the protocol; libp2p gives it no meaning.
const PROTOCOL: &str = "/netns-lab-versus/1";

/// Longer than any measurement, so that no connection ends for being idle.
const IDLE: Duration = Duration::from_secs(300);

/// How often DCUtR dials before it gives up.
const DIALS: usize = 3;

/// How long the other peer's last dial may still take once ours have failed.
const LAST_WORD: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let start = Instant::now();
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["relay", address, port] => serve_relay(address.parse()?, port.parse()?).await,
        ["listen", relay] => listen(relay.parse()?).await,
        ["dial", relay, peer, limit] => {
            let (relay, peer) = (relay.parse()?, peer.parse()?);
            let limit = Duration::from_secs(limit.parse()?);
            let dialled = tokio::time::timeout(limit, dial(start, relay, peer)).await;
            match dialled.unwrap_or_else(|_| bail!("no direct connection within {limit:?}")) {
                Ok(line) => println!("{line}"),
                Err(error) => {
                    println!("failed {error:#}");
                    return Ok(ExitCode::FAILURE);
                }
            }
            Ok(ExitCode::SUCCESS)
        }
        _ => bail!("usage: relay ADDRESS PORT | listen RELAY | dial RELAY PEER SECONDS"),
    }
}

#[derive(NetworkBehaviour)]
struct RelayServer {
    relay: relay::Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
}

/// Serves as a relay until the program is killed.
async fn serve_relay(ip: Ipv4Addr, port: u16) -> Result<ExitCode> {
    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(transport(), noise::Config::new, yamux::Config::default)?
        .with_behaviour(|key| RelayServer {
            relay: relay::Behaviour::new(key.public().to_peer_id(), relay::Config::default()),
            identify: identify(key),
            ping: ping::Behaviour::default(),
        })?
        .with_swarm_config(|config| config.with_idle_connection_timeout(IDLE))
        .build();
    let address = Multiaddr::from(ip).with(Protocol::Tcp(port));
    // A relay hands out the addresses that it knows to be reachable, and
    // refuses reservations while it knows none.
    swarm.add_external_address(address.clone());
    swarm.listen_on(address.clone())?;
    let address = address.with(Protocol::P2p(*swarm.local_peer_id()));
    loop {
        if let SwarmEvent::NewListenAddr { .. } = swarm.select_next_some().await {
            println!("relay {address}");
        }
    }
}

#[derive(NetworkBehaviour)]
struct Peer {
    relay: relay::client::Behaviour,
    identify: identify::Behaviour,
    dcutr: dcutr::Behaviour,
    ping: ping::Behaviour,
}

/// Reserves a slot at the relay and answers whoever comes, until it is killed.
async fn listen(relay: Multiaddr) -> Result<ExitCode> {
    let mut swarm = ready_peer(&relay).await?;
    swarm.listen_on(relay.with(Protocol::P2pCircuit))?;
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::Behaviour(PeerEvent::Relay(
                relay::client::Event::ReservationReqAccepted { renewal: false, .. },
            )) => println!("listening {}", swarm.local_peer_id()),
            SwarmEvent::ListenerClosed {
                reason: Err(error), ..
            } => return Err(error).context("the relay refused the reservation"),
            _ => {}
        }
    }
}

/// Connects through the relay, waits for a direct connection, and says when it came.
async fn dial(start: Instant, relay: Multiaddr, peer: PeerId) -> Result<String> {
    let mut swarm = ready_peer(&relay).await?;
    swarm.dial(relay.with(Protocol::P2pCircuit).with(Protocol::P2p(peer)))?;
    let (mut relayed_at, mut direct_at) = (None, None);
    let mut direct: BTreeSet<ConnectionId> = BTreeSet::new();
    let mut errors = Vec::new();
    loop {
        let event = if errors.len() < DIALS {
            swarm.select_next_some().await
        } else {
            let last = tokio::time::timeout(LAST_WORD, swarm.select_next_some()).await;
            last.map_err(|_| anyhow!("{DIALS} dials: {}", errors.join(", ")))?
        };
        match event {
            SwarmEvent::ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                ..
            } if peer_id == peer => {
                if endpoint.is_relayed() {
                    relayed_at.get_or_insert_with(Instant::now);
                } else {
                    direct_at.get_or_insert_with(Instant::now);
                    direct.insert(connection_id);
                }
            }
            SwarmEvent::OutgoingConnectionError { peer_id, error, .. } if peer_id == Some(peer) => {
                if relayed_at.is_none() {
                    return Err(error).context("no relayed connection");
                }
                errors.push(cause(&error));
            }
            SwarmEvent::Behaviour(PeerEvent::Ping(ping::Event {
                connection,
                result: Ok(_),
                ..
            })) if direct.contains(&connection) => {
                let relayed_at = relayed_at.context("direct without a relayed connection")?;
                let direct_at = direct_at.context("a ping precedes its connection")?;
                return Ok(format!(
                    "direct since_start_ms={:.1} since_relayed_ms={:.1} ping_ms={:.1}",
                    milliseconds(direct_at - start),
                    milliseconds(direct_at - relayed_at),
                    milliseconds(relayed_at.elapsed()),
                ));
            }
            _ => {}
        }
    }
}

/// Returns a peer that listens, is connected to the relay and knows which
/// address the relay sees: DCUtR offers nothing else to the other peer.
async fn ready_peer(relay: &Multiaddr) -> Result<Swarm<Peer>> {
    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(transport(), noise::Config::new, yamux::Config::default)?
        .with_relay_client(noise::Config::new, yamux::Config::default)?
        .with_behaviour(|key, relay| Peer {
            relay,
            identify: identify(key),
            dcutr: dcutr::Behaviour::new(key.public().to_peer_id()),
            ping: ping::Behaviour::default(),
        })?
        .with_swarm_config(|config| config.with_idle_connection_timeout(IDLE))
        .build();
    swarm.listen_on(Multiaddr::from(Ipv4Addr::UNSPECIFIED).with(Protocol::Tcp(0)))?;
    // A connection made before the listener is known would not reuse its port.
    loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await
            && !is_loopback(&address)
        {
            break;
        }
    }
    swarm.dial(relay.clone())?;
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::NewExternalAddrCandidate { .. } => return Ok(swarm),
            SwarmEvent::OutgoingConnectionError { error, .. } => {
                return Err(error).context("the relay cannot be reached");
            }
            _ => {}
        }
    }
}

fn transport() -> tcp::Config {
    tcp::Config::default().nodelay(true)
}

fn identify(key: &libp2p::identity::Keypair) -> identify::Behaviour {
    identify::Behaviour::new(identify::Config::new(PROTOCOL.into(), key.public()))
}

fn is_loopback(address: &Multiaddr) -> bool {
    let first = address.iter().next();
    matches!(first, Some(Protocol::Ip4(ip)) if ip.is_loopback())
}

/// Returns what the last of the dialled addresses failed with.
fn cause(error: &DialError) -> String {
    let mut cause: &dyn Error = error;
    if let DialError::Transport(addresses) = error
        && let Some((_, TransportError::Other(error))) = addresses.last()
    {
        cause = error;
    }
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string().replace('\n', " ")
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
