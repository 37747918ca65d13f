//! Accepts the server's connections, within its limits.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use p2pconnect_host::{TcpListener, TcpStream};
use tokio::{
    task::{JoinError, JoinSet},
    time::sleep,
};
use tracing::{debug, error, warn};

use super::{Shared, limits::Held, meter::Counts, serve};

/// How long to wait after an accept that failed for lack of something, such as open files. Ten
/// attempts a second cost nothing, and a waiting connection hardly notices a tenth of one.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(100);

/// Accepts and serves connections for ever.
pub(super) async fn run(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    // A shortage may last, and a warning for each attempt would fill the log.
    let mut short = false;
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, remote)) => {
                    short = false;
                    admit(stream, remote, &shared, &mut connections);
                }
                Err(error) => if let Some(pause) = pause_after(&error) {
                    if !short {
                        warn!(%error, "cannot accept stun connections for the moment");
                    }
                    short = true;
                    sleep(pause).await;
                },
            },
            Some(result) = connections.join_next() => report(result),
        }
    }
}

fn admit(
    stream: TcpStream,
    remote: SocketAddr,
    shared: &Arc<Shared>,
    connections: &mut JoinSet<()>,
) {
    match Held::take(shared, remote.ip()) {
        Ok(held) => {
            Counts::add(&shared.counts.accepted);
            connections.spawn(serve::run(stream, remote, Arc::clone(shared), held));
        }
        Err(refusal) => {
            Counts::add(&shared.counts.refused);
            debug!(%remote, %refusal, "stun connection refused");
            serve::reset(&stream);
        }
    }
}

fn report(result: Result<(), JoinError>) {
    if let Err(error) = result
        && error.is_panic()
    {
        error!(%error, "a stun connection panicked");
    }
}

/// Tells how long to leave off accepting. `None` if the error was about one connection only, which
/// had gone before it was accepted (accept(2) names these).
fn pause_after(error: &io::Error) -> Option<Duration> {
    match error.kind() {
        io::ErrorKind::ConnectionAborted
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionRefused
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::NetworkDown
        | io::ErrorKind::Interrupted
        | io::ErrorKind::TimedOut => None,
        _ => Some(SHORTAGE_PAUSE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_shortage_pauses() {
        const EMFILE: i32 = 24;
        const ENOBUFS: i32 = 105;
        for shortage in [EMFILE, ENOBUFS] {
            let error = io::Error::from_raw_os_error(shortage);
            assert_eq!(pause_after(&error), Some(SHORTAGE_PAUSE));
        }
        assert_eq!(pause_after(&io::ErrorKind::ConnectionAborted.into()), None);
    }
}
