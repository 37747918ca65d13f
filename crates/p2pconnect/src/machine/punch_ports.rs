//! Finds the punch ports of an endpoint, and listens on them.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
};

use p2pconnect_host::{Host, Sharing, Shortage, TcpListener};
use p2pconnect_proto::PunchPort;

/// The punch ports of an endpoint: the first is used, the second stands by.
pub(crate) const PUNCH_PORTS: [PunchPort; 2] = [PunchPort::PRIMARY, PunchPort::SPARE];

/// Connections that wait in the kernel to be accepted; strangers are dropped beyond a few anyway.
const BACKLOG: u32 = 64;

/// How often binding is tried when somebody else takes a port between choosing and binding it.
const ATTEMPTS: usize = 8;

/// The local ports that an endpoint punches from, each with its listeners.
///
/// The kernel picks them anew for each endpoint: a fixed port would run into connections of the
/// previous run that linger in TIME-WAIT, here or in a NAT.
#[derive(Debug, Clone)]
pub(crate) struct PunchPorts([u16; PUNCH_PORTS.len()]);

impl PunchPorts {
    /// Binds the ports and returns their listeners, for IPv4 and, where there is IPv6, for it too.
    pub(crate) fn open(host: &Host) -> io::Result<(Self, Vec<TcpListener>)> {
        let mut ports = [0; PUNCH_PORTS.len()];
        let mut listeners = Vec::new();
        for port in &mut ports {
            let (number, bound) = open_one(host)?;
            *port = number;
            listeners.extend(bound);
        }
        Ok((Self(ports), listeners))
    }

    /// Returns the number of a punch port and the port itself, for each.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (PunchPort, u16)> {
        PUNCH_PORTS.into_iter().zip(self.0)
    }
}

fn open_one(host: &Host) -> io::Result<(u16, Vec<TcpListener>)> {
    let mut last = None;
    for _ in 0..ATTEMPTS {
        match free_port(host).and_then(|port| Ok((port, listeners(host, port)?))) {
            Ok(found) => return Ok(found),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::ErrorKind::AddrInUse.into()))
}

/// Returns a port that nobody uses.
///
/// Port reuse alone would share a port with another process of the same user without a word, so
/// the kernel is asked for a free one first.
pub(crate) fn free_port(host: &Host) -> io::Result<u16> {
    let any = (Ipv4Addr::UNSPECIFIED, 0).into();
    let socket = host.tcp_socket(any, Sharing::Exclusive)?;
    Ok(socket.local_addr()?.port())
}

fn listeners(host: &Host, port: u16) -> io::Result<Vec<TcpListener>> {
    let any = [
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
    ];
    let v4 = host.shared_listener(any[0], BACKLOG)?;
    match host.shared_listener(any[1], BACKLOG) {
        Ok(v6) => Ok(vec![v4, v6]),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(error),
        Err(error) if Shortage::of(&error).is_some() => Err(error),
        // Many machines have IPv6 switched off.
        Err(error) => {
            tracing::debug!(%error, "no IPv6 here");
            Ok(vec![v4])
        }
    }
}
