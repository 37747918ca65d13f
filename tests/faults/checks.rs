//! What is noted while a schedule is played, and what of it must not be.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use p2pconnect::{PeerId, Role, Status};
use tokio::time::Instant;

use crate::schedule::Policy;

/// For how long an introduction may be on its way that a policy had allowed which has been
/// replaced: for as long as a QUIC connection on which nothing comes.
const UNDER_WAY: Duration = Duration::from_secs(35);

/// Within how much time two things happen in an order that does not count.
const TOGETHER: Duration = Duration::from_millis(2);

/// What must never happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Broken {
    /// A stream was with somebody else than the peer that was dialled, or that it says.
    Peer,
    /// A peer was told of one whose policy does not admit it, or went to its addresses.
    Admission,
    /// More than one stream came of one dial, or bytes that nobody had sent.
    Nomination,
    /// A dial went on after its deadline.
    Deadline,
    /// A table or the sockets of a host were more than there may be.
    Limit,
    /// With the network whole, two peers did not connect that must, or did that must not.
    Reach,
    /// With the network whole, a dial took as long as one that waits for nothing but a timer.
    Slow,
    /// With the network whole, a dial had more introductions than it needs.
    Rounds,
    /// With the network whole, two dials that crossed made two connections.
    Glare,
    /// With the network whole, it was not told in time that a peer is gone without a word.
    Silence,
    /// Something was left when all was over.
    Rest,
    /// A task panicked.
    Panic,
}

/// Something that must never happen, and has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) what: Broken,
    at: Duration,
    text: String,
}

impl Violation {
    /// Returns what a panic is.
    pub(crate) const fn of_panic(text: String) -> Self {
        Self {
            what: Broken::Panic,
            at: Duration::ZERO,
            text,
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {:?}: {}", self.what, self.at, self.text)
    }
}

/// Which program of a peer it is: the first one, or a later one after the host or the program
/// before has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Program {
    pub(crate) peer: usize,
    pub(crate) life: usize,
}

/// How often something has happened, over many schedules.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) dials: u64,
    pub(crate) connected: u64,
    pub(crate) failed: u64,
    pub(crate) dropped: u64,
    pub(crate) introduced: u64,
    /// Dials that had to connect, with the network whole again.
    pub(crate) met: u64,
    /// The longest that one of these took.
    pub(crate) slowest: Duration,
}

impl Tally {
    pub(crate) fn add(&mut self, other: Self) {
        let Self {
            dials,
            connected,
            failed,
            dropped,
            introduced,
            met,
            slowest,
        } = other;
        self.dials += dials;
        self.connected += connected;
        self.failed += failed;
        self.dropped += dropped;
        self.introduced += introduced;
        self.met += met;
        self.slowest = self.slowest.max(slowest);
    }
}

/// The notes on one run.
#[derive(Debug)]
pub(crate) struct Checks {
    began: Instant,
    peers: Vec<PeerId>,
    notes: Mutex<Notes>,
}

#[derive(Debug, Default)]
struct Notes {
    violations: Vec<Violation>,
    lives: BTreeMap<Program, Life>,
    dials: Vec<[usize; 2]>,
    /// Which of them go on, and since when.
    going_on: BTreeMap<usize, Instant>,
    /// How many streams of a peer another one has accepted that had dialled it itself before.
    beside: BTreeMap<[usize; 2], usize>,
    /// The dials whose bytes somebody has read to their end.
    heard: BTreeSet<usize>,
    /// When a peer was introduced to another one first.
    introduced: BTreeMap<[usize; 2], Duration>,
    /// How many introductions to a peer another one has had as dialler.
    introductions: BTreeMap<[usize; 2], usize>,
    /// How many streams of a peer a program may accept: one for each introduction in which it was
    /// called.
    acceptable: BTreeMap<(Program, usize), usize>,
    /// What is going on: dials and streams.
    busy: BTreeMap<usize, usize>,
    tally: Tally,
}

/// A program's time.
#[derive(Debug)]
struct Life {
    policy: Policy,
    /// When it was registered first.
    registered: Option<Duration>,
}

impl Checks {
    pub(crate) fn new(peers: Vec<PeerId>) -> Self {
        Self {
            began: Instant::now(),
            peers,
            notes: Mutex::default(),
        }
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Notes that an invariant is broken.
    pub(crate) fn breaks(&self, what: Broken, text: impl Into<String>) {
        let (at, text) = (self.now(), text.into());
        self.notes().violations.push(Violation { what, at, text });
    }

    /// Returns what was broken and how often what happened.
    pub(crate) fn take(&self) -> (Vec<Violation>, Tally) {
        let mut notes = self.notes();
        (std::mem::take(&mut notes.violations), notes.tally)
    }

    pub(crate) fn tally(&self, add: impl FnOnce(&mut Tally)) {
        add(&mut self.notes().tally);
    }

    /// Returns how many peers there are.
    pub(crate) fn count(&self) -> usize {
        self.peers.len()
    }

    /// Returns the id of a peer.
    pub(crate) fn id(&self, peer: usize) -> PeerId {
        self.peers[peer]
    }

    /// Returns which peer this is.
    pub(crate) fn number(&self, id: PeerId) -> Option<usize> {
        self.peers.iter().position(|it| *it == id)
    }
}

/// Who is told of whom.
impl Checks {
    /// Notes that a program begins, which others may dial as its policy says.
    pub(crate) fn begins(&self, program: Program, policy: Policy) {
        let life = Life {
            policy,
            registered: None,
        };
        self.notes().lives.insert(program, life);
    }

    /// Takes in what an endpoint tells.
    pub(crate) fn hear(&self, program: Program, status: &Status) {
        match status {
            Status::Registered => {
                let now = self.now();
                if let Some(life) = self.notes().lives.get_mut(&program) {
                    life.registered.get_or_insert(now);
                }
            }
            Status::Introduced { peer, role } => self.introduced(program, *peer, *role),
            _ => {}
        }
    }

    fn introduced(&self, program: Program, id: PeerId, role: Role) {
        let Some(peer) = self.number(id) else {
            return self.breaks(Broken::Admission, format!("{program:?} hears of {id}"));
        };
        let now = self.now();
        let mut notes = self.notes();
        notes.tally.introduced += 1;
        notes.introduced.entry([program.peer, peer]).or_insert(now);
        let is_admitted = match role {
            Role::Controlling => {
                *notes.introductions.entry([program.peer, peer]).or_default() += 1;
                notes.may_admit(peer, program.peer, now)
            }
            Role::Controlled => {
                *notes.acceptable.entry((program, peer)).or_default() += 1;
                let own = notes.lives.get(&program);
                own.is_some_and(|life| life.policy.admits(peer))
            }
        };
        drop(notes);
        if !is_admitted {
            let text = format!("{program:?} is introduced to {peer} as {role:?}");
            self.breaks(Broken::Admission, text);
        }
    }

    /// Returns how many introductions to a peer another one has had as dialler.
    pub(crate) fn introductions(&self, from: usize, to: usize) -> usize {
        let notes = self.notes();
        let count = notes.introductions.get(&[from, to]);
        count.copied().unwrap_or_default()
    }

    /// Returns whether a peer may know the addresses of another one by an introduction.
    pub(crate) fn has_heard_of(&self, peer: usize, of: usize, by: Duration) -> bool {
        let notes = self.notes();
        let at = notes.introduced.get(&[peer, of]);
        at.is_some_and(|at| *at <= by)
    }
}

impl Notes {
    /// Returns whether a policy of a callee that admits a dialler may have been in force a while
    /// ago. One is until the next one is registered.
    fn may_admit(&self, callee: usize, dialler: usize, now: Duration) -> bool {
        let lives = self.lives.iter().filter(|(it, _)| it.peer == callee);
        lives.clone().any(|(program, life)| {
            let later = lives.clone().filter(|(it, _)| it.life > program.life);
            let replaced = later.filter_map(|(_, life)| life.registered).min();
            let may_be_under_way = replaced.is_none_or(|at| now <= at + UNDER_WAY);
            life.policy.admits(dialler) && may_be_under_way
        })
    }

    /// Returns whether a peer's dial of another one goes on that had begun before this moment.
    fn is_dialling(&self, from: usize, to: usize) -> bool {
        let mut going_on = self.going_on.iter();
        going_on.any(|(dial, since)| self.dials[*dial] == [from, to] && since.elapsed() > TOGETHER)
    }
}

/// Dials and streams.
impl Checks {
    /// Notes that a peer dials another one, and returns the number of the dial.
    pub(crate) fn dials(&self, from: usize, to: usize) -> usize {
        let mut notes = self.notes();
        notes.tally.dials += 1;
        notes.dials.push([from, to]);
        notes.dials.len() - 1
    }

    /// Notes that a dial goes on until the guard is dropped.
    pub(crate) fn goes_on(&self, dial: usize) -> GoingOn<'_> {
        self.notes().going_on.insert(dial, Instant::now());
        GoingOn { checks: self, dial }
    }

    /// Returns how many streams of a peer another one has accepted that had dialled it itself
    /// before.
    pub(crate) fn beside(&self, own: usize, peer: usize) -> usize {
        let notes = self.notes();
        notes.beside.get(&[own, peer]).copied().unwrap_or_default()
    }

    /// Returns whether a dial of this number was made from one peer to the other.
    pub(crate) fn is_dialled(&self, dial: usize, from: usize, to: usize) -> bool {
        self.notes().dials.get(dial) == Some(&[from, to])
    }

    /// Notes that a program has accepted a stream of a peer: one for an introduction at most.
    pub(crate) fn accepts(&self, program: Program, id: PeerId) {
        let peer = self.number(id);
        let mut notes = self.notes();
        if let Some(peer) = peer
            && notes.is_dialling(program.peer, peer)
        {
            *notes.beside.entry([program.peer, peer]).or_default() += 1;
        }
        let left = peer.and_then(|peer| notes.acceptable.get_mut(&(program, peer)));
        let may_accept = left.is_some_and(|left| {
            let fewer = left.checked_sub(1);
            *left = fewer.unwrap_or_default();
            fewer.is_some()
        });
        drop(notes);
        if !may_accept {
            let text = format!("{program:?} accepts a stream of {peer:?} once more");
            self.breaks(Broken::Nomination, text);
        }
    }

    /// Notes that what the dialler of this dial has sent has been read to its end.
    pub(crate) fn is_heard(&self, dial: usize) {
        let is_first = self.notes().heard.insert(dial);
        if !is_first {
            self.breaks(Broken::Nomination, format!("dial {dial} made two streams"));
        }
    }

    /// Notes that a peer is busy until the guard is dropped.
    pub(crate) fn busy(&self, peer: usize) -> Busy<'_> {
        *self.notes().busy.entry(peer).or_default() += 1;
        Busy { checks: self, peer }
    }

    /// Returns how many dials and streams of a peer go on.
    pub(crate) fn busy_of(&self, peer: usize) -> usize {
        self.notes().busy.get(&peer).copied().unwrap_or_default()
    }
}

/// A dial that goes on.
#[derive(Debug)]
pub(crate) struct GoingOn<'a> {
    checks: &'a Checks,
    dial: usize,
}

impl Drop for GoingOn<'_> {
    fn drop(&mut self) {
        self.checks.notes().going_on.remove(&self.dial);
    }
}

/// A dial or a stream that goes on.
#[derive(Debug)]
pub(crate) struct Busy<'a> {
    checks: &'a Checks,
    peer: usize,
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        if let Some(count) = self.checks.notes().busy.get_mut(&self.peer) {
            *count -= 1;
        }
    }
}
