//! Real sockets in namespaces.

use std::{
    collections::BTreeMap,
    io::{ErrorKind, Read as _, Write as _},
    mem,
    net::{Ipv4Addr, SocketAddr},
    os::fd::AsFd,
    time::Duration,
};

use netns_lab::{Engine, EventLog, Host, Lab, Topology};
use netns_lab_rig::packets::{body, ends, icmp, icmp_message};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Protocol, Socket, Type};

use crate::ground::{Dial, Ground, IDENTIFIER, PATIENCE, Seen, Sock};

pub(crate) struct Kernel {
    lab: Lab,
    /// Each with what became of it, and whom it dialled.
    sockets: Vec<(Option<Socket>, Option<Seen>, Option<SocketAddr>)>,
    listeners: BTreeMap<(String, u16), Socket>,
}

impl Kernel {
    pub(crate) fn build(topology: &Topology, engine: Engine) -> Self {
        let lab = Lab::builder().topology(topology.clone()).seed(7);
        Self {
            lab: lab.engine(engine).log(true).build().unwrap(),
            sockets: vec![],
            listeners: BTreeMap::new(),
        }
    }

    fn keep(&mut self, socket: Socket, failed: Option<Seen>, to: Option<SocketAddr>) -> Sock {
        self.sockets.push((Some(socket), failed, to));
        Sock(self.sockets.len() - 1)
    }

    fn socket(&self, sock: Sock) -> &Socket {
        self.sockets[sock.0].0.as_ref().unwrap()
    }
}

fn bound(host: &Host, port: u16) -> Socket {
    let local = SocketAddr::from((host.ipv4(), port));
    let bind = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.bind(&local.into()).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    };
    host.run(bind).unwrap()
}

/// Waits until a socket is ready, and returns whether it is.
fn ready(socket: &impl AsFd, for_what: PollFlags) -> bool {
    let limit = Timespec {
        tv_sec: 0,
        tv_nsec: PATIENCE.as_nanos() as i64,
    };
    let mut polled = [PollFd::new(socket, for_what)];
    poll(&mut polled, Some(&limit)).unwrap() > 0
}

fn meaning(error: &std::io::Error) -> Seen {
    match error.kind() {
        ErrorKind::ConnectionRefused => Seen::Refused,
        ErrorKind::ConnectionReset => Seen::Reset,
        ErrorKind::HostUnreachable => Seen::HostUnreachable,
        ErrorKind::NetworkUnreachable => Seen::NetworkUnreachable,
        ErrorKind::AddrNotAvailable => Seen::AddressNotAvailable,
        _ => Seen::Other(error.to_string()),
    }
}

/// An ICMP echo request, without an IP header.
fn echo_request(length: u16) -> Vec<u8> {
    let [high, low] = IDENTIFIER.to_be_bytes();
    let mut message = vec![8, 0, 0, 0, high, low, 0, 1];
    message.resize(8 + usize::from(length), 0);
    let anybody = Ipv4Addr::UNSPECIFIED.into();
    body(&icmp_message(&message, anybody, anybody)).to_vec()
}

/// What an ICMP packet says of an echo request of ours, if anything.
fn pong(packet: &[u8]) -> Option<Seen> {
    let (kind, code, rest) = icmp(packet);
    match kind {
        0 if ends(packet).2.port() == IDENTIFIER => Some(Seen::Echo),
        3 | 11 | 12 if ends(rest).1.port() == IDENTIFIER => Some(Seen::Told(kind, code)),
        _ => None,
    }
}

impl Ground for Kernel {
    fn local(&self, host: &str) -> Ipv4Addr {
        self.lab.host(host).ipv4()
    }

    fn listen(&mut self, host: &str, port: u16) {
        let socket = bound(self.lab.host(host), port);
        socket.listen(16).unwrap();
        self.listeners.insert((host.into(), port), socket);
    }

    fn dial_together(&mut self, dials: [Dial<'_>; 2]) -> [Sock; 2] {
        // Nothing slow comes between the two.
        let bound = dials.map(|(host, port, to)| (bound(self.lab.host(host), port), to));
        let dialled = bound.map(|(socket, to)| {
            let result = socket.connect(&to.into());
            (socket, result, to)
        });
        dialled.map(|(socket, result, to)| {
            let failed = result
                .err()
                .filter(|error| error.raw_os_error() != Some(libc::EINPROGRESS))
                .map(|error| meaning(&error));
            self.keep(socket, failed, Some(to))
        })
    }

    fn dial(&mut self, host: &str, port: u16, to: SocketAddr) -> Sock {
        let socket = bound(self.lab.host(host), port);
        let failed = match socket.connect(&to.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Some(meaning(&error)),
            _ => None,
        };
        self.keep(socket, failed, Some(to))
    }

    fn settle(&mut self, sock: Sock) -> Seen {
        if let Some(failed) = &self.sockets[sock.0].1 {
            return failed.clone();
        }
        let to = self.sockets[sock.0].2.unwrap();
        let socket = self.socket(sock);
        // Asking again tells what came of it, and never makes a new attempt.
        let result = loop {
            if !ready(socket, PollFlags::OUT) {
                return Seen::Silence;
            }
            match socket.connect(&to.into()) {
                Ok(()) => return Seen::Connected,
                Err(error) => match error.raw_os_error() {
                    Some(libc::EISCONN) => return Seen::Connected,
                    Some(libc::EALREADY) => {}
                    _ => break meaning(&error),
                },
            }
        };
        self.sockets[sock.0].1 = Some(result.clone());
        result
    }

    fn accept(&mut self, host: &str, port: u16) -> Option<(Sock, SocketAddr)> {
        let listener = &self.listeners[&(host.to_owned(), port)];
        if !ready(listener, PollFlags::IN) {
            return None;
        }
        let (socket, peer) = listener.accept().ok()?;
        let peer = peer.as_socket()?;
        Some((self.keep(socket, None, None), peer))
    }

    fn send(&mut self, sock: Sock, text: &str) {
        // That a connection is gone shows when receiving.
        let _sent = self.socket(sock).write(text.as_bytes());
    }

    fn receive(&mut self, sock: Sock) -> Seen {
        let mut socket = self.socket(sock);
        if !ready(socket, PollFlags::IN) {
            return Seen::Silence;
        }
        let mut buffer = [0; 64];
        match socket.read(&mut buffer) {
            Ok(0) => Seen::EndOfStream,
            Ok(length) => Seen::Bytes(String::from_utf8_lossy(&buffer[..length]).into()),
            Err(error) => meaning(&error),
        }
    }

    fn ping(&mut self, host: &str, to: Ipv4Addr, length: u16) -> Seen {
        let open = || Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)).unwrap();
        let socket = self.lab.host(host).run(open).unwrap();
        let to = SocketAddr::from((to, 0));
        socket.send_to(&echo_request(length), &to.into()).unwrap();
        let mut buffer = [0; 2048];
        while ready(&socket, PollFlags::IN) {
            let length = (&socket).read(&mut buffer).unwrap();
            if let Some(seen) = pong(&buffer[..length]) {
                return seen;
            }
        }
        Seen::Silence
    }

    fn close(&mut self, sock: Sock) {
        drop(mem::take(&mut self.sockets[sock.0].0));
    }

    fn abort(&mut self, sock: Sock) {
        let linger = Some(Duration::ZERO);
        self.socket(sock).set_linger(linger).unwrap();
        self.close(sock);
    }

    fn flush(&mut self, name: &str) {
        self.lab.nat_named(name).flush().unwrap();
    }

    fn finish(&mut self) -> EventLog {
        let never = self
            .lab
            .capture()
            .wait_for(Duration::from_millis(150), |_| false);
        assert_eq!(never, None);
        assert_eq!(self.lab.capture().private_sources(), []);
        self.lab.log()
    }
}
