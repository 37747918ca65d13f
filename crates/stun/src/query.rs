//! Asks a server once how it sees a connection.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, Weak},
    time::Duration,
};

use p2pconnect_host::{Host, TcpStream};
use stun_types::message::TransactionId;
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use crate::{
    connection::{Connection, Ends},
    error::MappingError,
    onward::{Awaited, Onward},
};

/// Asks `server` once, from `local`, how it sees this connection, and closes it again.
///
/// Asking a second server, or another port of the same, from the local port of a
/// [`HeldMapping`](crate::HeldMapping) tells whether the NAT's mapping depends on the destination.
/// The connection is closed with RST, which leaves no TIME_WAIT.
///
/// `within` bounds the whole: connecting and the answer, two round trips.
///
/// # Errors
///
/// A [`MappingError`]; [`ConnectTimedOut`](MappingError::ConnectTimedOut) or
/// [`NoAnswer`](MappingError::NoAnswer) when the time is over.
///
/// # Cancel safety
///
/// Dropping the future closes the connection; nothing is left behind.
pub async fn query(
    host: &Host,
    local: SocketAddr,
    server: SocketAddr,
    within: Duration,
) -> Result<SocketAddr, MappingError> {
    Query::begin(host, local, server, within)
        .await?
        .answer()
        .await
}

/// A question that has been sent to a server, as by [`query`], and whose connection something else
/// may go on with, before the answer has come or after that. Dropping it closes the connection.
pub struct Query {
    connection: Connection<TcpStream>,
    transaction: TransactionId,
    deadline: Instant,
    is_answered: bool,
    lasts: Arc<()>,
}

impl Query {
    /// Connects to `server` from `local` and asks how it sees the connection.
    ///
    /// # Errors
    ///
    /// As [`query`].
    ///
    /// # Cancel safety
    ///
    /// As [`query`].
    pub async fn begin(
        host: &Host,
        local: SocketAddr,
        server: SocketAddr,
        within: Duration,
    ) -> Result<Self, MappingError> {
        let deadline = Instant::now() + within;
        let mut connection = Connection::open(host, Ends { local, server }, within).await?;
        let transaction = connection.send(within).await?;
        Ok(Self {
            connection,
            transaction,
            deadline,
            is_answered: false,
            lasts: Arc::default(),
        })
    }

    /// Returns how long a round trip to the server takes, as the system has measured it.
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        self.connection.stream().info().round_trip
    }

    /// Returns what can be upgraded for as long as the connection lasts, whoever has it.
    #[must_use]
    pub fn lasts(&self) -> Weak<()> {
        Arc::downgrade(&self.lasts)
    }

    /// Waits for the answer: how the server sees the connection.
    ///
    /// # Errors
    ///
    /// As [`query`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the answer can be waited for again.
    pub async fn answer(&mut self) -> Result<SocketAddr, MappingError> {
        loop {
            let receiving = timeout_at(self.deadline, self.connection.receive());
            let response = receiving.await.map_err(|_| MappingError::NoAnswer)??;
            if response.transaction == self.transaction {
                self.is_answered = true;
                return Ok(response.result?.mapped);
            }
        }
    }

    /// Returns the connection, for something else to go on with, and the answer if it is still to
    /// come: it does while that reads.
    #[must_use]
    pub fn go_on(self) -> (Onward, oneshot::Receiver<SocketAddr>) {
        let (asker, answer) = oneshot::channel();
        let awaited = Awaited {
            transaction: self.transaction,
            asker,
            others: 0,
        };
        let awaited = Some(awaited).filter(|_| !self.is_answered);
        let reader = self.connection.into_reader();
        (Onward::new(reader, awaited, self.lasts), answer)
    }
}

impl fmt::Debug for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Query").finish_non_exhaustive()
    }
}
