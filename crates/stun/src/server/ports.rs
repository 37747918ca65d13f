//! The sockets of a server.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use p2pconnect_host::{Host, KeepAlive, Sharing, TcpListener};

use super::{StunServerConfig, discovery::Quad, udp::Datagrams};

/// How often ports are looked for that are free everywhere, where the system may choose them.
const ATTEMPTS: usize = 16;

/// The most connections that wait for being accepted: Linux cuts it to `somaxconn`, whose default
/// since 5.4 is this.
const BACKLOG: u32 = 4096;

/// How the system asks whether the other end of a quiet connection still exists. Frees the slots of
/// clients that vanished without a word within half an hour instead of four.
const KEEP_ALIVE: KeepAlive = KeepAlive {
    idle: Duration::from_secs(15 * 60),
    interval: Duration::from_secs(75),
    questions: 9,
};

/// How much the system keeps of what comes over a connection, and of what is sent there: many times
/// the longest message. The system doubles it for its own records.
pub(super) const BUFFER: u32 = 4096;

/// What a UDP socket keeps of datagrams that have not been read yet: those of some milliseconds of
/// as many as one core answers. The system may grant less, which is no reason not to serve.
const RECEIVE_BUFFER: usize = 1 << 20;

/// Over what a server is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StunTransports {
    /// TCP alone.
    #[default]
    Tcp,
    /// UDP alone.
    Udp,
    /// Both, on ports of the same number.
    Both,
}

impl StunTransports {
    const fn has_tcp(self) -> bool {
        match self {
            Self::Tcp | Self::Both => true,
            Self::Udp => false,
        }
    }

    const fn has_udp(self) -> bool {
        match self {
            Self::Udp | Self::Both => true,
            Self::Tcp => false,
        }
    }
}

/// Why a server cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("STUN cannot listen on {transport} {address}")]
#[non_exhaustive]
pub struct ListenError {
    /// The address, as it was asked for.
    pub address: SocketAddr,
    /// Over what: `TCP` or `UDP`.
    pub transport: &'static str,
    /// What the system says, above all that the port is in use (`AddrInUse`) or not allowed.
    pub source: io::Error,
}

/// All sockets of a server.
#[derive(Debug, Default)]
pub(super) struct Ports {
    pub(super) listeners: Vec<TcpListener>,
    pub(super) datagrams: Vec<Datagrams>,
    /// What they are bound to: what was asked for, in that order, and what alternates add.
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) quads: Vec<Quad>,
}

impl Ports {
    /// Binds all that is asked for.
    pub(super) fn bind(
        wanted: &[SocketAddr],
        config: &StunServerConfig,
    ) -> Result<Self, ListenError> {
        let is_chosen = |it: &SocketAddr| it.port() == 0;
        let is_free_elsewhere = wanted.iter().chain(&config.alternates).any(is_chosen);
        let mut attempt = 1;
        loop {
            match Self::try_bind(wanted, config) {
                Err(error)
                    if is_free_elsewhere
                        && attempt < ATTEMPTS
                        && error.source.kind() == io::ErrorKind::AddrInUse =>
                {
                    attempt += 1;
                }
                bound @ (Ok(_) | Err(_)) => return bound,
            }
        }
    }

    fn try_bind(wanted: &[SocketAddr], config: &StunServerConfig) -> Result<Self, ListenError> {
        let mut ports = Self::default();
        for address in wanted {
            ports.add(*address, config)?;
        }
        for alternate in &config.alternates {
            let one = ports.partner(*alternate, wanted.len())?;
            let at = |ip, port| SocketAddr::new(ip, port);
            let second = ports.add(at(one.ip(), alternate.port()), config)?;
            ports.add(at(alternate.ip(), one.port()), config)?;
            let other = ports.add(at(alternate.ip(), second.port()), config)?;
            ports.quads.push(Quad { one, other });
        }
        Ok(ports)
    }

    /// Returns the address that an alternate belongs to, of so many that were asked for.
    fn partner(&self, alternate: SocketAddr, asked: usize) -> Result<SocketAddr, ListenError> {
        let is_partner = |it: &&SocketAddr| {
            it.is_ipv4() == alternate.is_ipv4()
                && !it.ip().is_unspecified()
                && it.ip() != alternate.ip()
                && it.port() != alternate.port()
        };
        let mut partners = self.addresses.iter().take(asked).filter(is_partner);
        match (partners.next(), partners.next()) {
            (Some(one), None) => Ok(*one),
            (None, _) | (Some(_), Some(_)) => Err(ListenError {
                address: alternate,
                transport: "the other address",
                source: io::ErrorKind::InvalidInput.into(),
            }),
        }
    }

    /// Binds one address, and returns it with its port.
    fn add(
        &mut self,
        address: SocketAddr,
        config: &StunServerConfig,
    ) -> Result<SocketAddr, ListenError> {
        let failed = |transport| {
            move |source| ListenError {
                address,
                transport,
                source,
            }
        };
        let mut bound = address;
        if config.transports.has_tcp() {
            let listener = listen(&config.host, bound).map_err(failed("TCP"))?;
            bound = listener.local_addr().map_err(failed("TCP"))?;
            self.listeners.push(listener);
        }
        if config.transports.has_udp() && !self.is_served(bound) {
            let socket = config.host.udp_socket(bound, Some(RECEIVE_BUFFER));
            let socket = socket.map_err(failed("UDP"))?;
            bound = socket.local_addr().map_err(failed("UDP"))?;
            self.datagrams.push(Datagrams { socket, at: bound });
        }
        self.addresses.push(bound);
        Ok(bound)
    }

    /// Tells whether a UDP socket at all addresses of IPv6 serves this one of IPv4 as well.
    fn is_served(&self, address: SocketAddr) -> bool {
        let all = SocketAddr::from((Ipv6Addr::UNSPECIFIED, address.port()));
        address.ip() == Ipv4Addr::UNSPECIFIED && self.datagrams.iter().any(|it| it.at == all)
    }
}

/// Listens on a port that is not shared: a second server of the same user would take half of the
/// connections unnoticed.
pub(super) fn listen(host: &Host, address: SocketAddr) -> io::Result<TcpListener> {
    let socket = host.tcp_socket(address, Sharing::Exclusive)?;
    // The connections that it accepts inherit both.
    socket.keep_alive(KEEP_ALIVE)?;
    socket.limit_buffers(BUFFER)?;
    socket.listen(BACKLOG)
}
