//! A connection, whatever it runs over.

use std::{net::SocketAddr, time::Duration};

use p2pconnect_proto::PeerId;

use crate::{
    end::{CloseCode, End},
    quic,
    stream::{RecvStream, SendStream},
    tcp,
};

/// A connection between a peer and a coordinator. Clones are the same connection, which is closed
/// with [`DONE`](p2pconnect_proto::close::DONE) when all of them and their streams are dropped.
#[derive(Debug, Clone)]
pub struct Link(Transport);

#[derive(Debug, Clone)]
enum Transport {
    Quic(quic::Connection),
    Tcp(tcp::Connection),
}

impl From<quic::Connection> for Link {
    fn from(connection: quic::Connection) -> Self {
        Self(Transport::Quic(connection))
    }
}

impl From<tcp::Connection> for Link {
    fn from(connection: tcp::Connection) -> Self {
        Self(Transport::Tcp(connection))
    }
}

impl Link {
    /// Opens the stream of a request and of its answer, as soon as the other side has room for one
    /// more. It hears of the stream with the first byte on it. Cancel safe.
    ///
    /// # Errors
    ///
    /// The end of the connection.
    pub async fn open_bi(&self) -> Result<(SendStream, RecvStream), End> {
        match &self.0 {
            Transport::Quic(it) => {
                let (send, receive) = it.open_bi().await?;
                Ok((send.into(), receive.into()))
            }
            Transport::Tcp(it) => {
                let (send, receive) = it.open_bi().await?;
                Ok((send.into(), receive.into()))
            }
        }
    }

    /// Waits for the stream of the next request. Cancel safe.
    ///
    /// # Errors
    ///
    /// The end of the connection.
    pub async fn accept_bi(&self) -> Result<(SendStream, RecvStream), End> {
        match &self.0 {
            Transport::Quic(it) => {
                let (send, receive) = it.accept_bi().await?;
                Ok((send.into(), receive.into()))
            }
            Transport::Tcp(it) => {
                let (send, receive) = it.accept_bi().await?;
                Ok((send.into(), receive.into()))
            }
        }
    }

    /// Lets the other side have as many requests open as the protocol bears, where few were allowed
    /// until now for want of use.
    pub fn allow_more_requests(&self) {
        match &self.0 {
            Transport::Quic(it) => it.allow_more_requests(),
            Transport::Tcp(_) => {}
        }
    }

    /// Opens the stream of a notice, as soon as the other side has room for one more. It hears of
    /// the stream with the first byte on it. Cancel safe.
    ///
    /// # Errors
    ///
    /// The end of the connection.
    pub async fn open_uni(&self) -> Result<SendStream, End> {
        match &self.0 {
            Transport::Quic(it) => it.open_uni().await.map(SendStream::from),
            Transport::Tcp(it) => it.open_uni().await.map(SendStream::from),
        }
    }

    /// Waits for the stream of the next notice. Cancel safe.
    ///
    /// # Errors
    ///
    /// The end of the connection.
    pub async fn accept_uni(&self) -> Result<RecvStream, End> {
        match &self.0 {
            Transport::Quic(it) => it.accept_uni().await.map(RecvStream::from),
            Transport::Tcp(it) => it.accept_uni().await.map(RecvStream::from),
        }
    }

    /// Closes the connection at once, and lets the other side know why.
    pub fn close(&self, code: impl Into<CloseCode>, words: &str) {
        match &self.0 {
            Transport::Quic(it) => it.close(code.into(), words),
            Transport::Tcp(it) => it.close(code.into(), words),
        }
    }

    /// Waits until the connection has ended, and says why. Cancel safe.
    pub async fn closed(&self) -> End {
        match &self.0 {
            Transport::Quic(it) => it.closed().await,
            Transport::Tcp(it) => it.closed().await,
        }
    }

    /// Says why the connection has ended, if it has.
    #[must_use]
    pub fn close_reason(&self) -> Option<End> {
        match &self.0 {
            Transport::Quic(it) => it.close_reason(),
            Transport::Tcp(it) => it.close_reason(),
        }
    }

    /// Waits until the other side of a connection that this one has made and closed knows that it
    /// is closed. Cancel safe.
    pub async fn let_go(&self) {
        match &self.0 {
            Transport::Quic(it) => it.let_go().await,
            Transport::Tcp(it) => it.let_go().await,
        }
    }

    /// Returns the smoothed round-trip time.
    #[must_use]
    pub fn rtt(&self) -> Duration {
        match &self.0 {
            Transport::Quic(it) => it.rtt(),
            Transport::Tcp(it) => it.rtt(),
        }
    }

    /// Returns a number that grows with everything that comes from the other side.
    #[must_use]
    pub fn heard(&self) -> u64 {
        match &self.0 {
            Transport::Quic(it) => it.heard(),
            Transport::Tcp(it) => it.heard(),
        }
    }

    /// Tells whether the other side answers a sign of life.
    #[must_use]
    pub fn can_be_asked(&self) -> bool {
        match &self.0 {
            Transport::Quic(it) => it.can_be_asked(),
            Transport::Tcp(_) => true,
        }
    }

    /// Sends a sign of life, which the other side answers at once where it [can be
    /// asked](Self::can_be_asked): [`heard`](Self::heard) grows then.
    pub fn send_sign_of_life(&self) {
        match &self.0 {
            Transport::Quic(it) => it.send_sign_of_life(),
            Transport::Tcp(it) => it.send_sign_of_life(),
        }
    }

    /// Waits for the next sign of life of the other side. Cancel safe.
    ///
    /// # Errors
    ///
    /// The end of the connection.
    pub async fn sign_of_life(&self) -> Result<(), End> {
        match &self.0 {
            Transport::Quic(it) => it.sign_of_life().await,
            Transport::Tcp(it) => it.sign_of_life().await,
        }
    }

    /// Tells whether it runs over TCP.
    #[must_use]
    pub const fn is_by_tcp(&self) -> bool {
        match &self.0 {
            Transport::Quic(_) => false,
            Transport::Tcp(_) => true,
        }
    }

    /// Returns where the other side is.
    #[must_use]
    pub fn remote_address(&self) -> SocketAddr {
        match &self.0 {
            Transport::Quic(it) => it.remote_address(),
            Transport::Tcp(it) => it.remote_address(),
        }
    }

    /// Returns the peer id that the other side has proved. `None` if its certificate has no key of
    /// the right kind, which the transports here let nobody through with.
    #[must_use]
    pub fn peer_id(&self) -> Option<PeerId> {
        match &self.0 {
            Transport::Quic(it) => it.peer_id(),
            Transport::Tcp(it) => it.peer_id(),
        }
    }
}
