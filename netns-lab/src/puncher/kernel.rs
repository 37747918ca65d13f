//! The kernel's sockets of one host, by `epoll`.

use std::collections::BTreeMap;
use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::Duration;

use p2pconnect_punch::{ConnectFailure, Opened};
use rustix::event::{Timespec, epoll};
use rustix::process::{Resource, getrlimit, setrlimit};
use socket2::{Domain, SockAddr, Socket, Type};

use super::sockets::{Progress, Received, Sockets};

/// More than two agents ever have under way at one listener.
const BACKLOG: i32 = 64;

/// Changes that are taken from the kernel at once; what is left comes next time.
const MAX_EVENTS: usize = 256;

/// Stands for any listener among the numbers of sockets.
const LISTENER: u64 = u64::MAX;

/// States of Linux's `tcpi_state`, which count from `TCP_ESTABLISHED`.
const SYN_SENT: u8 = 2;
const SYN_RECEIVED: u8 = 3;
const CLOSED: u8 = 7;

/// Sockets that never wait, and one place to wait for all of them.
///
/// Readiness is reported once for each change, so whoever waits looks at
/// everything that has changed before it waits again.
#[derive(Debug)]
pub(super) struct KernelSockets {
    epoll: OwnedFd,
    listeners: Vec<Socket>,
    /// Whether somebody may have come to a listener.
    arrivals: bool,
    /// Bound on another host, for a thread that is not there.
    reserved: Vec<(SocketAddr, Socket)>,
    open: BTreeMap<u64, Socket>,
    changed: Vec<u64>,
    next: u64,
}

impl KernelSockets {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            listeners: Vec::new(),
            arrivals: true,
            reserved: Vec::new(),
            open: BTreeMap::new(),
            changed: Vec::new(),
            next: 0,
        })
    }

    /// Listens, on a port of the kernel's choice if it is 0, and returns where.
    pub(super) fn open_listener(&mut self, address: IpAddr, port: u16) -> io::Result<SocketAddr> {
        let socket = shared((address, port).into())?;
        socket.listen(BACKLOG)?;
        self.watch(&socket, LISTENER)?;
        let bound = local(&socket)?;
        self.listeners.push(socket);
        Ok(bound)
    }

    /// Binds a socket on the host where the calling thread is, to be connected
    /// later, perhaps by another thread.
    pub(super) fn reserve(&mut self, local: SocketAddr) -> io::Result<()> {
        self.reserved.push((local, shared(local)?));
        Ok(())
    }

    /// Waits for something to happen, at most so long.
    pub(super) fn wait(&mut self, at_most: Duration) -> io::Result<()> {
        let limit = Timespec {
            tv_sec: i64::try_from(at_most.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: at_most.subsec_nanos().into(),
        };
        let mut events = [MaybeUninit::uninit(); MAX_EVENTS];
        match epoll::wait(&self.epoll, &mut events, Some(&limit)) {
            Ok((happened, _)) => {
                for event in happened {
                    match event.data.u64() {
                        LISTENER => self.arrivals = true,
                        number => self.changed.push(number),
                    }
                }
                Ok(())
            }
            Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn watch(&self, socket: &Socket, number: u64) -> io::Result<()> {
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
        Ok(epoll::add(
            &self.epoll,
            socket,
            epoll::EventData::new_u64(number),
            flags,
        )?)
    }

    fn keep(&mut self, socket: Socket) -> io::Result<u64> {
        let number = self.next;
        self.watch(&socket, number)?;
        self.next += 1;
        self.open.insert(number, socket);
        Ok(number)
    }

    fn begin(&mut self, local: SocketAddr, remote: SocketAddr) -> io::Result<u64> {
        let reserved = self.reserved.iter().position(|(at, _)| *at == local);
        let socket = match reserved {
            Some(place) => self.reserved.swap_remove(place).1,
            None => shared(local)?,
        };
        match socket.connect(&remote.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
            Err(error) => return Err(error),
        }
        self.keep(socket)
    }

    fn take(&mut self) -> Option<io::Result<(u64, SocketAddr, SocketAddr)>> {
        for listener in &self.listeners {
            match listener.accept() {
                Ok((socket, remote)) => return Some(self.keep_accepted(socket, &remote)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // A connection that has gone again; others may be behind it.
                Err(error) => return Some(Err(error)),
            }
        }
        self.arrivals = false;
        None
    }

    fn keep_accepted(
        &mut self,
        socket: Socket,
        remote: &SockAddr,
    ) -> io::Result<(u64, SocketAddr, SocketAddr)> {
        socket.set_nonblocking(true)?;
        let remote = remote.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
        let local = local(&socket)?;
        Ok((self.keep(socket)?, local, remote))
    }
}

impl Sockets for KernelSockets {
    type Socket = u64;

    fn connect(&mut self, local: SocketAddr, remote: SocketAddr) -> Result<u64, ConnectFailure> {
        self.begin(local, remote).map_err(|error| classify(&error))
    }

    fn progress(&mut self, socket: u64) -> Progress {
        let Some(socket) = self.open.get(&socket) else {
            return Progress::Failed(ConnectFailure::Other);
        };
        let info = match tcp_info(socket) {
            Ok(info) => info,
            Err(error) => return Progress::Failed(classify(&error)),
        };
        match info.tcpi_state {
            SYN_SENT | SYN_RECEIVED => Progress::Connecting,
            CLOSED => Progress::Failed(match socket.take_error() {
                Ok(Some(error)) | Err(error) => classify(&error),
                Ok(None) => ConnectFailure::Other,
            }),
            // A SYN-ACK came, or a SYN and an ACK (RFC 9293 section 3.5, figure 7).
            _ if info.tcpi_segs_in.saturating_sub(info.tcpi_data_segs_in) >= 2 => {
                Progress::Open(Opened::Simultaneously)
            }
            _ => Progress::Open(Opened::Actively),
        }
    }

    fn listen(&mut self, local: SocketAddr) {
        // Then what comes there is refused, as on any host without a listener.
        let _done = self.open_listener(local.ip(), local.port());
    }

    fn take_changed(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.changed)
    }

    fn accept(&mut self) -> Option<(u64, SocketAddr, SocketAddr)> {
        while self.arrivals {
            match self.take()? {
                Ok(accepted) => return Some(accepted),
                // No room for a socket; what waits goes on waiting.
                Err(error) if classify(&error) == ConnectFailure::NoResources => return None,
                Err(_) => {}
            }
        }
        None
    }

    fn send(&mut self, socket: u64, bytes: &[u8]) -> bool {
        let socket = self.open.get(&socket);
        socket.is_some_and(|it| it.send(bytes).is_ok_and(|sent| sent == bytes.len()))
    }

    fn receive(&mut self, socket: u64, buffer: &mut [u8]) -> Received {
        let Some(mut socket) = self.open.get(&socket) else {
            return Received::Closed;
        };
        match io::Read::read(&mut socket, buffer) {
            Ok(0) => Received::Closed,
            Ok(count) => Received::Bytes(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Received::Nothing,
            Err(_) => Received::Closed,
        }
    }

    fn abort(&mut self, socket: u64) {
        // It lingers for no time, so that closing resets.
        self.open.remove(&socket);
    }
}

/// Allows as many files as the system lets this process have: a punch of ports
/// that must be guessed needs more than a thousand sockets on each side.
pub(super) fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Whoever then has no room is told so by the socket that is refused.
    let _done = setrlimit(Resource::Nofile, limit);
}

/// Makes a socket on a port that others may use too.
fn shared(local: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(local), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_linger(Some(Duration::ZERO))?;
    socket.bind(&local.into())?;
    Ok(socket)
}

fn local(socket: &Socket) -> io::Result<SocketAddr> {
    let address = socket.local_addr()?.as_socket();
    address.ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

/// Turns the system's word into the agent's, as p2pconnect does.
fn classify(error: &io::Error) -> ConnectFailure {
    use io::ErrorKind as Kind;
    match error.kind() {
        Kind::ConnectionRefused => ConnectFailure::Refused,
        Kind::ConnectionReset | Kind::ConnectionAborted => ConnectFailure::Reset,
        Kind::HostUnreachable | Kind::PermissionDenied => ConnectFailure::HostUnreachable,
        Kind::NetworkUnreachable | Kind::NetworkDown => ConnectFailure::NetworkUnreachable,
        Kind::TimedOut => ConnectFailure::TimedOut,
        Kind::AddrInUse => ConnectFailure::AddressInUse,
        Kind::AddrNotAvailable => ConnectFailure::AddressNotAvailable,
        Kind::OutOfMemory => ConnectFailure::NoResources,
        _ => match error.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS) => ConnectFailure::NoResources,
            _ => ConnectFailure::Other,
        },
    }
}

#[expect(unsafe_code, reason = "TCP_INFO has no safe binding")]
fn tcp_info(socket: &Socket) -> io::Result<libc::tcp_info> {
    // SAFETY: tcp_info is made of integers, for which all-zero bytes are a value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let whole = size_of_val(&info);
    let mut length = libc::socklen_t::try_from(whole).map_err(io::Error::other)?;
    // SAFETY: the buffer and its length belong together, and the kernel writes
    // at most `length` bytes into it.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    if result == 0 {
        Ok(info)
    } else {
        Err(io::Error::last_os_error())
    }
}
