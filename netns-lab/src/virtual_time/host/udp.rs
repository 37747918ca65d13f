//! UDP sockets of a host.

use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use smoltcp::wire::{IPV4_HEADER_LEN, IPV6_HEADER_LEN, UDP_HEADER_LEN};

use super::icmp;
use crate::{
    packet::{Flow, Icmp},
    virtual_time::{
        socket::{Datagram, Failure, SocketError},
        tcp::MTU,
    },
};

/// Bytes that may wait in a socket: Linux's `net.core.rmem_default`.
const RECEIVE_BUFFER: usize = 212_992;

/// What Linux counts for a datagram beside its bytes: most of the buffer that a network card
/// receives it into.
const OVERHEAD: usize = 768;

/// The UDP sockets of a host.
#[derive(Debug, Default)]
pub(super) struct DatagramSockets {
    sockets: BTreeMap<u64, DatagramSocket>,
    /// Whose the incoming datagrams are.
    bound: BTreeMap<(u16, IpAddr), u64>,
}

#[derive(Debug)]
pub(super) struct DatagramSocket {
    pub(super) local: SocketAddr,
    /// The only one that it hears of, if it is connected.
    pub(super) remote: Option<SocketAddr>,
    queue: VecDeque<Datagram>,
    /// What the queue counts for.
    queued: usize,
    dropped: u64,
    failure: Option<Failure>,
}

/// What became of a datagram that came to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Receipt {
    Queued(u64),
    QueueFull,
    NoSocket,
}

impl DatagramSockets {
    /// Returns whether no socket has a port at an address, or at any where the address is
    /// unspecified.
    pub(super) fn is_free(&self, address: IpAddr, port: u16) -> bool {
        let least = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let most = IpAddr::V6(Ipv6Addr::from_bits(u128::MAX));
        let mut there = self.bound.range((port, least)..=(port, most));
        !there.any(|((_, other), _)| {
            other.is_ipv4() == address.is_ipv4()
                && (*other == address || other.is_unspecified() || address.is_unspecified())
        })
    }

    pub(super) fn insert(&mut self, number: u64, local: SocketAddr) {
        self.bound.insert((local.port(), local.ip()), number);
        let socket = DatagramSocket {
            local,
            remote: None,
            queue: VecDeque::new(),
            queued: 0,
            dropped: 0,
            failure: None,
        };
        self.sockets.insert(number, socket);
    }

    /// Closes a socket; returns whether there was one.
    pub(super) fn remove(&mut self, number: u64) -> bool {
        let Some(socket) = self.sockets.remove(&number) else {
            return false;
        };
        self.bound.remove(&(socket.local.port(), socket.local.ip()));
        true
    }

    pub(super) fn numbers(&self) -> impl Iterator<Item = &u64> {
        self.sockets.keys()
    }

    pub(super) fn get(&self, number: u64) -> Result<&DatagramSocket, SocketError> {
        self.sockets.get(&number).ok_or(SocketError::UnknownSocket)
    }

    pub(super) fn get_mut(&mut self, number: u64) -> Result<&mut DatagramSocket, SocketError> {
        let socket = self.sockets.get_mut(&number);
        socket.ok_or(SocketError::UnknownSocket)
    }

    /// Sets the only end that a socket hears of from now on, and the address that it is reached at.
    pub(super) fn connect(
        &mut self,
        number: u64,
        source: IpAddr,
        remote: SocketAddr,
    ) -> Result<(), SocketError> {
        let socket = self.get_mut(number)?;
        let before = socket.local;
        socket.local.set_ip(source);
        socket.remote = Some(remote);
        let local = socket.local;
        self.bound.remove(&(before.port(), before.ip()));
        self.bound.insert((local.port(), local.ip()), number);
        Ok(())
    }

    /// Puts a datagram into the queue of the socket that it is for.
    pub(super) fn receive(&mut self, datagram: Datagram) -> Receipt {
        let (local, remote) = (datagram.destination, datagram.source);
        let Some((number, socket)) = self.socket_between(local, remote) else {
            return Receipt::NoSocket;
        };
        let size = datagram.payload.len() + OVERHEAD;
        if socket.queued + size > RECEIVE_BUFFER {
            socket.dropped += 1;
            return Receipt::QueueFull;
        }
        socket.queued += size;
        socket.queue.push_back(datagram);
        Receipt::Queued(number)
    }

    /// Takes an ICMP error about a datagram of ours, and returns whom it was told.
    ///
    /// Linux tells connected sockets alone, and these of lasting errors only, as long as a program
    /// does not ask for more (`IP_RECVERR`).
    pub(super) fn receive_error(&mut self, error: &Icmp, about: &Flow) -> Option<u64> {
        let (number, socket) = self.socket_between(about.source, about.destination)?;
        socket.remote?;
        let ipv4 = about.source.is_ipv4();
        let meaning = icmp::meaning(error, ipv4).filter(|_| icmp::is_lasting(error, ipv4));
        let (failure, _) = meaning?;
        socket.failure = Some(failure);
        Some(number)
    }

    /// Returns the socket that hears what comes to a local end from a remote one.
    fn socket_between(
        &mut self,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> Option<(u64, &mut DatagramSocket)> {
        let hears = |socket: &DatagramSocket| socket.remote.is_none_or(|only| only == remote);
        let places = [local.ip(), unspecified(local.ip())];
        let mut numbers = places.into_iter().filter_map(|address| {
            let number = self.bound.get(&(local.port(), address))?;
            let socket = self.sockets.get(number)?;
            hears(socket).then_some(*number)
        });
        let number = numbers.next()?;
        let socket = self.sockets.get_mut(&number)?;
        Some((number, socket))
    }
}

impl DatagramSocket {
    /// Takes the oldest datagram, or the error that was told before.
    pub(super) fn take(&mut self) -> Result<Option<Datagram>, SocketError> {
        if let Some(failure) = self.failure.take() {
            return Err(failure.into());
        }
        let datagram = self.queue.pop_front();
        if let Some(datagram) = &datagram {
            self.queued -= datagram.payload.len() + OVERHEAD;
        }
        Ok(datagram)
    }

    /// Takes the error that was told.
    pub(super) const fn take_failure(&mut self) -> Option<Failure> {
        self.failure.take()
    }

    /// Returns how many datagrams came while the queue was full.
    pub(super) const fn dropped(&self) -> u64 {
        self.dropped
    }
}

/// Returns the address that stands for every one of its family.
pub(super) const fn unspecified(family_of: IpAddr) -> IpAddr {
    match family_of {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

/// Returns the most bytes that a datagram between addresses of a family carries in one packet.
pub(super) const fn largest_payload(family_of: IpAddr) -> usize {
    MTU as usize
        - UDP_HEADER_LEN
        - match family_of {
            IpAddr::V4(_) => IPV4_HEADER_LEN,
            IpAddr::V6(_) => IPV6_HEADER_LEN,
        }
}
