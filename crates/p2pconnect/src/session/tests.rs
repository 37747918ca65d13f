//! Who is at the other end of the first connection, and what comes of it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use p2pconnect_host::TcpStream;
use p2pconnect_identity::SecretKey;
use p2pconnect_proto::{CandidateKind, Opening, Role, SessionToken};
use p2pconnect_punch::{CandidatePair, How, Stats, VerifyFailure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};

use super::{Decision, Handed, Lost, SessionError, Signs, handover::Handover};
use crate::{
    machine::loopback,
    session::verify::{Open, Origin, UnconfirmedEvent, Verified, Verifier},
    stream::{
        coordinated_handshake::{CoordinatedHandshake, Progress, TAG_LEN, wire},
        opened_path::{OpenedPath, UsablePath},
        parties::Parties,
        path_ledger::PathLedger,
        punched::Punched,
    },
};

mod withdrawn;

const TOKEN: SessionToken = SessionToken::from_bytes([7; SessionToken::LEN]);

const PATIENCE: Duration = Duration::from_secs(30);

/// What becomes of a connection.
type Verifying = JoinHandle<Result<Verified, VerifyFailure>>;

/// One side of an introduction, without the agent.
struct Side {
    verifier: Verifier,
    handover: Handover,
    ledger: PathLedger,
    /// How many connections there have been.
    count: u16,
    handed: oneshot::Receiver<Result<Handed, SessionError>>,
    lost: Option<Lost>,
}

impl Side {
    fn new(key: &SecretKey, peer: &SecretKey, role: Role, handshake: CoordinatedHandshake) -> Self {
        let parties = Parties {
            own: key.peer_id(),
            peer: peer.peer_id(),
            role,
        };
        let verifier = Verifier::new(key, parties, TOKEN, &handshake).unwrap();
        let ledger = PathLedger {
            peer: peer.peer_id(),
            pair_rotation: Arc::default(),
            metrics: Arc::default(),
        };
        let mut handover = Handover::new(role, handshake, ledger.clone());
        let (sender, handed) = oneshot::channel();
        handover.to(sender);
        Self {
            verifier,
            handover,
            ledger,
            count: 0,
            handed,
            lost: None,
        }
    }

    /// Begins to verify a connection; as the dialler, uses it too.
    async fn verify(&mut self, stream: TcpStream) -> Verifying {
        let open = Open {
            stream,
            opening_read: false,
            origin: Origin::Dialled,
            took: PATIENCE,
        };
        let (sender, mut events) = mpsc::channel(2);
        let verifying = tokio::spawn(self.verifier.clone().verify(open, sender));
        self.count += 1;
        if let Some(UnconfirmedEvent::Usable(half)) =
            timeout(PATIENCE, events.recv()).await.unwrap()
        {
            self.handover.use_unconfirmed(half, path(self.count)).await;
        }
        verifying
    }

    async fn finish(&mut self, verified: Verified) {
        let winner = Some((verified, path(self.count)));
        self.handover.finish(winner).await;
    }

    async fn handed(&mut self) -> Punched {
        let handed = timeout(PATIENCE, &mut self.handed).await.unwrap();
        let Handed { punched, lost } = handed.unwrap().unwrap();
        self.lost = lost;
        punched
    }
}

/// Returns the pair that the n-th connection is on.
fn pair(n: u16) -> CandidatePair {
    let at = ([127, 0, 0, 1], n).into();
    CandidatePair {
        local: at,
        remote: at,
        kind: CandidateKind::Host,
    }
}

/// Tells of the n-th connection, which took as many attempts.
fn path(n: u16) -> UsablePath {
    let opened = OpenedPath {
        pair: pair(n),
        how: How::Connected,
        at: Instant::now(),
    };
    let stats = Stats {
        attempts: n.into(),
        ..Stats::default()
    };
    UsablePath::new(opened, stats)
}

/// Returns the dialler and the callee, whose handshake goes past any connection.
async fn sides() -> (Side, Side) {
    let keys = [(); 2].map(|()| SecretKey::generate().unwrap());
    let [dialler, callee] = &keys;
    let (mut dialling, hello) = CoordinatedHandshake::dialling(dialler, callee.peer_id())
        .await
        .unwrap();
    let mut called = CoordinatedHandshake::called(callee, dialler.peer_id(), hello).unwrap();
    wire(&mut dialling, &mut called);
    (
        Side::new(dialler, callee, Role::Controlling, dialling),
        Side::new(callee, dialler, Role::Controlled, called),
    )
}

/// Connects the two sides and lets their streams talk, the dialler's first words being `said`.
async fn meet(dialler: &mut Side, callee: &mut Side, here: Punched, said: &[u8]) {
    let (one, other) = loopback::connection().await;
    let dialling = dialler.verify(one).await;
    meet_on(dialling, other, dialler, callee, here, said).await;
}

/// The same on a connection that the dialler verifies, of which the callee gets the other end.
async fn meet_on(
    dialling: Verifying,
    other: TcpStream,
    dialler: &mut Side,
    callee: &mut Side,
    mut here: Punched,
    said: &[u8],
) {
    let called = {
        let open = Open {
            stream: other,
            opening_read: false,
            origin: Origin::Accepted,
            took: Duration::ZERO,
        };
        let (usable, _halves) = mpsc::channel(1);
        tokio::spawn(callee.verifier.clone().verify(open, usable))
    };
    let talking = tokio::spawn(async move {
        let mut answer = [0; 6];
        here.stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"answer");
        assert!(here.stream.get_ref().0.tcp().is_some(), "it is direct now");
    });
    let tagged = timeout(PATIENCE, called).await.unwrap().unwrap().unwrap();
    callee.finish(tagged).await;
    let confirmed = timeout(PATIENCE, dialling).await.unwrap().unwrap().unwrap();
    dialler.finish(confirmed).await;

    let mut there = callee.handed().await;
    let mut heard = vec![0; said.len()];
    let reading = there.stream.read_exact(&mut heard);
    timeout(PATIENCE, reading).await.unwrap().unwrap();
    assert!(heard == said, "what was said has arrived once and in order");
    there.stream.write_all(b"answer").await.unwrap();
    there.stream.flush().await.unwrap();
    timeout(PATIENCE, talking).await.unwrap().unwrap();
}

/// Says something on a connection before anybody has answered on it.
async fn say(dialler: &mut Side, said: &[u8]) -> Punched {
    let mut here = dialler.handed().await;
    let writing = here.stream.write_all(said);
    timeout(PATIENCE, writing).await.unwrap().unwrap();
    here.stream.flush().await.unwrap();
    here
}

/// A probe of no bytes.
const NO_PROBE: [u8; 2] = [0; 2];

/// What somebody does who is at the other end of the first connection.
#[derive(Debug, Clone, Copy)]
enum Attack {
    Silence,
    Closing,
    WrongToken,
    TokenAlone,
    WrongTag,
    /// What a service does that sends back what it receives.
    Echo,
}

async fn is_refuted(attack: Attack) {
    let (mut dialler, mut callee) = sides().await;
    let said: Vec<u8> = (0..30_000_u32)
        .flat_map(u32::to_le_bytes)
        // More is not sent before the opening.
        .take(3_000)
        .collect();

    let (one, mut attacker) = loopback::connection().await;
    let unconfirmed = dialler.verify(one).await;
    let here = say(&mut dialler, &said).await;
    let callees = TOKEN.opening(Role::Controlled);
    match attack {
        Attack::Silence => {}
        Attack::Closing => attacker.shutdown().await.unwrap(),
        Attack::WrongToken => attacker.write_all(&[8; 100]).await.unwrap(),
        Attack::TokenAlone => {
            attacker.write_all(callees.as_bytes()).await.unwrap();
            attacker.shutdown().await.unwrap();
        }
        Attack::WrongTag => {
            let answer = [callees.as_bytes(), &NO_PROBE[..], &[9; TAG_LEN]].concat();
            attacker.write_all(&answer).await.unwrap();
        }
        Attack::Echo => {
            let mut heard = [0; Opening::LEN + 1 + TAG_LEN];
            attacker.read_exact(&mut heard).await.unwrap();
            attacker.write_all(&heard).await.unwrap();
        }
    }
    if !matches!(attack, Attack::Silence) {
        let refuted = timeout(PATIENCE, unconfirmed).await.unwrap().unwrap();
        let failure = refuted.expect_err("nobody proved anything");
        assert_ne!(failure, VerifyFailure::WrongIdentity, "{attack:?}");
    }

    let mut captured = vec![0; 4_000];
    let count = attacker.read(&mut captured).await.unwrap();
    let words = &said[..64];
    let is_plain = captured[..count].windows(64).any(|window| window == words);
    assert!(!is_plain, "{attack:?}: the attacker reads it");

    meet(&mut dialler, &mut callee, here, &said).await;
}

#[tokio::test]
async fn a_connection_is_not_nominated_once_its_introduction_is_given_up() {
    let (mut dialler, mut callee) = sides().await;
    let decision = Decision::default();
    dialler.handover = dialler.handover.unless(decision.clone());
    assert!(decision.gives_up());
    let (one, other) = loopback::connection().await;
    let at_callee = callee.verify(other);
    let at_dialler = dialler.verify(one);
    let (at_callee, _at_dialler) = tokio::join!(at_callee, at_dialler);
    // The callee's side ends as the connection does, and finds none that is used.
    assert!(
        timeout(PATIENCE, at_callee)
            .await
            .unwrap()
            .unwrap()
            .is_err()
    );
    assert!(dialler.handed.try_recv().is_err() && callee.handed.try_recv().is_err());
}

#[tokio::test]
async fn the_callee_hears_which_introductions_the_dial_has_used_before() {
    let (mut dialler, mut callee) = sides().await;
    let before = vec![Opening::from_bytes([3; Opening::LEN])];
    dialler.handover = dialler.handover.succeeding(before.clone());
    let (one, other) = loopback::connection().await;
    let dialling = dialler.verify(one).await;
    let here = say(&mut dialler, b"said").await;
    let called = callee.verify(other).await;
    let tagged = timeout(PATIENCE, called).await.unwrap().unwrap().unwrap();
    callee.finish(tagged).await;
    let mut there = callee.handed().await;
    assert_eq!(there.predecessors, before);
    let mut heard = [0; 4];
    there.stream.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"said");
    drop((here, dialling));
}

#[tokio::test]
async fn an_attacker_who_is_there_first_holds_up_one_connection() {
    for attack in [
        Attack::Silence,
        Attack::Closing,
        Attack::WrongToken,
        Attack::TokenAlone,
        Attack::WrongTag,
        Attack::Echo,
    ] {
        is_refuted(attack).await;
    }
}

/// Returns how long somebody who has the token alone holds up the dialler, who then gets through.
async fn held_up_by_the_token(round_trip: Duration) -> Duration {
    let (mut dialler, mut callee) = sides().await;
    dialler.verifier = dialler.verifier.over(round_trip);
    let (one, mut attacker) = loopback::connection().await;
    let callees = TOKEN.opening(Role::Controlled);
    attacker.write_all(callees.as_bytes()).await.unwrap();
    let since = tokio::time::Instant::now();
    let _unconfirmed = dialler.verify(one).await;
    let here = say(&mut dialler, b"said").await;
    let (next, other) = loopback::connection().await;
    // From here on, time passes as soon as nobody has anything else to do.
    tokio::time::pause();
    let dialling = dialler.verify(next).await;
    let held_up = since.elapsed();
    tokio::time::resume();
    meet_on(dialling, other, &mut dialler, &mut callee, here, b"said").await;
    held_up
}

#[tokio::test]
async fn the_connection_that_the_callee_has_taken_is_kept_though_it_is_slow() {
    let (mut dialler, mut callee) = sides().await;
    let (slow, other) = loopback::connection().await;
    let dialling = dialler.verify(slow).await;
    let mut here = say(&mut dialler, b"said ").await;
    // Another one may be used meanwhile, and whoever is at its other end takes what is said.
    let (next, mut unused) = loopback::connection().await;
    let later = dialler.verify(next).await;
    here.stream.write_all(b"in two parts").await.unwrap();
    here.stream.flush().await.unwrap();
    dialler.count = 1;
    let said = b"said in two parts";
    meet_on(dialling, other, &mut dialler, &mut callee, here, said).await;
    // The session is over.
    later.abort();
    let mut heard = Vec::new();
    let ended = timeout(PATIENCE, unused.read_to_end(&mut heard)).await;
    let error = ended.unwrap().expect_err("it is reset");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn the_token_with_nothing_behind_it_holds_up_no_longer() {
    let held_up = held_up_by_the_token(Duration::ZERO).await;
    assert!(held_up < Duration::from_secs(2), "for {held_up:?}");
}

#[tokio::test]
async fn a_peer_far_away_has_time_to_answer() {
    let round_trip = Duration::from_millis(1400);
    let waited = held_up_by_the_token(round_trip).await;
    // A packet that is lost is sent again after three round trips.
    assert!(waited >= round_trip * 4, "only {waited:?}");
}

#[tokio::test]
async fn what_is_told_of_a_connection_is_true_of_the_one_that_wins() {
    let (mut dialler, mut callee) = sides().await;
    let (one, attacker) = loopback::connection().await;
    let unconfirmed = dialler.verify(one).await;
    let here = say(&mut dialler, b"said").await;
    let PathLedger {
        peer,
        pair_rotation,
        metrics,
    } = dialler.ledger.clone();
    let first = here.stream_path.first();
    metrics.established(Duration::ZERO, Duration::ZERO, first.stats);
    let stream_path = Arc::clone(&here.stream_path);
    assert_eq!(stream_path.now().opened.pair, pair(1));
    assert_eq!(pair_rotation.noted(peer, &pair(1)), Some(true));

    // With bytes that nobody has read, this is a reset.
    attacker.peek(&mut [0]).await.unwrap();
    drop(attacker);
    let refuted = timeout(PATIENCE, unconfirmed).await.unwrap().unwrap();
    assert_eq!(refuted.err(), Some(VerifyFailure::Closed));
    meet(&mut dialler, &mut callee, here, b"said").await;
    assert_eq!(stream_path.now().opened.pair, pair(2));
    let noted = [1, 2].map(|n| pair_rotation.noted(peer, &pair(n)));
    assert_eq!(noted, [None, Some(true)]);
    let counted = metrics.read();
    assert_eq!((counted.established, counted.attempts), (1, 2));
    drop(stream_path);
    assert_eq!(pair_rotation.noted(peer, &pair(2)), Some(false));
}

/// Has the dialler use a connection whose other end does this, and end without another one. Returns
/// whether it is said that the peer has got nothing.
async fn is_lost(opening: Opening, then: Attack) -> bool {
    let (mut dialler, _callee) = sides().await;
    let (one, mut other) = loopback::connection().await;
    let verifying = dialler.verify(one).await;
    let _here = say(&mut dialler, b"said").await;
    other.write_all(opening.as_bytes()).await.unwrap();
    match then {
        Attack::Closing => {
            other.shutdown().await.unwrap();
            timeout(PATIENCE, verifying)
                .await
                .unwrap()
                .unwrap()
                .unwrap_err();
        }
        _ => assert!(!verifying.is_finished()),
    }
    let signs = Signs {
        is_heard: false,
        may_have_taken: dialler.verifier.may_be_taken(),
    };
    dialler.handover.fail(SessionError::PeerBusy, signs);
    let lost = dialler.lost.take().unwrap();
    timeout(PATIENCE, lost).await.unwrap().is_ok()
}

#[tokio::test]
async fn a_connection_that_the_peer_may_have_taken_is_not_given_for_lost() {
    let ours = TOKEN.opening(Role::Controlled);
    let anothers = SessionToken::from_bytes([8; SessionToken::LEN]).opening(Role::Controlled);
    assert!(is_lost(anothers, Attack::Closing).await);
    assert!(!is_lost(ours, Attack::Closing).await);
    assert!(!is_lost(ours, Attack::Silence).await);
}

#[tokio::test]
async fn the_token_opens_nothing_at_the_callee() {
    let (mut dialler, mut callee) = sides().await;
    let len = 0_u16.to_be_bytes();
    let diallers = TOKEN.opening(Role::Controlling);
    for rest in [
        [&[2][..], &NO_PROBE, &[9; TAG_LEN], &len].concat(),
        [&[2][..], &[0xFF, 0xFF], &[9; TAG_LEN], &len].concat(),
        vec![1, 0, 0, 0x16, 0x03, 0x01, 0x00, 0x01, 0x00],
        vec![3],
    ] {
        let (mut attacker, other) = loopback::connection().await;
        let verifying = callee.verify(other);
        let greeting = [diallers.as_bytes(), &rest[..]].concat();
        attacker.write_all(&greeting).await.unwrap();
        attacker.shutdown().await.unwrap();
        let verified = timeout(PATIENCE, verifying.await).await.unwrap().unwrap();
        assert!(verified.is_err(), "{rest:?}");
    }
    // The handshake is untouched: the dialler, who has it, gets through.
    let (one, _silent) = loopback::connection().await;
    let _unconfirmed = dialler.verify(one).await;
    let here = say(&mut dialler, b"still here").await;
    meet(&mut dialler, &mut callee, here, b"still here").await;
}

#[tokio::test]
async fn a_last_flight_that_the_coordinator_keeps_back_comes_on_the_connection() {
    let keys = [(); 2].map(|()| SecretKey::generate().unwrap());
    let [dialler, callee] = &keys;
    let (mut dialling, hello) = CoordinatedHandshake::dialling(dialler, callee.peer_id())
        .await
        .unwrap();
    let mut called = CoordinatedHandshake::called(callee, dialler.peer_id(), hello).unwrap();
    called.answer_only(&mut dialling);
    let mut progress = called.progress();
    let mut dialler = Side::new(dialler, callee, Role::Controlling, dialling);
    let mut callee = Side::new(callee, &keys[0], Role::Controlled, called);

    let (one, _silent) = loopback::connection().await;
    let _unconfirmed = dialler.verify(one).await;
    let here = say(&mut dialler, b"without help").await;
    assert!(matches!(*progress.borrow_and_update(), Progress::UnderWay));
    meet(&mut dialler, &mut callee, here, b"without help").await;
}

#[tokio::test]
async fn once_the_peer_has_answered_no_other_connection_is_used() {
    let (mut dialler, mut callee) = sides().await;
    let (one, other) = loopback::connection().await;
    let (second, _open) = loopback::connection().await;
    let confirming = dialler.verify(one).await;
    let open = |stream, origin| Open {
        stream,
        opening_read: false,
        origin,
        took: PATIENCE,
    };
    let (usable, mut halves) = mpsc::channel(1);
    let waiting = dialler.verifier.clone();
    let _waiting = tokio::spawn(waiting.verify(open(second, Origin::Dialled), usable));
    let (unused, _halves) = mpsc::channel(1);
    let called = callee.verifier.clone();
    let called = tokio::spawn(called.verify(open(other, Origin::Accepted), unused));
    let _here = say(&mut dialler, b"said").await;
    let tagged = timeout(PATIENCE, called).await.unwrap().unwrap().unwrap();
    callee.finish(tagged).await;
    let confirmed = timeout(PATIENCE, confirming)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    // Whoever waits for the permit would use it by now.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(halves.try_recv().is_err());
    dialler.finish(confirmed).await;
}
