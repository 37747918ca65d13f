//! Peers that are registered, and tell who waits for them of their introductions.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use p2pconnect_host::{Host, Sharing};
use p2pconnect_identity::{SecretKey, Stranger, client_config};
use p2pconnect_link::{Link, RecvStream, SendStream, tcp};
use p2pconnect_proto::{
    COORDINATION_ALPN, PeerId,
    codec::{self, HEADER_LEN},
    message::{DialPolicy, Notice, Registration, Request, Response},
};
use quinn::{
    ClientConfig, Connection, ConnectionError, Endpoint, TransportConfig, VarInt,
    crypto::rustls::QuicClientConfig,
};
use tokio::{task::JoinSet, time::interval};

use crate::{process::Server, served::Kind};

/// How often a peer that is quiet lets the server know that it is there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How many parts of the peers take turns in that.
const TURNS: usize = 100;

/// How many connect at a time.
const CONNECTING: usize = 64;

/// How many sockets all peers share, each at an address of its own: what one address may do in a
/// second is limited.
const SOCKETS: u8 = 64;

/// A peer that is connected.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) id: PeerId,
    way: Way,
}

/// Where a peer connects from, and to what.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    endpoint: Endpoint,
    to: SocketAddr,
    server: PeerId,
    kind: Kind,
}

impl Route {
    pub(crate) fn new(endpoint: Endpoint, server: &Server) -> Self {
        let host = server.address.host.parse().unwrap();
        Self {
            endpoint,
            to: SocketAddr::new(host, server.address.port),
            server: server.address.id,
            kind: server.kind,
        }
    }

    pub(crate) async fn by_quic(&self, key: &SecretKey) -> Result<Connection, ConnectionError> {
        let tls = client_config(key, self.server, COORDINATION_ALPN).unwrap();
        let quic = QuicClientConfig::try_from(tls).unwrap();
        let mut config = ClientConfig::new(Arc::new(quic));
        let mut transport = TransportConfig::default();
        transport
            .keep_alive_interval(Some(KEEP_ALIVE * 5 / 4))
            .max_concurrent_bidi_streams(VarInt::from_u32(0))
            .max_concurrent_uni_streams(VarInt::from_u32(16));
        config.transport_config(Arc::new(transport));
        let endpoint = &self.endpoint;
        let connecting = endpoint.connect_with(config, self.to, "p2pconnect");
        connecting.unwrap().await
    }

    async fn by_tcp(&self, key: &SecretKey) -> Link {
        let client = tcp::Client::new(key, self.server, &Stranger::default(), None).unwrap();
        let from = SocketAddr::new(self.endpoint.local_addr().unwrap().ip(), 0);
        let socket = Host::default()
            .tcp_socket(from, Sharing::Exclusive)
            .unwrap();
        let stream = socket.connect(self.to).await.unwrap();
        client.connect_over(stream, self.to).await.unwrap().into()
    }
}

/// A connection to a server. Quic's are of sockets that many share, where links have their own.
#[derive(Debug, Clone)]
enum Way {
    Quic(Connection),
    Tcp(Link),
}

impl Peer {
    async fn join(route: Route) -> Self {
        let key = SecretKey::generate().unwrap();
        let way = match route.kind {
            Kind::Tcp => Way::Tcp(route.by_tcp(&key).await),
            Kind::Coordinator | Kind::Limited | Kind::Bare | Kind::Leanest => {
                Way::Quic(route.by_quic(&key).await.unwrap())
            }
        };
        let peer = Self {
            id: key.peer_id(),
            way,
        };
        match route.kind {
            Kind::Coordinator | Kind::Limited | Kind::Tcp => peer.register().await,
            Kind::Bare | Kind::Leanest => {}
        }
        peer
    }

    async fn open(&self) -> Option<(SendStream, RecvStream)> {
        match &self.way {
            Way::Quic(it) => {
                let (send, receive) = it.open_bi().await.ok()?;
                Some((send.into(), receive.into()))
            }
            Way::Tcp(it) => it.open_bi().await.ok(),
        }
    }

    /// Lets the server know that the peer is there, as peers do.
    fn keep_alive(&self) {
        match &self.way {
            Way::Quic(it) => drop(it.send_datagram(Default::default())),
            Way::Tcp(it) => it.send_sign_of_life(),
        }
    }

    async fn register(&self) {
        let registration = Request::Register(Registration::new(DialPolicy::Anyone));
        let answer = self.ask(&registration).await;
        assert!(
            matches!(answer, Some(Response::Registered(_))),
            "{answer:?}"
        );
    }

    /// Asks for something. `None` if the connection ends before the answer.
    pub(crate) async fn ask(&self, request: &Request) -> Option<Response> {
        let (send, receive) = self.open().await?;
        ask_on(send, receive, request).await
    }

    /// Returns the next notice. `None` at the end of the connection.
    async fn notice(&self) -> Option<Notice> {
        let stream = match &self.way {
            Way::Quic(it) => it.accept_uni().await.ok()?.into(),
            Way::Tcp(it) => it.accept_uni().await.ok()?,
        };
        let frame = whole(stream).await?;
        codec::decode(frame.get(HEADER_LEN..)?).ok()
    }

    /// Answers introductions as a callee does that is done at once.
    async fn answer(self) {
        while let Some(notice) = self.notice().await {
            if let Notice::Introduction(introduction) = notice {
                self.ask(&Request::Settled(introduction.peer)).await;
            }
        }
    }
}

/// Asks for something on a stream, and returns the answer, if there is one.
pub(crate) async fn ask_on(
    mut send: SendStream,
    receive: RecvStream,
    request: &Request,
) -> Option<Response> {
    send.write_all(&codec::encode(request).unwrap())
        .await
        .ok()?;
    send.finish().ok()?;
    let frame = whole(receive).await?;
    codec::decode(frame.get(HEADER_LEN..)?).ok()
}

/// Returns all that comes on a stream.
async fn whole(mut stream: RecvStream) -> Option<Vec<u8>> {
    let mut frame = Vec::new();
    let limit = HEADER_LEN + codec::MAX_BODY;
    while stream.read_more(&mut frame, limit).await.ok()? > 0 {}
    Some(frame)
}

/// Keeps all connections alive, one part of them after the other.
async fn keep_alive(peers: Vec<Peer>) {
    let mut turns = interval(KEEP_ALIVE / 100);
    for turn in 0.. {
        turns.tick().await;
        let part = peers.iter().skip(turn % TURNS).step_by(TURNS);
        part.for_each(Peer::keep_alive);
    }
}

/// All peers of a server.
#[derive(Debug)]
pub(crate) struct Crowd {
    pub(crate) peers: Vec<Peer>,
    _answering: JoinSet<()>,
}

impl Crowd {
    /// Connects so many peers to a server. Those of a coordinator register.
    pub(crate) async fn gather(server: &Server, number: usize) -> Self {
        let any = |n| SocketAddr::from(([127, 0, 1, n], 0));
        let endpoints = (1..=SOCKETS).map(|n| Endpoint::client(any(n)).unwrap());
        let endpoints: Vec<_> = endpoints.collect();
        let mut joining = JoinSet::new();
        let mut peers = Vec::with_capacity(number);
        for endpoint in endpoints.iter().cycle().take(number) {
            if joining.len() >= CONNECTING {
                peers.push(joining.join_next().await.unwrap().unwrap());
            }
            joining.spawn(Peer::join(Route::new(endpoint.clone(), server)));
        }
        peers.append(&mut joining.join_all().await);
        let mut answering: JoinSet<_> = peers.iter().cloned().map(Peer::answer).collect();
        match server.kind {
            Kind::Coordinator | Kind::Limited | Kind::Tcp => {
                answering.spawn(keep_alive(peers.clone()));
            }
            Kind::Bare | Kind::Leanest => {}
        }
        Self {
            peers,
            _answering: answering,
        }
    }

    /// Returns how many of them are connected no more.
    pub(crate) fn lost(&self) -> usize {
        let ended = |it: &&Peer| match &it.way {
            Way::Quic(it) => it.close_reason().is_some(),
            Way::Tcp(it) => it.close_reason().is_some(),
        };
        self.peers.iter().filter(ended).count()
    }
}
