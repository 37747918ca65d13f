//! What a coordinator says when it sends a peer away is obeyed (PROTOCOL.md section 3).

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use p2pconnect::{CoordinatorAddr, CoordinatorError, DialError, SecretKey, Status};
use p2pconnect_identity::peer_id_of;
use p2pconnect_proto::{
    MAX_PUZZLE_BITS, Puzzle, Solution,
    close::{self, Close},
    codec,
    message::{Refusal, RefusalReason, Request, Response},
};
use p2pconnect_tests::{kinds::PUBLIC, virtual_ground::VirtualGround};
use quinn::{Connection, ConnectionError, VarInt};
use rustls::pki_types::CertificateDer;
use tokio::{sync::mpsc, task::JoinSet};

use crate::coordinator::serve_on_b;

/// How long each dial tries.
const PATIENCE: Duration = Duration::from_secs(3);

/// What a coordinator does with its clients.
#[derive(Debug, Clone, Copy)]
enum Manner {
    /// Closes each connection with a code.
    Close(u64),
    /// Sends a notice that is no message.
    Babble,
    /// Sends such a notice and then the answer that the peer is not online.
    BabbleAndAnswer,
    /// Refuses each request because there are too many.
    Refuse,
    /// Does so for so many milliseconds.
    RefuseUntil(u64),
    /// Refuses each dial until it brings the solution of a puzzle of so many bits.
    AskForWork(u8),
    /// Answers nothing.
    Ignore,
    /// Answers each request with a frame, and waits for the code by which that is called a fault.
    Answer(&'static [u8]),
}

/// A coordinator that wants nobody.
struct Unwilling {
    address: CoordinatorAddr,
    /// Connections, or requests where it takes any.
    asked: Arc<AtomicUsize>,
    /// What an endpoint has told of it.
    told: Arc<Mutex<Vec<Status>>>,
    /// The codes that clients closed their connections with.
    closed_with: mpsc::UnboundedReceiver<VarInt>,
    _task: JoinSet<()>,
}

impl Unwilling {
    /// Starts on the host `b`.
    fn start(ground: &VirtualGround, manner: Manner) -> Self {
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&asked);
        let (closes, closed_with) = mpsc::unbounded_channel();
        let (address, task) = serve_on_b(ground, move |connection| {
            let (counter, closes) = (Arc::clone(&counter), closes.clone());
            async move {
                behave(&connection, manner, &counter).await;
                if let ConnectionError::ApplicationClosed(it) = connection.closed().await {
                    // The test has ended if nobody listens.
                    closes.send(it.error_code).unwrap_or_default();
                }
            }
        });
        Self {
            address,
            asked,
            told: Arc::default(),
            closed_with,
            _task: task,
        }
    }

    /// Returns why a dial fails, and how often the coordinator was asked meanwhile.
    fn dial(manner: Manner) -> (CoordinatorError, usize) {
        Self::dial_for(PATIENCE, manner)
    }

    /// Does the same with a dial that tries for so long.
    fn dial_for(patience: Duration, manner: Manner) -> (CoordinatorError, usize) {
        VirtualGround::run(1, [PUBLIC.boxes; 2], async |ground| {
            let coordinator = Self::start(&ground, manner);
            let error = coordinator.refuse(&ground, patience).await;
            (error, coordinator.asked.load(Ordering::Relaxed))
        })
    }

    /// Returns why a dial fails.
    async fn refuse(&self, ground: &VirtualGround, patience: Duration) -> CoordinatorError {
        let told = Arc::clone(&self.told);
        let observer = move |status| told.lock().unwrap().push(status);
        let endpoint = ground.endpoint("a").coordinator(self.address.clone());
        let endpoint = endpoint.observer(observer);
        let endpoint = endpoint.bind().await.unwrap();
        let nobody = SecretKey::generate().unwrap().peer_id();
        let error = endpoint.dial_within(nobody, patience).await.unwrap_err();
        let DialError::Coordinator(error) = error else {
            panic!("{error:?}");
        };
        error
    }
}

async fn behave(connection: &Connection, manner: Manner, asked: &AtomicUsize) {
    match manner {
        Manner::Close(code) => {
            asked.fetch_add(1, Ordering::Relaxed);
            let code = VarInt::from_u64(code).unwrap();
            connection.close(code, b"as the test wants it");
        }
        Manner::Babble => {
            asked.fetch_add(1, Ordering::Relaxed);
            babble(connection).await;
            connection.closed().await;
        }
        Manner::BabbleAndAnswer => {
            asked.fetch_add(1, Ordering::Relaxed);
            let (mut send, _receive) = connection.accept_bi().await.unwrap();
            babble(connection).await;
            let refused =
                codec::encode(&Response::Refused(RefusalReason::Unavailable.into())).unwrap();
            send.write_all(&refused).await.unwrap();
            connection.closed().await;
        }
        Manner::Answer(frame) => {
            asked.fetch_add(1, Ordering::Relaxed);
            let (mut send, _receive) = connection.accept_bi().await.unwrap();
            send.write_all(frame).await.unwrap();
            send.finish().unwrap();
            connection.closed().await;
        }
        Manner::Ignore => {
            let mut unanswered = Vec::new();
            while let Ok(request) = connection.accept_bi().await {
                asked.fetch_add(1, Ordering::Relaxed);
                unanswered.push(request);
            }
        }
        Manner::Refuse => refuse(connection, RefusalReason::TooMany.into(), asked).await,
        Manner::AskForWork(bits) => ask_for_work(connection, bits, asked).await,
        Manner::RefuseUntil(millis) => {
            let wait = Duration::from_millis(millis);
            let refusal = Refusal::until(RefusalReason::TooMany, wait);
            refuse(connection, refusal, asked).await;
        }
    }
}

/// Refuses each request.
async fn refuse(connection: &Connection, refusal: Refusal, asked: &AtomicUsize) {
    let refused = codec::encode(&Response::Refused(refusal)).unwrap();
    while let Ok((mut send, _receive)) = connection.accept_bi().await {
        asked.fetch_add(1, Ordering::Relaxed);
        send.write_all(&refused).await.unwrap();
        send.finish().unwrap();
    }
}

/// Refuses each dial that brings no solution of a puzzle of so many bits as one that is too early,
/// and others for no reason.
async fn ask_for_work(connection: &Connection, bits: u8, asked: &AtomicUsize) {
    let identity = connection.peer_identity().unwrap();
    let peer = peer_id_of(&identity.downcast::<Vec<CertificateDer<'_>>>().unwrap()).unwrap();
    let challenge = [7; 16];
    while let Ok((mut send, mut receive)) = connection.accept_bi().await {
        let frame = receive.read_to_end(codec::MAX_BODY).await.unwrap();
        let Ok(Request::Dial(dial)) = codec::decode(&frame[codec::HEADER_LEN..]) else {
            continue;
        };
        asked.fetch_add(1, Ordering::Relaxed);
        let solution = Solution::of(&dial.extensions);
        let is_solved =
            solution.is_some_and(|it| it.challenge == challenge && it.solves(&peer, bits));
        let mut refusal = Refusal::until(RefusalReason::TooMany, Duration::from_secs(60));
        if is_solved {
            refusal = RefusalReason::Other.into();
        } else {
            let puzzle = Puzzle { bits, challenge };
            refusal.extensions.0.push(puzzle.extension());
        }
        let refused = codec::encode(&Response::Refused(refusal)).unwrap();
        send.write_all(&refused).await.unwrap();
        send.finish().unwrap();
    }
}

/// Sends a notice that is no message.
async fn babble(connection: &Connection) {
    let mut stream = connection.open_uni().await.unwrap();
    stream.write_all(&[0, 0, 0, 1, 255]).await.unwrap();
    stream.finish().unwrap();
}

#[test]
fn who_breaks_the_protocol_does_not_try_the_same_again() {
    let (error, asked) = Unwilling::dial(Manner::Close(close::PROTOCOL_VIOLATION.into()));
    assert!(
        matches!(error, CoordinatorError::Violation { .. }),
        "{error}"
    );
    assert_eq!(asked, 1);
}

#[test]
fn a_coordinator_without_room_is_left_alone_for_some_seconds() {
    let (error, asked) = Unwilling::dial(Manner::Close(close::OVERLOADED.into()));
    let is_full = matches!(error, CoordinatorError::Overloaded { .. });
    assert!(is_full, "{error}");
    assert_eq!(asked, 1);
}

/// A close with the time to come back, whatever the code.
#[test]
fn a_coordinator_that_says_when_to_come_back_is_asked_then() {
    for code in [close::GOING_AWAY, close::OVERLOADED, close::INTERNAL, 999] {
        let close = |retry_after| {
            let retry_after = Some(Duration::from_millis(retry_after));
            Manner::Close(Close { code, retry_after }.to_wire())
        };
        let (error, asked) = Unwilling::dial(close(1_300));
        // At once, and after 1.3 s and 2.6 s, with as much as a quarter more.
        assert!((2..=3).contains(&asked), "{code}: asked {asked} times");
        assert_eq!(error.retry_after(), Some(Duration::from_millis(1_300)));
        let (error, asked) = Unwilling::dial(close(5_000));
        assert!(error.to_string().contains("try again in 5 s"), "{error}");
        assert_eq!(asked, 1);
    }
}

/// A refusal with the time to come back.
#[test]
fn a_request_that_is_refused_for_some_time_is_made_again_then() {
    let (_, asked) = Unwilling::dial(Manner::RefuseUntil(700));
    // With as much more as the usual pause is spread by.
    assert!((3..=5).contains(&asked), "asked {asked} times");
    let (error, asked) = Unwilling::dial(Manner::RefuseUntil(4_000));
    assert!(error.to_string().contains("try again in 4 s"), "{error}");
    assert_eq!(asked, 1);
}

#[test]
fn a_puzzle_is_solved_unless_it_is_absurd() {
    let (error, asked) = Unwilling::dial(Manner::AskForWork(9));
    let is_refused = |error: &CoordinatorError, expected| matches!(error, CoordinatorError::Refused(it) if it.reason == expected);
    assert!(is_refused(&error, RefusalReason::Other), "{error}");
    assert!(asked >= 2, "asked {asked} times");
    let (error, asked) = Unwilling::dial(Manner::AskForWork(MAX_PUZZLE_BITS + 1));
    assert!(is_refused(&error, RefusalReason::TooMany), "{error}");
    assert_eq!(asked, 1);
}

#[test]
fn a_coordinator_that_shuts_down_has_time_to_come_back() {
    let (error, asked) = Unwilling::dial(Manner::Close(close::GOING_AWAY.into()));
    let is_going = matches!(error, CoordinatorError::GoingAway { .. });
    assert!(is_going, "{error}");
    assert!(asked <= 3, "asked {asked} times");
}

#[test]
fn who_asks_too_much_asks_less() {
    let (error, asked) = Unwilling::dial(Manner::Refuse);
    let expected = CoordinatorError::from(RefusalReason::TooMany).to_string();
    assert_eq!(error.to_string(), expected);
    assert!(asked <= 6, "asked {asked} times");
}

#[test]
fn what_this_side_does_not_understand_is_not_called_silence() {
    for manner in [Manner::Babble, Manner::BabbleAndAnswer] {
        let (error, asked) = Unwilling::dial(manner);
        assert!(matches!(error, CoordinatorError::Message(_)), "{error}");
        assert_eq!(asked, 1);
    }
}

#[test]
fn a_coordinator_that_is_reached_and_answers_nothing_is_not_called_out_of_reach() {
    let (error, asked) = Unwilling::dial_for(Duration::from_secs(6), Manner::Ignore);
    assert!(matches!(error, CoordinatorError::Unanswered(_)), "{error}");
    assert_eq!(asked, 2);
}

#[test]
fn it_is_told_once_that_a_dial_is_refused_for_now() {
    let told = VirtualGround::run(1, [PUBLIC.boxes; 2], async |ground| {
        let coordinator = Unwilling::start(&ground, Manner::Refuse);
        coordinator.refuse(&ground, PATIENCE).await;
        std::mem::take(&mut *coordinator.told.lock().unwrap())
    });
    let refusals = told.iter().filter_map(|status| match status {
        Status::DialRefused { refusal, .. } => Some(refusal.clone()),
        _ => None,
    });
    assert_eq!(
        refusals.collect::<Vec<_>>(),
        [Refusal::from(RefusalReason::TooMany)]
    );
}

/// Frames that are no answer: one that ends within a number, one with bytes behind it, one that is
/// longer than any message, and one to another request.
const BAD_ANSWERS: [&[u8]; 4] = [
    &[0, 0, 0, 1, 0],
    &[0, 0, 0, 3, 0, 3, 0],
    &[0, 1, 0, 1],
    &[0, 0, 0, 2, 0, 3],
];

#[test]
fn an_answer_that_makes_no_sense_ends_the_connection_and_is_not_asked_for_again() {
    for frame in BAD_ANSWERS {
        VirtualGround::run(1, [PUBLIC.boxes; 2], async |ground| {
            let mut coordinator = Unwilling::start(&ground, Manner::Answer(frame));
            let error = coordinator.refuse(&ground, PATIENCE).await;
            assert!(
                matches!(
                    error,
                    CoordinatorError::Message(_) | CoordinatorError::Answer
                ),
                "{frame:?}: {error}"
            );
            let code = coordinator.closed_with.recv().await;
            assert_eq!(code, Some(close::PROTOCOL_VIOLATION.into()), "{frame:?}");
            let asked = coordinator.asked.load(Ordering::Relaxed);
            assert_eq!(asked, 1, "{frame:?}");
        });
    }
}
