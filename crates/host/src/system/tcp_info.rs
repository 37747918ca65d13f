//! What the system tells of a TCP socket, and what it is told that no library has a call for.

pub(super) use info::{Handle, limit_window, of};

#[cfg(target_os = "linux")]
mod info {
    use std::{
        os::fd::{AsRawFd as _, RawFd},
        time::Duration,
    };

    use crate::TcpInfo;

    /// States of the kernel's `tcp_states.h`.
    const ESTABLISHED: u8 = 1;
    const SYN_RECV: u8 = 3;
    const CLOSE: u8 = 7;

    /// What `tcpi_min_rtt` is until something has been measured.
    const UNMEASURED: u32 = u32::MAX;

    /// `TCPI_OPT_WSCALE`.
    const SCALED: u8 = 4;

    pub(crate) fn of(stream: &tokio::net::TcpStream) -> TcpInfo {
        let known = read(stream.as_raw_fd()).map(|info| meaning(&info));
        TcpInfo {
            outstanding: outstanding(stream),
            ..known.unwrap_or_default()
        }
    }

    fn meaning(info: &libc::tcp_info) -> TcpInfo {
        // An active open has seen one segment by now, the SYN-ACK. A simultaneous open has seen the
        // peer's SYN as well (RFC 9293 section 3.5, figure 7). Segments with data are not counted:
        // the peer may already be talking.
        let without_data = info.tcpi_segs_in.saturating_sub(info.tcpi_data_segs_in);
        // Where the peer's SYN-ACK is lost, its data completes the crossing.
        let may_have_crossed = info.tcpi_segs_in >= 2 || info.tcpi_data_segs_in > 0;
        let is_repeating = info.tcpi_unacked > 0 && info.tcpi_retransmits > 0;
        // Whoever takes no more for now answers when it is asked about that (RFC 9293 section
        // 3.8.6.1), and an idle side answers keep-alives: without an answer, both are counted here.
        let is_asking = info.tcpi_probes > 0;
        TcpInfo {
            has_crossed: without_data >= 2,
            has_lost_its_scale: may_have_crossed && info.tcpi_options & SCALED == 0,
            round_trip: (info.tcpi_min_rtt != UNMEASURED)
                .then(|| Duration::from_micros(info.tcpi_min_rtt.into())),
            largest_segment: u16::try_from(info.tcpi_snd_mss).unwrap_or(u16::MAX),
            unanswered_for: (is_repeating || is_asking)
                .then(|| Duration::from_millis(info.tcpi_last_ack_recv.into())),
            outstanding: None,
            // Kernels before 5.4 do not count it.
            has_come_out_of_order: info.tcpi_rcv_ooopack > 0,
            is_closed: info.tcpi_state == CLOSE,
        }
    }

    /// Bounds the window that is ever offered, before connecting; one that fits into 16 bits is
    /// offered without a scale.
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

    /// A socket that connects, which somebody else owns meanwhile.
    pub(crate) struct Handle(RawFd);

    impl Handle {
        pub(crate) fn of(socket: &tokio::net::TcpSocket) -> Self {
            Self(socket.as_raw_fd())
        }

        /// Tells whether a SYN has come in answer to ours or across it, while the socket is there.
        pub(crate) fn is_met(&self) -> bool {
            read(self.0).is_some_and(|info| [ESTABLISHED, SYN_RECV].contains(&info.tcpi_state))
        }
    }

    #[expect(unsafe_code, reason = "TIOCOUTQ has no safe binding")]
    fn outstanding(stream: &tokio::net::TcpStream) -> Option<u32> {
        let mut bytes: libc::c_int = 0;
        // SAFETY: the kernel writes one int for this request (tcp(7), SIOCOUTQ).
        let result = unsafe { libc::ioctl(stream.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
        (result == 0).then(|| bytes.try_into().ok()).flatten()
    }

    #[expect(unsafe_code, reason = "TCP_INFO has no safe binding")]
    fn read(socket: RawFd) -> Option<libc::tcp_info> {
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
        // Kernels before 4.6 return a shorter structure, without the last fields that are read
        // here.
        let last_field = std::mem::offset_of!(libc::tcp_info, tcpi_data_segs_out);
        (result == 0 && len as usize >= last_field).then_some(info)
    }
}

#[cfg(not(target_os = "linux"))]
mod info {
    use crate::TcpInfo;

    pub(crate) fn of(_: &tokio::net::TcpStream) -> TcpInfo {
        TcpInfo::default()
    }

    #[expect(
        clippy::unnecessary_wraps,
        reason = "it has the signature of the other one"
    )]
    pub(crate) const fn limit_window(_: &tokio::net::TcpSocket, _: u32) -> std::io::Result<()> {
        Ok(())
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
}
