//! One TCP connection to a STUN server, as the client uses it.

use std::{io, net::SocketAddr, time::Duration};

use p2pconnect_host::{Host, Sharing, TcpStream};
use stun_types::message::TransactionId;
use tokio::{
    io::AsyncWriteExt,
    time::{Instant, timeout, timeout_at},
};

use crate::{
    binding::{self, BindingAnswer, Commitment, Response},
    error::MappingError,
    framing::MessageReader,
    mapping_config::MappingConfig,
    over::Stream,
};

/// The ends of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ends {
    pub(crate) local: SocketAddr,
    pub(crate) server: SocketAddr,
}

/// How many messages a server may send from one request to the next: several times the answers that
/// a client waits for. Whoever sends more has this side read for as long as it likes.
pub(crate) const MAX_MESSAGES: u32 = 32;

/// The client's end of a connection to a STUN server.
///
/// Its socket has `SO_LINGER` 0, so that dropping it frees the pair of addresses at once.
pub(crate) struct Connection<T = Box<dyn Stream>> {
    reader: MessageReader<T>,
    local: SocketAddr,
    commitment: Option<Commitment>,
    /// How many messages have come since the last request.
    received: u32,
}

impl Connection {
    /// Connects from a local address to a server in the way that is configured, perhaps over
    /// something else than TCP alone.
    pub(crate) async fn open_as(ends: Ends, config: &MappingConfig) -> Result<Self, MappingError> {
        let opening = async {
            let stream = connect(ends, config).await?;
            let broken = |error: io::Error| MappingError::from_stream(&error);
            let local = stream.local_addr().map_err(broken)?;
            let stream = match &config.over {
                Some(over) => over.open(stream).await.map_err(broken)?,
                None => Box::new(stream),
            };
            Ok(Self::new(stream, local, config))
        };
        let opened = timeout(config.connect_timeout, opening).await;
        opened.map_err(|_| MappingError::ConnectTimedOut)?
    }
}

impl Connection<TcpStream> {
    /// Connects from a local address to a server by TCP alone, as the routes say.
    pub(crate) async fn open(
        host: &Host,
        ends: Ends,
        within: Duration,
    ) -> Result<Self, MappingError> {
        let config = MappingConfig {
            host: host.clone(),
            ..MappingConfig::default()
        };
        let opened = timeout(within, connect(ends, &config)).await;
        let stream = opened.map_err(|_| MappingError::ConnectTimedOut)??;
        let local = stream.local_addr();
        let local = local.map_err(|error| MappingError::from_stream(&error))?;
        Ok(Self::new(stream, local, &config))
    }

    /// Returns the connection itself.
    pub(crate) const fn stream(&self) -> &TcpStream {
        self.reader.get_ref()
    }

    /// Returns the connection and what has come by it.
    pub(crate) fn into_reader(self) -> MessageReader<TcpStream> {
        self.reader
    }
}

async fn connect(ends: Ends, config: &MappingConfig) -> Result<TcpStream, MappingError> {
    let Ends { local, server } = ends;
    let bind = |error: io::Error| MappingError::Bind(error.kind());
    if local.is_ipv4() != server.is_ipv4() {
        return Err(MappingError::Bind(io::ErrorKind::InvalidInput));
    }
    let socket = config.host.tcp_socket(local, Sharing::Shared);
    let socket = socket.map_err(bind)?;
    if let Some(device) = &config.device {
        socket.leave_by(device).map_err(bind)?;
    }
    let connected = socket.connect(server).await;
    connected.map_err(|error| MappingError::from_connect(&error))
}

impl<T: Stream> Connection<T> {
    fn new(stream: T, local: SocketAddr, config: &MappingConfig) -> Self {
        Self {
            reader: MessageReader::new(stream),
            local,
            commitment: config.commitment,
            received: 0,
        }
    }

    /// Returns the local address and port, which are never wildcards.
    pub(crate) const fn local(&self) -> SocketAddr {
        self.local
    }

    /// Sends a Binding request. Not cancel safe: part of the request may have been sent.
    pub(crate) async fn send(&mut self, within: Duration) -> Result<TransactionId, MappingError> {
        let (transaction, request) = binding::request(self.commitment.as_ref());
        self.send_bytes(&request, within).await?;
        Ok(transaction)
    }

    async fn send_bytes(&mut self, request: &[u8], within: Duration) -> Result<(), MappingError> {
        self.received = 0;
        timeout(within, self.reader.get_mut().write_all(request))
            .await
            .map_err(|_| MappingError::NoAnswer)?
            .map_err(|error| MappingError::from_stream(&error))
    }

    /// Waits for a response to any Binding request. Cancel safe.
    pub(crate) async fn receive(&mut self) -> Result<Response, MappingError> {
        loop {
            let message = self
                .reader
                .next()
                .await
                .map_err(|error| MappingError::from_stream(&error))?
                .ok_or(MappingError::Closed)?;
            self.received += 1;
            if self.received > MAX_MESSAGES {
                return Err(MappingError::MalformedAnswer);
            }
            if let Some(response) = binding::response(&message, self.commitment.as_ref())? {
                return Ok(response);
            }
        }
    }

    /// Sends a Binding request and waits for its answer. Not cancel safe.
    pub(crate) async fn ask(&mut self, within: Duration) -> Result<BindingAnswer, MappingError> {
        let (transaction, request) = binding::request(self.commitment.as_ref());
        self.ask_with(transaction, &request, within).await
    }

    /// Sends this request and waits for its answer. Not cancel safe.
    pub(crate) async fn ask_with(
        &mut self,
        transaction: TransactionId,
        request: &[u8],
        within: Duration,
    ) -> Result<BindingAnswer, MappingError> {
        let deadline = Instant::now() + within;
        self.send_bytes(request, within).await?;
        loop {
            let response = timeout_at(deadline, self.receive())
                .await
                .map_err(|_| MappingError::NoAnswer)??;
            if response.transaction == transaction {
                return response.result;
            }
        }
    }
}
