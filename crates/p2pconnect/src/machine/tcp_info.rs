//! What the system tells of a TCP socket, and what it is told that no library has a call for.

pub(crate) use info::{
    Handle, has_come_out_of_order, has_lost_its_scale, is_closed, largest_segment, limit_window,
    outstanding, segments_without_data, unanswered_for,
};

#[cfg(target_os = "linux")]
mod info {
    use std::{
        os::fd::{AsRawFd as _, RawFd},
        time::Duration,
    };

    pub(crate) fn segments_without_data(stream: &tokio::net::TcpStream) -> Option<u32> {
        let info = read(stream)?;
        Some(info.tcpi_segs_in.saturating_sub(info.tcpi_data_segs_in))
    }

    /// Tells whether SYNs have crossed of which the peer's had no window scale. An active open that has
    /// found none in the SYN-ACK scales nothing, as it should.
    pub(crate) fn has_lost_its_scale(stream: &tokio::net::TcpStream) -> bool {
        /// `TCPI_OPT_WSCALE`.
        const SCALED: u8 = 4;
        let Some(info) = read(stream) else {
            return false;
        };
        // Where the peer's SYN-ACK is lost, its data completes the crossing.
        let may_have_crossed = info.tcpi_segs_in >= 2 || info.tcpi_data_segs_in > 0;
        may_have_crossed && info.tcpi_options & SCALED == 0
    }

    pub(crate) fn largest_segment(stream: &tokio::net::TcpStream) -> u16 {
        let mss = read(stream).map_or(0, |info| info.tcpi_snd_mss);
        u16::try_from(mss).unwrap_or(u16::MAX)
    }

    /// Bounds the window that is ever offered, before connecting; one that fits into 16 bits is offered
    /// without a scale.
    #[expect(unsafe_code, reason = "TCP_WINDOW_CLAMP has no safe binding")]
    pub(crate) fn limit_window(socket: &tokio::net::TcpSocket, window: u32) -> std::io::Result<()> {
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
    pub(crate) fn has_come_out_of_order(stream: &tokio::net::TcpStream) -> bool {
        read(stream).is_some_and(|info| info.tcpi_rcv_ooopack > 0)
    }

    pub(crate) fn unanswered_for(stream: &tokio::net::TcpStream) -> Option<Duration> {
        let info = read(stream)?;
        let is_repeating = info.tcpi_unacked > 0 && info.tcpi_retransmits > 0;
        // Whoever takes no more for now answers when it is asked about that (RFC 9293 section 3.8.6.1), and an idle
        // side answers keep-alives: without an answer, both are counted here.
        let is_asking = info.tcpi_probes > 0;
        (is_repeating || is_asking).then(|| Duration::from_millis(info.tcpi_last_ack_recv.into()))
    }

    pub(crate) fn is_closed(stream: &tokio::net::TcpStream) -> bool {
        /// `TCP_CLOSE` of the kernel's `tcp_states.h`.
        const CLOSE: u8 = 7;

        read(stream).is_some_and(|info| info.tcpi_state == CLOSE)
    }

    /// A socket that connects, which somebody else owns meanwhile.
    pub(crate) struct Handle(RawFd);

    impl Handle {
        pub(crate) fn of(socket: &tokio::net::TcpSocket) -> Self {
            Self(socket.as_raw_fd())
        }

        /// Tells whether a SYN has come in answer to ours or across it, while the socket is there.
        pub(crate) fn is_met(&self) -> bool {
            /// `TCP_ESTABLISHED` and `TCP_SYN_RECV` of the kernel's `tcp_states.h`.
            const MET: [u8; 2] = [1, 3];

            read_of(self.0).is_some_and(|info| MET.contains(&info.tcpi_state))
        }
    }

    #[expect(unsafe_code, reason = "TIOCOUTQ has no safe binding")]
    pub(crate) fn outstanding(stream: &tokio::net::TcpStream) -> Option<u32> {
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
    pub(crate) const fn segments_without_data(_: &tokio::net::TcpStream) -> Option<u32> {
        None
    }

    pub(crate) const fn has_lost_its_scale(_: &tokio::net::TcpStream) -> bool {
        false
    }

    pub(crate) const fn largest_segment(_: &tokio::net::TcpStream) -> u16 {
        0
    }

    #[expect(
        clippy::unnecessary_wraps,
        reason = "it has the signature of the other one"
    )]
    pub(crate) const fn limit_window(_: &tokio::net::TcpSocket, _: u32) -> std::io::Result<()> {
        Ok(())
    }

    pub(crate) const fn has_come_out_of_order(_: &tokio::net::TcpStream) -> bool {
        false
    }

    pub(crate) const fn unanswered_for(_: &tokio::net::TcpStream) -> Option<std::time::Duration> {
        None
    }

    pub(crate) const fn is_closed(_: &tokio::net::TcpStream) -> bool {
        false
    }

    pub(crate) struct Handle;

    impl Handle {
        pub(crate) const fn of(_: &tokio::net::TcpSocket) -> Self {
            Self
        }

        pub(crate) const fn is_met(&self) -> bool {
            false
        }
    }

    pub(crate) const fn outstanding(_: &tokio::net::TcpStream) -> Option<u32> {
        None
    }
}
