//! An endpoint: what a program dials peers and accepts connections with.

mod board;

use std::{sync::Arc, time::Duration};

use p2pconnect_host::clock;
use p2pconnect_proto::PeerId;
use tokio::sync::{Mutex, mpsc, watch};

use crate::{
    Connection, DialError, Metrics,
    board::Board,
    coordinator::lines::Lines,
    dial::Dial,
    introduction::{attempt::DIAL_LIMIT, shared::Inner},
    machine::task::AbortOnDrop,
};

/// The longest that a dial may be told to try; its rounds are over long before.
const MAX_DIAL_LIMIT: Duration = Duration::from_secs(3600);

/// A peer: it can dial others by their ids, and be dialled if it was built with a policy.
///
/// Dropping the endpoint ends its registration and its mappings. Connections made live on.
#[derive(Debug)]
pub struct Endpoint {
    inner: Arc<Inner>,
    lines: watch::Receiver<Lines>,
    incoming: Option<Mutex<mpsc::Receiver<Connection>>>,
    board: Board,
    tasks: Vec<AbortOnDrop>,
}

impl Endpoint {
    pub(crate) fn new(
        inner: Arc<Inner>,
        lines: watch::Receiver<Lines>,
        incoming: Option<Mutex<mpsc::Receiver<Connection>>>,
        tasks: Vec<AbortOnDrop>,
    ) -> Self {
        Self {
            board: Board::new(lines.clone(), inner.key.peer_id()),
            inner,
            lines,
            incoming,
            tasks,
        }
    }

    /// Returns this endpoint's own id.
    #[must_use]
    pub fn peer_id(&self) -> PeerId {
        self.inner.key.peer_id()
    }

    /// Returns what this endpoint has done since it was bound.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.inner.metrics.read()
    }

    /// Makes a direct connection to a peer, within 15 seconds.
    ///
    /// The connection is returned as soon as bytes can be sent, a round trip before any of the
    /// peer's can be read. The peer has proved its key by then and has room for the connection, and
    /// nobody else can read what is sent. But only what is read tells that the peer has it. Until
    /// then TCP may prove to lead elsewhere, and what was sent is sent again over the next path,
    /// also if that takes another introduction: within its time the dial goes on while the
    /// connection is in use. Where that finds no path, or the peer may have got what was sent and
    /// does not answer, reading and writing end with an error, most likely
    /// [`ConnectionReset`](std::io::ErrorKind::ConnectionReset); the first such error holds a
    /// [`DialError`]. Dialling again may help. It is [`DialError::PeerSilent`] if the peer's
    /// process has gone without a word. The endpoint is needed for this until the connection is
    /// [confirmed](Connection::confirmed).
    ///
    /// A peer that has no room for a connection just now is asked again until the time is over,
    /// and the dial ends with [`DialError::PeerBusy`] then.
    ///
    /// If the peer dials this endpoint at the same moment, one connection results: both dials
    /// return it, and neither side's [`accept`](Self::accept) does.
    ///
    /// Several dials at the same moment, of one process or of several with the same key on one
    /// machine, do not harm each other. Where the NATs of both sides give each destination another
    /// port, they are made one after the other if need be.
    ///
    /// There may be other connections to the same peer. From the fifth on they take two punch ports
    /// more for every four, and a moment to learn the mappings of these.
    ///
    /// # Errors
    ///
    /// [`DialError`], which tells whose matter it is. [`DialError::NoDirectPath`] comes with the
    /// evidence.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future abandons the attempt; the peer is told, or else its side ends by itself.
    pub async fn dial(&self, peer: PeerId) -> Result<Connection, DialError> {
        self.dial_within(peer, DIAL_LIMIT).await
    }

    /// Makes a direct connection to a peer, within the time given, and within an hour.
    ///
    /// # Errors
    ///
    /// As [`dial`](Self::dial).
    ///
    /// # Cancel safety
    ///
    /// As [`dial`](Self::dial).
    pub async fn dial_within(
        &self,
        peer: PeerId,
        limit: Duration,
    ) -> Result<Connection, DialError> {
        let deadline = clock::now() + limit.min(MAX_DIAL_LIMIT);
        let (inner, lines) = (Arc::clone(&self.inner), self.lines.clone());
        Dial::new(inner, lines, peer, deadline).connect().await
    }

    /// Waits for the next peer that dials this endpoint, and returns the connection.
    ///
    /// There is room for 64 connections that are not accepted yet, or are being made. Whoever dials
    /// when it is used up comes back later; nothing that a dial has returned is dropped for it.
    ///
    /// Returns `None` if nobody can dial this endpoint any more: it was built without a policy, or
    /// another endpoint has registered with the same key.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no connection is lost.
    pub async fn accept(&self) -> Option<Connection> {
        self.incoming.as_ref()?.lock().await.recv().await
    }

    /// Tells the observer at once of failed introductions
    /// ([`PunchFailed`](crate::Status::PunchFailed)) that it would be told of some seconds later,
    /// if their diallers have not begun anew. [`close`](Self::close) does the same; whoever says a
    /// last word may want to hear of these before.
    pub fn tell_of_failures(&self) {
        let Inner {
            pending_failures,
            observer,
            ..
        } = &*self.inner;
        pending_failures.tell_all(observer);
    }

    /// Gives up what only further connections need: those to coordinators and to STUN servers.
    /// Nobody can be dialled afterwards, or dial this endpoint. Connections that have been
    /// [confirmed](Connection::confirmed) live on, and a router goes on forwarding ports until the
    /// endpoint is closed.
    ///
    /// # Cancel safety
    ///
    /// If it is dropped before it is done, the coordinator may notice only after half a minute.
    pub async fn retire(&mut self) {
        // Nobody is to reconnect what is closed here.
        self.tasks.clear();
        self.inner.mappings.release();
        let lines = self.lines.borrow().clone();
        lines.close().await;
    }

    /// Says goodbye to the coordinator, which otherwise notices the absence only after a while, and
    /// to a router that forwards ports. Takes half a second at most.
    ///
    /// # Cancel safety
    ///
    /// If it is dropped before it is done, the coordinator sends diallers here for up to half a
    /// minute more, and a router forwards its ports until its lease ends, after 20 minutes at most.
    pub async fn close(self) {
        self.tell_of_failures();
        let Self {
            inner,
            lines,
            tasks,
            ..
        } = self;
        // Nobody is to reconnect what is closed here.
        drop(tasks);
        let lines = lines.borrow().clone();
        tokio::join!(lines.close(), inner.port_mappings.release());
    }
}
