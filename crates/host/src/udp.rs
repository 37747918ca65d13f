//! UDP sockets for QUIC.
//!
//! QUIC marks its packets for ECN from the first one on (RFC 9000 section 13.4), and repeats a lost one with
//! the same mark. Some paths drop UDP with such a mark, and no connection comes about there. A few kilobytes
//! for each introduction gain nothing from ECN, so nothing is marked: falling back would cost those who need
//! it a second each time, and the answers of a coordinator that has no way to tell would be lost still.

use std::{
    fmt,
    io::{self, IoSliceMut},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit},
};

/// A UDP socket that is bound, for the QUIC endpoint that [`Host::quic_endpoint`](crate::Host::quic_endpoint) makes of it.
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

/// A socket that leaves the ECN marks out.
pub(crate) struct Unmarked(pub(crate) Arc<dyn AsyncUdpSocket>);

impl fmt::Debug for Unmarked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Unmarked").field(&self.0).finish()
    }
}

impl AsyncUdpSocket for Unmarked {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.0).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.0.try_send(&Transmit {
            ecn: None,
            destination: transmit.destination,
            contents: transmit.contents,
            segment_size: transmit.segment_size,
            src_ip: transmit.src_ip,
        })
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_recv(cx, bufs, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.0.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.0.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.0.may_fragment()
    }
}
