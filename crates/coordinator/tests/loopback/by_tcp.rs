//! Clients that come by TLS on TCP.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use p2pconnect_coordinator::{Config, RendezvousPorts, RunningCoordinator};
use p2pconnect_host::Host;
use p2pconnect_identity::{SecretKey, Stranger};
use p2pconnect_link::{ConnectError, End, Link, RecvStream, tcp};
use p2pconnect_proto::{
    Candidate, PeerId, PunchPort, TokenKey, close,
    codec::{self, HEADER_LEN},
    message::{DialPolicy, DialRequest, Notice, Registration, Request, Response},
};
use p2pconnect_stun::StunServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::client::{Client, bounded};

/// A coordinator whose TCP port serves clients, too.
struct Served {
    coordinator: RunningCoordinator,
    _stun: JoinSet<()>,
}

impl Served {
    fn start(change: impl FnOnce(&mut Config)) -> Self {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let token_key = TokenKey::from_bytes([7; 32]);
        let stun = StunServerConfig::default();
        let ports = RendezvousPorts::bind(any, &[any], stun, token_key).unwrap();
        assert!(ports.no_alternates().is_none());
        let mut config = ports.config(SecretKey::generate().unwrap());
        config.limits.dial_interval_per_peer = Duration::ZERO;
        config.limits.dial_interval_per_source = Duration::ZERO;
        change(&mut config);
        let rendezvous = ports.coordinate(config).unwrap();
        let servers = rendezvous.alternates.into_iter().chain([rendezvous.stun]);
        Self {
            coordinator: rendezvous.coordinator.start(),
            _stun: servers.map(|it| it.run()).collect(),
        }
    }

    async fn try_connect(&self, key: &SecretKey, at: SocketAddr) -> Result<Link, ConnectError> {
        let id = self.coordinator.server_id();
        let client = tcp::Client::new(key, id, &Stranger::default(), None).unwrap();
        let host = Host::default();
        bounded(client.connect(&host, at)).await.map(Link::from)
    }

    async fn connect(&self) -> ByTcp {
        self.connect_via(self.coordinator.local_addr()).await
    }

    async fn connect_via(&self, at: SocketAddr) -> ByTcp {
        let key = SecretKey::generate().unwrap();
        let link = self.try_connect(&key, at).await.unwrap();
        ByTcp {
            id: key.peer_id(),
            link,
        }
    }
}

/// A client that has come by TCP.
struct ByTcp {
    id: PeerId,
    link: Link,
}

impl ByTcp {
    async fn request(&self, request: &Request) -> Response {
        let (mut send, mut receive) = bounded(self.link.open_bi()).await.unwrap();
        let frame = codec::encode(request).unwrap();
        bounded(send.write_all(&frame)).await.unwrap();
        send.finish().unwrap();
        codec::decode(&read_body(&mut receive).await).unwrap()
    }

    /// Reads the next notice that means something.
    async fn notice(&self) -> Notice {
        loop {
            let mut stream = bounded(self.link.accept_uni()).await.unwrap();
            match codec::decode(&read_body(&mut stream).await).unwrap() {
                Notice::Unknown(_) => {}
                notice => return notice,
            }
        }
    }

    async fn register(&self) {
        let registration = Registration {
            serial: 1,
            candidates: vec![candidate()],
            ..Registration::new(DialPolicy::Anyone)
        };
        let response = self.request(&Request::Register(registration)).await;
        assert!(matches!(response, Response::Registered(_)), "{response:?}");
    }

    async fn dial(&self, callee: PeerId) -> Response {
        self.request(&Request::Dial(DialRequest {
            candidates: vec![candidate()],
            ..DialRequest::new(callee)
        }))
        .await
    }
}

fn candidate() -> Candidate {
    Candidate::host((Ipv4Addr::LOCALHOST, 9).into(), PunchPort::PRIMARY)
}

async fn read_body(stream: &mut RecvStream) -> Vec<u8> {
    let mut frame = Vec::new();
    while bounded(stream.read_more(&mut frame, 1000)).await.unwrap() > 0 {}
    let (header, body) = frame.split_first_chunk::<HEADER_LEN>().unwrap();
    assert_eq!(codec::body_len(*header), Ok(body.len()));
    body.to_vec()
}

#[tokio::test]
async fn clients_of_either_way_are_introduced_to_each_other() {
    let served = Served::start(|_| {});
    let by_tcp = served.connect().await;
    let Notice::Welcome(welcome) = by_tcp.notice().await else {
        panic!("the welcome comes first");
    };
    assert_eq!(welcome.observed.ip(), Ipv4Addr::LOCALHOST);
    let by_udp = Client::connect(&served.coordinator).await;
    by_tcp.register().await;
    by_udp.register(DialPolicy::Anyone).await;
    let introduction = by_udp.dial(by_tcp.id).await.unwrap();
    assert_eq!(introduction.candidates, [candidate()]);
    let Notice::Introduction(introduction) = by_tcp.notice().await else {
        panic!("no introduction");
    };
    assert_eq!(introduction.peer, by_udp.id);
    // The first one's dial would serve both.
    let by_udp = Client::connect(&served.coordinator).await;
    by_udp.register(DialPolicy::Anyone).await;
    let answer = by_tcp.dial(by_udp.id).await;
    assert!(matches!(answer, Response::Introduced(_)), "{answer:?}");
    assert_eq!(by_udp.introduction().await.peer, by_tcp.id);
    let other = served.connect().await;
    let answer = other.dial(by_tcp.id).await;
    assert!(matches!(answer, Response::Introduced(_)), "{answer:?}");
    assert_eq!(served.coordinator.registered(), 3);
}

#[tokio::test]
async fn a_client_that_says_nothing_is_forgotten_and_one_that_gives_signs_is_not() {
    let idle_timeout = Duration::from_millis(500);
    let served = Served::start(|config| config.service.idle_timeout = idle_timeout);
    let (silent, alive) = (served.connect().await, served.connect().await);
    silent.register().await;
    alive.register().await;
    let signs = async {
        let mut ticks = tokio::time::interval(idle_timeout / 10);
        loop {
            ticks.tick().await;
            alive.link.send_sign_of_life();
        }
    };
    let end = tokio::select! {
        never = signs => never,
        end = bounded(silent.link.closed()) => end,
    };
    assert_eq!(end, End::Reset);
    alive.register().await;
    let unavailable = alive.dial(silent.id).await;
    assert!(
        matches!(unavailable, Response::Refused(_)),
        "{unavailable:?}"
    );
}

#[tokio::test]
async fn a_violation_and_a_shutdown_are_told_in_words() {
    let served = Served::start(|_| {});
    let (rude, good) = (served.connect().await, served.connect().await);
    let (mut send, _receive) = rude.link.open_bi().await.unwrap();
    send.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let end = bounded(rude.link.closed()).await;
    let is_told = |end: &End, wanted: u32| match end {
        End::Closed { code, words } => code.close().code == wanted && !words.is_empty(),
        End::ClosedHere | End::Silence | End::Reset | End::Failed(_) => false,
    };
    assert!(is_told(&end, close::PROTOCOL_VIOLATION), "{end:?}");
    good.register().await;
    let (end, ()) = tokio::join!(
        bounded(good.link.closed()),
        bounded(served.coordinator.shutdown())
    );
    assert!(is_told(&end, close::GOING_AWAY), "{end:?}");
}

#[tokio::test]
async fn one_address_has_so_many_connections_by_either_way() {
    let served = Served::start(|config| config.service.max_connections_per_source = 2);
    let at = served.coordinator.local_addr();
    let _by_udp = Client::connect(&served.coordinator).await;
    let by_tcp = served.connect().await;
    assert_eq!(served.coordinator.connections(), 2);
    let key = SecretKey::generate().unwrap();
    served.try_connect(&key, at).await.unwrap_err();
    drop(by_tcp);
    bounded(async { while served.try_connect(&key, at).await.is_err() {} }).await;
}

#[tokio::test]
async fn handshakes_that_fail_leave_nothing_behind() {
    let served = Served::start(|config| config.service.max_connections_per_source = 1);
    let at = served.coordinator.local_addr();
    for _ in 0..8 {
        let mut stream = TcpStream::connect(at).await.unwrap();
        let record = [22, 3, 1, 0, 2, 0, 0];
        tokio::io::AsyncWriteExt::write_all(&mut stream, &record)
            .await
            .unwrap();
    }
    let key = SecretKey::generate().unwrap();
    bounded(async { while served.try_connect(&key, at).await.is_err() {} }).await;
}

/// The system of a process that is killed ends its connections, so nothing is waited for.
#[tokio::test]
async fn a_dialler_hears_at_once_that_its_callee_is_killed() {
    let served = Served::start(|_| {});
    let at = served.coordinator.local_addr();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let between = listener.local_addr().unwrap();
    let mut way = JoinSet::new();
    way.spawn(async move {
        let (mut from, _) = listener.accept().await.unwrap();
        let mut to = TcpStream::connect(at).await.unwrap();
        tokio::io::copy_bidirectional(&mut from, &mut to)
            .await
            .unwrap();
    });
    let callee = served.connect_via(between).await;
    callee.register().await;
    let dialler = served.connect().await;
    let answer = dialler.dial(callee.id).await;
    assert!(matches!(answer, Response::Introduced(_)), "{answer:?}");
    way.shutdown().await;
    let silent = async {
        loop {
            if let Notice::Silent(silent) = dialler.notice().await {
                return silent;
            }
        }
    };
    bounded(silent).await;
}
