//! What this crate asks of TCP sockets beyond connect and accept.

use std::{io, net::SocketAddr, time::Duration};

use p2pconnect_host::{KeepAlive, TcpStream, is_not_permitted, shortage};
use p2pconnect_punch::{ConnectFailure, Opened};

/// How long an established connection may be idle before TCP asks whether the peer is there.
///
/// Also what keeps the NATs' entries: RFC 5382 REQ-5 grants two hours, home routers a few minutes,
/// and the lab's strictest one 20 seconds.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// For how long nothing may come from the peer of a connection, unless set otherwise.
///
/// By itself Linux waits for a quarter of an hour with data under way. Paths that change take
/// seconds to be there again, rarely more than half a minute.
pub(crate) const STREAM_SILENCE: Duration = Duration::from_secs(60);

/// The longest segment where packets of the links' own size are lost, in bytes.
///
/// What Linux begins with where it looks for such paths by itself (`tcp_base_mss`), which it does
/// only if the machine's owner says so. It fits the smallest packet of IPv6 with what tunnels add.
pub(crate) const SMALL_SEGMENT: u16 = 1024;

/// Makes a nominated connection an ordinary one: it closes gracefully from now on, idles without
/// losing its NAT entries, and ends with an error when the peer has not answered for as long as
/// `silence`.
pub(crate) fn settle(stream: &TcpStream, silence: Duration) -> io::Result<()> {
    stream.deliver_on_close()?;
    stream.keep_alive(keep_alive(silence))
}

/// Has a connection end by RST when it is dropped.
pub(crate) fn have_reset(stream: &TcpStream) {
    if let Err(error) = stream.reset_on_close() {
        tracing::debug!(%error, "a connection will not be reset");
    }
}

/// Returns what makes an idle connection end with an error when the other side has not answered for
/// as long as `silence` whether it is there. That is asked on idle connections alone;
/// [`Liveness`](crate::Liveness) is for the others.
pub(crate) fn keep_alive(silence: Duration) -> KeepAlive {
    let (pause, questions) = questions(silence);
    let pause = Duration::from_secs(pause);
    KeepAlive {
        idle: pause,
        interval: pause,
        // Silence after the last one ends it.
        questions: questions.saturating_sub(1).max(1),
    }
}

/// Returns the pause before each question whether the other side is there, in seconds, which are
/// what Linux counts in, and how many pauses come as near as can be to the silence that is allowed.
/// Three at least fit into it.
fn questions(silence: Duration) -> (u64, u32) {
    let silence = silence.as_secs();
    let longest = KEEPALIVE.as_secs().min(silence / 3).max(1);
    // More of them would be no better.
    let pauses = longest.div_ceil(2)..=longest;
    let nearest = pauses.max_by_key(|pause| silence / pause * pause);
    let pause = nearest.unwrap_or(longest);
    (pause, u32::try_from(silence / pause).unwrap_or(u32::MAX))
}

/// Tells whether a packet is missing on a connection: one of ours that is sent again and again, or
/// one of the peer's of which a later one has come.
pub(crate) fn lacks_a_packet(stream: &TcpStream) -> bool {
    let info = stream.info();
    info.unanswered_for.is_some() || info.has_come_out_of_order
}

/// Gives a link-local IPv6 address without a zone (RFC 4007 section 11) that of another address: it
/// means nothing to the system alone, and what comes from peers and servers has none.
pub(crate) fn in_zone_of(address: SocketAddr, other: SocketAddr) -> SocketAddr {
    match (address, other) {
        (SocketAddr::V6(mut address), SocketAddr::V6(other))
            if address.ip().is_unicast_link_local() && address.scope_id() == 0 =>
        {
            address.set_scope_id(other.scope_id());
            address.into()
        }
        _ => address,
    }
}

/// Turns the system's word into the agent's, where it has been asked for nothing but a socket or a
/// route.
pub(crate) fn classify_unsent(error: &io::Error) -> ConnectFailure {
    match error.kind() {
        io::ErrorKind::AddrNotAvailable => ConnectFailure::NoLocalAddress,
        _ => classify(error),
    }
}

/// Turns the system's word into the agent's.
pub(crate) fn classify(error: &io::Error) -> ConnectFailure {
    use io::ErrorKind as Kind;
    match error.kind() {
        _ if is_not_permitted(error) => ConnectFailure::NotPermitted,
        Kind::ConnectionRefused => ConnectFailure::Refused,
        Kind::ConnectionReset | Kind::ConnectionAborted => ConnectFailure::Reset,
        Kind::HostUnreachable | Kind::PermissionDenied => ConnectFailure::HostUnreachable,
        Kind::NetworkUnreachable | Kind::NetworkDown => ConnectFailure::NetworkUnreachable,
        Kind::TimedOut => ConnectFailure::TimedOut,
        Kind::AddrInUse => ConnectFailure::AddressInUse,
        Kind::AddrNotAvailable => ConnectFailure::AddressNotAvailable,
        _ if shortage::note(error).is_some() => ConnectFailure::NoResources,
        _ => ConnectFailure::Other,
    }
}

/// Tells which way a connection left SYN-SENT.
pub(crate) fn opened(stream: &TcpStream) -> Opened {
    if stream.info().has_crossed {
        Opened::Simultaneously
    } else {
        Opened::Actively
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_machine_does_not_let_out_is_told_from_what_the_network_says() {
        let not_permitted = io::Error::from_raw_os_error(libc::EPERM);
        assert_eq!(classify(&not_permitted), ConnectFailure::NotPermitted);
        for (kind, sent, unsent) in [
            (
                io::ErrorKind::PermissionDenied,
                ConnectFailure::HostUnreachable,
                ConnectFailure::HostUnreachable,
            ),
            (
                io::ErrorKind::AddrNotAvailable,
                ConnectFailure::AddressNotAvailable,
                ConnectFailure::NoLocalAddress,
            ),
        ] {
            let error = kind.into();
            assert_eq!((classify(&error), classify_unsent(&error)), (sent, unsent));
        }
    }

    #[test]
    fn an_idle_connection_ends_when_the_silence_is_over() {
        for silence in 3..=3600_u64 {
            let (pause, questions) = questions(Duration::from_secs(silence));
            let ends = pause * u64::from(questions);
            assert!(
                ends <= silence && ends * 10 >= silence * 9,
                "{silence}: {ends}"
            );
            assert!(questions >= 3 && pause <= 15, "{silence}");
        }
        assert_eq!(questions(Duration::from_secs(60)), (15, 4));
    }
}
