//! The calls of the programs on a world's hosts.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use super::World;
use crate::{
    fabric::HostId,
    virtual_time::{
        host::Host,
        ping::{Ping, Pong},
        socket::{
            Accepted, Datagram, Opening, SocketError, SocketId, SocketState, TcpInfo, TcpOptions,
            Transmit,
        },
    },
};

/// TCP. Calls never wait, and take no time.
impl World {
    /// Begins to connect, from a port that several sockets may share.
    ///
    /// An unspecified address stands for [`World::source_address`], and port 0 for one that no TCP
    /// socket of the host has.
    ///
    /// # Errors
    ///
    /// [`SocketError::AddressNotAvailable`] if `local` is not an address of the host, or if there
    /// already is a connection between just these ends: one that a listener took, perhaps.
    pub fn connect(
        &mut self,
        host: HostId,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> Result<SocketId, SocketError> {
        self.connect_with(host, local, remote, TcpOptions::default())
    }

    /// Connects as [`World::connect`] does, with options.
    ///
    /// # Errors
    ///
    /// As [`World::connect`].
    pub fn connect_with(
        &mut self,
        host: HostId,
        local: SocketAddr,
        remote: SocketAddr,
        options: TcpOptions,
    ) -> Result<SocketId, SocketError> {
        let (local, remote) = (plain(local), plain(remote));
        self.open(host, |host, now| host.connect(now, local, remote, options))
    }

    /// Sets what all connections that a listener accepts from now on ask for, or the
    /// keep-alive of a connection, which has told the other end the rest already.
    ///
    /// # Errors
    ///
    /// [`SocketError::UnknownSocket`] after [`World::close`] or [`World::abort`].
    pub fn set_options(
        &mut self,
        socket: SocketId,
        options: TcpOptions,
    ) -> Result<(), SocketError> {
        let number = socket.number;
        self.call(socket.host, |host, now| {
            host.set_options(now, number, options)
        })
    }

    /// Begins to accept connections at all addresses of the host, of both families, and with the
    /// longest queue that there is.
    ///
    /// # Errors
    ///
    /// [`SocketError::AddressInUse`] if somebody listens there already.
    pub fn listen(&mut self, host: HostId, port: u16) -> Result<SocketId, SocketError> {
        self.open(host, |host, _now| host.listen(port))
    }

    /// Begins to accept connections at one address, or at all of a family where it is unspecified;
    /// port 0 stands for one that no TCP socket of the host has.
    ///
    /// A listener at one address hears what comes there before one at all addresses. Sockets that
    /// connect may share the port. Connections beyond `backlog` wait to be accepted at most one;
    /// what comes meanwhile is dropped.
    ///
    /// # Errors
    ///
    /// [`SocketError::AddressNotAvailable`] if the host has no such address,
    /// [`SocketError::AddressInUse`] if somebody listens there already.
    pub fn listen_on(
        &mut self,
        host: HostId,
        local: SocketAddr,
        backlog: usize,
    ) -> Result<SocketId, SocketError> {
        let local = plain(local);
        self.open(host, |host, _now| host.listen_on(local, backlog))
    }

    /// Has a listener not hear the SYNs of these ends, and of no others, any more; as a filter on
    /// the socket does (`SO_ATTACH_FILTER`).
    ///
    /// # Errors
    ///
    /// [`SocketError::UnknownSocket`] if there is no such listener.
    pub fn leave_out(
        &mut self,
        listener: SocketId,
        remotes: BTreeSet<SocketAddr>,
    ) -> Result<(), SocketError> {
        let number = listener.number;
        self.call(listener.host, |host, _now| host.leave_out(number, remotes))
    }

    /// Returns the oldest connection that a listener has and nobody took yet.
    pub fn accept(&mut self, listener: SocketId) -> Option<Accepted> {
        let host = self.hosts.get_mut(&listener.host.0)?;
        let number = host.accept(listener.number).ok()??;
        self.accepted(listener.host, number)
    }

    /// Returns a port that no TCP socket of a host has.
    ///
    /// # Errors
    ///
    /// [`SocketError::AddressInUse`] if there is none left.
    pub fn free_tcp_port(&mut self, host: HostId) -> Result<u16, SocketError> {
        self.call(host, |host, _now| host.free_tcp_port())
    }

    /// Returns whether no TCP socket of a host has a port at an address, or at any of a family if
    /// the address is unspecified. Connections that a listener has taken are no hindrance.
    pub fn is_tcp_end_free(&self, host: HostId, local: SocketAddr) -> bool {
        self.host(host)
            .is_ok_and(|host| host.is_tcp_end_free(local))
    }

    /// Returns how far a socket has come.
    ///
    /// # Errors
    ///
    /// [`SocketError::UnknownSocket`] after [`World::close`] or [`World::abort`].
    pub fn state(&self, socket: SocketId) -> Result<SocketState, SocketError> {
        self.host(socket.host)?.state(socket.number)
    }

    /// Returns how a connection came about, and when it was established; or nothing if it never
    /// was.
    ///
    /// # Errors
    ///
    /// [`SocketError::UnknownSocket`] after [`World::close`] or [`World::abort`].
    pub fn opened(&self, socket: SocketId) -> Result<Option<(Opening, Duration)>, SocketError> {
        self.host(socket.host)?.opened(socket.number)
    }

    /// Returns the local and the remote end of a socket.
    ///
    /// # Errors
    ///
    /// [`SocketError::UnknownSocket`] after [`World::close`] or [`World::abort`].
    pub fn ends(&self, socket: SocketId) -> Result<(SocketAddr, SocketAddr), SocketError> {
        self.host(socket.host)?.ends(socket.number)
    }

    /// Returns what is known of a connection beside that.
    ///
    /// # Errors
    ///
    /// [`SocketError::UnknownSocket`] after [`World::close`] or [`World::abort`].
    pub fn info(&self, socket: SocketId) -> Result<TcpInfo, SocketError> {
        self.host(socket.host)?.info(self.now(), socket.number)
    }

    /// Sends as much of the data as there is room for, and returns how much that is, possibly
    /// nothing.
    ///
    /// # Errors
    ///
    /// [`SocketError::NotConnected`] before the connection is established and after
    /// [`World::shutdown`], [`SocketError::Failed`] after a failure.
    pub fn send(&mut self, socket: SocketId, data: &[u8]) -> Result<usize, SocketError> {
        let number = socket.number;
        self.call(socket.host, |host, now| host.send(now, number, data))
    }

    /// Takes data that has come in, and returns how much: nothing yet is `None`, the end of the
    /// stream is 0.
    ///
    /// # Errors
    ///
    /// [`SocketError::Failed`] when the connection has failed and all data that had come before is
    /// taken.
    pub fn recv(
        &mut self,
        socket: SocketId,
        buffer: &mut [u8],
    ) -> Result<Option<usize>, SocketError> {
        let number = socket.number;
        self.call(socket.host, |host, _now| host.receive_data(number, buffer))
    }

    /// Copies data that has come in as [`World::recv`] does, and leaves it there.
    ///
    /// # Errors
    ///
    /// As [`World::recv`].
    pub fn peek(&self, socket: SocketId, buffer: &mut [u8]) -> Result<Option<usize>, SocketError> {
        self.host(socket.host)?.peek(socket.number, buffer)
    }

    /// Ends our direction of the stream behind all that was sent; the other one goes on.
    ///
    /// # Errors
    ///
    /// [`SocketError::NotConnected`] before the connection is established.
    pub fn shutdown(&mut self, socket: SocketId) -> Result<(), SocketError> {
        let number = socket.number;
        self.call(socket.host, |host, now| host.shutdown(now, number))
    }

    /// Gives a socket up: with FIN, or with RST where data is unread, as Linux does. An attempt
    /// ends as with [`World::abort`]; connections that a listener has and nobody took are reset.
    ///
    /// # Errors
    ///
    /// [`SocketError::UnknownSocket`] if that was done before.
    pub fn close(&mut self, socket: SocketId) -> Result<(), SocketError> {
        let number = socket.number;
        self.call(socket.host, |host, now| host.close(now, number))
    }

    /// Gives a socket up with RST (`SO_LINGER` 0); in SYN-SENT without a word.
    ///
    /// # Errors
    ///
    /// [`SocketError::UnknownSocket`] if that was done before.
    pub fn abort(&mut self, socket: SocketId) -> Result<(), SocketError> {
        let number = socket.number;
        self.call(socket.host, |host, _now| host.abort(number))
    }
}

/// UDP.
impl World {
    /// Opens a UDP socket at one address, or at all of a family where it is unspecified; port 0
    /// stands for one that is free.
    ///
    /// # Errors
    ///
    /// [`SocketError::AddressNotAvailable`] if the host has no such address,
    /// [`SocketError::AddressInUse`] if another UDP socket hears what comes there.
    pub fn bind_udp(&mut self, host: HostId, local: SocketAddr) -> Result<SocketId, SocketError> {
        let local = plain(local);
        self.open(host, |host, _now| host.bind_udp(local))
    }

    /// Has a UDP socket hear one end alone from now on, and of the ICMP errors about what it sends
    /// there.
    ///
    /// # Errors
    ///
    /// [`SocketError::NetworkUnreachable`] if the host cannot send there.
    pub fn connect_udp(&mut self, socket: SocketId, remote: SocketAddr) -> Result<(), SocketError> {
        let (number, remote) = (socket.number, plain(remote));
        self.call(socket.host, |host, _now| host.connect_udp(number, remote))
    }

    /// Sends a datagram.
    ///
    /// # Errors
    ///
    /// - [`SocketError::MessageTooLong`] if it does not fit into a packet of 1,500 bytes.
    /// - [`SocketError::NetworkUnreachable`] if the host has no address of the family, or not the
    ///   one any more that the socket is bound to.
    /// - [`SocketError::AddressNotAvailable`] if it asks for a source that the host does not have,
    ///   or for another family.
    /// - [`SocketError::Failed`] once for an ICMP error that came before.
    pub fn send_to(
        &mut self,
        socket: SocketId,
        transmit: &Transmit<'_>,
    ) -> Result<(), SocketError> {
        let destination = plain(transmit.destination);
        let transmit = Transmit {
            destination,
            ..*transmit
        };
        let number = socket.number;
        self.call(socket.host, |host, _now| host.send_to(number, &transmit))
    }

    /// Takes the oldest datagram that has come, if any.
    ///
    /// # Errors
    ///
    /// [`SocketError::Failed`] once for an ICMP error that came before.
    pub fn recv_from(&mut self, socket: SocketId) -> Result<Option<Datagram>, SocketError> {
        let number = socket.number;
        self.call(socket.host, |host, _now| host.recv_from(number))
    }

    /// Returns how many datagrams came to a UDP socket while its queue was full.
    ///
    /// # Errors
    ///
    /// [`SocketError::UnknownSocket`] if there is no such UDP socket.
    pub fn dropped(&self, socket: SocketId) -> Result<u64, SocketError> {
        self.host(socket.host)?.dropped(socket.number)
    }
}

/// Sockets of any kind, and what needs none.
impl World {
    /// Returns how many sockets the programs of a host have opened, or accepted, and not
    /// closed. What the host keeps of a closed one, as in TIME-WAIT, does not count.
    pub fn open_sockets(&self, host: HostId) -> usize {
        self.hosts.get(&host.0).map_or(0, Host::open_sockets)
    }

    /// Takes the sockets that something has happened to since the last call, by which their
    /// programs may do what they could not do before. What programs do themselves does not count.
    /// Some of them may be gone by now.
    ///
    /// Sockets come in the order of their hosts, and then in that in which they were opened.
    pub fn take_changed(&mut self) -> Vec<SocketId> {
        std::mem::take(&mut self.changed).into_iter().collect()
    }

    /// Returns the local end of a socket of any kind; of a listener at all addresses of both
    /// families the one of IPv4.
    ///
    /// # Errors
    ///
    /// [`SocketError::UnknownSocket`] after [`World::close`] or [`World::abort`].
    pub fn local_end(&self, socket: SocketId) -> Result<SocketAddr, SocketError> {
        self.host(socket.host)?.local_end(socket.number)
    }

    /// Returns the address that packets of a host come from where their socket is bound to none: of
    /// those of the destination's family the first of its scope (link-local, or of IPv6 unique
    /// local), or else the first. The source of what a host sends to itself is the destination, or
    /// 127.0.0.1 on the loopback of IPv4.
    pub fn source_address(&self, host: HostId, destination: IpAddr) -> Option<IpAddr> {
        self.host(host).ok()?.source_for(destination)
    }

    /// Sends an ICMP echo request, as the program `ping` does; hosts answer them as Linux does.
    /// [`World::take_pongs`] tells what has come of it.
    ///
    /// # Errors
    ///
    /// [`SocketError::AddressNotAvailable`] if the host has no address of the family,
    /// [`SocketError::MessageTooLong`] above 1,452 bytes of data.
    pub fn ping(&mut self, host: HostId, ping: Ping) -> Result<(), SocketError> {
        self.call(host, |host, _now| host.ping(ping))
    }

    /// Takes the answers to a host's pings since the last call, the last 1,024 at most.
    pub fn take_pongs(&mut self, host: HostId) -> Vec<Pong> {
        let inner = self.hosts.get_mut(&host.0);
        inner.map(Host::take_pongs).unwrap_or_default()
    }

    fn accepted(&self, host: HostId, number: u64) -> Option<Accepted> {
        let socket = SocketId { host, number };
        let (local, remote) = self.ends(socket).ok()?;
        Some(Accepted {
            socket,
            local,
            remote,
        })
    }

    /// Opens a socket by a call.
    fn open(
        &mut self,
        host: HostId,
        call: impl FnOnce(&mut Host, Duration) -> Result<u64, SocketError>,
    ) -> Result<SocketId, SocketError> {
        let number = self.call(host, call)?;
        Ok(SocketId { host, number })
    }

    fn host(&self, id: HostId) -> Result<&Host, SocketError> {
        // The id may be of another world.
        self.hosts.get(&id.0).ok_or(SocketError::UnknownSocket)
    }

    /// Makes a call on a host, and sends what it sends in consequence.
    fn call<T>(
        &mut self,
        id: HostId,
        call: impl FnOnce(&mut Host, Duration) -> Result<T, SocketError>,
    ) -> Result<T, SocketError> {
        let now = self.now();
        let Some(host) = self.hosts.get_mut(&id.0) else {
            return Err(SocketError::UnknownSocket);
        };
        let result = call(host, now);
        self.flush(id.0);
        result
    }
}

/// Returns an end without a zone: hosts have one interface.
const fn plain(end: SocketAddr) -> SocketAddr {
    SocketAddr::new(end.ip(), end.port())
}
