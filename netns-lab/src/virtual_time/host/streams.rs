//! The calls of a host's programs on TCP sockets.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use super::{
    Host,
    connection::{Connection, Keeper},
    listeners::MAX_BACKLOG,
};
use crate::virtual_time::{
    socket::{Opening, SocketError, SocketState, TcpInfo, TcpOptions, addresses_overlap},
    tcp::{Flow, Tcb},
};

impl Host {
    /// Begins to connect.
    pub(in crate::virtual_time) fn connect(
        &mut self,
        now: Duration,
        local: SocketAddr,
        remote: SocketAddr,
        options: TcpOptions,
    ) -> Result<u64, SocketError> {
        if remote.port() == 0 || remote.ip().is_unspecified() {
            return Err(SocketError::AddressNotAvailable);
        }
        let local = self.tcp_local(local, remote.ip())?;
        let flow = Flow { local, remote };
        if self.flows.contains_key(&flow) {
            return Err(SocketError::AddressNotAvailable);
        }
        let number = self.new_number();
        let tcb = Tcb::connect(now, flow, self.initial_sequence(now, flow), options);
        self.insert(number, Connection::new(tcb, Keeper::Program));
        self.settle(number);
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

    /// Returns whether no TCP socket of the host has a port at an address, or at any if that is
    /// unspecified. Connections that a listener has taken are no hindrance to the next one
    /// (`SO_REUSEADDR`).
    pub(in crate::virtual_time) fn is_tcp_end_free(&self, local: SocketAddr) -> bool {
        let has_it =
            |end: SocketAddr| end.port() == local.port() && addresses_overlap(end.ip(), local.ip());
        !self.tcp_ports.contains_key(&local.port())
            || !self.listeners.locals().any(has_it)
                && !self
                    .flows
                    .iter()
                    .any(|(flow, number)| has_it(flow.local) && !self.was_taken(*number))
    }

    /// Returns whether a connection came about by a listener.
    fn was_taken(&self, number: u64) -> bool {
        let connection = self.connections.get(&number);
        let opened = connection.and_then(|it| it.tcb.opened());
        matches!(opened, Some((Opening::Passive, _)))
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

    /// Closes a listener. What it has not handed out is reset; half-open connections are forgotten.
    fn unlisten(&mut self, listener: u64) -> Result<(), SocketError> {
        let local = self.listeners.get(listener)?.local();
        let kept = self.listeners.remove(listener).unwrap_or_default();
        if let Some(local) = local {
            self.leave_tcp_port(local.port());
        }
        for number in kept {
            let Some(connection) = self.connections.get_mut(&number) else {
                continue;
            };
            connection.released = true;
            match connection.keeper {
                Keeper::Listener(_) => connection.tcb.finish(None),
                Keeper::Queue | Keeper::Program => connection.tcb.abort(),
            }
            self.settle(number);
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
        Ok(self.get(number)?.tcb.flow.local)
    }

    pub(in crate::virtual_time) fn state(&self, number: u64) -> Result<SocketState, SocketError> {
        Ok(self.get(number)?.tcb.progress())
    }

    /// Returns how the connection came about and when, if it did.
    pub(in crate::virtual_time) fn opened(
        &self,
        number: u64,
    ) -> Result<Option<(Opening, Duration)>, SocketError> {
        Ok(self.get(number)?.tcb.opened())
    }

    pub(in crate::virtual_time) fn ends(
        &self,
        number: u64,
    ) -> Result<(SocketAddr, SocketAddr), SocketError> {
        let flow = self.get(number)?.tcb.flow;
        Ok((flow.local, flow.remote))
    }

    pub(in crate::virtual_time) fn info(
        &self,
        now: Duration,
        number: u64,
    ) -> Result<TcpInfo, SocketError> {
        Ok(self.get(number)?.tcb.info(now))
    }

    /// Sets what a listener's connections ask for, or a connection for itself as far as
    /// it has not told the other end yet.
    pub(in crate::virtual_time) fn set_options(
        &mut self,
        now: Duration,
        number: u64,
        options: TcpOptions,
    ) -> Result<(), SocketError> {
        if let Ok(listener) = self.listeners.get_mut(number) {
            listener.options = options;
            return Ok(());
        }
        let connection = self.get_mut(number)?;
        connection.tcb.keep_alive(now, options.keep_alive);
        self.settle(number);
        Ok(())
    }

    pub(in crate::virtual_time) fn send(
        &mut self,
        now: Duration,
        number: u64,
        data: &[u8],
    ) -> Result<usize, SocketError> {
        let connection = self.get_mut(number)?;
        if let SocketState::Failed(failure) = connection.tcb.progress() {
            return Err(failure.into());
        }
        let written = connection.tcb.write(now, data);
        self.settle(number);
        written.ok_or(SocketError::NotConnected)
    }

    /// Takes data that has come in: none yet is `None`, the end is 0.
    pub(in crate::virtual_time) fn receive_data(
        &mut self,
        number: u64,
        buffer: &mut [u8],
    ) -> Result<Option<usize>, SocketError> {
        let tcb = &mut self.get_mut(number)?.tcb;
        if !tcb.has_data() {
            return at_end(tcb);
        }
        let taken = tcb.read(buffer);
        self.settle(number);
        Ok(Some(taken))
    }

    /// The same, and leaves it there.
    pub(in crate::virtual_time) fn peek(
        &self,
        number: u64,
        buffer: &mut [u8],
    ) -> Result<Option<usize>, SocketError> {
        let tcb = &self.get(number)?.tcb;
        if tcb.has_data() {
            Ok(Some(tcb.peek(buffer)))
        } else {
            at_end(tcb)
        }
    }

    /// Ends our direction with FIN.
    pub(in crate::virtual_time) fn shutdown(
        &mut self,
        now: Duration,
        number: u64,
    ) -> Result<(), SocketError> {
        let tcb = &mut self.get_mut(number)?.tcb;
        match tcb.progress() {
            SocketState::Failed(failure) => return Err(failure.into()),
            SocketState::Connecting => return Err(SocketError::NotConnected),
            SocketState::Connected | SocketState::Closed => tcb.shutdown(now),
        }
        self.settle(number);
        Ok(())
    }

    /// Gives a socket of any kind up, politely where that is possible.
    pub(in crate::virtual_time) fn close(
        &mut self,
        now: Duration,
        number: u64,
    ) -> Result<(), SocketError> {
        self.give_up(number, |tcb| tcb.close(now))
    }

    /// Gives a socket of any kind up at once.
    pub(in crate::virtual_time) fn abort(&mut self, number: u64) -> Result<(), SocketError> {
        self.give_up(number, Tcb::abort)
    }

    fn give_up(&mut self, number: u64, end: impl FnOnce(&mut Tcb)) -> Result<(), SocketError> {
        if self.udp.remove(number) {
            return Ok(());
        }
        if self.listeners.get(number).is_ok() {
            return self.unlisten(number);
        }
        let connection = self.get_mut(number)?;
        connection.released = true;
        end(&mut connection.tcb);
        self.settle(number);
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

/// Returns what there is to be read where there is no data.
fn at_end(tcb: &Tcb) -> Result<Option<usize>, SocketError> {
    match tcb.progress() {
        SocketState::Failed(failure) => Err(failure.into()),
        SocketState::Connecting => Ok(None),
        SocketState::Connected if !tcb.is_at_end() => Ok(None),
        SocketState::Connected | SocketState::Closed => Ok(Some(0)),
    }
}
