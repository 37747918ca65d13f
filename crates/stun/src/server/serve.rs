use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use p2pconnect_proto::ConnectBack;
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    time::{Instant, sleep, timeout, timeout_at},
};
use tracing::debug;

use super::{
    Shared,
    answer::{Answer, Caller, Unparsable, answer, wants_back},
    connect_back::connect_back,
    limits::{Place, Refusal},
};
use crate::framing::{FrameError, MessageReader};

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the client closed it")]
    ByClient,
    #[error("nothing was asked for too long")]
    Idle,
    #[error("a message was not completed in time")]
    Partial,
    #[error("the client does not read its answers")]
    Unread,
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    NotStun(#[from] FrameError),
    #[error(transparent)]
    Unparsable(#[from] Unparsable),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Serves one connection; `_place` is given back at its end.
pub(super) async fn run(stream: TcpStream, remote: SocketAddr, shared: Arc<Shared>, _place: Place) {
    debug!(%remote, "stun connection opened");
    let local = stream.local_addr();
    let mut connection = Connection {
        local: local.ok(),
        reader: MessageReader::new(stream),
        // Without the flow label and scope of IPv6, which mean nothing to others.
        remote: SocketAddr::new(remote.ip(), remote.port()),
        shared,
    };
    let end = connection.serve().await;
    debug!(%remote, %end, "stun connection ended");
}

struct Connection {
    reader: MessageReader<TcpStream>,
    /// Unknown if the connection has gone already.
    local: Option<SocketAddr>,
    remote: SocketAddr,
    shared: Arc<Shared>,
}

impl Connection {
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
            if let Some(message) = self.reader.pop()? {
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
            next = self.reader.pop()?;
        }
        Ok(())
    }

    async fn fill(
        &mut self,
        idle_since: Instant,
        partial_since: Option<Instant>,
    ) -> Result<(), End> {
        let config = &self.shared.config;
        let (deadline, end) = match partial_since {
            Some(since) => (since + config.partial_limit, End::Partial),
            None => (idle_since + config.idle_limit, End::Idle),
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
        let delay = self
            .shared
            .limits()
            .charge(self.remote.ip(), Instant::now())?;
        if delay > Duration::ZERO {
            sleep(delay).await;
        }
        let backs = self.connect_back(message).await?;
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let caller = Caller {
            remote: self.remote,
            backs: &backs,
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

    /// Connects to where the client was seen, if a message asks for that and not too many others
    /// do so too.
    async fn connect_back(&self, message: &[u8]) -> Result<Vec<ConnectBack>, End> {
        let (Some(patience), Some(local)) = (wants_back(message), self.local) else {
            return Ok(Vec::new());
        };
        let Ok(_permit) = self.shared.backs.try_acquire() else {
            debug!(remote = %self.remote, "too busy to connect back");
            return Ok(Vec::new());
        };
        // It counts as a request, whose sender does not wait for this one.
        self.shared
            .limits()
            .charge(self.remote.ip(), Instant::now())?;
        Ok(connect_back((local, self.remote), &self.shared.addresses, patience).await)
    }
}
