//! One connection where two peers dial each other at the same moment.
//!
//! The coordinator introduces them for the dial that came first, and answers the other one that
//! this introduction serves it too. The side whose dial came later is its callee: what it makes of
//! the introduction is the result of its dial then, and is not offered to whoever accepts. Nothing
//! else changes; on the other side, nothing at all.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use p2pconnect_host::clock;
use p2pconnect_proto::{PeerId, SessionToken};
use tokio::{sync::oneshot, time::timeout_at};

use crate::{
    Connection, DialError,
    introduction::listening::Room,
    nat::port_sets::PortSetLease,
    stream::{Established, Steps, punched::Punched},
    sync::lock,
};

/// How long a dial waits for the peer's to end, before it goes on by itself.
///
/// The peer may have given its dial up, and its word of that may be lost. While it has not, this is
/// the time that an attempt to connect must have.
const LIMIT: Duration = Duration::from_secs(3);

/// Introductions that are remembered as over: as many as there may be at a time.
const MAX_ENDED: usize = 64;

/// Connections that are held back until a dial is answered; others go to whoever accepts.
const MAX_HELD: usize = 16;

/// Brings the connections that peers have dialled to this side's dials of the same peers that
/// crossed theirs.
#[derive(Debug, Default)]
pub(crate) struct GlareTable(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// How many dials of a peer the coordinator has not answered yet.
    asking: BTreeMap<PeerId, usize>,
    /// The dials that wait for what comes of the introduction that a peer's dial has brought.
    waiting: BTreeMap<SessionToken, WaitingDial>,
    /// The introductions being answered; dropping the sender abandons one.
    answering: BTreeMap<SessionToken, oneshot::Sender<()>>,
    /// Connections that came before it was known whether they serve a dial.
    held: Vec<(SessionToken, Answered)>,
    /// Introductions that are over, the oldest first.
    ended: VecDeque<SessionToken>,
}

/// A dial that waits for what comes of the introduction that the peer's dial has brought.
#[derive(Debug)]
struct WaitingDial {
    peer: PeerId,
    outcome: oneshot::Sender<Outcome>,
}

/// What came of an introduction: a connection, or no connection and perhaps the reason.
type Outcome = Result<Answered, Option<DialError>>;

/// A connection that a peer has dialled.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) punched: Punched,
    pub(crate) peer: PeerId,
    pub(crate) lease: PortSetLease,
    /// When the introduction came.
    pub(crate) began: Instant,
    /// The room that is kept for it among those that wait to be accepted.
    pub(crate) room: Room,
}

impl Answered {
    /// Offers the connection to whoever accepts.
    fn offer(self) {
        let (room, connection) = self.connected();
        room.offer(connection);
    }

    /// Lets the dialler know that this side does not want the stream, and why.
    pub(crate) async fn refuse(self, reason: &str) {
        let (_room, connection) = self.connected();
        if let Err(error) = connection.refuse(reason).await {
            tracing::debug!(%error, "a dialler does not hear that it is refused");
        }
    }

    fn connected(self) -> (Room, Connection) {
        let steps = Steps {
            began: self.began,
            introduced: Duration::ZERO,
            usable: clock::now(),
            rounds: 1,
        };
        let established = Established {
            punched: self.punched,
            steps,
            lease: Arc::new(self.lease),
        };
        (self.room, Connection::new(self.peer, established))
    }
}

impl GlareTable {
    /// Notes that the coordinator is about to be asked for a dial.
    pub(crate) fn begin_dial(self: &Arc<Self>, peer: PeerId) -> PendingDial {
        self.with(|state| *state.asking.entry(peer).or_insert(0) += 1);
        PendingDial {
            glare_table: Arc::clone(self),
            peer,
        }
    }

    /// Notes that an introduction is going to be answered; `None` if it has been given up already.
    pub(crate) fn begin_answer(self: &Arc<Self>, session: SessionToken) -> Option<PendingAnswer> {
        let (abandon, abandoned) = oneshot::channel();
        let is_new = self.with(|state| {
            let is_new = !state.ended.contains(&session);
            if is_new {
                state.answering.insert(session, abandon);
            }
            is_new
        });
        is_new.then(|| PendingAnswer {
            glare_table: Arc::clone(self),
            session,
            abandoned,
        })
    }

    /// Brings what came of an introduction where it belongs.
    fn end(&self, session: SessionToken, outcome: Outcome) {
        let left = self.with(|state| {
            state.note_end(session);
            if let Some(WaitingDial { peer, outcome: to }) = state.waiting.remove(&session) {
                return match outcome {
                    // The coordinator is not believed who it was that our dial crossed.
                    Ok(answered) if answered.peer != peer => Some(answered),
                    // A dial that was dropped meanwhile leaves its connection to whoever accepts.
                    outcome => to.send(outcome).err().and_then(Result::ok),
                };
            }
            let answered = outcome.ok()?;
            if state.asking.contains_key(&answered.peer) && state.held.len() < MAX_HELD {
                state.held.push((session, answered));
                return None;
            }
            Some(answered)
        });
        if let Some(answered) = left {
            answered.offer();
        }
    }

    fn with<T>(&self, use_state: impl FnOnce(&mut State) -> T) -> T {
        use_state(&mut lock(&self.0))
    }
}

impl State {
    fn note_end(&mut self, session: SessionToken) {
        self.answering.remove(&session);
        if self.ended.contains(&session) {
            return;
        }
        if self.ended.len() == MAX_ENDED {
            self.ended.pop_front();
        }
        self.ended.push_back(session);
    }

    /// Takes out what was held back for dials of a peer, if there are none any more.
    fn release(&mut self, peer: PeerId) -> Vec<Answered> {
        if self.asking.contains_key(&peer) {
            return Vec::new();
        }
        let (free, held) = std::mem::take(&mut self.held)
            .into_iter()
            .partition(|(_, answered)| answered.peer == peer);
        self.held = held;
        let free: Vec<_> = free;
        free.into_iter().map(|(_, answered)| answered).collect()
    }
}

/// A dial that the coordinator has not answered yet.
///
/// As long as it exists, what its peer dials is held back: it may serve this dial.
#[derive(Debug)]
pub(crate) struct PendingDial {
    glare_table: Arc<GlareTable>,
    peer: PeerId,
}

impl PendingDial {
    /// Waits for what comes of an introduction instead; `None` if that is known and was not kept.
    pub(crate) fn crossed(&self, session: SessionToken) -> Option<CrossedDial> {
        let (sender, outcome) = oneshot::channel();
        let peer = self.peer;
        self.glare_table.with(|state| {
            let is_it = |(held, answered): &(SessionToken, Answered)| {
                *held == session && answered.peer == peer
            };
            if let Some(at) = state.held.iter().position(is_it) {
                let (_, answered) = state.held.swap_remove(at);
                // The receiver is still here.
                drop(sender.send(Ok(answered)));
            } else if state.ended.contains(&session) {
                return None;
            } else {
                let waiting = WaitingDial {
                    peer,
                    outcome: sender,
                };
                state.waiting.insert(session, waiting);
            }
            Some(CrossedDial {
                glare_table: Arc::clone(&self.glare_table),
                session,
                outcome,
            })
        })
    }
}

impl Drop for PendingDial {
    fn drop(&mut self) {
        let released = self.glare_table.with(|state| {
            if let Some(count) = state.asking.get_mut(&self.peer) {
                *count -= 1;
                if *count == 0 {
                    state.asking.remove(&self.peer);
                }
            }
            state.release(self.peer)
        });
        for answered in released {
            answered.offer();
        }
    }
}

/// A dial that is served by the introduction that the peer's dial has brought.
#[derive(Debug)]
pub(crate) struct CrossedDial {
    glare_table: Arc<GlareTable>,
    session: SessionToken,
    outcome: oneshot::Receiver<Outcome>,
}

impl CrossedDial {
    /// Waits for the connection. Without one, and without a reason, it is worth dialling again.
    ///
    /// Cancel safety: a connection that comes after the future is dropped can be accepted.
    pub(crate) async fn outcome(
        mut self,
        deadline: Instant,
    ) -> Result<(Punched, PortSetLease), Option<DialError>> {
        let until = deadline.min(clock::now() + LIMIT);
        match timeout_at(until.into(), &mut self.outcome).await {
            Ok(Ok(outcome)) => outcome.map(|answered| (answered.punched, answered.lease)),
            Ok(Err(_)) => Err(None),
            Err(_) => {
                // Its attempts are in the way of those of the next dial.
                self.glare_table.with(|state| state.note_end(self.session));
                Err(None)
            }
        }
    }
}

impl Drop for CrossedDial {
    fn drop(&mut self) {
        self.glare_table
            .with(|state| state.waiting.remove(&self.session));
        if let Ok(Ok(answered)) = self.outcome.try_recv() {
            answered.offer();
        }
    }
}

/// An introduction being answered.
#[derive(Debug)]
pub(crate) struct PendingAnswer {
    glare_table: Arc<GlareTable>,
    session: SessionToken,
    abandoned: oneshot::Receiver<()>,
}

impl PendingAnswer {
    /// Waits until nobody wants the connection any more. Cancel safe.
    pub(crate) async fn abandoned(&mut self) {
        // Nothing is ever sent.
        drop((&mut self.abandoned).await);
    }

    /// Tells what came of it.
    pub(crate) fn ended(self, outcome: Result<Answered, DialError>) {
        self.glare_table.end(self.session, outcome.map_err(Some));
    }
}

impl Drop for PendingAnswer {
    fn drop(&mut self) {
        let is_over = self
            .glare_table
            .with(|state| state.ended.contains(&self.session));
        if !is_over {
            self.glare_table.end(self.session, Err(None));
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use p2pconnect_identity::SecretKey;
    use p2pconnect_proto::CandidateKind;
    use p2pconnect_punch::{CandidatePair, How, Stats};

    use super::*;
    use crate::{
        nat::port_sets::PortSets,
        stream::{
            coordinated_handshake::{CoordinatedHandshake, Progress, wire},
            opened_path::{OpenedPath, UsablePath},
            path_ledger::{PathLedger, StreamPath},
        },
    };

    const PEER: PeerId = PeerId::from_public_key([1; 32]);
    const SESSION: SessionToken = SessionToken::from_bytes([2; SessionToken::LEN]);

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    /// Returns a connection of this peer's, as far as can be told before it is used, and where it
    /// comes out if no dial takes it.
    async fn answered(peer: PeerId) -> (Answered, tokio::sync::mpsc::Receiver<Connection>) {
        let keys = [(); 2].map(|()| SecretKey::generate().unwrap());
        let [one, other] = &keys;
        let (mut dialling, hello) = CoordinatedHandshake::dialling(one, other.peer_id())
            .await
            .unwrap();
        let mut called = CoordinatedHandshake::called(other, one.peer_id(), hello).unwrap();
        wire(&mut dialling, &mut called);
        let is_done = |progress: &Progress| matches!(progress, Progress::Done(_));
        drop(called.progress().wait_for(is_done).await.unwrap());
        let any = ([127, 0, 0, 1], 1).into();
        let pair = CandidatePair {
            local: any,
            remote: any,
            kind: CandidateKind::Host,
        };
        let opened = OpenedPath {
            pair,
            how: How::Connected,
            at: Instant::now(),
        };
        let ledger = PathLedger {
            peer,
            pair_rotation: Arc::default(),
            metrics: Arc::default(),
        };
        let stream_path = StreamPath::new(&ledger, UsablePath::new(opened, Stats::default()));
        let punched = Punched {
            stream: called.take_stream().unwrap(),
            stream_path: Arc::new(stream_path),
            role: p2pconnect_proto::Role::Controlled,
            silence: crate::machine::tcp::STREAM_SILENCE,
            predecessors: Vec::new(),
        };
        let (accepting, accepted) = tokio::sync::mpsc::channel(1);
        let answered = Answered {
            punched,
            peer,
            lease: PortSets::default().answer(peer),
            began: Instant::now(),
            room: Room::new(accepting.try_reserve_owned().unwrap(), None),
        };
        (answered, accepted)
    }

    #[tokio::test]
    async fn what_comes_before_the_answer_to_a_dial_serves_it_all_the_same() {
        let glare_table = Arc::new(GlareTable::default());
        let asking = glare_table.begin_dial(PEER);
        let (answered, mut accepted) = answered(PEER).await;
        glare_table
            .begin_answer(SESSION)
            .unwrap()
            .ended(Ok(answered));
        assert!(accepted.try_recv().is_err(), "it is held back");
        let crossed = asking.crossed(SESSION).unwrap();
        assert!(crossed.outcome(soon()).await.is_ok());
    }

    #[tokio::test]
    async fn what_serves_no_dial_is_accepted_when_that_is_known() {
        let glare_table = Arc::new(GlareTable::default());
        let asking = [(); 2].map(|()| glare_table.begin_dial(PEER));
        let (answered, mut accepted) = answered(PEER).await;
        glare_table
            .begin_answer(SESSION)
            .unwrap()
            .ended(Ok(answered));
        for asking in asking {
            assert!(accepted.try_recv().is_err(), "it is held back");
            drop(asking);
        }
        assert!(accepted.try_recv().is_ok());
    }

    #[tokio::test]
    async fn a_dial_that_is_dropped_leaves_what_it_got_to_whoever_accepts() {
        let glare_table = Arc::new(GlareTable::default());
        let crossed = glare_table.begin_dial(PEER).crossed(SESSION).unwrap();
        let (answered, mut accepted) = answered(PEER).await;
        glare_table
            .begin_answer(SESSION)
            .unwrap()
            .ended(Ok(answered));
        assert!(accepted.try_recv().is_err(), "the dial has it");
        drop(crossed);
        assert!(accepted.try_recv().is_ok());
    }

    #[tokio::test]
    async fn a_dial_does_not_return_a_connection_to_somebody_else() {
        let glare_table = Arc::new(GlareTable::default());
        let other = PeerId::from_public_key([9; 32]);
        let asking = glare_table.begin_dial(PEER);
        let crossed = asking.crossed(SESSION).unwrap();
        let (theirs, mut accepted) = answered(other).await;
        glare_table.begin_answer(SESSION).unwrap().ended(Ok(theirs));
        assert!(matches!(crossed.outcome(soon()).await, Err(None)));
        assert_eq!(accepted.try_recv().unwrap().peer_id(), other);

        let early = SessionToken::from_bytes([3; SessionToken::LEN]);
        let asking_other = glare_table.begin_dial(other);
        let (theirs, mut accepted) = answered(other).await;
        glare_table.begin_answer(early).unwrap().ended(Ok(theirs));
        assert!(asking.crossed(early).is_none());
        drop(asking_other);
        assert_eq!(accepted.try_recv().unwrap().peer_id(), other);
    }

    #[tokio::test]
    async fn a_dial_hears_why_what_it_crossed_came_to_nothing() {
        let glare_table = Arc::new(GlareTable::default());
        let answering = glare_table.begin_answer(SESSION).unwrap();
        let crossed = glare_table.begin_dial(PEER).crossed(SESSION).unwrap();
        answering.ended(Err(DialError::OwnId));
        let outcome = crossed.outcome(soon()).await;
        assert!(matches!(outcome, Err(Some(DialError::OwnId))));
    }

    #[tokio::test]
    async fn an_introduction_that_nobody_answers_keeps_no_dial_waiting() {
        let glare_table = Arc::new(GlareTable::default());
        let crossed = glare_table.begin_dial(PEER).crossed(SESSION).unwrap();
        drop(glare_table.begin_answer(SESSION).unwrap());
        assert!(matches!(crossed.outcome(soon()).await, Err(None)));
    }

    #[test]
    fn what_was_over_before_the_dial_serves_it_no_more() {
        let glare_table = Arc::new(GlareTable::default());
        drop(glare_table.begin_answer(SESSION).unwrap());
        assert!(glare_table.begin_dial(PEER).crossed(SESSION).is_none());
    }

    #[tokio::test]
    async fn what_a_dial_has_waited_for_in_vain_is_abandoned() {
        let glare_table = Arc::new(GlareTable::default());
        let mut answering = glare_table.begin_answer(SESSION).unwrap();
        let crossed = glare_table.begin_dial(PEER).crossed(SESSION).unwrap();
        assert!(crossed.outcome(Instant::now()).await.is_err());
        answering.abandoned().await;
        drop(answering);

        let late = SessionToken::from_bytes([3; SessionToken::LEN]);
        let crossed = glare_table.begin_dial(PEER).crossed(late).unwrap();
        assert!(crossed.outcome(Instant::now()).await.is_err());
        assert!(
            glare_table.begin_answer(late).is_none(),
            "a notice may come later than that"
        );
    }

    #[test]
    fn nothing_piles_up() {
        let glare_table = Arc::new(GlareTable::default());
        for n in 0..=255 {
            let session = SessionToken::from_bytes([n; SessionToken::LEN]);
            drop(glare_table.begin_dial(PEER).crossed(session));
            drop(glare_table.begin_answer(session));
        }
        glare_table.with(|state| {
            assert!(state.asking.is_empty() && state.waiting.is_empty());
            assert!(state.answering.is_empty() && state.held.is_empty());
            assert_eq!(state.ended.len(), MAX_ENDED);
        });
    }
}
