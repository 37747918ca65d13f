//! Connects to a TCP service by its name, though some of the name's addresses may not answer.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    net::{TcpStream, lookup_host},
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::args::Target;

/// How long one address has before the next one is tried beside it: the Connection Attempt Delay
/// that RFC 8305 section 8 recommends.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// How long each address may take to answer: TCP has repeated its SYN three times by then.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(10);

/// How long the look-up may take. The resolver gives each name server 5 s before it asks the next.
const LOOKUP_LIMIT: Duration = Duration::from_secs(15);

/// The most addresses of one name that are tried; the last begins 4 s after the first.
const MAX_ADDRESSES: usize = 16;

/// Connects to `target` at the first of its addresses that answers (RFC 8305).
///
/// # Errors
///
/// Why the name has no address, or what became of the address that failed first.
pub(crate) async fn connect(target: &Target) -> io::Result<TcpStream> {
    let looking = lookup_host((target.host.as_str(), target.port));
    let found = timeout(LOOKUP_LIMIT, looking)
        .await
        .map_err(|_| timed_out("the name servers do not answer"))??;
    first_of(in_turn(found.collect()), TcpStream::connect).await
}

/// Orders addresses so that the families take turns, beginning with the resolver's favourite
/// (RFC 8305 section 4). One family may be broken as a whole.
fn in_turn(found: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let favourite = found.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = found
        .into_iter()
        .partition(|address| address.is_ipv6() == favourite);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let pairs = std::iter::from_fn(|| match (first.next(), second.next()) {
        (None, None) => None,
        (one, other) => Some([one, other]),
    });
    pairs.flatten().flatten().take(MAX_ADDRESSES).collect()
}

/// Tries the addresses, each a moment after the one before or as soon as that has failed, until one
/// is connected.
async fn first_of<T, F>(
    addresses: Vec<SocketAddr>,
    connect: impl Fn(SocketAddr) -> F,
) -> io::Result<T>
where
    T: Send + 'static,
    F: Future<Output = io::Result<T>> + Send + 'static,
{
    let mut attempts = JoinSet::new();
    let mut waiting = addresses.into_iter();
    let mut failure = None;
    loop {
        if let Some(address) = waiting.next() {
            attempts.spawn(timeout(ATTEMPT_LIMIT, connect(address)));
        }
        let next_is_due = sleep(ATTEMPT_DELAY);
        let ended = tokio::select! {
            ended = attempts.join_next() => ended,
            () = next_is_due, if waiting.len() > 0 => continue,
        };
        let error = match ended {
            Some(Ok(Ok(Ok(connected)))) => return Ok(connected),
            Some(Ok(Ok(Err(error)))) => error,
            Some(Ok(Err(_))) => timed_out("no answer"),
            Some(Err(error)) => io::Error::other(error),
            None => {
                let none = || io::Error::new(io::ErrorKind::NotFound, "the name has no address");
                return Err(failure.unwrap_or_else(none));
            }
        };
        failure.get_or_insert(error);
    }
}

fn timed_out(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, reason)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use tokio::time::Instant;

    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    /// Connects to port 1, is refused by port 2, and hears nothing from others.
    async fn answer_of(address: SocketAddr) -> io::Result<SocketAddr> {
        match address.port() {
            1 => Ok(address),
            2 => Err(io::ErrorKind::ConnectionRefused.into()),
            _ => std::future::pending().await,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_address_costs_a_moment_only() {
        let began = Instant::now();
        let tried = addresses(&["192.0.2.1:9", "192.0.2.2:9", "192.0.2.3:1"]);
        let connected = first_of(tried.clone(), answer_of).await.unwrap();
        assert_eq!(connected, tried[2]);
        assert!(began.elapsed() < Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_reason_is_told_and_the_wait_has_a_bound() {
        let refused = addresses(&["192.0.2.1:2", "192.0.2.2:9"]);
        let error = first_of(refused, answer_of).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let silent = addresses(&["192.0.2.1:9"]);
        let error = first_of(silent, answer_of).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let error = first_of(Vec::new(), answer_of).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn families_take_turns() {
        let found = addresses(&["[::1]:1", "[::2]:1", "[::3]:1", "192.0.2.1:1"]);
        let wanted = addresses(&["[::1]:1", "192.0.2.1:1", "[::2]:1", "[::3]:1"]);
        assert_eq!(in_turn(found), wanted);
    }
}
