//! The bulletin board: who can be found under which topic, without its sockets.
//!
//! A [`Board`] knows topics by their keys alone, and peers by their ids; where peers are it does
//! not know. Time and randomness come with what it is asked.
//!
//! What always holds:
//! - An entry, and a watch, lasts as long as the connection that it was made over.
//! - Every table has a limit.

mod page;
mod used;

use std::{
    collections::{BTreeMap, BTreeSet, btree_map},
    fmt, mem,
    net::IpAddr,
    time::Instant,
};

use p2pconnect_proto::{
    PeerId,
    board::{Member, MemberProof, TopicKey},
    message::{
        Announce, Extensions, Found, LookUp, PendingChanges, Refusal, RefusalReason, Room,
        TopicChanges, Watch,
    },
};

pub use page::{Position, merge};

use crate::{
    network::site,
    rate::RateLimiter,
    registry::{BoardLimits, Client, ConnectionId, refuse_unknown, too_soon},
};
use used::{Kind, Used};

/// How many times as much a network may ask of the board as a peer.
const PEERS_OF_A_NETWORK: u32 = 8;

/// The most changes that wait for watchers who do not take them: 10 MiB. Beyond that a gap is told.
const MAX_PENDING: usize = 131_072;

/// The most of them that wait for the watchers of one network.
const MAX_PENDING_PER_NETWORK: usize = MAX_PENDING / 8;

/// Who is on the board, and who watches.
pub struct Board {
    limits: BoardLimits,
    topics: BTreeMap<TopicKey, Topic>,
    connections: BTreeMap<ConnectionId, Held>,
    used: Used,
    asked_by_peer: RateLimiter<PeerId>,
    asked_by_network: RateLimiter<IpAddr>,
}

/// A topic that has members or watchers.
#[derive(Debug, Default)]
struct Topic {
    members: BTreeMap<PeerId, Entry>,
    watchers: BTreeSet<ConnectionId>,
}

/// A member.
#[derive(Debug)]
struct Entry {
    proof: MemberProof,
    /// The connections that have announced it, which is one but for a moment.
    by: Vec<ConnectionId>,
}

/// What a connection has on the board.
#[derive(Debug)]
struct Held {
    client: Client,
    announced: BTreeSet<TopicKey>,
    watched: BTreeSet<TopicKey>,
    /// What its peer has not been told yet, of the topics where that is something.
    pending: BTreeMap<TopicKey, PendingChanges>,
}

/// What a change has brought about.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Effect {
    /// The connections that have something to be told now, and had nothing before.
    pub wake: Vec<ConnectionId>,
    /// What has changed, which other nodes of a cluster are to be told.
    pub changes: Vec<TopicChanges>,
}

impl Board {
    /// Returns an empty board.
    #[must_use]
    pub fn new(limits: BoardLimits) -> Self {
        let mut board = Self {
            topics: BTreeMap::new(),
            connections: BTreeMap::new(),
            used: Used::default(),
            asked_by_peer: RateLimiter::new(0, limits.interval_per_peer),
            asked_by_network: RateLimiter::new(0, limits.interval_per_peer),
            limits: BoardLimits::default(),
        };
        board.set_limits(limits);
        board
    }

    /// Sets how much is done for whom from now on. What is above a limit already may stay.
    pub fn set_limits(&mut self, limits: BoardLimits) {
        let (burst, interval) = (limits.burst_per_peer, limits.interval_per_peer);
        self.asked_by_peer.set(burst, interval);
        let burst = burst.saturating_mul(PEERS_OF_A_NETWORK);
        self.asked_by_network
            .set(burst, interval / PEERS_OF_A_NETWORK);
        self.limits = limits;
    }

    /// Tells whether there is a board at all.
    #[must_use]
    pub const fn is_kept(&self) -> bool {
        self.limits.max_entries > 0
    }

    /// Returns how many entries and how many watches there are.
    #[must_use]
    pub const fn len(&self) -> (usize, usize) {
        self.used.all()
    }

    /// Tells whether a topic has members or watchers here.
    #[must_use]
    pub fn knows(&self, topic: &TopicKey) -> bool {
        self.topics.contains_key(topic)
    }

    /// Puts a peer on the board for as long as its connection lasts.
    ///
    /// # Errors
    ///
    /// There is no room, or too much has been asked; nothing has changed then.
    pub fn announce(
        &mut self,
        client: &Client,
        announce: &Announce,
        now: Instant,
    ) -> Result<Effect, Refusal> {
        self.charge(client, &announce.extensions, now)?;
        let Announce { topic, proof, .. } = *announce;
        let held = self.connections.get(&client.connection);
        if !held.is_some_and(|it| it.announced.contains(&topic)) {
            let of_topic = self.topics.get(&topic);
            let is_member = of_topic.is_some_and(|it| it.members.contains_key(&client.peer));
            let members = of_topic.map_or(0, |it| it.members.len());
            let is_full = !is_member && members >= self.limits.max_members;
            self.find_room(Kind::Entry, client, is_full)?;
            self.held(client).announced.insert(topic);
        }
        let member = Member {
            peer: client.peer,
            proof,
        };
        let members = &mut self.topics.entry(topic).or_default().members;
        match members.entry(client.peer) {
            btree_map::Entry::Vacant(vacant) => {
                let by = vec![client.connection];
                vacant.insert(Entry { proof, by });
            }
            btree_map::Entry::Occupied(mut occupied) => {
                let entry = occupied.get_mut();
                if !entry.by.contains(&client.connection) {
                    entry.by.push(client.connection);
                }
                if mem::replace(&mut entry.proof, proof) == proof {
                    return Ok(Effect::default());
                }
            }
        }
        let mut effect = Effect::default();
        self.tell(joined(topic, member), &mut effect);
        Ok(effect)
    }

    /// Takes a peer off the board, as far as this connection has put it there.
    pub fn withdraw(&mut self, client: &Client, topic: TopicKey) -> Effect {
        let mut effect = Effect::default();
        let held = self.connections.get_mut(&client.connection);
        if held.is_some_and(|it| it.announced.remove(&topic)) {
            self.remove_entry(client, topic, &mut effect);
            self.tidy(client.connection);
        }
        effect
    }

    /// Lets a peer be told who comes and goes for as long as its connection lasts.
    ///
    /// # Errors
    ///
    /// As [`announce`](Self::announce).
    pub fn watch(&mut self, client: &Client, watch: &Watch, now: Instant) -> Result<(), Refusal> {
        self.charge(client, &watch.extensions, now)?;
        let topic = watch.topic;
        let held = self.connections.get(&client.connection);
        if held.is_some_and(|it| it.watched.contains(&topic)) {
            return Ok(());
        }
        let watchers = self.topics.get(&topic).map_or(0, |it| it.watchers.len());
        let is_full = watchers >= self.limits.max_watchers;
        self.find_room(Kind::Watch, client, is_full)?;
        self.held(client).watched.insert(topic);
        let watchers = &mut self.topics.entry(topic).or_default().watchers;
        watchers.insert(client.connection);
        Ok(())
    }

    /// Tells a peer nothing more of a topic.
    pub fn unwatch(&mut self, client: &Client, topic: TopicKey) {
        let Some(held) = self.connections.get_mut(&client.connection) else {
            return;
        };
        if held.watched.remove(&topic) {
            let pending = held.pending.remove(&topic).unwrap_or_default();
            self.let_go(client, &pending);
            self.remove_watch(client, topic);
            self.tidy(client.connection);
        }
    }

    /// Returns where a page of a topic begins: as the page before has said, or at a random place.
    ///
    /// # Errors
    ///
    /// Too much has been asked.
    pub fn position(
        &mut self,
        client: &Client,
        look_up: &LookUp,
        random: [u8; 8],
        now: Instant,
    ) -> Result<Position, Refusal> {
        self.charge(client, &look_up.extensions, now)?;
        let begins = || Position::random(random);
        Ok(look_up.cookie.map_or_else(begins, Position::of_cookie))
    }

    /// Returns how many members a page has at most for which so many are asked.
    #[must_use]
    pub fn most(&self, asked: u16) -> usize {
        usize::from(asked).clamp(1, self.limits.max_page.max(1))
    }

    /// Returns a page of those who are on the board here, as many as are wanted and no more than
    /// there are on one at most.
    #[must_use]
    pub fn page(&self, topic: &TopicKey, from: Position, most: u16) -> Found {
        let members = self.topics.get(topic).map(|it| &it.members);
        let members = members.into_iter().flatten();
        page::page(
            members.map(|(&peer, &Entry { proof, .. })| Member { peer, proof }),
            from,
            self.most(most),
        )
    }

    /// Forgets a connection that has ended. Returns the topics that it had to do with as well.
    pub fn forget(&mut self, connection: ConnectionId) -> (Effect, BTreeSet<TopicKey>) {
        let mut effect = Effect::default();
        let Some(held) = self.connections.remove(&connection) else {
            return (effect, BTreeSet::new());
        };
        for pending in held.pending.values() {
            self.let_go(&held.client, pending);
        }
        for &topic in &held.watched {
            self.remove_watch(&held.client, topic);
        }
        for &topic in &held.announced {
            self.remove_entry(&held.client, topic, &mut effect);
        }
        let mut topics = held.announced;
        topics.extend(held.watched);
        (effect, topics)
    }

    /// Takes out what a connection's peer is to be told next, if that is something.
    pub fn take(&mut self, connection: ConnectionId) -> Option<TopicChanges> {
        let held = self.connections.get_mut(&connection)?;
        let (topic, mut pending) = held.pending.pop_first()?;
        let client = held.client;
        self.let_go(&client, &pending);
        pending.take(topic)
    }

    /// Notes that what was taken out has not reached the peer.
    pub fn lost(&mut self, connection: ConnectionId, topic: TopicKey) {
        let held = self.connections.get_mut(&connection);
        if let Some(held) = held.filter(|it| it.watched.contains(&topic)) {
            let pending = held.pending.entry(topic).or_default();
            let before = pending.len();
            pending.missed();
            let network = site(held.client.seen.ip());
            self.used.replace(network, Kind::Change, before, 0);
        }
    }

    /// Takes in what has changed at another node of the cluster. Returns what that node, and the
    /// others, are to be told: a peer that has gone there is here still.
    pub fn hear(&mut self, changes: &TopicChanges) -> Effect {
        let mut effect = Effect::default();
        let Some(topic) = self.topics.get(&changes.topic) else {
            return effect;
        };
        let here = |peer: &PeerId| {
            let proof = topic.members.get(peer)?.proof;
            Some(Member { peer: *peer, proof })
        };
        let still_here: Vec<_> = changes.left.iter().filter_map(here).collect();
        let mut heard = changes.clone();
        heard
            .left
            .retain(|peer| still_here.iter().all(|it| it.peer != *peer));
        self.wake_watchers(&heard, &mut effect);
        let still_here = still_here.into_iter();
        effect.changes = still_here.map(|it| joined(changes.topic, it)).collect();
        effect
    }

    /// Notes that something may have changed at other nodes of the cluster that nobody has told,
    /// under any topic.
    pub fn missed_elsewhere(&mut self) -> Effect {
        let mut effect = Effect::default();
        let topics = self.topics.iter();
        let watched = topics.filter(|(_, it)| !it.watchers.is_empty());
        let watched: Vec<_> = watched.map(|(key, _)| *key).collect();
        for topic in watched {
            let missed = TopicChanges {
                missed: true,
                ..TopicChanges::new(topic)
            };
            self.wake_watchers(&missed, &mut effect);
        }
        effect
    }

    fn charge(
        &mut self,
        client: &Client,
        extensions: &Extensions,
        now: Instant,
    ) -> Result<(), Refusal> {
        refuse_unknown(extensions)?;
        let taken = self.asked_by_peer.take(client.peer, now);
        taken.map_err(too_soon)?;
        let network = site(client.seen.ip());
        let taken = self.asked_by_network.take(network, now);
        taken.map_err(too_soon)
    }

    /// Takes the room for one more entry or watch, unless there is none.
    fn find_room(&mut self, kind: Kind, client: &Client, is_full: bool) -> Result<(), Refusal> {
        let held = self.connections.get(&client.connection);
        let held = held.map_or(0, |it| match kind {
            Kind::Entry => it.announced.len(),
            Kind::Watch | Kind::Change => it.watched.len(),
        });
        let network = site(client.seen.ip());
        let room = if held >= self.limits.max_topics_per_peer {
            Some(Room::Peer)
        } else if self.used.of_network(network, kind) >= self.limits.max_entries_per_network {
            Some(Room::Network)
        } else if is_full {
            Some(Room::Topic)
        } else if self.used.of_all(kind) >= self.limits.max_entries {
            Some(Room::Board)
        } else {
            None
        };
        match room {
            Some(room) => Err(RefusalReason::NoRoom(room).into()),
            None => {
                self.used.add(network, kind);
                Ok(())
            }
        }
    }

    fn held(&mut self, client: &Client) -> &mut Held {
        let held = self.connections.entry(client.connection);
        held.or_insert_with(|| Held {
            client: *client,
            announced: BTreeSet::new(),
            watched: BTreeSet::new(),
            pending: BTreeMap::new(),
        })
    }

    fn remove_entry(&mut self, client: &Client, topic: TopicKey, effect: &mut Effect) {
        self.used.remove(site(client.seen.ip()), Kind::Entry);
        let Some(of_topic) = self.topics.get_mut(&topic) else {
            return;
        };
        let Some(entry) = of_topic.members.get_mut(&client.peer) else {
            return;
        };
        entry.by.retain(|it| *it != client.connection);
        if entry.by.is_empty() {
            of_topic.members.remove(&client.peer);
            let left = TopicChanges {
                left: vec![client.peer],
                ..TopicChanges::new(topic)
            };
            self.tell(left, effect);
            self.tidy_topic(topic);
        }
    }

    /// Makes the room free of what a client need not be told any more.
    fn let_go(&mut self, client: &Client, pending: &PendingChanges) {
        let network = site(client.seen.ip());
        self.used.replace(network, Kind::Change, pending.len(), 0);
    }

    fn remove_watch(&mut self, client: &Client, topic: TopicKey) {
        self.used.remove(site(client.seen.ip()), Kind::Watch);
        if let Some(of_topic) = self.topics.get_mut(&topic) {
            of_topic.watchers.remove(&client.connection);
        }
        self.tidy_topic(topic);
    }

    /// Forgets a topic that nobody has to do with any more.
    fn tidy_topic(&mut self, topic: TopicKey) {
        let is_unused = |it: &Topic| it.members.is_empty() && it.watchers.is_empty();
        if self.topics.get(&topic).is_some_and(is_unused) {
            self.topics.remove(&topic);
        }
    }

    /// Forgets a connection that has nothing on the board any more.
    fn tidy(&mut self, connection: ConnectionId) {
        let is_unused = |it: &Held| it.announced.is_empty() && it.watched.is_empty();
        if self.connections.get(&connection).is_some_and(is_unused) {
            self.connections.remove(&connection);
        }
    }

    /// Notes a change of this node's for all who are to be told.
    fn tell(&mut self, changes: TopicChanges, effect: &mut Effect) {
        self.wake_watchers(&changes, effect);
        effect.changes.push(changes);
    }

    fn wake_watchers(&mut self, changes: &TopicChanges, effect: &mut Effect) {
        let Some(topic) = self.topics.get(&changes.topic) else {
            return;
        };
        for watcher in &topic.watchers {
            if let Some(held) = self.connections.get_mut(watcher) {
                if held.pending.is_empty() {
                    effect.wake.push(*watcher);
                }
                let pending = held.pending.entry(changes.topic).or_default();
                let before = pending.len();
                pending.take_in(changes);
                let (network, more) = (site(held.client.seen.ip()), pending.len());
                let used = &mut self.used;
                if used.of_all(Kind::Change) + more > MAX_PENDING + before
                    || used.of_network(network, Kind::Change) + more
                        > MAX_PENDING_PER_NETWORK + before
                {
                    pending.missed();
                }
                used.replace(network, Kind::Change, before, pending.len());
                if pending.is_empty() {
                    held.pending.remove(&changes.topic);
                }
            }
        }
    }
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Board")
            .field("limits", &self.limits)
            .field("topics", &self.topics.len())
            .finish_non_exhaustive()
    }
}

fn joined(topic: TopicKey, member: Member) -> TopicChanges {
    TopicChanges {
        joined: vec![member],
        ..TopicChanges::new(topic)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests;
