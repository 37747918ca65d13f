//! Serves one connection to the server.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use p2pconnect_host::TcpStream;
use p2pconnect_proto::{ConnectBack, portable};
use tokio::{
    io::AsyncWriteExt,
    sync::oneshot,
    time::{Instant, sleep, timeout, timeout_at},
};
use tracing::debug;

use super::{
    Shared,
    answer::{Answer, Caller, Manner, Unparsable, answer, wants_back},
    connect_back::connect_back,
    discovery::Place,
    limits::{BackSlot, Held, Refusal, Slot},
    meter::Counts,
    tls::{self, TlsConnection},
};
use crate::{
    Stream,
    framing::{FrameError, MessageReader},
};

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the client closed it")]
    ByClient,
    #[error("nothing was asked for too long")]
    Idle,
    #[error("nothing was asked in time")]
    Silent,
    #[error("it had to make room for another connection")]
    Displaced,
    #[error("a message was not completed in time")]
    Partial,
    #[error("the client does not read its answers")]
    Unread,
    #[error("tls begins")]
    Tls,
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    NotStun(#[from] FrameError),
    #[error(transparent)]
    Unparsable(#[from] Unparsable),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Serves one connection, whose slot is given back at its end.
pub(super) async fn run(
    stream: TcpStream,
    remote: SocketAddr,
    shared: Arc<Shared>,
    mut held: Held,
) {
    debug!(%remote, "stun connection opened");
    let local = stream.local_addr().ok();
    let mut connection = Connection::new(stream, remote, shared, held.slot);
    connection.local = local;
    let end = connection.serve_until(&mut held.end).await;
    if let (End::Tls, Some(taker)) = (&end, &connection.shared.config.tls) {
        held.slot = connection.slot;
        return tls::hand_over(TlsConnection::new(connection.reader, remote, held), taker);
    }
    if matches!(end, End::Displaced | End::Silent) {
        reset(connection.reader.get_ref());
    }
    debug!(%remote, %end, "stun connection ended");
}

/// Serves a connection over something else than a socket of the server, if there is room.
pub(super) async fn run_over(stream: impl Stream, remote: SocketAddr, shared: Arc<Shared>) {
    match Held::take(&shared, remote.ip()) {
        Ok(mut held) => {
            Counts::add(&shared.counts.accepted);
            let mut connection = Connection::new(stream, remote, shared, held.slot);
            let end = connection.serve_until(&mut held.end).await;
            debug!(%remote, %end, "stun connection ended");
        }
        Err(refusal) => {
            Counts::add(&shared.counts.refused);
            debug!(%remote, %refusal, "stun connection refused");
        }
    }
}

/// Has a connection end by RST, which leaves nothing behind for each one of a flood.
pub(super) fn reset(stream: &TcpStream) {
    if let Err(error) = stream.reset_on_close() {
        debug!(%error, "cannot reset a connection");
    }
}

struct Connection<T> {
    reader: MessageReader<T>,
    /// Unknown if the connection has gone already, or is none of the server's own.
    local: Option<SocketAddr>,
    remote: SocketAddr,
    shared: Arc<Shared>,
    slot: Slot,
    /// When the connection began, until something whole has come.
    unasked_since: Option<Instant>,
}

impl<T: Stream> Connection<T> {
    fn new(stream: T, remote: SocketAddr, shared: Arc<Shared>, slot: Slot) -> Self {
        Self {
            local: None,
            reader: MessageReader::new(stream),
            // Without the flow label and scope of IPv6, which mean nothing to others.
            remote: SocketAddr::new(remote.ip(), remote.port()),
            shared,
            slot,
            unasked_since: Some(Instant::now()),
        }
    }

    /// Serves it until it has to make room for another one.
    async fn serve_until(&mut self, displaced: &mut oneshot::Receiver<()>) -> End {
        tokio::select! {
            end = self.serve() => end,
            _ = displaced => End::Displaced,
        }
    }

    async fn serve(&mut self) -> End {
        loop {
            if let Err(end) = self.round().await {
                return end;
            }
        }
    }

    /// Reads until a message is complete, and answers all that are.
    async fn round(&mut self) -> Result<(), End> {
        let start = Instant::now();
        let mut partial_since = self.reader.has_partial().then_some(start);
        let first = loop {
            if let Some(message) = self.pop()? {
                break message;
            }
            if self.reader.has_partial() && partial_since.is_none() {
                partial_since = Some(Instant::now());
            }
            self.fill(start, partial_since).await?;
        };
        let mut next = Some(first);
        while let Some(message) = next {
            self.handle(&message).await?;
            next = self.pop()?;
        }
        Ok(())
    }

    /// Takes the next message out of what has been read, unless TLS begins there and is waited for.
    fn pop(&mut self) -> Result<Option<Vec<u8>>, End> {
        match self.shared.config.tls.is_some() && self.reader.is_at_tls() {
            true => Err(End::Tls),
            false => Ok(self.reader.pop()?),
        }
    }

    async fn fill(
        &mut self,
        idle_since: Instant,
        partial_since: Option<Instant>,
    ) -> Result<(), End> {
        let config = &self.shared.config;
        let (deadline, end) = match (self.unasked_since, partial_since) {
            (Some(opened), None) => (opened + config.first_request_limit, End::Silent),
            // Bytes that come one by one are no reason to wait longer.
            (Some(opened), Some(since)) => {
                let first = opened + config.first_request_limit;
                (first.min(since + config.partial_limit), End::Partial)
            }
            (None, Some(since)) => (since + config.partial_limit, End::Partial),
            (None, None) => (idle_since + config.idle_limit, End::Idle),
        };
        match timeout_at(deadline, self.reader.fill()).await {
            Err(_) => Err(end),
            Ok(Ok(0)) if self.reader.has_partial() => Err(FrameError::Truncated.into()),
            Ok(Ok(0)) => Err(End::ByClient),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.into()),
        }
    }

    async fn handle(&mut self, message: &[u8]) -> Result<(), End> {
        self.unasked_since = None;
        self.slot.heard();
        Counts::add(&self.shared.counts.requests);
        let delay = self
            .shared
            .limits()
            .charge(self.remote.ip(), Instant::now())?;
        if delay > Duration::ZERO {
            sleep(delay).await;
        }
        let backs = self.connect_back(message).await?;
        let now = self.shared.config.host.unix_time();
        let caller = Caller {
            remote: self.remote,
            backs: &backs,
            place: self.place(),
            manner: Manner::Stream,
        };
        match answer(message, caller, &self.shared.config, now)? {
            Answer::Nothing => Ok(()),
            Answer::Send(bytes) => {
                let write = self.reader.get_mut().write_all(&bytes);
                Ok(timeout(self.shared.config.partial_limit, write)
                    .await
                    .map_err(|_| End::Unread)??)
            }
        }
    }

    /// Returns what answers say of the server, if it has four addresses.
    fn place(&self) -> Option<Place> {
        let local = portable(self.local?);
        let quad = self.shared.quad_of(local)?;
        Some(self.shared.config.known(quad.place(local)))
    }

    /// Connects to where the client was seen, if a message asks for that and not too many others
    /// do so too.
    async fn connect_back(&mut self, message: &[u8]) -> Result<Vec<ConnectBack>, End> {
        let (Some(patience), Some(local)) = (wants_back(message), self.local) else {
            return Ok(Vec::new());
        };
        let Some(_slot) = BackSlot::take(&self.shared, self.remote.ip()) else {
            debug!(remote = %self.remote, "too busy to connect back");
            return Ok(Vec::new());
        };
        // It counts as a request, whose sender does not wait for this one.
        self.shared
            .limits()
            .charge(self.remote.ip(), Instant::now())?;
        let host = &self.shared.config.host;
        Ok(connect_back(host, local, self.remote, &self.shared.addresses, patience).await)
    }
}
