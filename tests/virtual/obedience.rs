//! What a coordinator says when it sends a peer away is obeyed (PROTOCOL.md section 3).

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use p2pconnect::{CoordinatorAddr, CoordinatorError, DialError, SecretKey, Status};
use p2pconnect_proto::{
    close, codec,
    message::{Refusal, RefusalReason, Response},
};
use p2pconnect_tests::{kinds::PUBLIC, virtual_ground::VirtualGround};
use quinn::{Connection, ConnectionError, VarInt};
use tokio::{sync::mpsc, task::JoinSet};

use crate::coordinator::serve_on_b;

/// How long each dial tries.
const PATIENCE: Duration = Duration::from_secs(3);

/// What a coordinator does with its clients.
#[derive(Debug, Clone, Copy)]
enum Manner {
    /// Closes each connection with a code.
    Close(u32),
    /// Sends a notice that is no message.
    Babble,
    /// Sends such a notice and then the answer that the peer is not online.
    BabbleAndAnswer,
    /// Refuses each request because there are too many.
    Refuse,
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
            connection.close(code.into(), b"as the test wants it");
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
        Manner::Refuse => {
            let refused = codec::encode(&Response::Refused(RefusalReason::TooMany.into())).unwrap();
            while let Ok((mut send, _receive)) = connection.accept_bi().await {
                asked.fetch_add(1, Ordering::Relaxed);
                send.write_all(&refused).await.unwrap();
                send.finish().unwrap();
            }
        }
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
    let (error, asked) = Unwilling::dial(Manner::Close(close::PROTOCOL_VIOLATION));
    assert!(
        matches!(error, CoordinatorError::Violation { .. }),
        "{error}"
    );
    assert_eq!(asked, 1);
}

#[test]
fn a_coordinator_without_room_is_left_alone_for_some_seconds() {
    let (error, asked) = Unwilling::dial(Manner::Close(close::OVERLOADED));
    assert!(matches!(error, CoordinatorError::Overloaded), "{error}");
    assert_eq!(asked, 1);
}

#[test]
fn a_coordinator_that_shuts_down_has_time_to_come_back() {
    let (error, asked) = Unwilling::dial(Manner::Close(close::GOING_AWAY));
    assert!(matches!(error, CoordinatorError::GoingAway), "{error}");
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
