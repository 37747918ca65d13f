//! What this coordinator says to the others, and hears of them.

mod board;
mod counts;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Mutex,
    time::{Duration, Instant},
};

use p2pconnect_host::{Host, clock};
use p2pconnect_proto::{
    PeerId, SessionToken,
    board::TopicKey,
    message::{Extensions, Flight, Notice, Refusal, RefusalReason, TopicChanges},
    nodes::{
        Claim, Commitments, NodeContent, NodeId, NodeMessage, OpenError, RemoteSettled,
        SUBJECT_OF_ALL, Sightings, peer_subject,
    },
};
use tokio::{
    sync::{Notify, mpsc},
    time::{sleep, timeout},
};
use tracing::{error, info, warn};

use super::lock::lock;
use crate::{
    metrics::Family,
    nodes::{
        Change, Cluster, Delays, Held, Incoming, Listening, OtherRegistration, Rival, Unanswered,
    },
    registry::ConnectionId,
};
use counts::{Counts, Outcome};

pub(super) use board::carry;

/// The messages that wait to be read at most. What comes when there are so many is lost, and
/// whoever has sent it is told nothing.
const QUEUE: usize = 4096;

/// The changes of the board that wait to be told at most: as many as there are entries.
const CHANGES: usize = 65_536;

/// How long a node may take to answer: as long as its callee may take to make room for a notice,
/// and a way around the world.
pub(super) const PATIENCE: Duration = Duration::from_millis(1500);

/// How long a dial waits until it is known how far a node is that has just come.
const MEASURING: Duration = Duration::from_millis(500);

/// What is assumed of a node that has not been measured, where its registrations are compared.
const UNKNOWN_ROUND_TRIP: Duration = Duration::from_millis(500);

/// What a registration takes within a node until others are told of it.
const TELLING: Duration = Duration::from_millis(50);

/// The longest time by which a refusal is put off that tells nobody who is online.
const LONGEST_LEVELLING: Duration = Duration::from_millis(500);

/// After what time a dial may be granted whose callee's coordinator has not answered: it has moved
/// by then, or its coordinator is known to be gone.
pub(super) const COME_BACK: Duration = Duration::from_secs(1);

/// How far apart claims leave after the bus has been away, so that a hundred thousand take two
/// minutes and leave room for others.
const BETWEEN_CLAIMS: Duration = Duration::from_millis(1);

/// How often one complaint is made.
const BETWEEN_COMPLAINTS: Duration = Duration::from_secs(60);

/// What this coordinator has to do with others.
#[derive(Debug)]
pub(super) struct Nodes {
    own: NodeId,
    cluster: Cluster,
    host: Host,
    incoming: mpsc::Sender<Incoming>,
    held: Mutex<Held>,
    /// What comes about topics, which is taken in in its order.
    of_topics: mpsc::Sender<Incoming>,
    /// The topics that others are listened to about.
    topics: Mutex<BTreeMap<TopicKey, Listening>>,
    /// What has changed on the board here.
    changes: mpsc::Sender<TopicChanges>,
    delays: Mutex<Delays>,
    /// Wakes those who wait for a measurement.
    measured: Notify,
    /// When each complaint was made last.
    complaints: Mutex<BTreeMap<&'static str, Instant>>,
    counts: Counts,
}

/// What waits to be taken in, and to be told to others.
#[derive(Debug)]
pub(super) struct Queues {
    pub(super) incoming: mpsc::Receiver<Incoming>,
    pub(super) of_topics: mpsc::Receiver<Incoming>,
    pub(super) changes: mpsc::Receiver<TopicChanges>,
}

impl Nodes {
    /// Returns what this node has to do with others, and what waits.
    pub(super) fn new(cluster: Cluster, host: Host, own: NodeId) -> (Self, Queues) {
        let (incoming, came) = mpsc::channel(QUEUE);
        let (of_topics, came_of_topics) = mpsc::channel(QUEUE);
        let (changes, to_be_told) = mpsc::channel(CHANGES);
        let nodes = Self {
            own,
            cluster,
            host,
            incoming,
            held: Mutex::default(),
            of_topics,
            topics: Mutex::default(),
            changes,
            delays: Mutex::default(),
            measured: Notify::new(),
            complaints: Mutex::default(),
            counts: Counts::default(),
        };
        let queues = Queues {
            incoming: came,
            of_topics: came_of_topics,
            changes: to_be_told,
        };
        (nodes, queues)
    }

    /// Returns after what time the others may be reached again, if they cannot be now.
    pub(super) fn away(&self) -> Option<Duration> {
        self.cluster.bus.away()
    }

    /// Returns all metrics as they are now.
    pub(super) fn measure(&self) -> Vec<Family> {
        let nodes = lock(&self.delays).count(clock::now());
        let held = lock(&self.held).len();
        self.counts.measure(self.away().is_some(), nodes, held)
    }

    /// Takes in what comes for a peer that has registered over this connection, and tells whoever
    /// held it before.
    pub(super) async fn hold(&self, peer: PeerId, connection: ConnectionId) {
        let change = lock(&self.held).hold(peer, connection, clock::now());
        match change {
            Change::Nothing => return,
            Change::Moved => {}
            Change::New => {
                let subject = peer_subject(&peer);
                let listening = self.cluster.bus.listen(subject, self.incoming.clone());
                let listening = listening.await;
                // What is not needed ends without the lock.
                let unneeded = lock(&self.held).keep(peer, listening);
                drop(unneeded);
            }
        }
        self.claim(peer, Duration::ZERO, false).await;
    }

    /// Forgets a peer whose registration over this connection has ended.
    pub(super) fn release(&self, peer: PeerId, connection: ConnectionId) {
        let listened = lock(&self.held).release(peer, connection);
        drop(listened);
    }

    pub(super) async fn claim(&self, peer: PeerId, age: Duration, is_answer: bool) {
        let claim = Claim {
            peer,
            age_ms: millis(age),
            is_answer,
            extensions: Extensions::default(),
        };
        self.tell(peer_subject(&peer), NodeContent::Claim(claim))
            .await;
    }

    /// Tells all others of all peers that are here, as some may have come elsewhere meanwhile.
    pub(super) async fn claim_all(&self) {
        let ages = lock(&self.held).ages(clock::now());
        info!(peers = ages.len(), "others are told of the peers here");
        for (peer, age) in ages {
            self.claim(peer, age, false).await;
            sleep(BETWEEN_CLAIMS).await;
        }
    }

    /// Judges the registration of a peer at another node.
    pub(super) fn judge(&self, node: NodeId, claim: &Claim) -> Rival {
        let round_trip = lock(&self.delays).round_trip(node);
        let other = OtherRegistration {
            peer: claim.peer,
            node,
            age: Duration::from_millis(claim.age_ms.into()),
            apart: round_trip.unwrap_or(UNKNOWN_ROUND_TRIP) + TELLING,
        };
        lock(&self.held).judge(self.own, other, clock::now())
    }

    /// Passes a notice on to the side of an introduction that is at another node. Others than these
    /// two go nowhere.
    pub(super) async fn notify(&self, node: NodeId, notice: Notice) {
        let content = match notice {
            Notice::Flight(flight) => NodeContent::Relay(flight),
            Notice::Silent(silent) => NodeContent::Silent(silent),
            Notice::Welcome(_)
            | Notice::Introduction(_)
            | Notice::Topic(_)
            | Notice::Move(_)
            | Notice::Unknown(_) => return,
        };
        self.tell(node.subject(), content).await;
    }

    /// Tells a node that a callee here is done with an introduction.
    pub(super) async fn settled(&self, node: NodeId, settled: RemoteSettled) {
        self.tell(node.subject(), NodeContent::Settled(settled))
            .await;
    }

    /// Tells whoever may have been asked for a callee that the dialler has given up.
    pub(super) async fn give_up(&self, callee: PeerId, session: SessionToken) {
        let bytes = Vec::new();
        let flight = Flight { session, bytes };
        self.tell(peer_subject(&callee), NodeContent::Relay(flight))
            .await;
    }

    /// Says goodbye.
    pub(super) async fn leave(&self) {
        self.tell(SUBJECT_OF_ALL.to_owned(), NodeContent::Leaving)
            .await;
    }

    pub(super) async fn ping(&self, subject: String) {
        let number = lock(&self.delays).ask(clock::now());
        self.tell(subject, NodeContent::Ping(number)).await;
    }

    /// Returns the round-trip time to a node, which is measured if it is not known; none where that
    /// takes too long.
    pub(super) async fn round_trip(&self, node: NodeId) -> Duration {
        let known = || lock(&self.delays).round_trip(node);
        let measuring = async {
            loop {
                let news = self.measured.notified();
                if let Some(round_trip) = known() {
                    return round_trip;
                }
                news.await;
            }
        };
        timeout(MEASURING, measuring).await.unwrap_or_default()
    }

    /// Returns what is said in the place of [`RefusalReason::Unavailable`], when that tells nobody
    /// whether a peer is at another node: as long after `asked` as the farthest one takes to
    /// answer.
    ///
    /// A peer whose node is missing is not said to be unavailable.
    pub(super) async fn level(&self, refusal: Refusal, asked: Instant) -> Refusal {
        let farthest = lock(&self.delays).farthest() + Duration::from_millis(1);
        let wait = farthest.min(LONGEST_LEVELLING);
        sleep(wait.saturating_sub(clock::since(asked))).await;
        match lock(&self.delays).is_any_missing(clock::now()) {
            true => Refusal::until(RefusalReason::Apart, COME_BACK),
            false => refusal,
        }
    }

    /// Asks all others where those who show these commitments are seen.
    pub(super) async fn seen(
        &self,
        commitments: &[[u8; 32]],
        patience: Duration,
    ) -> Vec<Option<SocketAddr>> {
        let patience = patience + lock(&self.delays).farthest();
        let asked = NodeContent::Witnessed(Commitments(commitments.to_vec()));
        let answer = self.ask(SUBJECT_OF_ALL.to_owned(), asked, patience).await;
        match answer.map(|it| it.content) {
            Ok(NodeContent::Seen(Sightings(mut seen))) => {
                seen.resize(commitments.len(), None);
                seen
            }
            Ok(_) | Err(_) => vec![None; commitments.len()],
        }
    }

    pub(super) async fn tell(&self, subject: String, content: NodeContent) {
        if let Some(sealed) = self.seal(subject.as_bytes(), content) {
            self.cluster.bus.publish(subject, sealed).await;
        }
    }

    pub(super) async fn ask(
        &self,
        subject: String,
        content: NodeContent,
        patience: Duration,
    ) -> Result<NodeMessage, Unanswered> {
        let asked = clock::now();
        let sealed = self.seal(subject.as_bytes(), content);
        let sealed = sealed.ok_or(Unanswered::NobodyThere)?;
        let answer = self.cluster.bus.request(subject, sealed.clone(), patience);
        let answer = answer.await;
        self.counts.asked(Outcome::of(&answer), clock::since(asked));
        let message = self.open(&sealed, &answer?).ok_or(Unanswered::TimedOut)?;
        self.hear(message.from);
        Ok(message)
    }

    fn seal(&self, to: &[u8], content: NodeContent) -> Option<Vec<u8>> {
        let from = self.own;
        let message = NodeMessage { from, content };
        let sealed = self.cluster.key.seal(to, &message, self.host.unix_time());
        sealed
            .inspect_err(|error| error!(%error, "cannot be said to another coordinator"))
            .ok()
    }

    pub(super) fn open(&self, to: &[u8], sealed: &[u8]) -> Option<NodeMessage> {
        match self.cluster.key.open(to, sealed, self.host.unix_time()) {
            Ok(message) => Some(message),
            Err(error) => {
                self.counts.rejected();
                self.complain(&error);
                None
            }
        }
    }

    /// Notes that a node has been heard of; tells whether it has to be measured.
    pub(super) fn hear(&self, node: NodeId) -> bool {
        lock(&self.delays).hear(node, clock::now())
    }

    /// Answers what has come, if that is wanted.
    pub(super) async fn answer(&self, to: &Incoming, content: NodeContent) {
        let Some(reply) = to.reply.clone() else {
            return;
        };
        if let Some(sealed) = self.seal(&to.bytes, content) {
            self.cluster.bus.publish(reply, sealed).await;
        }
    }

    /// Says now and then what is wrong with what has come.
    fn complain(&self, error: &OpenError) {
        let kind = match error {
            OpenError::Forged => "forged",
            OpenError::OutOfTime { .. } => "out of time",
            _ => "malformed",
        };
        let (now, mut made) = (clock::now(), lock(&self.complaints));
        let is_new = |at: &Instant| now.saturating_duration_since(*at) >= BETWEEN_COMPLAINTS;
        if made.get(kind).is_none_or(is_new) {
            made.insert(kind, now);
            warn!(%error, "what has come from another coordinator is ignored");
        }
    }

    /// Takes in what other nodes say to all, and to this one, until what is returned is dropped.
    pub(super) async fn listen(&self) -> [Listening; 2] {
        let bus = &self.cluster.bus;
        let own = bus.listen(self.own.subject(), self.incoming.clone());
        let all = bus.listen(SUBJECT_OF_ALL.to_owned(), self.incoming.clone());
        [own.await, all.await]
    }

    /// Returns how often others have been within reach again.
    pub(super) fn returns(&self) -> u64 {
        self.cluster.bus.returns()
    }

    /// Tells whether this is the node's own name.
    pub(super) fn is_own(&self, node: NodeId) -> bool {
        node == self.own
    }

    /// Forgets a node that has said goodbye.
    pub(super) fn forget(&self, node: NodeId) {
        lock(&self.delays).forget(node);
    }

    /// Notes the answer to a ping.
    pub(super) fn measured(&self, node: NodeId, number: u64) {
        lock(&self.delays).answered(node, number, clock::now());
        self.measured.notify_waiters();
    }

    /// Counts a peer that has registered elsewhere.
    pub(super) fn moved(&self) {
        self.counts.moved();
    }
}

fn millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

pub(super) fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}
