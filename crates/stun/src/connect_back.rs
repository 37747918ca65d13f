use std::{io, net::SocketAddr, time::Duration};

use p2pconnect_proto::ConnectBack;
use tokio::time::{Instant, timeout_at};

use crate::{binding, connection::Connection, error::MappingError, socket::reusable_listener};

/// How long the server waits at least: a busy machine needs that much.
const LEAST_PATIENCE: Duration = Duration::from_millis(200);

/// The longest that the server is asked to wait: it would not wait longer.
const MOST_PATIENCE: Duration = Duration::from_secs(2);

/// How many round trips the server waits: one is what an answer takes.
const ROUND_TRIPS: u32 = 4;

/// As many as the server makes.
const BACKLOG: u32 = 2;

/// Has `server` connect back to `local`, and returns the mapped address of `local` and what became
/// of the connections: from another port of the server, and from another address if it has one.
///
/// This tells how NATs and firewalls filter (RFC 5780 section 4.4) and what they answer to a SYN
/// that they do not let in (RFC 5382 REQ-4). `local` must be an address and a port that nothing
/// else is sent from, neither before nor meanwhile: what has been sent to opens the way for
/// answers, and what comes back may spoil the mapping for others. Nothing is left of it
/// afterwards.
///
/// `None` in the place of the outcomes means that this server does not connect back.
///
/// `within` bounds the whole: two round trips and the time that the server waits, which is four
/// round trips, at least 200 ms and at most 2 s.
///
/// # Errors
///
/// A [`MappingError`]; [`ConnectTimedOut`](MappingError::ConnectTimedOut) or
/// [`NoAnswer`](MappingError::NoAnswer) when the time is over.
///
/// # Panics
///
/// Outside a tokio runtime with I/O and time enabled.
///
/// # Cancel safety
///
/// Dropping the future closes all connections; nothing is left behind.
pub async fn connect_back(
    local: SocketAddr,
    server: SocketAddr,
    within: Duration,
) -> Result<(SocketAddr, Option<Vec<ConnectBack>>), MappingError> {
    let bind = |error: io::Error| MappingError::Bind(error.kind());
    let began = Instant::now();
    // The system takes the connections; whoever made them learns all from that.
    let _listener = reusable_listener(local, BACKLOG).map_err(bind)?;
    let mut connection = Connection::open(local, server, within, None).await?;
    let round_trip = began.elapsed();
    let patience = (round_trip * ROUND_TRIPS).clamp(LEAST_PATIENCE, MOST_PATIENCE);
    let asking = connection.ask_with(binding::request_back(patience), within);
    let answer = timeout_at(began + within, asking)
        .await
        .map_err(|_| MappingError::NoAnswer)??;
    Ok((answer.mapped, answer.backs))
}
