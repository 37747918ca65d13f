//! A coordinator and the STUN servers that its clients need, in one process.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
};

use p2pconnect_host::{Host, Shortage, UdpSocket};
use p2pconnect_identity::SecretKey;
use p2pconnect_link::web::Certificate;
use p2pconnect_proto::TokenKey;
use p2pconnect_stun::{StunServer, StunServerConfig, TlsConnection, Witness, tls_connections};
use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    BindError, Config, Coordinator, Meter,
    meter::{ALTERNATES, STUN},
    service::{WebSockets, bind_socket},
};

/// How often a port is looked for that is free for both UDP and TCP.
const ATTEMPTS: usize = 16;

/// The sockets of a coordinator and of the STUN servers beside it, before the key is known.
///
/// ```no_run
/// # use p2pconnect_coordinator::{Rendezvous, RendezvousPorts};
/// # use p2pconnect_identity::SecretKey;
/// # use p2pconnect_proto::TokenKey;
/// # use p2pconnect_stun::StunServerConfig;
/// # async fn serve(key: SecretKey, token_key: TokenKey) -> Result<(), Box<dyn std::error::Error>> {
/// let (listen, stun) = ("198.51.100.1:4433".parse()?, "198.51.100.1:3478".parse()?);
/// let ports = RendezvousPorts::bind(listen, &[stun], StunServerConfig::default(), token_key)?;
/// let config = ports.config(key);
/// ports.coordinate(config)?.run(std::future::pending()).await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct RendezvousPorts {
    host: Host,
    udp: UdpSocket,
    listen: SocketAddr,
    token_key: TokenKey,
    witness: Witness,
    stun: StunServer,
    alternates: io::Result<Vec<StunServer>>,
    arriving: mpsc::Receiver<TlsConnection>,
    web: Option<WebSockets>,
}

impl RendezvousPorts {
    /// Binds UDP at `listen`, a STUN server at the addresses `stun`, and TCP at the port of
    /// `listen` as well, for clients that come by TLS and for STUN, if that is free. Port 0 takes
    /// one that is free for both. Must be called within a Tokio runtime.
    ///
    /// `stun_config` is that of each STUN server, of which there are three at most; its token key,
    /// witness and taker of TLS connections are replaced. All sockets are of its host.
    ///
    /// # Errors
    ///
    /// [`RendezvousError`] when an address cannot be used.
    pub fn bind(
        listen: SocketAddr,
        stun: &[SocketAddr],
        mut stun_config: StunServerConfig,
        token_key: TokenKey,
    ) -> Result<Self, RendezvousError> {
        let witness = Witness::default();
        stun_config.token_key = Some(token_key.clone());
        stun_config.witness = None;
        let (taker, arriving) = tls_connections();
        stun_config.tls = Some(taker);
        let alternate_config = stun_config.clone();
        stun_config.witness = Some(witness.clone());
        let stun = StunServer::bind(stun, stun_config)
            .map_err(|error| RendezvousError::Stun(error.source))?;
        let (udp, alternates) = bind_ports(listen, &alternate_config)?;
        Ok(Self {
            host: alternate_config.host,
            udp,
            listen,
            token_key,
            witness,
            stun,
            alternates,
            arriving,
            web: None,
        })
    }

    /// Has clients come by WebSockets as well to this address of TCP, with TLS around them by a
    /// certificate; or without, behind a web server, which speaks TLS for it. One on this machine
    /// says by X-Forwarded-For where its clients are. STUN is served there as well, if that has
    /// their ports. Must be called within a Tokio runtime. Returns the address.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn listen_for_web_sockets(
        &mut self,
        address: SocketAddr,
        certificate: Option<Certificate>,
    ) -> io::Result<SocketAddr> {
        let web = WebSockets::listen(&self.host, address, certificate, self.stun.taker())?;
        let bound = web.local_addr();
        self.web = Some(web);
        bound
    }

    /// Returns why the coordinator's own port does not serve TCP, if it does not. Clients whose
    /// network lets no UDP out cannot come then. A client that asks a second port by STUN sees
    /// whether its NAT gives each destination another one; without it, clients of one STUN server
    /// do not learn that.
    #[must_use]
    pub fn no_alternates(&self) -> Option<&io::Error> {
        self.alternates.as_ref().err()
    }

    /// Returns the configuration of a coordinator that names these STUN servers to its clients, and
    /// hears from them which addresses they have seen.
    #[must_use]
    pub fn config(&self, key: SecretKey) -> Config {
        let mut config = Config::new(self.listen, key, self.token_key.clone());
        let alternates = self.alternates.iter().flatten();
        config.stun_servers = announced(self.stun.local_addrs(), self.listen);
        config.stun_alternates =
            announced(alternates.flat_map(StunServer::local_addrs), self.listen);
        config.witness = Some(self.witness.clone());
        config.host = self.host.clone();
        config
    }

    /// Makes a coordinator of these sockets.
    ///
    /// # Errors
    ///
    /// [`BindError`] when the configuration cannot be used.
    pub fn coordinate(self, config: Config) -> Result<Rendezvous, BindError> {
        Ok(Rendezvous {
            coordinator: Coordinator::on(self.udp, self.arriving, self.web, config)?,
            stun: self.stun,
            alternates: self.alternates.unwrap_or_default(),
        })
    }
}

/// A coordinator and its STUN servers, which do not serve yet.
#[derive(Debug)]
#[non_exhaustive]
pub struct Rendezvous {
    /// The coordinator.
    pub coordinator: Coordinator,
    /// The STUN server at the addresses that were asked for.
    pub stun: StunServer,
    /// STUN at the coordinator's own port, one server for each address family.
    pub alternates: Vec<StunServer>,
}

impl Rendezvous {
    /// Returns what measures the coordinator and its STUN servers while they serve.
    #[must_use]
    pub fn meter(&self) -> Meter {
        let alternates = self.alternates.iter().map(|it| (ALTERNATES, it.meter()));
        Meter {
            control: self.coordinator.control(),
            stun: alternates.chain([(STUN, self.stun.meter())]).collect(),
        }
    }

    /// Serves until `shutdown` completes, then closes every connection as [`Coordinator::run`]
    /// does.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends everything that it has started.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let mut servers = JoinSet::new();
        for server in self.alternates.into_iter().chain([self.stun]) {
            servers.spawn(server.run());
        }
        self.coordinator.run(shutdown).await;
    }
}

/// Why the sockets of a coordinator and its STUN servers cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum RendezvousError {
    /// STUN cannot listen at one of its addresses.
    #[error("STUN cannot listen on TCP")]
    Stun(#[source] io::Error),
    /// The machine lacks what STUN at the coordinator's port takes.
    #[error("STUN cannot listen beside the coordinator")]
    Shortage(#[source] io::Error),
    /// The coordinator's own address cannot be listened on.
    #[error(transparent)]
    Coordinator(#[from] BindError),
}

/// Returns where TCP listens to be reached wherever UDP at an address is: at `[::]`, UDP serves
/// IPv4 as well, and TCP does not.
#[must_use]
pub fn tcp_addresses(udp: SocketAddr) -> Vec<SocketAddr> {
    let serves_both = udp.ip() == Ipv6Addr::UNSPECIFIED;
    let v4 = serves_both.then(|| (Ipv4Addr::UNSPECIFIED, udp.port()).into());
    [udp].into_iter().chain(v4).collect()
}

/// Binds UDP at an address, and STUN at the same port of TCP, which something else may have.
fn bind_ports(
    wanted: SocketAddr,
    stun_config: &StunServerConfig,
) -> Result<(UdpSocket, io::Result<Vec<StunServer>>), RendezvousError> {
    let mut attempt = 1;
    loop {
        let alternates = match bind_alternates(wanted, stun_config) {
            Err(error) if Shortage::of(&error).is_some() => {
                return Err(RendezvousError::Shortage(error));
            }
            bound @ (Ok(_) | Err(_)) => bound,
        };
        let bound = alternates
            .iter()
            .flatten()
            .flat_map(StunServer::local_addrs);
        let port = bound.map(SocketAddr::port).next();
        let port = port.unwrap_or_else(|| wanted.port());
        let address = SocketAddr::new(wanted.ip(), port);
        match bind_socket(&stun_config.host, address) {
            Ok(socket) => return Ok((socket, alternates)),
            Err(error) if wanted.port() == 0 && attempt < ATTEMPTS && is_taken(&error) => {
                attempt += 1;
            }
            Err(source) => return Err(BindError::Socket { address, source }.into()),
        }
    }
}

/// Returns whether something else has an address, so that another port may be free.
fn is_taken(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrInUse
}

/// Binds STUN to the port of a UDP address, for both families if UDP serves both there and the port
/// is free for both.
fn bind_alternates(udp: SocketAddr, config: &StunServerConfig) -> io::Result<Vec<StunServer>> {
    let bind = |address| {
        let bound = StunServer::bind(&[address], config.clone());
        bound.map_err(|error| error.source)
    };
    let first = bind(udp)?;
    let port = first.local_addrs().first().map_or(0, SocketAddr::port);
    let others = tcp_addresses(SocketAddr::new(udp.ip(), port))
        .into_iter()
        .skip(1);
    let others = others.filter_map(|address| bind(address).ok());
    Ok([first].into_iter().chain(others).collect())
}

/// Returns what clients are told: where STUN is on the coordinator's own address, only the family
/// and the port, since behind a NAT that address is another from outside.
fn announced<'a>(
    stun: impl IntoIterator<Item = &'a SocketAddr>,
    coordinator: SocketAddr,
) -> Vec<SocketAddr> {
    let unspecified = |it: SocketAddr| match it {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, it.port()).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, it.port()).into(),
    };
    let announced = |it: &SocketAddr| match it.ip() == coordinator.ip() {
        true => unspecified(*it),
        false => *it,
    };
    stun.into_iter().map(announced).collect()
}
