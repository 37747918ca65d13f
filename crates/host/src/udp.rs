//! UDP sockets, for QUIC and for datagrams alone (`datagrams`).
//!
//! QUIC marks its packets for ECN from the first one on (RFC 9000 section 13.4), and repeats a lost
//! one with the same mark. Some paths drop UDP with such a mark, and no connection comes about
//! there. A few kilobytes for each introduction gain nothing from ECN, so nothing is marked:
//! falling back would cost those who need it a second each time, and the answers of a coordinator
//! that has no way to tell would be lost still.
//!
//! A server sends no more in handshakes than RFC 9000 section 8.1 allows: see `balances`.

mod balances;
mod datagrams;

use std::{
    fmt,
    io::{self, IoSliceMut},
    iter,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit},
};

use balances::{Balances, is_handshake};
pub use datagrams::Received;

/// A UDP socket that is bound, for datagrams or for the QUIC endpoint that
/// [`Host::quic_endpoint`](crate::Host::quic_endpoint) makes of it.
#[derive(Debug)]
pub struct UdpSocket(pub(crate) Arc<dyn AsyncUdpSocket>);

/// Returns the unspecified address of the other one's family, with port 0.
pub(crate) fn unspecified(other: SocketAddr) -> SocketAddr {
    if other.is_ipv4() {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (Ipv6Addr::UNSPECIFIED, 0).into()
    }
}

/// The socket of a QUIC endpoint, which leaves the ECN marks out.
pub(crate) struct QuicSocket {
    inner: Arc<dyn AsyncUdpSocket>,
    /// What may be sent in handshakes; of a server only.
    balances: Option<Mutex<Balances>>,
}

impl QuicSocket {
    pub(crate) fn new(socket: UdpSocket, is_server: bool) -> Self {
        Self {
            inner: socket.0,
            balances: is_server.then(Mutex::default),
        }
    }

    fn balances(&self) -> Option<MutexGuard<'_, Balances>> {
        let balances = self.balances.as_ref()?;
        // The counts stay usable whatever the panicking thread was doing.
        Some(balances.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes in what has been received with one call of the system, which may be several datagrams
    /// of one sender.
    fn received(&self, buffer: &[u8], meta: &RecvMeta) {
        let datagrams = buffer[..meta.len].chunks(meta.stride.max(1));
        for datagram in datagrams.filter(|it| is_handshake(it)) {
            if let Some(mut balances) = self.balances() {
                balances.received(meta.addr, datagram.len());
            }
        }
    }
}

impl fmt::Debug for QuicSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("QuicSocket").field(&self.inner).finish()
    }
}

impl AsyncUdpSocket for QuicSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.inner).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let Transmit {
            destination,
            contents,
            ..
        } = *transmit;
        if self
            .balances()
            .is_some_and(|mut it| !it.take(destination, contents))
        {
            // As if it were lost on the way.
            return Ok(());
        }
        let sent = self.inner.try_send(&Transmit {
            ecn: None,
            destination,
            contents,
            segment_size: transmit.segment_size,
            src_ip: transmit.src_ip,
        });
        if sent.is_err()
            && let Some(mut balances) = self.balances()
        {
            balances.give_back(destination, contents.len());
        }
        sent
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let received = ready!(self.inner.poll_recv(cx, bufs, meta))?;
        for (buffer, meta) in iter::zip(bufs, meta).take(received) {
            self.received(buffer, meta);
        }
        Poll::Ready(Ok(received))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    /// One datagram at a time, so that each is judged by itself. A few kilobytes gain nothing from
    /// more.
    fn max_transmit_segments(&self) -> usize {
        1
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}
