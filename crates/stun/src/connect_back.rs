//! Has a server connect back, to see what the NATs on the way let in.

use std::{io, net::SocketAddr, time::Duration};

use p2pconnect_host::{Host, TcpStream};
use p2pconnect_proto::{BackOutcome, ConnectBack};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::{
    binding::{self, BindingAnswer},
    connection::{Connection, Ends},
    error::MappingError,
};

/// How long the server waits at least: a busy machine needs that much.
const LEAST_PATIENCE: Duration = Duration::from_millis(200);

/// The longest that the server is asked to wait: it would not wait longer.
const MOST_PATIENCE: Duration = Duration::from_secs(2);

/// How many round trips the server waits: one is what an answer takes.
const ROUND_TRIPS: u32 = 4;

/// The same when it tries again: what takes longer was not heard the first time either.
const ROUND_TRIPS_AGAIN: u32 = 2;

/// How often the server tries again after silence.
///
/// It sends one SYN, whose loss looks like a NAT that drops it, and so does that of the answer:
/// with one packet in twenty lost each way, one connection in ten is like that, and three are one
/// time in a thousand.
const REPETITIONS: u32 = 2;

/// The pause before it does so: a lost packet is seldom alone. Most NATs are silent, so that it is
/// short.
const PAUSE: Duration = Duration::from_millis(100);

/// As many as the server makes in all.
const BACKLOG: u32 = 2 * (1 + REPETITIONS);

/// Has `server` connect back to `local`, and returns what became of the connections: from another
/// port of the server, and from another address if it has one.
///
/// This tells how NATs and firewalls filter (RFC 5780 section 4.4) and what they answer to a SYN
/// that they do not let in (RFC 5382 REQ-4). `local` must be an address and a port that nothing
/// else is sent from, neither before nor meanwhile: what has been sent to opens the way for
/// answers, and what comes back may spoil the mapping for others. Nothing is left of it
/// afterwards.
///
/// A connection that arrives, RST and ICMP are proof of what happens to all. Silence may be a lost
/// packet: the server is asked twice more then, on the same connection, and connects from other
/// ports. All outcomes are returned.
///
/// `None` means that this server does not connect back, or that silence was not repeated because it
/// answers no more.
///
/// How the server sees `local` is told to `seen` as soon as it is known, long before the outcomes
/// are: no other connection gets that mapping meanwhile.
///
/// `within` bounds the whole: three round trips and the time that the server waits, which is four
/// round trips, at least 200 ms and at most 2 s. After silence it takes six round trips more, and
/// 600 ms at least.
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
    host: &Host,
    local: SocketAddr,
    server: SocketAddr,
    within: Duration,
    seen: impl FnOnce(SocketAddr),
) -> Result<Option<Vec<ConnectBack>>, MappingError> {
    let bind = |error: io::Error| MappingError::Bind(error.kind());
    let began = Instant::now();
    // The system takes the connections; whoever made them learns all from that.
    let _listener = host.shared_listener(local, BACKLOG).map_err(bind)?;
    let ends = Ends { local, server };
    let mut connection = Connection::open(host, ends, within).await?;
    // A SYN that was lost makes it a second.
    let round_trip = began.elapsed().min(MOST_PATIENCE / ROUND_TRIPS);
    let patience = |round_trips| (round_trip * round_trips).max(LEAST_PATIENCE);
    let deadline = began + within;
    seen(
        connection
            .ask(deadline.saturating_duration_since(Instant::now()))
            .await?
            .mapped,
    );
    let first = ask(&mut connection, patience(ROUND_TRIPS), deadline).await?;
    let mut backs = first.backs.unwrap_or_default();
    let mut certain = !is_silent(&backs);
    for _ in 0..REPETITIONS {
        if !is_silent(&backs) {
            break;
        }
        sleep_until(deadline.min(Instant::now() + PAUSE)).await;
        match ask(&mut connection, patience(ROUND_TRIPS_AGAIN), deadline).await {
            Ok(again) => {
                let again = again.backs.unwrap_or_default();
                certain |= !again.is_empty();
                backs.extend(again);
            }
            Err(error) => {
                tracing::debug!(%error, "the stun server does not connect back again");
                break;
            }
        }
    }
    let is_known = certain && !backs.is_empty();
    Ok(is_known.then_some(backs))
}

async fn ask(
    connection: &mut Connection<TcpStream>,
    patience: Duration,
    deadline: Instant,
) -> Result<BindingAnswer, MappingError> {
    let (transaction, request) = binding::request_back(patience);
    let left = deadline.saturating_duration_since(Instant::now());
    timeout_at(deadline, connection.ask_with(transaction, &request, left))
        .await
        .map_err(|_| MappingError::NoAnswer)?
}

/// Tells whether nothing but silence came of connections from some place.
fn is_silent(backs: &[ConnectBack]) -> bool {
    let is_heard = |it: &ConnectBack| it.outcome != BackOutcome::Silent;
    let heard_from = |from| backs.iter().any(|it| it.from == from && is_heard(it));
    backs.iter().any(|it| !heard_from(it.from))
}
