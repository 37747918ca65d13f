//! Asks a server once how it sees a connection.

use std::{net::SocketAddr, time::Duration};

use p2pconnect_host::Host;
use tokio::time::{Instant, timeout_at};

use crate::{
    connection::{Connection, Ends},
    error::MappingError,
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
    let deadline = Instant::now() + within;
    let ends = Ends { local, server };
    let mut connection = Connection::open(host, ends, within).await?;
    let answer = timeout_at(deadline, connection.ask(within))
        .await
        .map_err(|_| MappingError::NoAnswer)??;
    Ok(answer.mapped)
}
