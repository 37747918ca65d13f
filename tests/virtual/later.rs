//! A coordinator of a later version says what this one does not know, and everything goes on
//! (PROTOCOL.md section 10).

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use p2pconnect::{
    BindError, CoordinatorAddr, CoordinatorError, DialError, DialPolicy, Endpoint, PeerId, Refusal,
    RefusalReason, SecretKey,
};
use p2pconnect_proto::{
    Role, SessionToken,
    codec::{self, HEADER_LEN, Wire},
    message::{
        Extension, Extensions, Flight, Introduction, Notice, Registered, Request, Response,
        Unknown, Welcome,
    },
};
use p2pconnect_stun::DEFAULT_PORT;
use p2pconnect_tests::{kinds::PUBLIC, rogue, virtual_ground::VirtualGround};
use quinn::{Connection, SendStream};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::coordinator::serve_on_b;

/// How long each dial tries.
const PATIENCE: Duration = Duration::from_secs(3);

/// The number of something that no version knows.
const NEW: u16 = 0x6B6B;

/// The same for an extension that must not be passed over.
const REQUIRED: u16 = 0xEB6B;

/// A coordinator of a later version.
pub(crate) struct Later {
    address: CoordinatorAddr,
    connections: Arc<AtomicUsize>,
    /// What it has been asked.
    requests: mpsc::UnboundedReceiver<Request>,
    _task: JoinSet<()>,
}

impl Later {
    /// Starts on the host `b`. It says so much on each connection, and answers each request so,
    /// after a notice perhaps.
    pub(crate) fn start(
        ground: &VirtualGround,
        notices: Vec<Notice>,
        answer: impl Fn(&Request) -> (Option<Notice>, Response) + Send + Sync + 'static,
    ) -> Self {
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        let (asked, requests) = mpsc::unbounded_channel();
        let words = Arc::new((notices, answer));
        let (address, task) = serve_on_b(ground, move |connection| {
            counter.fetch_add(1, Ordering::Relaxed);
            let (words, asked) = (Arc::clone(&words), asked.clone());
            async move {
                for notice in &words.0 {
                    notify(&connection, notice).await;
                }
                while let Ok((send, mut receive)) = connection.accept_bi().await {
                    let frame = receive.read_to_end(codec::MAX_BODY + HEADER_LEN).await;
                    let request = codec::decode(&frame.unwrap()[HEADER_LEN..]).unwrap();
                    let (notice, response) = (words.1)(&request);
                    if let Some(notice) = &notice {
                        notify(&connection, notice).await;
                    }
                    say(send, &response).await;
                    // The test has ended if nobody listens.
                    asked.send(request).unwrap_or_default();
                }
            }
        });
        Self {
            address,
            connections,
            requests,
            _task: task,
        }
    }

    /// Returns an endpoint on `a` that only dials.
    pub(crate) async fn dialler(&self, ground: &VirtualGround) -> Endpoint {
        let endpoint = ground.endpoint("a").coordinator(self.address.clone());
        endpoint.bind().await.unwrap()
    }

    /// Returns an endpoint on `a` that can be dialled.
    async fn listener(&self, ground: &VirtualGround) -> Result<Endpoint, BindError> {
        let endpoint = ground.endpoint("a").coordinator(self.address.clone());
        endpoint.allow(DialPolicy::Anyone).bind().await
    }

    /// Returns what is asked within some seconds.
    pub(crate) async fn asked(&mut self) -> Vec<Request> {
        sleep(PATIENCE).await;
        std::iter::from_fn(|| self.requests.try_recv().ok()).collect()
    }

    /// Checks that nobody has connected anew.
    pub(crate) fn was_not_left(&self) {
        assert_eq!(self.connections.load(Ordering::Relaxed), 1);
    }
}

async fn notify(connection: &Connection, notice: &Notice) {
    say(connection.open_uni().await.unwrap(), notice).await;
}

async fn say<M: Wire>(mut stream: SendStream, message: &M) {
    let frame = codec::encode(message).unwrap();
    // Whoever is gone is gone.
    if stream.write_all(&frame).await.is_ok() {
        stream.finish().unwrap();
    }
}

fn unknown(kind: u16) -> Unknown {
    Unknown {
        kind,
        fields: vec![0xFF; 30],
    }
}

fn extensions(kind: u16) -> Extensions {
    let value = vec![1, 2, 3];
    Extensions(vec![Extension { kind, value }])
}

fn unavailable() -> Response {
    Response::Refused(RefusalReason::Unavailable.into())
}

fn nobody() -> PeerId {
    SecretKey::generate().unwrap().peer_id()
}

/// Returns the introduction of a peer that is nowhere.
fn introduction(peer: PeerId, role: Role) -> Introduction {
    Introduction {
        session: SessionToken::from_bytes([7; SessionToken::LEN]),
        peer,
        role,
        ..rogue::introduction(Vec::new())
    }
}

/// Names the STUN server beside the ground's own coordinator.
pub(crate) fn welcome(ground: &VirtualGround) -> Welcome {
    let ip = ground.coordinator.host.parse().unwrap();
    Welcome {
        observed: ([198, 51, 100, 7], 7).into(),
        stun_servers: vec![SocketAddr::new(ip, DEFAULT_PORT)],
        stun_alternates: Vec::new(),
        features: vec![NEW],
        extensions: Extensions::default(),
    }
}

/// Returns how a dial ends that is answered so, and what else is asked.
fn dialled(
    answer: impl Fn(PeerId) -> Response + Send + Sync + 'static,
) -> (DialError, Vec<Request>) {
    VirtualGround::run(1, [PUBLIC.boxes; 2], async |ground| {
        let mut later = Later::start(&ground, Vec::new(), move |request| {
            let response = match request {
                Request::Dial(dial) => answer(dial.callee),
                Request::Relay(_) => Response::Relayed,
                _ => unavailable(),
            };
            (None, response)
        });
        let dialler = later.dialler(&ground).await;
        let error = dialler.dial_within(nobody(), PATIENCE).await.unwrap_err();
        later.was_not_left();
        (error, later.asked().await)
    })
}

/// Returns how a dial ends where the introduction is told so.
fn introduced(change: fn(&mut Introduction)) -> (DialError, Vec<Request>) {
    dialled(move |peer| {
        let mut introduction = introduction(peer, Role::Controlling);
        change(&mut introduction);
        Response::Introduced(introduction)
    })
}

fn refusal(error: DialError) -> Refusal {
    match error {
        DialError::Coordinator(CoordinatorError::Refused(refusal)) => refusal,
        error => panic!("{error:?}"),
    }
}

/// Tells whether the dialler has given its introduction up.
fn is_given_up(requests: &[Request]) -> bool {
    let session = SessionToken::from_bytes([7; SessionToken::LEN]);
    let bytes = Vec::new();
    requests.contains(&Request::Relay(Flight { session, bytes }))
}

#[test]
fn a_notice_of_an_unknown_kind_is_ignored() {
    VirtualGround::run(1, [PUBLIC.boxes; 2], async |ground| {
        let notices = vec![
            Notice::Unknown(unknown(NEW)),
            Notice::Welcome(welcome(&ground)),
        ];
        let later = Later::start(&ground, notices, |_| (None, unavailable()));
        let dialler = later.dialler(&ground).await;
        let error = dialler.dial_within(nobody(), PATIENCE).await.unwrap_err();
        assert!(matches!(error, DialError::Unavailable { .. }), "{error:?}");
        later.was_not_left();
    });
}

#[test]
fn an_answer_of_an_unknown_kind_fails_one_request() {
    VirtualGround::run(1, [PUBLIC.boxes; 2], async |ground| {
        let answered = AtomicUsize::new(0);
        let later = Later::start(&ground, Vec::new(), move |_| {
            let is_first = answered.fetch_add(1, Ordering::Relaxed) == 0;
            let first = || Response::Unknown(unknown(NEW));
            (None, if is_first { first() } else { unavailable() })
        });
        let dialler = later.dialler(&ground).await;
        let error = dialler.dial_within(nobody(), PATIENCE).await.unwrap_err();
        let is_clear = matches!(
            error,
            DialError::Coordinator(CoordinatorError::UnknownAnswer(NEW))
        );
        assert!(is_clear, "{error:?}");
        let error = dialler.dial_within(nobody(), PATIENCE).await.unwrap_err();
        assert!(matches!(error, DialError::Unavailable { .. }), "{error:?}");
        later.was_not_left();
    });
}

#[test]
fn an_unknown_reason_is_the_general_one() {
    // A reason of 4 bytes, no time, and no extensions, as a later version writes it.
    let fields = vec![0, 4, 0x6B, 0x6B, 9, 9, 0, 0, 0];
    let (error, _) = dialled(move |_| {
        Response::Unknown(Unknown {
            kind: 2,
            fields: fields.clone(),
        })
    });
    assert_eq!(refusal(error), RefusalReason::Other.into());
}

#[test]
fn a_refusal_stands_whatever_it_says_besides() {
    let refused = |kind| {
        let (error, _) = dialled(move |_| {
            Response::Refused(Refusal {
                extensions: extensions(kind),
                ..RefusalReason::Full.into()
            })
        });
        refusal(error)
    };
    assert_eq!(refused(NEW).reason, RefusalReason::Full);
    assert_eq!(refused(REQUIRED), RefusalReason::Other.into());
}

#[test]
fn a_dialler_makes_no_introduction_that_it_does_not_understand() {
    let required: [fn(&mut Introduction); 2] = [
        |it| it.extensions = extensions(REQUIRED),
        |it| it.peer_extensions = extensions(REQUIRED).to_peer(),
    ];
    for change in required {
        let (error, requests) = introduced(change);
        let is_clear = matches!(
            error,
            DialError::Coordinator(CoordinatorError::UnknownExtension(REQUIRED))
        );
        assert!(is_clear, "{error:?}");
        assert!(is_given_up(&requests), "{requests:?}");
    }
    let optional: [fn(&mut Introduction); 3] = [
        |it| it.extensions = extensions(NEW),
        |it| it.peer_extensions = extensions(NEW).to_peer(),
        |it| it.peer_extensions = vec![0xEB; 7],
    ];
    for change in optional {
        let (error, _) = introduced(change);
        assert!(!matches!(error, DialError::Coordinator(_)), "{error:?}");
    }
}

/// Returns what a callee asks that is introduced so to a dialler which is nowhere.
fn called(change: fn(&mut Introduction)) -> Vec<Request> {
    VirtualGround::run(1, [PUBLIC.boxes; 2], async |ground| {
        let notices = vec![Notice::Welcome(welcome(&ground))];
        let dialler = nobody();
        let mut later = Later::start(&ground, notices, move |request| match request {
            Request::Register(_) => {
                let mut introduction = introduction(dialler, Role::Controlled);
                change(&mut introduction);
                let registered = Registered {
                    unproven: Vec::new(),
                    extensions: Extensions::default(),
                };
                let notice = Notice::Introduction(introduction);
                (Some(notice), Response::Registered(registered))
            }
            Request::Settled(_) => (None, Response::Settled),
            Request::Relay(_) => (None, Response::Relayed),
            _ => (None, unavailable()),
        });
        let listener = later.listener(&ground).await.unwrap();
        let requests = later.asked().await;
        later.was_not_left();
        drop(listener);
        requests
    })
}

#[test]
fn a_callee_settles_an_introduction_that_it_does_not_understand() {
    let required: [fn(&mut Introduction); 2] = [
        |it| it.extensions = extensions(REQUIRED),
        |it| it.peer_extensions = extensions(REQUIRED).to_peer(),
    ];
    for change in required {
        let requests = called(change);
        assert!(is_given_up(&requests), "{requests:?}");
        let mut settled = requests.iter();
        assert!(settled.any(|it| matches!(it, Request::Settled(_))));
    }
    // Otherwise the attempt is made.
    assert!(!is_given_up(&called(|_| {})));
    assert!(!is_given_up(&called(|it| it.extensions = extensions(NEW))));
}

/// Returns whether an endpoint can be bound that is welcomed and registered so.
fn bound(of_welcome: Option<u16>, of_answer: Option<u16>) -> Result<(), BindError> {
    VirtualGround::run(1, [PUBLIC.boxes; 2], async |ground| {
        let with = |kind: Option<u16>| kind.map(extensions).unwrap_or_default();
        let mut welcome = welcome(&ground);
        welcome.extensions = with(of_welcome);
        let registered = Registered {
            unproven: Vec::new(),
            extensions: with(of_answer),
        };
        let registered = Response::Registered(registered);
        let answer = move |_: &Request| (None, registered.clone());
        let later = Later::start(&ground, vec![Notice::Welcome(welcome)], answer);
        let bound = timeout(PATIENCE, later.listener(&ground)).await;
        later.was_not_left();
        bound.unwrap().map(drop)
    })
}

#[test]
fn a_listener_relies_on_nothing_that_it_does_not_understand() {
    bound(Some(NEW), Some(NEW)).unwrap();
    for (of_welcome, of_answer) in [(Some(REQUIRED), None), (None, Some(REQUIRED))] {
        let error = bound(of_welcome, of_answer).unwrap_err();
        let is_clear = matches!(
            error,
            BindError::Coordinator(CoordinatorError::UnknownExtension(REQUIRED))
        );
        assert!(is_clear, "{error:?}");
    }
}
