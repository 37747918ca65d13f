//! Peers that are registered, and tell who waits for them of their introductions.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use p2pconnect_identity::{SecretKey, client_config};
use p2pconnect_proto::{
    COORDINATION_ALPN, PeerId,
    codec::{self, HEADER_LEN},
    message::{DialPolicy, Notice, Registration, Request, Response},
};
use quinn::{
    ClientConfig, Connection, Endpoint, TransportConfig, VarInt, crypto::rustls::QuicClientConfig,
};
use tokio::task::JoinSet;

use crate::{process::Server, served::Kind};

/// How often a peer that is quiet lets the server know that it is there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How many connect at a time.
const CONNECTING: usize = 64;

/// How many sockets all peers share, each at an address of its own: what one address may do in a
/// second is limited.
const SOCKETS: u8 = 64;

/// A peer that is connected.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) id: PeerId,
    connection: Connection,
}

impl Peer {
    async fn join(endpoint: Endpoint, to: SocketAddr, server: PeerId, kind: Kind) -> Self {
        let key = SecretKey::generate().unwrap();
        let tls = client_config(&key, server, COORDINATION_ALPN).unwrap();
        let quic = QuicClientConfig::try_from(tls).unwrap();
        let mut config = ClientConfig::new(Arc::new(quic));
        let mut transport = TransportConfig::default();
        transport
            .keep_alive_interval(Some(KEEP_ALIVE))
            .max_concurrent_bidi_streams(VarInt::from_u32(0))
            .max_concurrent_uni_streams(VarInt::from_u32(16));
        config.transport_config(Arc::new(transport));
        let connecting = endpoint.connect_with(config, to, "p2pconnect").unwrap();
        let peer = Self {
            id: key.peer_id(),
            connection: connecting.await.unwrap(),
        };
        match kind {
            Kind::Coordinator => peer.register().await,
            Kind::Bare | Kind::Leanest => {}
        }
        peer
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
        let (mut send, mut receive) = self.connection.open_bi().await.ok()?;
        send.write_all(&codec::encode(request).unwrap())
            .await
            .ok()?;
        send.finish().ok()?;
        let frame = receive
            .read_to_end(HEADER_LEN + codec::MAX_BODY)
            .await
            .ok()?;
        codec::decode(frame.get(HEADER_LEN..)?).ok()
    }

    /// Returns the next notice. `None` at the end of the connection.
    async fn notice(&self) -> Option<Notice> {
        let mut stream = self.connection.accept_uni().await.ok()?;
        let frame = stream
            .read_to_end(HEADER_LEN + codec::MAX_BODY)
            .await
            .ok()?;
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

/// All peers of a server.
#[derive(Debug)]
pub(crate) struct Crowd {
    pub(crate) peers: Vec<Peer>,
    _answering: JoinSet<()>,
}

impl Crowd {
    /// Connects so many peers to a server. Those of a coordinator register.
    pub(crate) async fn gather(server: &Server, number: usize) -> Self {
        let host = server.address.host.parse().unwrap();
        let to = SocketAddr::new(host, server.address.port);
        let any = |n| SocketAddr::from(([127, 0, 1, n], 0));
        let endpoints = (1..=SOCKETS).map(|n| Endpoint::client(any(n)).unwrap());
        let endpoints: Vec<_> = endpoints.collect();
        let mut joining = JoinSet::new();
        let mut peers = Vec::with_capacity(number);
        for endpoint in endpoints.iter().cycle().take(number) {
            if joining.len() >= CONNECTING {
                peers.push(joining.join_next().await.unwrap().unwrap());
            }
            let (endpoint, id, kind) = (endpoint.clone(), server.address.id, server.kind);
            joining.spawn(Peer::join(endpoint, to, id, kind));
        }
        peers.append(&mut joining.join_all().await);
        let answering = peers.iter().cloned().map(Peer::answer).collect();
        Self {
            peers,
            _answering: answering,
        }
    }

    /// Returns how many of them are connected no more.
    pub(crate) fn lost(&self) -> usize {
        let ended = |it: &&Peer| it.connection.close_reason().is_some();
        self.peers.iter().filter(ended).count()
    }
}
