//! Connections back to a client, which show what the NATs in front of it let in.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use p2pconnect_host::{Host, Sharing};
use p2pconnect_proto::{BackFrom, BackOutcome, ConnectBack};
use tokio::time::timeout;

/// The longest that a client may have the server wait.
const MAX_PATIENCE: Duration = Duration::from_secs(2);

/// Connects to a client from other ports than that of the connection that it came by: from the same
/// address, and from the first other one of these.
///
/// What fails on this side tells nothing and is left out.
pub(super) async fn connect_back(
    host: &Host,
    local: SocketAddr,
    remote: SocketAddr,
    addresses: &[IpAddr],
    patience: Duration,
) -> Vec<ConnectBack> {
    let patience = patience.min(MAX_PATIENCE);
    let here = local.ip().to_canonical();
    let is_other = |it: &&IpAddr| **it != here && it.is_ipv4() == remote.is_ipv4();
    let there = addresses.iter().find(is_other).copied();
    let from_there = async { attempt(host, there?, remote, patience).await };
    let (port, address) = tokio::join!(attempt(host, here, remote, patience), from_there);
    let backs = [
        (BackFrom::OtherPort, port),
        (BackFrom::OtherAddress, address),
    ];
    let known =
        |(from, outcome): (_, Option<_>)| outcome.map(|outcome| ConnectBack { from, outcome });
    backs.into_iter().filter_map(known).collect()
}

async fn attempt(
    host: &Host,
    from: IpAddr,
    remote: SocketAddr,
    patience: Duration,
) -> Option<BackOutcome> {
    let socket = host.tcp_socket((from, 0).into(), Sharing::Exclusive).ok()?;
    let connecting = timeout(patience, socket.connect(remote)).await;
    match connecting {
        Err(_) => Some(BackOutcome::Silent),
        Ok(Ok(stream)) => {
            if let Err(error) = stream.reset_on_close() {
                tracing::debug!(%error, "a connection back leaves a trace");
            }
            Some(BackOutcome::Connected)
        }
        Ok(Err(error)) => outcome(&error),
    }
}

/// As with any program, ICMP "port unreachable" looks like a reset.
fn outcome(error: &io::Error) -> Option<BackOutcome> {
    match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => {
            Some(BackOutcome::Reset)
        }
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            Some(BackOutcome::Icmp)
        }
        io::ErrorKind::TimedOut => Some(BackOutcome::Silent),
        _ => None,
    }
}
