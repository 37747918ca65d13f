//! UDP sockets.

use std::{
    io::{self, IoSliceMut},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{EcnCodepoint, RecvMeta, Transmit},
};

use super::{Interest, Shared, system};
use netns_lab::virtual_time::{self, Datagram, HostId, SocketError, SocketId};

/// A UDP socket. One at all addresses of IPv6 serves IPv4 as well, and has two sockets of the
/// world, of one port.
#[derive(Debug)]
pub(super) struct Datagrams {
    shared: Arc<Shared>,
    socket: SocketId,
    beside: Option<SocketId>,
}

impl Datagrams {
    pub(super) fn bind(shared: Arc<Shared>, host: HostId, local: SocketAddr) -> io::Result<Self> {
        let bound = shared.call(|state| {
            let world = &mut state.world;
            let socket = world.bind_udp(host, local)?;
            if local.is_ipv4() || !local.ip().is_unspecified() {
                return Ok((socket, None));
            }
            let port = world.local_end(socket)?.port();
            let beside = world.bind_udp(host, (Ipv4Addr::UNSPECIFIED, port).into())?;
            Ok((socket, Some(beside)))
        });
        let (socket, beside) = bound.map_err(system)?;
        Ok(Self {
            shared,
            socket,
            beside,
        })
    }

    /// Returns the sockets of the world.
    fn sockets(&self) -> impl Iterator<Item = SocketId> {
        std::iter::once(self.socket).chain(self.beside)
    }
}

/// A socket takes datagrams at any time.
#[derive(Debug)]
struct Writable;

impl UdpPoller for Writable {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncUdpSocket for Datagrams {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Writable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let destination = transmit.destination.ip().to_canonical();
        let socket = match self.beside {
            Some(beside) if destination.is_ipv4() => beside,
            Some(_) | None => self.socket,
        };
        let transmit = virtual_time::Transmit {
            destination: (destination, transmit.destination.port()).into(),
            source: transmit.src_ip.map(|it| it.to_canonical()),
            ecn: transmit.ecn.map_or(0, |it| it as u8),
            payload: transmit.contents,
        };
        let sent = self
            .shared
            .call_of_program(|state| state.world.send_to(socket, &transmit));
        sent.map_err(system)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let received = self.shared.call(|state| {
            for socket in self.sockets() {
                loop {
                    match state.world.recv_from(socket) {
                        Ok(None) => break state.wait(socket, Interest::Reading, cx),
                        Ok(Some(datagram)) => return Poll::Ready(Ok(datagram)),
                        // ICMP tells nothing that QUIC does not find out (RFC 9000 section 14.2.1).
                        Err(SocketError::Failed(_)) => {}
                        Err(error) => return Poll::Ready(Err(system(error))),
                    }
                }
            }
            Poll::Pending
        });
        received.map_ok(|datagram| {
            let pairs = bufs.iter_mut().zip(meta);
            let filled = pairs
                .take(1)
                .map(|(buf, meta)| *meta = self.fill(buf, &datagram));
            filled.count()
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        let local = self.shared.call(|state| state.world.local_end(self.socket));
        local.map_err(system)
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

impl Datagrams {
    /// Copies a datagram, and returns what is to be known of it.
    fn fill(&self, buf: &mut IoSliceMut<'_>, datagram: &Datagram) -> RecvMeta {
        let len = datagram.payload.len().min(buf.len());
        buf[..len].copy_from_slice(&datagram.payload[..len]);
        // A socket of both families has the addresses of IPv4 inside those of IPv6.
        let told = |ip: IpAddr| match ip {
            IpAddr::V4(ip) if self.beside.is_some() => ip.to_ipv6_mapped().into(),
            IpAddr::V4(_) | IpAddr::V6(_) => ip,
        };
        RecvMeta {
            addr: SocketAddr::new(told(datagram.source.ip()), datagram.source.port()),
            len,
            stride: len,
            ecn: EcnCodepoint::from_bits(datagram.ecn),
            dst_ip: Some(told(datagram.destination.ip())),
        }
    }
}

impl Drop for Datagrams {
    fn drop(&mut self) {
        self.shared.call_of_program(|state| {
            for socket in self.sockets() {
                state.end(socket, |world| world.close(socket));
            }
        });
    }
}
