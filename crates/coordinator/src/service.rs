//! The service around the registry.

mod asking;
mod board;
mod buffers;
mod bulletin;
mod config;
mod connection;
mod control;
mod counts;
mod drain;
mod farewell;
mod frame;
mod gate;
mod journal;
mod lock;
mod nodes;
mod notices;
mod obliging;
mod request;
mod shared;
mod silence;
mod slots;
mod stun_servers;
mod ticket;
mod web_sockets;

use std::{
    future::pending,
    io,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use p2pconnect_host::{Host, UdpSocket};
use p2pconnect_link::{ConnectError, Link, quic, tcp, web};
use p2pconnect_proto::{PeerId, nodes::NodeId};
use p2pconnect_stun::{TlsConnection, TlsPlace, tls_connections};
use tokio::{
    sync::{mpsc, oneshot},
    task::{JoinError, JoinHandle, JoinSet},
    time::timeout,
};
use tracing::{Instrument as _, debug, debug_span, error, info};

pub use config::{BindError, Config, ServiceLimits, memory_for_clients};
pub use control::Control;
pub use drain::Drain;
pub(crate) use web_sockets::WebSockets;

use crate::concealed::Findings;
use counts::Handshake;
use gate::{Attempt, Verdict};
use nodes::{Nodes, Queues};
use shared::Shared;
use ticket::Ticket;

/// How long a shutdown waits for the close frames to be on their way: a few round trips, after
/// which a peer that did not get one notices by its idle timeout.
const CLOSING: Duration = Duration::from_secs(2);

/// How long a shutdown waits until the other coordinators are told.
const LEAVING: Duration = Duration::from_millis(200);

/// A coordinator that has its socket and does not serve yet.
#[derive(Debug)]
pub struct Coordinator {
    quic: quic::Server,
    tcp: tcp::Server,
    /// Where connections by TCP come from.
    arriving: mpsc::Receiver<TlsConnection>,
    /// What comes from other coordinators, and goes to them.
    others: Option<Queues>,
    /// Where WebSockets come from, if they are wanted.
    web: Option<WebSockets>,
    server_id: PeerId,
    shared: Arc<Shared>,
}

impl Coordinator {
    /// Binds the UDP socket. Must be called within a Tokio runtime.
    ///
    /// # Errors
    ///
    /// [`BindError`] when the configuration or the address cannot be used.
    pub fn bind(config: Config) -> Result<Self, BindError> {
        config.check()?;
        let address = config.listen;
        let socket = bind_socket(&config.host, address);
        let socket = socket.map_err(|source| BindError::Socket { address, source })?;
        Self::on(socket, tls_connections().1, None, config)
    }

    /// Makes a coordinator of a socket, whatever the configuration says of its address, and of
    /// where clients come from that come by TCP, or by WebSockets if there is such a place.
    pub(crate) fn on(
        socket: UdpSocket,
        arriving: mpsc::Receiver<TlsConnection>,
        web: Option<WebSockets>,
        config: Config,
    ) -> Result<Self, BindError> {
        config.check()?;
        let server_id = config.key.peer_id();
        let idle_timeout = config.service.idle_timeout;
        let (nodes, others) = nodes_of(&config)?.unzip();
        let keys: Vec<_> = config.keys().collect();
        Ok(Self {
            quic: quic::Server::new(&config.host, socket, &keys, idle_timeout)?,
            tcp: tcp::Server::new(&keys, idle_timeout)?,
            arriving,
            others,
            web,
            server_id,
            shared: Arc::new(Shared::new(config, nodes)),
        })
    }

    /// Returns the address of the UDP socket, with the port that the system chose where the
    /// configuration left it open.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.quic.local_addr()
    }

    /// Returns the identity that clients must pin.
    #[must_use]
    pub const fn server_id(&self) -> PeerId {
        self.server_id
    }

    /// Returns a way to change and to measure what it does while it serves.
    #[must_use]
    pub fn control(&self) -> Control {
        Control::new(Arc::clone(&self.shared))
    }

    /// Returns a future that is ready once different clients are seen at one private address that
    /// none of them has, with this address: a container with published ports or a router puts it in
    /// the place of theirs. Peers cannot be told where each other are then, unless all of them are
    /// inside.
    ///
    /// Ends without an address with the coordinator. Cancel safe.
    pub fn hidden_clients(&self) -> impl Future<Output = Option<IpAddr>> + Send + use<> {
        self.found(|findings| findings.hidden_behind)
    }

    /// Returns a future that is ready once some clients are seen outside all networks, and another
    /// one inside one and nowhere else, with the address of that one. Those outside cannot be told
    /// where it is then.
    ///
    /// Ends without an address with the coordinator. Cancel safe.
    pub fn client_inside(&self) -> impl Future<Output = Option<IpAddr>> + Send + use<> {
        self.found(|findings| findings.inside)
    }

    fn found(
        &self,
        pick: fn(&Findings) -> Option<IpAddr>,
    ) -> impl Future<Output = Option<IpAddr>> + Send + use<> {
        let mut findings = self.shared.findings();
        async move { pick(&*findings.wait_for(|it| pick(it).is_some()).await.ok()?) }
    }

    /// Serves until `shutdown` completes, then closes every connection with
    /// [`GOING_AWAY`](p2pconnect_proto::close::GOING_AWAY) and a time to come back, another one for
    /// each. Whoever wants to let clients go before that [drains](Control::drain) it first.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends everything that it has started and closes the connections with
    /// [`DONE`](p2pconnect_proto::close::DONE).
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) {
        info!(server_id = %self.server_id, "coordinator serves");
        let mut shutdown = pin!(shutdown);
        let mut connections = JoinSet::new();
        let mut others = JoinSet::new();
        if let Some(queues) = self.others.take() {
            others.spawn(obliging::serve(Arc::clone(&self.shared), queues));
        }
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                incoming = self.quic.accept() => match incoming {
                    Some(incoming) => self.receive(incoming, &mut connections),
                    None => break,
                },
                Some(arrived) = self.arriving.recv() => self.take_up(arrived, &mut connections),
                incoming = next(&mut self.web) => self.take_up_web(incoming, &mut connections),
                Some(ended) = connections.join_next() => report(ended),
            }
        }
        // Whoever says more behind that it leaves is heard of, and missed then.
        others.shutdown().await;
        if let Some(nodes) = &self.shared.nodes
            && timeout(LEAVING, nodes.leave()).await.is_err()
        {
            debug!("other coordinators are not told of the end");
        }
        self.shared.send_all_away();
        // Those in their handshake.
        self.quic
            .close(farewell::back_after(Duration::ZERO), farewell::GOODBYE);
        let closing = async {
            self.quic.wait_idle().await;
            while connections.join_next().await.is_some() {}
        };
        if timeout(CLOSING, closing).await.is_err() {
            debug!("some connections have not acknowledged their end");
        }
        info!("coordinator has stopped");
    }

    /// Serves in the background until the returned handle is dropped or shut down.
    #[must_use]
    pub fn start(self) -> RunningCoordinator {
        let (stop, stopped) = oneshot::channel();
        RunningCoordinator {
            local_addr: self.local_addr(),
            server_id: self.server_id,
            stop: Some(stop),
            quic: Some(self.quic.clone()),
            shared: Arc::clone(&self.shared),
            task: tokio::spawn(self.run(async move {
                // The sender is dropped without a word only when the task is aborted too.
                drop(stopped.await);
            })),
        }
    }

    fn receive(&self, incoming: quic::Incoming, connections: &mut JoinSet<()>) {
        let source = incoming.remote_address().ip();
        let attempt = Attempt {
            source,
            validated: incoming.is_validated(),
            held: self.held(),
        };
        match self.shared.judge(attempt) {
            Verdict::Accept => {
                let ticket = Ticket::new(Arc::clone(&self.shared), source);
                let seen = incoming.remote_address();
                let accepting = async move { incoming.accept().await.map(Link::from) };
                serve(accepting, seen, ticket, connections);
            }
            Verdict::Retry if incoming.may_retry() => {
                self.shared.counts.handshake(Handshake::Retried);
                incoming.retry();
            }
            Verdict::Retry | Verdict::Refuse => {
                self.note_refusal(source);
                incoming.refuse();
            }
        }
    }

    /// Takes up a client that has come by TCP, which shows that it receives at its address.
    fn take_up(&self, arrived: TlsConnection, connections: &mut JoinSet<()>) {
        let TlsConnection {
            stream,
            remote,
            place,
        } = arrived;
        if let Some(ticket) = self.let_in(remote.ip(), Some(place)) {
            let tcp = self.tcp.clone();
            let accepting = async move { tcp.accept(stream, remote).await.map(Link::from) };
            serve(accepting, remote, ticket, connections);
        } else if let Err(error) = stream.as_ref().reset_on_close() {
            debug!(%error, "cannot reset a connection that is refused");
        }
    }

    /// Takes up a client that has come by a WebSocket.
    fn take_up_web(&self, incoming: web::Incoming, connections: &mut JoinSet<()>) {
        let remote = incoming.source;
        if let Some(ticket) = self.let_in(remote.ip(), None) {
            let tcp = self.tcp.clone();
            let accepting = async move { incoming.accept(&tcp).await.map(Link::from) };
            serve(accepting, remote, ticket, connections);
        }
    }

    /// Lets a client in that has come by TCP and is seen at `source`, if there is room.
    fn let_in(&self, source: IpAddr, place: Option<TlsPlace>) -> Option<Ticket> {
        let attempt = Attempt {
            source,
            validated: true,
            held: self.held(),
        };
        match self.shared.judge(attempt) {
            Verdict::Accept => Some(Ticket::of_tcp(Arc::clone(&self.shared), source, place)),
            Verdict::Retry | Verdict::Refuse => {
                self.note_refusal(source);
                None
            }
        }
    }

    /// Returns how many connections take memory.
    fn held(&self) -> usize {
        self.quic.open_connections() + self.shared.by_tcp()
    }

    fn note_refusal(&self, source: IpAddr) {
        self.shared.counts.handshake(Handshake::NoRoom);
        if self.shared.may_log(source) {
            info!("connection refused for want of room");
        }
    }
}

/// Returns what a coordinator has to do with others, and what waits.
fn nodes_of(config: &Config) -> Result<Option<(Nodes, Queues)>, BindError> {
    let Some(cluster) = config.others.clone() else {
        return Ok(None);
    };
    let mut id = [0; NodeId::LEN];
    let filled = config.host.fill_random(&mut id);
    filled.map_err(BindError::Randomness)?;
    let host = config.host.clone();
    Ok(Some(Nodes::new(cluster, host, NodeId::from_bytes(id))))
}

/// Waits for the next WebSocket, for ever if none is wanted. Cancel safe.
async fn next(web: &mut Option<WebSockets>) -> web::Incoming {
    match web {
        Some(web) => web.next().await,
        None => pending().await,
    }
}

/// Serves a client that has been let in.
fn serve(
    accepting: impl Future<Output = Result<Link, ConnectError>> + Send + 'static,
    seen: SocketAddr,
    ticket: Ticket,
    connections: &mut JoinSet<()>,
) {
    let span = debug_span!("connection", id = ticket.id().0);
    // Apart, so that what the handshake takes is given back.
    let admitting = Box::pin(connection::admit(accepting, seen, ticket));
    connections.spawn(connection::serve(admitting).instrument(span));
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        error!(%error, "serving a connection panicked");
    }
}

/// Binds a UDP socket with room for the datagrams of many clients at once.
pub(crate) fn bind_socket(host: &Host, address: SocketAddr) -> io::Result<UdpSocket> {
    host.udp_socket(address, Some(config::RECEIVE_BUFFER))
}

/// A coordinator that serves in the background; dropping it ends the service at once.
#[derive(Debug)]
pub struct RunningCoordinator {
    local_addr: SocketAddr,
    server_id: PeerId,
    stop: Option<oneshot::Sender<()>>,
    /// Given up before the end is waited for: the last handle keeps the socket.
    quic: Option<quic::Server>,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl RunningCoordinator {
    /// Returns the address of the UDP socket.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Returns the identity that clients must pin.
    #[must_use]
    pub const fn server_id(&self) -> PeerId {
        self.server_id
    }

    /// Returns how many connections take memory, those included that have ended and are not
    /// forgotten yet.
    #[must_use]
    pub fn connections(&self) -> usize {
        let by_quic = self.quic.as_ref();
        by_quic.map_or(0, quic::Server::open_connections) + self.shared.by_tcp()
    }

    /// Returns how many peers can be dialled.
    #[must_use]
    pub fn registered(&self) -> usize {
        self.shared.registered()
    }

    /// Returns how many entries are kept of introductions of the last seconds.
    #[must_use]
    pub fn introductions(&self) -> usize {
        self.shared.introductions()
    }

    /// Closes every connection with [`GOING_AWAY`](p2pconnect_proto::close::GOING_AWAY) and returns
    /// when that is done, after 2 s at most.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the service at once.
    pub async fn shutdown(mut self) {
        drop(self.quic.take());
        drop(self.stop.take());
        if let Err(error) = (&mut self.task).await {
            error!(%error, "the coordinator ended with a failure");
        }
    }
}

impl Drop for RunningCoordinator {
    fn drop(&mut self) {
        self.task.abort();
    }
}
