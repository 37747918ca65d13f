//! A UDP socket without QUIC, for protocols whose messages are datagrams.

use std::{
    future::poll_fn,
    io::{self, IoSliceMut},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use quinn::udp::{RecvMeta, Transmit};

use super::UdpSocket;

/// What the system hands over in one go: a datagram, or several of one sender.
#[derive(Debug, Clone, Copy)]
pub struct Received {
    /// The sender.
    pub from: SocketAddr,
    /// The address of this host that it has come to, where the system tells.
    pub to: Option<IpAddr>,
    /// How many bytes there are.
    len: usize,
    /// How many of them are one datagram; the last one may be shorter.
    stride: usize,
}

impl Received {
    /// Returns the datagrams, which are in the buffer that they were received into.
    pub fn datagrams<'a>(&self, buffer: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        buffer[..self.len].chunks(self.stride.max(1))
    }
}

impl UdpSocket {
    /// How many bytes may come in one go. A shorter buffer cuts them.
    pub const MOST_RECEIVED: usize = 64 * 1024;

    /// Returns the address that the socket is bound to.
    ///
    /// # Errors
    ///
    /// What the system reports; none is expected.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Waits for datagrams. One task may do so at a time.
    ///
    /// # Errors
    ///
    /// What the system reports; none is expected.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn receive(&self, buffer: &mut [u8]) -> io::Result<Received> {
        let mut meta = [RecvMeta::default()];
        poll_fn(|cx| {
            self.0
                .poll_recv(cx, &mut [IoSliceMut::new(buffer)], &mut meta)
        })
        .await?;
        let [meta] = meta;
        Ok(Received {
            from: meta.addr,
            to: meta.dst_ip,
            len: meta.len,
            stride: meta.stride,
        })
    }

    /// Waits until the system takes datagrams, as it does soon after the socket is there.
    ///
    /// # Errors
    ///
    /// What the system reports; none is expected.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn writable(&self) -> io::Result<()> {
        let mut poller = Arc::clone(&self.0).create_io_poller();
        poll_fn(|cx| poller.as_mut().poll_writable(cx)).await
    }

    /// Sends a datagram from an address of this host, or from the one that the system chooses. One
    /// that the network does not take is lost, as it may be on the way.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] if the system takes none now.
    pub fn try_send(
        &self,
        datagram: &[u8],
        to: SocketAddr,
        from: Option<IpAddr>,
    ) -> io::Result<()> {
        self.0.try_send(&Transmit {
            destination: to,
            ecn: None,
            contents: datagram,
            segment_size: None,
            src_ip: from,
        })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;
    use crate::Host;

    #[tokio::test]
    async fn an_answer_leaves_from_the_address_that_was_asked() {
        let host = Host::default();
        let all = host.udp_socket((Ipv6Addr::UNSPECIFIED, 0).into(), None);
        let all = all.unwrap();
        let port = all.local_addr().unwrap().port();
        let asking = host.udp_socket((Ipv4Addr::LOCALHOST, 0).into(), None);
        let asking = asking.unwrap();
        // One of this host's that the system would not choose by itself.
        let asked = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 9), port));
        asking.writable().await.unwrap();
        all.writable().await.unwrap();
        for datagram in [&b"one"[..], b"another"] {
            asking.try_send(datagram, asked, None).unwrap();
            let mut buffer = [0; 64];
            let received = all.receive(&mut buffer).await.unwrap();
            let datagrams: Vec<_> = received.datagrams(&buffer).collect();
            assert_eq!(datagrams, [datagram]);
            all.try_send(b"heard", received.from, received.to).unwrap();
            let answer = asking.receive(&mut buffer).await.unwrap();
            assert_eq!(answer.from, asked);
            assert_eq!(answer.datagrams(&buffer).next(), Some(&b"heard"[..]));
        }
    }

    #[test]
    fn what_comes_in_one_go_is_cut_by_its_stride() {
        let received = Received {
            from: ([192, 0, 2, 1], 1).into(),
            to: None,
            len: 7,
            stride: 3,
        };
        let datagrams: Vec<_> = received.datagrams(b"abcdefgh").collect();
        assert_eq!(datagrams, [&b"abc"[..], b"def", b"g"]);
        let empty = Received {
            len: 0,
            stride: 0,
            ..received
        };
        assert_eq!(empty.datagrams(b"abc").count(), 0);
    }
}
