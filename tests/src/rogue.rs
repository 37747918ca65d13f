//! A coordinator and a peer that are not what they say.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use p2pconnect::{PeerId, SecretKey};
use p2pconnect_identity::server_config;
use p2pconnect_proto::{
    COORDINATION_ALPN, Candidate, NatReport, Opening, PEER_ALPN, PunchPort, Role, SessionToken,
    codec,
    message::{
        Extensions, Flight, Introduction, Notice, Registered, Registration, Request, Response,
        Welcome,
    },
};
use quinn::crypto::rustls::QuicServerConfig;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::mpsc,
    task::JoinSet,
    time::sleep,
};
use tokio_rustls::TlsAcceptor;

/// The session token that the rogue coordinator gives to both.
const TOKEN: [u8; 16] = *b"session of fraud";

/// Stands for the peer that is dialled; nobody has this id.
const WHOEVER_IS_DIALLED: PeerId = PeerId::from_public_key([0; 32]);

/// A coordinator that introduces every dialler to the addresses it likes.
#[derive(Debug)]
pub struct RogueCoordinator {
    /// Where it is.
    pub address: SocketAddr,
    /// Its own id.
    pub id: PeerId,
    /// What diallers want to be passed on to their peers.
    pub flights: mpsc::UnboundedReceiver<Flight>,
    /// What callees say of themselves, none of which it believes.
    pub registrations: mpsc::UnboundedReceiver<Registration>,
    _task: JoinSet<()>,
}

impl RogueCoordinator {
    /// Starts a coordinator that introduces every dialler to these addresses.
    pub fn start(stun: SocketAddr, candidates: Vec<SocketAddr>) -> Self {
        Self::answering(usize::MAX, stun, candidates)
    }

    /// Starts a coordinator that answers so many dials and is silent to all others.
    pub fn answering(dials: usize, stun: SocketAddr, candidates: Vec<SocketAddr>) -> Self {
        Self::with(Deceit {
            dials,
            stun: Some(stun),
            introduction: introduction(candidates),
            notice: None,
            called: None,
        })
    }

    /// Starts a coordinator on the host of a STUN server that introduces whoever registers again
    /// and again, with such a pause, as `introduction` says for each time.
    pub fn flooding(
        stun: SocketAddr,
        pause: Duration,
        introduction: impl Fn(u64) -> Introduction + Send + Sync + 'static,
    ) -> Self {
        let deceit = Deceit {
            dials: 0,
            stun: Some(stun),
            introduction: introduction(0),
            notice: None,
            called: Some(Calls {
                introduction: Arc::new(introduction),
                pause: Some(pause),
            }),
        };
        Self::at(stun.ip(), deceit)
    }

    /// Starts a coordinator that introduces whoever registers to a dialler of its own invention,
    /// with a session token of its choice.
    pub fn calling(
        stun: SocketAddr,
        dialler: PeerId,
        token: [u8; 16],
        candidates: Vec<SocketAddr>,
    ) -> Self {
        let introduction = introduction(candidates);
        let called = Introduction {
            session: SessionToken::from_bytes(token),
            peer: dialler,
            role: Role::Controlled,
            ..introduction.clone()
        };
        Self::with(Deceit {
            dials: 0,
            stun: Some(stun),
            called: Some(Calls {
                introduction: Arc::new(move |_| called.clone()),
                pause: None,
            }),
            introduction,
            notice: None,
        })
    }

    /// Starts a coordinator that answers one dial with this, and says so much to the dialler
    /// before.
    pub fn lying(stun: SocketAddr, introduction: Introduction, notice: Option<Notice>) -> Self {
        Self::with(Deceit {
            dials: 1,
            stun: Some(stun),
            introduction,
            notice,
            called: None,
        })
    }

    fn with(deceit: Deceit) -> Self {
        Self::at(Ipv4Addr::LOCALHOST.into(), deceit)
    }

    fn at(ip: IpAddr, deceit: Deceit) -> Self {
        let key = SecretKey::generate().unwrap();
        let tls = server_config(&key, None, COORDINATION_ALPN).unwrap();
        let quic = Arc::new(QuicServerConfig::try_from(tls).unwrap());
        let config = quinn::ServerConfig::with_crypto(quic);
        let endpoint = quinn::Endpoint::server(config, (ip, 0).into()).unwrap();
        let address = endpoint.local_addr().unwrap();
        let mut task = JoinSet::new();
        let (passing, flights) = mpsc::unbounded_channel();
        let (registering, registrations) = mpsc::unbounded_channel();
        task.spawn(async move {
            let connection = endpoint.accept().await.unwrap().await.unwrap();
            mislead(
                &connection,
                &deceit,
                &Sinks {
                    passing,
                    registering,
                },
            )
            .await;
        });
        Self {
            address,
            id: key.peer_id(),
            flights,
            registrations,
            _task: task,
        }
    }
}

/// Where what a peer has said goes.
struct Sinks {
    passing: mpsc::UnboundedSender<Flight>,
    registering: mpsc::UnboundedSender<Registration>,
}

/// What a rogue coordinator says.
struct Deceit {
    /// How many dials it answers.
    dials: usize,
    /// Which STUN server it names.
    stun: Option<SocketAddr>,
    /// What it tells diallers.
    introduction: Introduction,
    /// What it tells diallers before.
    notice: Option<Notice>,
    /// What it tells whoever registers.
    called: Option<Calls>,
}

/// Introductions of callees.
#[derive(Clone)]
struct Calls {
    /// What the n-th one says.
    introduction: Arc<dyn Fn(u64) -> Introduction + Send + Sync>,
    /// How long after each the next one follows, if there is to be another.
    pause: Option<Duration>,
}

impl Calls {
    async fn call(self, connection: quinn::Connection) {
        for n in 0.. {
            notify(&connection, &Notice::Introduction((self.introduction)(n))).await;
            match self.pause {
                Some(pause) => sleep(pause).await,
                None => return,
            }
        }
    }
}

async fn mislead(connection: &quinn::Connection, deceit: &Deceit, sinks: &Sinks) {
    let welcome = Notice::Welcome(Welcome {
        observed: connection.remote_address(),
        stun_servers: deceit.stun.into_iter().collect(),
        stun_alternates: Vec::new(),
        features: Vec::new(),
        extensions: Extensions::default(),
    });
    notify(connection, &welcome).await;
    let mut unanswered = Vec::new();
    let mut calling = JoinSet::new();
    let mut answered = 0;
    while let Ok((mut send, mut receive)) = connection.accept_bi().await {
        let request = receive.read_to_end(codec::MAX_BODY + codec::HEADER_LEN);
        let request = request.await.unwrap();
        let answer = match codec::decode(&request[codec::HEADER_LEN..]).unwrap() {
            Request::Dial(dial) if answered < deceit.dials => {
                answered += 1;
                if let Some(notice) = &deceit.notice {
                    notify(connection, notice).await;
                }
                let mut introduction = deceit.introduction.clone();
                if introduction.peer == WHOEVER_IS_DIALLED {
                    introduction.peer = dial.callee;
                }
                Response::Introduced(introduction)
            }
            Request::Register(registration) => {
                let addresses = registration.candidates.iter().map(|it| it.address);
                let unproven = addresses.collect();
                drop(sinks.registering.send(registration));
                if let Some(calls) = deceit.called.clone().filter(|_| calling.is_empty()) {
                    calling.spawn(calls.call(connection.clone()));
                }
                Response::Registered(Registered {
                    unproven,
                    extensions: Extensions::default(),
                })
            }
            Request::Settled(_) => Response::Settled,
            request => {
                // Where the test does not look at them, nobody takes them.
                if let Request::Relay(flight) = request {
                    drop(sinks.passing.send(flight));
                }
                unanswered.push((send, receive));
                continue;
            }
        };
        send.write_all(&codec::encode(&answer).unwrap())
            .await
            .unwrap();
        send.finish().unwrap();
    }
}

async fn notify(connection: &quinn::Connection, notice: &Notice) {
    let mut stream = connection.open_uni().await.unwrap();
    stream
        .write_all(&codec::encode(notice).unwrap())
        .await
        .unwrap();
    stream.finish().unwrap();
}

/// Returns what the rogue tells a dialler: that the peer is at these addresses.
pub fn introduction(candidates: Vec<SocketAddr>) -> Introduction {
    let host = |address: &SocketAddr| Candidate::host(*address, PunchPort::PRIMARY);
    Introduction {
        session: SessionToken::from_bytes(TOKEN),
        peer: WHOEVER_IS_DIALLED,
        role: Role::Controlling,
        candidates: candidates.iter().map(host).collect(),
        nat: NatReport::default(),
        rtt_via_coordinator_us: 1_000,
        handshake: Vec::new(),
        serial: 0,
        // As if it had seen the dialler, who need not begin anew then.
        witnessed: 1,
        seen_together: false,
        peer_extensions: Vec::new(),
        extensions: Extensions::default(),
    }
}

/// Somebody who is at the peer's address and knows the session token, with another key.
#[derive(Debug)]
pub struct Impostor {
    /// Where somebody listens.
    pub address: SocketAddr,
    _task: JoinSet<()>,
}

impl Impostor {
    /// Starts to listen on loopback.
    pub async fn start() -> Self {
        let key = SecretKey::generate().unwrap();
        let tls = Arc::new(server_config(&key, None, PEER_ALPN).unwrap());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut task = JoinSet::new();
        task.spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let acceptor = TlsAcceptor::from(Arc::clone(&tls));
                let token = SessionToken::from_bytes(TOKEN);
                let ours = token.opening(Role::Controlled);
                stream.write_all(ours.as_bytes()).await.unwrap();
                let theirs = token.opening(Role::Controlling);
                let mut greeting = [0; Opening::LEN + 1];
                if stream.read_exact(&mut greeting).await.is_ok() {
                    // Behind the opening: the handshake runs here, since no other has ended.
                    assert_eq!(greeting, *[&theirs.as_bytes()[..], &[1]].concat());
                    let probe = stream.read_u16().await.unwrap();
                    let mut probe = vec![0; probe.into()];
                    stream.read_exact(&mut probe).await.unwrap();
                    stream.write_u16(0).await.unwrap();
                    assert!(
                        acceptor.accept(stream).await.is_err(),
                        "the dialler was fooled"
                    );
                }
            }
        });
        Self {
            address,
            _task: task,
        }
    }
}
