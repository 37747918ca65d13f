//! The calls of the programs on a world's hosts.

use std::net::SocketAddr;
use std::time::Duration;

use super::World;
use crate::fabric::HostId;
use crate::virtual_time::host::Host;
use crate::virtual_time::ping::{Ping, Pong};
use crate::virtual_time::socket::{Accepted, Opening, SocketError, SocketId, SocketState};

/// Sockets. Calls never wait, and take no time.
impl World {
    /// Begins to connect, from a port that several sockets may share.
    ///
    /// # Errors
    ///
    /// [`SocketError::AddressNotAvailable`] if `local` is not an address of
    /// the host, or if there already is a connection between just these ends:
    /// one that a listener took, perhaps.
    pub fn connect(
        &mut self,
        host: HostId,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> Result<SocketId, SocketError> {
        let number = self.call(host, |host, now| host.connect(now, local, remote))?;
        Ok(SocketId { host, number })
    }

    /// Begins to accept connections on all addresses of the host.
    ///
    /// # Errors
    ///
    /// [`SocketError::AddressInUse`] if somebody listens there already.
    pub fn listen(&mut self, host: HostId, port: u16) -> Result<(), SocketError> {
        self.call(host, |host, _now| host.listen(port))
    }

    /// Closes a listener, if there is one; connections that have not been
    /// accepted are reset.
    pub fn unlisten(&mut self, host: HostId, port: u16) {
        let close = |host: &mut Host, now| {
            host.unlisten(now, port);
            Ok(())
        };
        // The call itself cannot fail.
        let _done = self.call(host, close);
    }

    /// Returns the oldest connection that a listener has and nobody took yet.
    pub fn accept(&mut self, host: HostId, port: u16) -> Option<Accepted> {
        let inner = self.hosts.get_mut(&host.0)?;
        let (number, local, remote) = inner.accept(port)?;
        let socket = SocketId { host, number };
        Some(Accepted {
            socket,
            local,
            remote,
        })
    }

    /// The same for all listeners of a host.
    pub(crate) fn accept_any(&mut self, host: HostId) -> Option<Accepted> {
        let inner = self.hosts.get_mut(&host.0)?;
        let (number, local, remote) = inner.accept_any()?;
        let socket = SocketId { host, number };
        Some(Accepted {
            socket,
            local,
            remote,
        })
    }

    /// Takes the sockets of a host that something may have happened to since
    /// the last call, some of which may be gone by now.
    pub(crate) fn take_changed(&mut self, host: HostId) -> Vec<SocketId> {
        let inner = self.hosts.get_mut(&host.0);
        let numbers = inner.map(Host::take_changed).unwrap_or_default();
        let sockets = numbers.into_iter();
        sockets.map(|number| SocketId { host, number }).collect()
    }

    /// Returns how far a socket has come.
    ///
    /// # Errors
    ///
    /// [`SocketError::UnknownSocket`] after [`World::close`] or [`World::abort`].
    pub fn state(&self, socket: SocketId) -> Result<SocketState, SocketError> {
        self.host(socket.host)?.state(socket.number)
    }

    /// Returns how a connection came about, and when it was established; or
    /// nothing if it never was.
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

    /// Sends as much of the data as there is room for, and returns how much
    /// that is, possibly nothing.
    ///
    /// # Errors
    ///
    /// [`SocketError::NotConnected`] before the connection is established and
    /// after [`World::shutdown`], [`SocketError::Failed`] after a failure.
    pub fn send(&mut self, socket: SocketId, data: &[u8]) -> Result<usize, SocketError> {
        let number = socket.number;
        self.call(socket.host, |host, now| host.send(now, number, data))
    }

    /// Takes data that has come in, and returns how much: nothing yet is
    /// `None`, the end of the stream is 0.
    ///
    /// # Errors
    ///
    /// [`SocketError::Failed`] when the connection has failed and all data
    /// that had come before is taken.
    pub fn recv(
        &mut self,
        socket: SocketId,
        buffer: &mut [u8],
    ) -> Result<Option<usize>, SocketError> {
        let number = socket.number;
        self.call(socket.host, |host, now| {
            host.receive_data(now, number, buffer)
        })
    }

    /// Ends our direction of the stream behind all that was sent; the other
    /// one goes on.
    ///
    /// # Errors
    ///
    /// [`SocketError::NotConnected`] before the connection is established.
    pub fn shutdown(&mut self, socket: SocketId) -> Result<(), SocketError> {
        let number = socket.number;
        self.call(socket.host, |host, now| host.shutdown(now, number))
    }

    /// Gives a socket up: with FIN, or with RST where data is unread, as Linux
    /// does. An attempt ends as with [`World::abort`].
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
        self.call(socket.host, |host, now| host.abort(now, number))
    }

    /// Sends an ICMP echo request, as the program `ping` does; hosts answer them as
    /// Linux does. [`World::take_pongs`] tells what has come of it.
    ///
    /// # Errors
    ///
    /// [`SocketError::AddressNotAvailable`] if the host has no address of the family,
    /// [`SocketError::MessageTooLong`] above 1,452 bytes of data.
    pub fn ping(&mut self, host: HostId, ping: Ping) -> Result<(), SocketError> {
        self.call(host, |host, _now| host.ping(ping))
    }

    /// Takes the answers to a host's pings since the last call, the last 1,024 at
    /// most.
    pub fn take_pongs(&mut self, host: HostId) -> Vec<Pong> {
        let inner = self.hosts.get_mut(&host.0);
        inner.map(Host::take_pongs).unwrap_or_default()
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
