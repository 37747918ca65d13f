//! What this crate asks of TCP sockets beyond connect and accept.

use std::{io, net::SocketAddr, time::Duration};

use p2pconnect_punch::{ConnectFailure, Opened};
use p2pconnect_stun::{
    shortage,
    socket::{clear_linger, reset_on_close},
};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use crate::machine::tcp_info;

/// How long an established connection may be idle before TCP asks whether the peer is there.
///
/// Also what keeps the NATs' entries: RFC 5382 REQ-5 grants two hours, home routers a few minutes,
/// and the lab's strictest one 20 seconds.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// For how long nothing may come from the peer of a connection, unless set otherwise.
///
/// By itself Linux waits for a quarter of an hour with data under way. Paths that change take seconds to
/// be there again, rarely more than half a minute.
pub(crate) const STREAM_SILENCE: Duration = Duration::from_secs(60);

/// The longest segment where packets of the links' own size are lost, in bytes.
///
/// What Linux begins with where it looks for such paths by itself (`tcp_base_mss`), which it does only
/// if the machine's owner says so. It fits the smallest packet of IPv6 with what tunnels add.
pub(crate) const SMALL_SEGMENT: u16 = 1024;

/// Returns how many bytes the longest segment holds that is sent on a connection; 0 if that is unknown.
pub(crate) fn largest_segment(stream: &TcpStream) -> u16 {
    tcp_info::largest_segment(stream)
}

/// Makes a nominated connection an ordinary one: it closes gracefully from now on, idles without losing
/// its NAT entries, and ends with an error when the peer has not answered for as long as `silence`.
pub(crate) fn settle(stream: &TcpStream, silence: Duration) -> io::Result<()> {
    clear_linger(stream)?;
    keep_alive(stream, silence)
}

/// Has a connection end by RST when it is dropped.
pub(crate) fn have_reset(stream: &TcpStream) {
    if let Err(error) = reset_on_close(stream) {
        tracing::debug!(%error, "a connection will not be reset");
    }
}

/// Makes an idle connection end with an error when the other side has not answered for as long as `silence`
/// whether it is there. That is asked on idle connections alone; [`unanswered_for`] is for the others.
pub(crate) fn keep_alive(stream: &TcpStream, silence: Duration) -> io::Result<()> {
    let (pause, questions) = questions(silence);
    let pause = Duration::from_secs(pause);
    let keepalive = TcpKeepalive::new()
        .with_time(pause)
        .with_interval(pause)
        // Silence after the last one ends it.
        .with_retries(questions.saturating_sub(1).max(1));
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

/// Returns the pause before each question whether the other side is there, in seconds, which are what Linux counts in,
/// and how many pauses come as near as can be to the silence that is allowed. Three at least fit into it.
fn questions(silence: Duration) -> (u64, u32) {
    let silence = silence.as_secs();
    let longest = KEEPALIVE.as_secs().min(silence / 3).max(1);
    // More of them would be no better.
    let pauses = longest.div_ceil(2)..=longest;
    let nearest = pauses.max_by_key(|pause| silence / pause * pause);
    let pause = nearest.unwrap_or(longest);
    (pause, u32::try_from(silence / pause).unwrap_or(u32::MAX))
}

/// Returns for how long the peer has acknowledged nothing, if something that it was sent had to be repeated, or it
/// was asked whether it takes more; `None` where nothing is under way, or the peer has said that it takes no more
/// for now.
pub(crate) fn unanswered_for(stream: &TcpStream) -> Option<Duration> {
    tcp_info::unanswered_for(stream)
}

/// Returns how many bytes the peer has not acknowledged, FIN being one, where the system tells.
pub(crate) fn outstanding(stream: &TcpStream) -> Option<u32> {
    tcp_info::outstanding(stream)
}

/// Tells whether a packet is missing on a connection: one of ours that is sent again and again, or one of the
/// peer's of which a later one has come.
pub(crate) fn lacks_a_packet(stream: &TcpStream) -> bool {
    unanswered_for(stream).is_some() || tcp_info::has_come_out_of_order(stream)
}

/// Tells whether the connection is over, by RST or by FIN both ways, where the system tells.
pub(crate) fn is_closed(stream: &TcpStream) -> bool {
    tcp_info::is_closed(stream)
}

/// Gives a link-local IPv6 address without a zone (RFC 4007 section 11) that of another address: it means
/// nothing to the system alone, and what comes from peers and servers has none.
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

/// PairRotation the system's word into the agent's.
pub(crate) fn classify(error: &io::Error) -> ConnectFailure {
    use io::ErrorKind as Kind;
    match error.kind() {
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

/// Tells from the segments that came in which way the connection left SYN-SENT.
///
/// An active open has seen one segment by now, the SYN-ACK. A simultaneous open has seen the
/// peer's SYN as well (RFC 9293 section 3.5, figure 7). Segments with data are not counted: the
/// peer may already be talking.
pub(crate) fn opened(stream: &TcpStream) -> Opened {
    match tcp_info::segments_without_data(stream) {
        Some(count) if count >= 2 => Opened::Simultaneously,
        _ => Opened::Actively,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
