//! rust-libp2p's TCP hole punching as a program for a lab: a relay, a peer that waits at it, and a
//! peer that dials.
//!
//! It sets libp2p up as libp2p's own example `dcutr` does: one TCP listener on a port of the
//! kernel's choice whose port every outgoing connection reuses, Noise, Yamux, and the observed
//! address from the relay by identify. TCP is the only transport, so that what is measured is TCP.
//!
//! Its time is counted to the direct connection, authenticated and ready for streams; the stream
//! over it is opened without a round trip.

use std::{
    collections::BTreeSet,
    error::Error,
    net::{Ipv4Addr, SocketAddr},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder,
    core::transport::TransportError,
    dcutr,
    futures::StreamExt as _,
    identify,
    multiaddr::Protocol,
    noise, ping, relay,
    swarm::{ConnectionId, DialError, NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};
use libp2p_stream::Control;
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt as _};
use versus::{Arrival, Dial, Role, Stopwatch, announce};

/// What identify calls the protocol; libp2p gives it no meaning.
const PROTOCOL: &str = "/netns-lab-versus/1";

/// The protocol of the stream that is measured.
const BULK: StreamProtocol = StreamProtocol::new("/netns-lab-versus/bulk/1");

/// Longer than any measurement, so that no connection ends for being idle.
const IDLE: Duration = Duration::from_secs(300);

/// How often DCUtR dials before it gives up.
const DIALS: usize = 3;

/// How long the other peer's last dial may still take once ours have failed.
const LAST_WORD: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let stopwatch = Stopwatch::start();
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    match Role::from_arguments()? {
        Role::Serve(address) => serve_relay(address).await,
        Role::Listen(relay) => listen(stopwatch, relay.parse()?).await,
        Role::Dial(dial) => Ok(Stopwatch::report(&dial, connect(stopwatch, &dial)).await),
    }
}

#[derive(NetworkBehaviour)]
struct RelayServer {
    relay: relay::Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
}

/// Serves as a relay until the program is killed.
async fn serve_relay(address: SocketAddr) -> Result<ExitCode> {
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
    let address = Multiaddr::from(address.ip()).with(Protocol::Tcp(address.port()));
    // A relay hands out the addresses that it knows to be reachable, and refuses reservations while
    // it knows none.
    swarm.add_external_address(address.clone());
    swarm.listen_on(address.clone())?;
    let address = address.with(Protocol::P2p(*swarm.local_peer_id()));
    loop {
        if let SwarmEvent::NewListenAddr { .. } = swarm.select_next_some().await {
            announce(&address);
        }
    }
}

#[derive(NetworkBehaviour)]
struct Peer {
    relay: relay::client::Behaviour,
    identify: identify::Behaviour,
    dcutr: dcutr::Behaviour,
    ping: ping::Behaviour,
    stream: libp2p_stream::Behaviour,
}

/// Reserves a slot at the relay and answers whoever comes, until it is killed.
async fn listen(mut stopwatch: Stopwatch, relay: Multiaddr) -> Result<ExitCode> {
    let mut swarm = ready_peer(&relay).await?;
    swarm.listen_on(relay.with(Protocol::P2pCircuit))?;
    let mut streams = swarm.behaviour().stream.new_control().accept(BULK)?;
    loop {
        tokio::select! {
            event = swarm.select_next_some() => match event {
                SwarmEvent::Behaviour(PeerEvent::Relay(
                    relay::client::Event::ReservationReqAccepted { renewal: false, .. },
                )) => {
                    stopwatch.ready();
                    announce(swarm.local_peer_id());
                }
                SwarmEvent::ListenerClosed {
                    reason: Err(error), ..
                } => return Err(error).context("the relay refused the reservation"),
                _ => {}
            },
            stream = streams.next() => {
                let (_, stream) = stream.context("no more streams")?;
                // A stream that its dialler gives up is the dialler's to report.
                tokio::spawn(async move { stopwatch.serve(stream.compat()).await.ok() });
            }
        }
    }
}

/// Connects through the relay, waits for a direct connection, and opens a stream over it.
async fn connect(
    mut stopwatch: Stopwatch,
    dial: &Dial,
) -> Result<(Arrival, Compat<libp2p::Stream>)> {
    let (relay, peer): (Multiaddr, PeerId) = (dial.server.parse()?, dial.peer.parse()?);
    let mut swarm = ready_peer(&relay).await?;
    let control = swarm.behaviour().stream.new_control();
    stopwatch.ready();
    let (arrival, relayed) = direct(&mut swarm, stopwatch, relay, peer).await?;
    // The stream could be opened over any connection with the peer.
    for connection in relayed {
        swarm.close_connection(connection);
    }
    let stream = open(&mut swarm, control, peer).await?;
    // The connection lives only as long as somebody attends to it.
    tokio::spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    });
    Ok((arrival, stream.compat()))
}

async fn open(
    swarm: &mut Swarm<Peer>,
    mut control: Control,
    peer: PeerId,
) -> Result<libp2p::Stream> {
    let mut open_relayed = swarm.network_info().connection_counters().num_established();
    // The relay's own, and the direct one.
    while open_relayed > 2 {
        if let SwarmEvent::ConnectionClosed { .. } = swarm.select_next_some().await {
            open_relayed -= 1;
        }
    }
    let opening = control.open_stream(peer, BULK);
    tokio::pin!(opening);
    loop {
        tokio::select! {
            stream = &mut opening => return Ok(stream?),
            _ = swarm.select_next_some() => {}
        }
    }
}

/// Connects through the relay and waits for a direct connection.
///
/// Returns the relayed connections as well.
async fn direct(
    swarm: &mut Swarm<Peer>,
    stopwatch: Stopwatch,
    relay: Multiaddr,
    peer: PeerId,
) -> Result<(Arrival, BTreeSet<ConnectionId>)> {
    swarm.dial(relay.with(Protocol::P2pCircuit).with(Protocol::P2p(peer)))?;
    let mut relayed = BTreeSet::new();
    let mut relayed_at = None;
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
                    relayed.insert(connection_id);
                    relayed_at.get_or_insert_with(Instant::now);
                } else {
                    let mut arrival = stopwatch.arrived();
                    if let Some(at) = relayed_at {
                        arrival.add("relayed_ms", at.elapsed());
                    }
                    return Ok((arrival, relayed));
                }
            }
            SwarmEvent::OutgoingConnectionError { peer_id, error, .. } if peer_id == Some(peer) => {
                if relayed_at.is_none() {
                    return Err(error).context("no relayed connection");
                }
                errors.push(cause(&error));
            }
            _ => {}
        }
    }
}

/// Returns a peer that listens, is connected to the relay and knows which address the relay sees:
/// DCUtR offers nothing else to the other peer.
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
            stream: libp2p_stream::Behaviour::new(),
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
