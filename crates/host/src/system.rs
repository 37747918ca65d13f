//! The operating system as a host: whatever is special to one system is in here.

pub(crate) mod file_limit;
mod gateway;
mod held_name;
pub(crate) mod inherited;
mod interfaces;
mod local_route;
mod route;
mod syn_filter;
pub(crate) mod tcp;
mod tcp_info;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    sync::{Arc, LazyLock},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use quinn::{AsyncUdpSocket, Runtime as _, TokioRuntime};
use socket2::{SockRef, Type};

use self::{inherited::InheritedSockets, interfaces::Interfaces};
use crate::{
    Interface, Platform, Sharing, TcpSocket,
    platform::{BoxFuture, HeldName},
};

/// When this process first asked. Every process has its own.
static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The operating system.
#[derive(Debug, Default)]
pub(crate) struct System {
    inherited: InheritedSockets,
    interfaces: Interfaces,
}

impl System {
    /// Returns the operating system with sockets that whoever started the process has opened.
    pub(crate) fn with_sockets(inherited: InheritedSockets) -> Self {
        Self {
            inherited,
            ..Self::default()
        }
    }
}

impl Platform for System {
    fn udp_socket(
        &self,
        local: SocketAddr,
        receive_buffer: Option<usize>,
    ) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let inherited = self.inherited.take(Type::DGRAM, local);
        let socket = inherited.map_or_else(|| UdpSocket::bind(local), |it| Ok(it.into()))?;
        if let Some(bytes) = receive_buffer
            && let Err(error) = SockRef::from(&socket).set_recv_buffer_size(bytes)
        {
            tracing::debug!(%error, "the receive buffer stays as the system has it");
        }
        TokioRuntime.wrap_udp_socket(socket)
    }

    fn tcp_socket(&self, local: SocketAddr, sharing: Sharing) -> io::Result<TcpSocket> {
        match self.inherited.take(Type::STREAM, local) {
            Some(listener) => tcp::inherited_socket(listener),
            None => tcp::bound_socket(local, sharing),
        }
    }

    fn interfaces(&self) -> io::Result<Vec<Interface>> {
        self.interfaces.current()
    }

    fn source_address(&self, remote: SocketAddr) -> io::Result<IpAddr> {
        route::source_address(remote)
    }

    fn gateway(&self) -> io::Result<Option<Ipv4Addr>> {
        gateway::gateway()
    }

    fn stays_here(&self, ip: IpAddr) -> io::Result<bool> {
        local_route::stays_here(ip)
    }

    fn look_up(&self, name: String, port: u16) -> BoxFuture<io::Result<Vec<SocketAddr>>> {
        Box::pin(async move { Ok(tokio::net::lookup_host((name, port)).await?.collect()) })
    }

    fn hold_name(&self, name: String) -> BoxFuture<io::Result<HeldName>> {
        Box::pin(async move { held_name::hold(&name).await })
    }

    fn fill_random(&self, bytes: &mut [u8]) -> io::Result<()> {
        Ok(getrandom::fill(bytes)?)
    }

    fn unix_time(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.unwrap_or_default().as_secs()
    }

    fn began(&self) -> Instant {
        *BEGAN
    }

    fn files_allowed(&self) -> u64 {
        file_limit::files_allowed()
    }

    fn is_system(&self) -> bool {
        true
    }
}
