//! The calls of a host's programs on TCP sockets.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::connection::{Connection, Flow, Keeper};
use super::{Host, listeners::MAX_BACKLOG};
use crate::virtual_time::socket::{Opening, SocketError, SocketState};

impl Host {
    /// Begins to connect.
    pub(in crate::virtual_time) fn connect(
        &mut self,
        now: Duration,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> Result<u64, SocketError> {
        let local = self.tcp_local(local, remote.ip())?;
        let flow = Flow { local, remote };
        if self.flows.contains_key(&flow) {
            return Err(SocketError::AddressNotAvailable);
        }
        let mut connection = Connection::new(flow, Opening::Active, Keeper::Program);
        if !connection.connect(now, &mut self.stack) {
            return Err(SocketError::AddressNotAvailable);
        }
        let number = self.new_number();
        self.insert(number, connection);
        self.changed.insert(number);
        self.settle(now, number);
        Ok(number)
    }

    /// Returns the end that an attempt is made from.
    fn tcp_local(&mut self, local: SocketAddr, remote: IpAddr) -> Result<SocketAddr, SocketError> {
        if !self.addresses.can_bind(local.ip()) {
            return Err(SocketError::AddressNotAvailable);
        }
        let address = self.addresses.bound_source(local.ip(), remote)?;
        let port = match local.port() {
            0 => self.free_tcp_port()?,
            port => port,
        };
        Ok(SocketAddr::new(address, port))
    }

    /// Returns a port that no TCP socket of the host has.
    pub(in crate::virtual_time) fn free_tcp_port(&mut self) -> Result<u16, SocketError> {
        let ports = &self.tcp_ports;
        let free = self.ephemeral.choose(|port| !ports.contains_key(&port));
        free.ok_or(SocketError::AddressInUse)
    }

    pub(in crate::virtual_time) fn is_tcp_port_free(&self, port: u16) -> bool {
        !self.tcp_ports.contains_key(&port)
    }

    /// Listens at all addresses of both families.
    pub(in crate::virtual_time) fn listen(&mut self, port: u16) -> Result<u64, SocketError> {
        let any: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        self.listen_at(&any, port, MAX_BACKLOG)
    }

    /// Listens at one address, or all of its family.
    pub(in crate::virtual_time) fn listen_on(
        &mut self,
        local: SocketAddr,
        backlog: usize,
    ) -> Result<u64, SocketError> {
        if !self.addresses.can_bind(local.ip()) {
            return Err(SocketError::AddressNotAvailable);
        }
        self.listen_at(&[local.ip()], local.port(), backlog)
    }

    fn listen_at(
        &mut self,
        addresses: &[IpAddr],
        port: u16,
        backlog: usize,
    ) -> Result<u64, SocketError> {
        let port = match port {
            0 => self.free_tcp_port()?,
            port => port,
        };
        let at = |address: &IpAddr| SocketAddr::new(*address, port);
        let locals: Vec<_> = addresses.iter().map(at).collect();
        let number = self.new_number();
        self.listeners.insert(number, &locals, backlog)?;
        self.use_tcp_port(port);
        Ok(number)
    }

    /// Has a listener not hear the SYNs of some ends, which are dropped.
    pub(in crate::virtual_time) fn leave_out(
        &mut self,
        listener: u64,
        remotes: BTreeSet<SocketAddr>,
    ) -> Result<(), SocketError> {
        self.listeners.get_mut(listener)?.leave_out(remotes);
        Ok(())
    }

    /// Closes a listener; what it has not handed out is reset.
    fn unlisten(&mut self, now: Duration, listener: u64) -> Result<(), SocketError> {
        let local = self.listeners.get(listener)?.local();
        let kept = self.listeners.remove(listener).unwrap_or_default();
        if let Some(local) = local {
            self.leave_tcp_port(local.port());
        }
        for number in kept {
            // It is there: a listener keeps it.
            let _found = self.abort(now, number);
        }
        Ok(())
    }

    /// Takes the oldest connection out of a listener's queue.
    pub(in crate::virtual_time) fn accept(
        &mut self,
        listener: u64,
    ) -> Result<Option<u64>, SocketError> {
        let taken = self.listeners.get_mut(listener)?.accept();
        if let Some(connection) = taken.and_then(|number| self.connections.get_mut(&number)) {
            connection.keeper = Keeper::Program;
        }
        Ok(taken)
    }

    /// Takes the oldest connection out of the queue of some listener.
    pub(in crate::virtual_time) fn accept_any(&mut self) -> Option<u64> {
        let listener = self.listeners.with_queue()?;
        self.accept(listener).ok().flatten()
    }

    /// Returns the local end of a socket of any kind.
    pub(in crate::virtual_time) fn local_end(
        &self,
        number: u64,
    ) -> Result<SocketAddr, SocketError> {
        if let Ok(socket) = self.udp.get(number) {
            return Ok(socket.local);
        }
        if let Ok(listener) = self.listeners.get(number) {
            return listener.local().ok_or(SocketError::UnknownSocket);
        }
        Ok(self.get(number)?.flow.local)
    }

    pub(in crate::virtual_time) fn state(&self, number: u64) -> Result<SocketState, SocketError> {
        Ok(self.get(number)?.state())
    }

    /// Returns how the connection came about and when, if it did.
    pub(in crate::virtual_time) fn opened(
        &self,
        number: u64,
    ) -> Result<Option<(Opening, Duration)>, SocketError> {
        let connection = self.get(number)?;
        Ok(connection.established.map(|at| (connection.opening, at)))
    }

    pub(in crate::virtual_time) fn ends(
        &self,
        number: u64,
    ) -> Result<(SocketAddr, SocketAddr), SocketError> {
        let flow = self.get(number)?.flow;
        Ok((flow.local, flow.remote))
    }

    pub(in crate::virtual_time) fn send(
        &mut self,
        now: Duration,
        number: u64,
        data: &[u8],
    ) -> Result<usize, SocketError> {
        let connection = self.get_mut(number)?;
        if let SocketState::Failed(failure) = connection.state() {
            return Err(failure.into());
        }
        if connection.established.is_none() {
            return Err(SocketError::NotConnected);
        }
        let sent = connection.tcp().send_slice(data);
        self.settle(now, number);
        sent.map_err(|_closed| SocketError::NotConnected)
    }

    /// Takes data that has come in: none yet is `None`, the end is 0.
    pub(in crate::virtual_time) fn receive_data(
        &mut self,
        now: Duration,
        number: u64,
        buffer: &mut [u8],
    ) -> Result<Option<usize>, SocketError> {
        let connection = self.get_mut(number)?;
        let state = connection.state();
        let socket = connection.tcp();
        if socket.can_recv() {
            let taken = socket.recv_slice(buffer).unwrap_or(0);
            // The other end may have waited for room.
            self.settle(now, number);
            return Ok(Some(taken));
        }
        match state {
            SocketState::Failed(failure) => Err(failure.into()),
            SocketState::Connecting => Ok(None),
            SocketState::Connected if socket.may_recv() => Ok(None),
            SocketState::Connected | SocketState::Closed => Ok(Some(0)),
        }
    }

    /// Ends our direction with FIN.
    pub(in crate::virtual_time) fn shutdown(
        &mut self,
        now: Duration,
        number: u64,
    ) -> Result<(), SocketError> {
        let connection = self.get_mut(number)?;
        match connection.state() {
            SocketState::Failed(failure) => return Err(failure.into()),
            SocketState::Connecting => return Err(SocketError::NotConnected),
            SocketState::Connected | SocketState::Closed => connection.tcp().close(),
        }
        self.settle(now, number);
        Ok(())
    }

    /// Gives a socket up, politely where that is possible.
    pub(in crate::virtual_time) fn close(
        &mut self,
        now: Duration,
        number: u64,
    ) -> Result<(), SocketError> {
        if self.udp.remove(number) {
            return Ok(());
        }
        if self.listeners.get(number).is_ok() {
            return self.unlisten(now, number);
        }
        let connection = self.get_mut(number)?;
        let unread = connection.tcp().recv_queue() > 0;
        if unread || connection.established.is_none() {
            return self.abort(now, number);
        }
        connection.released = true;
        connection.tcp().close();
        self.settle(now, number);
        Ok(())
    }

    /// Gives a socket up at once.
    pub(in crate::virtual_time) fn abort(
        &mut self,
        now: Duration,
        number: u64,
    ) -> Result<(), SocketError> {
        let Ok(connection) = self.get_mut(number) else {
            return self.close(now, number);
        };
        connection.released = true;
        connection.abort();
        self.settle(now, number);
        Ok(())
    }

    fn get(&self, number: u64) -> Result<&Connection, SocketError> {
        let connection = self.connections.get(&number);
        connection
            .filter(|connection| !connection.released)
            .ok_or(SocketError::UnknownSocket)
    }

    fn get_mut(&mut self, number: u64) -> Result<&mut Connection, SocketError> {
        let connection = self.connections.get_mut(&number);
        connection
            .filter(|connection| !connection.released)
            .ok_or(SocketError::UnknownSocket)
    }
}
