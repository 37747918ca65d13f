//! What this crate asks of TCP sockets beyond connect and accept.

use std::{io, net::SocketAddr, pin::pin, time::Duration};

use p2pconnect_punch::{ConnectFailure, Opened};
use p2pconnect_stun::{
    shortage,
    socket::{clear_linger, reset_on_close, reusable_tcp_socket},
};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream};

use crate::{
    path_faults::{Known, PathFaults},
    syn_budget::PaidSyn,
};

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

/// The largest window without scaling (RFC 9293 section 3.1).
const UNSCALED_WINDOW: u32 = u16::MAX as u32;

/// Connects from exactly `local`, as the faults of the path ask for, and tells how the connection came
/// to be.
///
/// A connection whose peer reads our windows wrongly fails as one that was reset, which it is then: so
/// the peer learns that it has to open anew as well.
///
/// The attempt is given up when `given_up` ends, unless the peer's SYN has come by then: the peer believes that the
/// connection is open, or will in a moment.
///
/// Cancel safety: dropping the future closes the socket, which is what ends an attempt.
pub(crate) async fn connect(
    (local, remote): (SocketAddr, SocketAddr),
    paid: PaidSyn,
    faults: &PathFaults,
    given_up: impl Future<Output = ()>,
) -> Result<(TcpStream, Opened), ConnectFailure> {
    let mut watched = faults.watch();
    let mut given_up = pin!(given_up);
    let mut is_given_up = false;
    let (stream, known) = 'opening: loop {
        let known = *watched.borrow_and_update();
        let socket = reusable_tcp_socket(local).map_err(|error| classify(&error))?;
        prepare(&socket, known).map_err(|error| classify(&error))?;
        let handle = info::Handle::of(&socket);
        let mut connecting = pin!(socket.connect(remote));
        loop {
            tokio::select! {
                connected = &mut connecting => {
                    break 'opening (connected.map_err(|error| classify(&error))?, known);
                }
                // Where ports are guessed, the peer's next attempts come by other ones: a hole that is open
                // already must be of use to these.
                Ok(_) = watched.wait_for(|now| now.scale_lost != known.scale_lost) => break,
                () = &mut given_up, if !is_given_up => {
                    if !handle.is_met() {
                        return Err(ConnectFailure::Withheld);
                    }
                    is_given_up = true;
                }
            }
        }
        paid.repeat();
    };
    if !known.scale_lost && info::has_lost_its_scale(&stream) {
        faults.note_scale_lost();
        return Err(ConnectFailure::Reset);
    }
    let opened = opened(&stream);
    Ok((stream, opened))
}

/// Makes the SYN of a socket say what suits the path.
fn prepare(socket: &TcpSocket, known: Known) -> io::Result<()> {
    if known.scale_lost {
        info::limit_window(socket, UNSCALED_WINDOW)?;
    }
    if known.large_lost {
        // It limits what this side sends, and tells the other side to do the same.
        SockRef::from(socket).set_tcp_mss(SMALL_SEGMENT.into())?;
    }
    Ok(())
}

/// Returns how many bytes the longest segment holds that is sent on a connection; 0 if that is unknown.
pub(crate) fn largest_segment(stream: &TcpStream) -> u16 {
    info::largest_segment(stream)
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
    info::unanswered_for(stream)
}

/// Returns how many bytes the peer has not acknowledged, FIN being one, where the system tells.
pub(crate) fn outstanding(stream: &TcpStream) -> Option<u32> {
    info::outstanding(stream)
}

/// Tells whether a packet is missing on a connection: one of ours that is sent again and again, or one of the
/// peer's of which a later one has come.
pub(crate) fn lacks_a_packet(stream: &TcpStream) -> bool {
    unanswered_for(stream).is_some() || info::has_come_out_of_order(stream)
}

/// Tells whether the connection is over, by RST or by FIN both ways, where the system tells.
pub(crate) fn is_closed(stream: &TcpStream) -> bool {
    info::is_closed(stream)
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

/// Turns the system's word into the agent's.
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
fn opened(stream: &TcpStream) -> Opened {
    match info::segments_without_data(stream) {
        Some(count) if count >= 2 => Opened::Simultaneously,
        _ => Opened::Actively,
    }
}

#[cfg(target_os = "linux")]
mod info {
    use std::{
        os::fd::{AsRawFd as _, RawFd},
        time::Duration,
    };

    pub(super) fn segments_without_data(stream: &tokio::net::TcpStream) -> Option<u32> {
        let info = read(stream)?;
        Some(info.tcpi_segs_in.saturating_sub(info.tcpi_data_segs_in))
    }

    /// Tells whether SYNs have crossed of which the peer's had no window scale. An active open that has
    /// found none in the SYN-ACK scales nothing, as it should.
    pub(super) fn has_lost_its_scale(stream: &tokio::net::TcpStream) -> bool {
        /// `TCPI_OPT_WSCALE`.
        const SCALED: u8 = 4;
        let Some(info) = read(stream) else {
            return false;
        };
        // Where the peer's SYN-ACK is lost, its data completes the crossing.
        let may_have_crossed = info.tcpi_segs_in >= 2 || info.tcpi_data_segs_in > 0;
        may_have_crossed && info.tcpi_options & SCALED == 0
    }

    pub(super) fn largest_segment(stream: &tokio::net::TcpStream) -> u16 {
        let mss = read(stream).map_or(0, |info| info.tcpi_snd_mss);
        u16::try_from(mss).unwrap_or(u16::MAX)
    }

    /// Bounds the window that is ever offered, before connecting; one that fits into 16 bits is offered
    /// without a scale.
    #[expect(unsafe_code, reason = "TCP_WINDOW_CLAMP has no safe binding")]
    pub(super) fn limit_window(socket: &tokio::net::TcpSocket, window: u32) -> std::io::Result<()> {
        let len = libc::socklen_t::try_from(size_of_val(&window)).unwrap_or_default();
        // SAFETY: the pointer and the length describe `window`, which outlives the call.
        let result = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_WINDOW_CLAMP,
                (&raw const window).cast(),
                len,
            )
        };
        if result == 0 {
            Ok(())
        } else {
            Err(std::io::Error::last_os_error())
        }
    }

    /// Tells whether something has come behind what was missing then. Kernels before 5.4 do not count it.
    pub(super) fn has_come_out_of_order(stream: &tokio::net::TcpStream) -> bool {
        read(stream).is_some_and(|info| info.tcpi_rcv_ooopack > 0)
    }

    pub(super) fn unanswered_for(stream: &tokio::net::TcpStream) -> Option<Duration> {
        let info = read(stream)?;
        let is_repeating = info.tcpi_unacked > 0 && info.tcpi_retransmits > 0;
        // Whoever takes no more for now answers when it is asked about that (RFC 9293 section 3.8.6.1), and an idle
        // side answers keep-alives: without an answer, both are counted here.
        let is_asking = info.tcpi_probes > 0;
        (is_repeating || is_asking).then(|| Duration::from_millis(info.tcpi_last_ack_recv.into()))
    }

    pub(super) fn is_closed(stream: &tokio::net::TcpStream) -> bool {
        /// `TCP_CLOSE` of the kernel's `tcp_states.h`.
        const CLOSE: u8 = 7;

        read(stream).is_some_and(|info| info.tcpi_state == CLOSE)
    }

    /// A socket that connects, which somebody else owns meanwhile.
    pub(super) struct Handle(RawFd);

    impl Handle {
        pub(super) fn of(socket: &tokio::net::TcpSocket) -> Self {
            Self(socket.as_raw_fd())
        }

        /// Tells whether a SYN has come in answer to ours or across it, while the socket is there.
        pub(super) fn is_met(&self) -> bool {
            /// `TCP_ESTABLISHED` and `TCP_SYN_RECV` of the kernel's `tcp_states.h`.
            const MET: [u8; 2] = [1, 3];

            read_of(self.0).is_some_and(|info| MET.contains(&info.tcpi_state))
        }
    }

    #[expect(unsafe_code, reason = "TIOCOUTQ has no safe binding")]
    pub(super) fn outstanding(stream: &tokio::net::TcpStream) -> Option<u32> {
        let mut bytes: libc::c_int = 0;
        // SAFETY: the kernel writes one int for this request (tcp(7), SIOCOUTQ).
        let result = unsafe { libc::ioctl(stream.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
        (result == 0).then(|| bytes.try_into().ok()).flatten()
    }

    fn read(stream: &tokio::net::TcpStream) -> Option<libc::tcp_info> {
        read_of(stream.as_raw_fd())
    }

    #[expect(unsafe_code, reason = "TCP_INFO has no safe binding")]
    fn read_of(socket: RawFd) -> Option<libc::tcp_info> {
        // SAFETY: tcp_info is made of integers, for which all-zero bytes are a value.
        let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
        let whole = size_of_val(&info);
        let mut len = libc::socklen_t::try_from(whole).ok()?;
        // SAFETY: the buffer and its length belong together, and the kernel writes at most `len`
        // bytes into it.
        let result = unsafe {
            libc::getsockopt(
                socket,
                libc::IPPROTO_TCP,
                libc::TCP_INFO,
                (&raw mut info).cast(),
                &raw mut len,
            )
        };
        // Kernels before 4.6 return a shorter structure, without the last fields that are read here.
        let last_field = std::mem::offset_of!(libc::tcp_info, tcpi_data_segs_out);
        (result == 0 && len as usize >= last_field).then_some(info)
    }
}

#[cfg(not(target_os = "linux"))]
mod info {
    pub(super) const fn segments_without_data(_: &tokio::net::TcpStream) -> Option<u32> {
        None
    }

    pub(super) const fn has_lost_its_scale(_: &tokio::net::TcpStream) -> bool {
        false
    }

    pub(super) const fn largest_segment(_: &tokio::net::TcpStream) -> u16 {
        0
    }

    #[expect(
        clippy::unnecessary_wraps,
        reason = "it has the signature of the other one"
    )]
    pub(super) const fn limit_window(_: &tokio::net::TcpSocket, _: u32) -> std::io::Result<()> {
        Ok(())
    }

    pub(super) const fn has_come_out_of_order(_: &tokio::net::TcpStream) -> bool {
        false
    }

    pub(super) const fn unanswered_for(_: &tokio::net::TcpStream) -> Option<std::time::Duration> {
        None
    }

    pub(super) const fn is_closed(_: &tokio::net::TcpStream) -> bool {
        false
    }

    pub(super) struct Handle;

    impl Handle {
        pub(super) const fn of(_: &tokio::net::TcpSocket) -> Self {
            Self
        }

        pub(super) const fn is_met(&self) -> bool {
            false
        }
    }

    pub(super) const fn outstanding(_: &tokio::net::TcpStream) -> Option<u32> {
        None
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
