//! What all connections of a coordinator share.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::pending,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use p2pconnect_host::{ELSEWHERE, Host, clock};
use p2pconnect_link::Link;
use p2pconnect_proto::{
    Candidate, Grease, GreaseSource, PeerId, SessionToken, close,
    message::{BOARD, Introduction, Notice, RefusalReason, Welcome},
    nodes::{NodeId, RemoteDial, RemoteSettled},
};
use p2pconnect_stun::{TlsPlace, Witness};
use tokio::sync::watch;
use tracing::info;

use super::{
    Config, ServiceLimits,
    buffers::Buffers,
    bulletin::Bulletin,
    counts::{Counts, Handshake, Present},
    gate::{Attempt, Gate, Verdict},
    journal::Journal,
    lock::lock,
    nodes::Nodes,
    notices::Notices,
    stun_servers::told,
};
use crate::{
    Limits,
    concealed::{Concealed, Findings},
    metrics::Family,
    network::site,
    rate::RateLimiter,
    registry::{Asked, Client, Command, ConnectionId, Event, Moment, Place, Registry},
};

/// The requests that one network may send at once: those of 2,000 dials.
const REQUEST_BURST: u32 = 8_192;

/// How long it takes until a network may send another request. A request takes 8 µs at least, so
/// these are 1 % of a core.
const REQUEST_INTERVAL: Duration = Duration::from_millis(1);

/// What all connections of a coordinator have in common.
///
/// Every lock is held for one look-up or one command, and never across an await.
#[derive(Debug)]
pub(super) struct Shared {
    registry: Mutex<Registry>,
    /// Locked before the connections where both are.
    allowed: Mutex<Option<BTreeSet<PeerId>>>,
    connections: Mutex<BTreeMap<ConnectionId, Arc<Notices>>>,
    gate: Mutex<Gate>,
    buffers: Mutex<Buffers>,
    requests: Mutex<RateLimiter<IpAddr>>,
    journal: Mutex<Journal>,
    concealed: Mutex<Concealed>,
    pub(super) bulletin: Arc<Bulletin>,
    findings: watch::Sender<Findings>,
    pub(super) counts: Counts,
    next_connection: AtomicU64,
    /// The connections by TCP, those in their handshake included.
    by_tcp: AtomicUsize,
    stun_servers: Vec<SocketAddr>,
    stun_alternates: Vec<SocketAddr>,
    witness: Option<Witness>,
    /// The other coordinators, if there are any.
    pub(super) nodes: Option<Nodes>,
    pub(super) grease: GreaseSource,
    pub(super) host: Host,
}

impl Shared {
    pub(super) fn new(config: Config, nodes: Option<Nodes>) -> Self {
        let bulletin = Bulletin::new(config.limits.board.clone(), &config.host);
        let mut registry = Registry::new(config.limits, config.token_key);
        if nodes.is_some() {
            registry.expect_others();
        }
        Self {
            bulletin: Arc::new(bulletin),
            registry: Mutex::new(registry),
            allowed: Mutex::new(config.allowed),
            connections: Mutex::default(),
            buffers: Mutex::new(Buffers::new(&config.service)),
            gate: Mutex::new(Gate::new(config.service)),
            requests: Mutex::new(RateLimiter::new(REQUEST_BURST, REQUEST_INTERVAL)),
            journal: Mutex::new(Journal::new()),
            concealed: Mutex::default(),
            findings: watch::Sender::default(),
            counts: Counts::default(),
            next_connection: AtomicU64::new(0),
            by_tcp: AtomicUsize::new(0),
            stun_servers: config.stun_servers,
            stun_alternates: config.stun_alternates,
            witness: config.witness,
            nodes,
            grease: GreaseSource::new(config.host.random_seed()),
            host: config.host,
        }
    }

    pub(super) fn judge(&self, attempt: Attempt) -> Verdict {
        lock(&self.gate).judge(attempt, clock::now())
    }

    /// Charges the network of `source` for a request, whatever is in it; returns how long its
    /// connection has to wait before the request is read. The connections of one network take turns
    /// so.
    pub(super) fn pace(&self, source: IpAddr) -> Duration {
        lock(&self.requests).reserve(site(source), clock::now())
    }

    /// Tells whether an operator is to be told of something that a client at `source` has caused.
    pub(super) fn may_log(&self, source: IpAddr) -> bool {
        if !tracing::enabled!(tracing::Level::INFO) {
            return false;
        }
        let taken = lock(&self.journal).take(source, clock::now());
        if let Some(left_out @ 1..) = taken {
            info!(left_out, "there were more lines than are written");
        }
        taken.is_some()
    }

    pub(super) fn set_limits(&self, limits: Limits, service: ServiceLimits) {
        self.bulletin.set_limits(limits.board.clone());
        lock(&self.registry).set_limits(limits);
        lock(&self.buffers).set_limits(&service);
        lock(&self.gate).set_limits(service);
    }

    /// Lets nobody in but these from now on, or everybody, and closes the connections of those who
    /// are there and are not allowed any more. Returns how many these are.
    pub(super) fn set_allowed(&self, allowed: Option<BTreeSet<PeerId>>) -> usize {
        let mut current = lock(&self.allowed);
        *current = allowed;
        let mut closed = 0;
        for notices in lock(&self.connections).values() {
            let link = notices.link();
            let peer = link.peer_id().filter(|it| !is_among(current.as_ref(), it));
            if let Some(peer) = peer {
                link.close(close::NOT_SERVED, &not_served(&peer));
                closed += 1;
            }
        }
        closed
    }

    /// Returns what there is at the moment.
    pub(super) fn present(&self) -> Present {
        let (handshakes, lingering) = lock(&self.gate).handshakes(clock::now());
        let connections = lock(&self.connections);
        let by_tcp = connections.values().filter(|it| it.link().is_by_tcp());
        let by_tcp = by_tcp.count();
        let by_quic = connections.len() - by_tcp;
        drop(connections);
        let (entries, watches) = self.bulletin.len();
        Present {
            entries: entries as u64,
            watches: watches as u64,
            by_quic: by_quic as u64,
            by_tcp: by_tcp as u64,
            handshakes: handshakes as u64,
            lingering: lingering as u64,
            registered: self.registered() as u64,
            introductions: self.introductions() as u64,
            unfinished: lock(&self.buffers).total() as u64,
        }
    }

    fn now(&self) -> Moment {
        Moment {
            monotonic: clock::now(),
            // A clock before 1970 makes every token valid until its expiry, as a slow clock does.
            unix_secs: self.host.unix_time(),
        }
    }

    pub(super) fn command(&self, client: &Client, command: Command) -> Event {
        lock(&self.registry).handle_command(client, command, self.now())
    }

    /// Introduces a peer at another coordinator to one that is here.
    pub(super) fn introduce_from(&self, node: NodeId, dial: RemoteDial) -> Event {
        lock(&self.registry).introduce_from(node, dial, self.now())
    }

    /// Notes what others have answered to a dial.
    pub(super) fn answered(&self, asked: &Asked, by: Option<NodeId>) {
        lock(&self.registry).answered(asked, by, self.now());
    }

    /// Finds out which connection bytes of a handshake go to that another coordinator passes on.
    pub(super) fn relay_from(
        &self,
        node: NodeId,
        session: SessionToken,
        bytes: usize,
    ) -> Result<ConnectionId, RefusalReason> {
        lock(&self.registry).relay_from(node, session, bytes, self.now())
    }

    /// Notes that another coordinator's side of an introduction is silent. Returns who waits here.
    pub(super) fn silent_from(&self, node: NodeId, session: SessionToken) -> Option<ConnectionId> {
        lock(&self.registry).silent_from(node, session)
    }

    /// Notes that the callee of an introduction, at another coordinator, is done with it.
    pub(super) fn settled_from(&self, node: NodeId, settled: &RemoteSettled) {
        lock(&self.registry).settled_from(node, settled);
    }

    /// Forgets the registration of a peer that has registered at another coordinator.
    pub(super) fn withdraw(&self, peer: PeerId, connection: ConnectionId) {
        lock(&self.registry).withdraw(peer, connection);
    }

    /// Returns all metrics of what has to do with other coordinators.
    pub(super) fn measure_nodes(&self) -> Vec<Family> {
        self.nodes.iter().flat_map(Nodes::measure).collect()
    }

    /// Adds what means nothing to what a peer is told, now and then.
    pub(super) fn add_grease(&self, introduction: &mut Introduction) {
        if let Some(grease) = self.grease.draw() {
            introduction.candidates.push(grease.candidate());
            introduction.extensions.0.push(grease.extension());
        }
    }

    /// Returns how many connections there are by TCP.
    pub(super) fn by_tcp(&self) -> usize {
        self.by_tcp.load(Ordering::Relaxed)
    }

    /// Closes the connections of all clients.
    pub(super) fn close_all(&self, code: u32, words: &str) {
        let all: Vec<_> = lock(&self.connections).values().cloned().collect();
        for notices in all {
            notices.link().close(code, words);
        }
    }

    /// Returns how many peers are registered.
    pub(super) fn registered(&self) -> usize {
        lock(&self.registry).registered_count()
    }

    /// Returns how many entries the registry keeps of introductions of the last seconds.
    pub(super) fn introductions(&self) -> usize {
        lock(&self.registry).introductions(clock::now())
    }

    /// Tells whether somebody waits for the client on this connection.
    pub(super) fn is_awaited(&self, id: ConnectionId) -> bool {
        lock(&self.registry).is_awaited(id, clock::now())
    }

    /// Forgets that anybody waits for the client on this connection, and returns in which
    /// introductions somebody did, with the way to tell them.
    pub(super) fn give_up(&self, id: ConnectionId) -> Vec<(SessionToken, Way)> {
        self.with_ways(lock(&self.registry).give_up(id))
    }

    /// The same for those introductions alone that this client has asked for.
    pub(super) fn give_up_dials(&self, id: ConnectionId) -> Vec<(SessionToken, Way)> {
        self.with_ways(lock(&self.registry).give_up_dials(id))
    }

    /// Returns the way to tell each of these, of those who are still there.
    fn with_ways(&self, waiting: Vec<(SessionToken, Place)>) -> Vec<(SessionToken, Way)> {
        let connections = lock(&self.connections);
        let way = |place| match place {
            Place::Here(id) => connections.get(&id).cloned().map(Way::Here),
            Place::There(node) => Some(Way::There(node)),
        };
        let told = |(session, place)| Some((session, way(place)?));
        waiting.into_iter().filter_map(told).collect()
    }

    /// Takes in what a client says of itself, beside where it is seen.
    pub(super) fn compare(&self, client: &Client, candidates: &[Candidate]) {
        let found = lock(&self.concealed).note(client.peer, client.seen.ip(), candidates);
        if let Some(found) = found {
            self.findings.send_replace(found);
        }
    }

    /// Watches for what becomes clear of where clients are.
    pub(super) fn findings(&self) -> watch::Receiver<Findings> {
        self.findings.subscribe()
    }

    /// Returns the way to tell the client on this connection something, while it lasts.
    pub(super) fn notices(&self, id: ConnectionId) -> Option<Arc<Notices>> {
        lock(&self.connections).get(&id).cloned()
    }

    pub(super) const fn witness(&self) -> Option<&Witness> {
        self.witness.as_ref()
    }

    pub(super) fn welcome(&self, observed: SocketAddr) -> Notice {
        let told = |servers| told(servers, observed.ip(), |is_ipv4| self.own_address(is_ipv4));
        Notice::Welcome(Welcome {
            observed,
            stun_servers: told(&self.stun_servers),
            stun_alternates: told(&self.stun_alternates),
            features: self.features(),
            extensions: self.grease.extensions(),
        })
    }

    /// Returns the numbers of what this coordinator can do, and of what means nothing.
    fn features(&self) -> Vec<u16> {
        let board = self.bulletin.is_kept().then_some(BOARD);
        let grease = self.grease.draw().map(Grease::number);
        board.into_iter().chain(grease).collect()
    }

    /// Returns the address of this machine that packets of a family leave from. That may change at
    /// any time, and costs no packet.
    fn own_address(&self, is_ipv4: bool) -> Option<IpAddr> {
        let everybody = ELSEWHERE.iter().find(|it| it.is_ipv4() == is_ipv4)?;
        self.host.source_address(*everybody).ok()
    }
}

fn is_among(allowed: Option<&BTreeSet<PeerId>>, peer: &PeerId) -> bool {
    allowed.is_none_or(|them| them.contains(peer))
}

/// Says to a peer that it is not served, and what to do about it.
pub(super) fn not_served(peer: &PeerId) -> String {
    format!("this coordinator does not serve this peer id: ask its operator to allow {peer}")
}

/// The way to tell one side of an introduction something.
#[derive(Debug)]
pub(super) enum Way {
    Here(Arc<Notices>),
    /// By way of the coordinator that it is at.
    There(NodeId),
}

/// What is ready once a connection has to make room for another one.
pub(super) type Displaced = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A connection's place in the counts, given back when dropped.
#[derive(Debug)]
pub(super) struct Ticket {
    shared: Arc<Shared>,
    id: ConnectionId,
    source: IpAddr,
    /// How the handshake ends if nothing else comes.
    outcome: Handshake,
    /// The place of one by TCP among those that STUN's servers have accepted.
    place: Option<Box<TlsPlace>>,
}

impl Ticket {
    pub(super) fn new(shared: Arc<Shared>, source: IpAddr) -> Self {
        lock(&shared.gate).enter(source);
        let id = ConnectionId(shared.next_connection.fetch_add(1, Ordering::Relaxed));
        Self {
            shared,
            id,
            source,
            outcome: Handshake::Failed,
            place: None,
        }
    }

    /// Returns the ticket of a connection by TCP.
    pub(super) fn of_tcp(shared: Arc<Shared>, source: IpAddr, place: TlsPlace) -> Self {
        shared.by_tcp.fetch_add(1, Ordering::Relaxed);
        let mut ticket = Self::new(shared, source);
        ticket.place = Some(Box::new(place));
        ticket
    }

    pub(super) const fn id(&self) -> ConnectionId {
        self.id
    }

    /// Returns a future that is ready once the connection has to make room for another one.
    pub(super) fn displaced(&mut self) -> Displaced {
        match &mut self.place {
            Some(place) => Box::pin(place.displaced()),
            None => Box::pin(pending()),
        }
    }

    /// Turns the place of a handshake into the place of a client that has proved who it is; `None`
    /// if it is none of those who are served. Its handshake counts as one that has failed then, so
    /// that it cannot come again and again.
    pub(super) fn admit(mut self, client: Client, link: Link) -> Option<ConnectedClient> {
        let notices = Arc::new(Notices::new(link));
        let shared = Arc::clone(&self.shared);
        // Whoever changes it finds the connection among the others, or this finds the change.
        let allowed = lock(&shared.allowed);
        if !is_among(allowed.as_ref(), &client.peer) {
            drop(allowed);
            self.outcome = Handshake::NotServed;
            if shared.may_log(self.source) {
                info!(peer = %client.peer, "peer is not served");
            }
            return None;
        }
        lock(&shared.connections).insert(self.id, Arc::clone(&notices));
        drop(allowed);
        self.outcome = Handshake::Succeeded;
        shared.counts.handshake(self.outcome);
        lock(&shared.gate).handshake_over();
        Some(ConnectedClient {
            client,
            notices,
            is_known: AtomicBool::new(false),
            ticket: self,
        })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let is_tcp = self.place.is_some();
        if is_tcp {
            self.shared.by_tcp.fetch_sub(1, Ordering::Relaxed);
        }
        let mut gate = lock(&self.shared.gate);
        if self.outcome == Handshake::Succeeded {
            gate.leave(self.source);
            return;
        }
        if is_tcp && self.outcome == Handshake::Failed {
            // Only QUIC keeps something of it.
            gate.handshake_over();
            gate.leave(self.source);
        } else {
            gate.handshake_failed(self.source, clock::now());
        }
        self.shared.counts.handshake(self.outcome);
    }
}

/// A client and its connection; dropping it forgets both.
#[derive(Debug)]
pub(super) struct ConnectedClient {
    pub(super) client: Client,
    pub(super) notices: Arc<Notices>,
    /// Whether the peer can be dialled, and an operator has been told so.
    is_known: AtomicBool,
    ticket: Ticket,
}

impl ConnectedClient {
    pub(super) fn link(&self) -> &Link {
        self.notices.link()
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.ticket.shared
    }

    /// Returns what all connections share, for tasks that outlive this one.
    pub(super) fn share(&self) -> Arc<Shared> {
        Arc::clone(&self.ticket.shared)
    }

    /// Tells whether somebody waits for this client.
    pub(super) fn is_awaited(&self) -> bool {
        self.shared().is_awaited(self.ticket.id)
    }

    /// Forgets that anybody waits for this client, and returns in which introductions somebody did,
    /// with the way to tell them.
    pub(super) fn give_up(&self) -> Vec<(SessionToken, Way)> {
        self.shared().give_up(self.ticket.id)
    }

    /// The same for those introductions alone that this client has asked for.
    pub(super) fn give_up_dials(&self) -> Vec<(SessionToken, Way)> {
        self.shared().give_up_dials(self.ticket.id)
    }

    /// Returns room for a request of this client, of no size yet.
    pub(super) fn room(&self) -> Room<'_> {
        Room {
            shared: self.shared(),
            source: self.ticket.source,
            bytes: 0,
        }
    }

    /// Notes that the client has been heard of.
    pub(super) fn hear(&self) {
        self.notices.hear();
        if let Some(place) = &self.ticket.place {
            place.heard();
        }
    }

    /// Tells whether an operator is to be told of what this client has caused.
    pub(super) fn may_log(&self) -> bool {
        self.shared().may_log(self.ticket.source)
    }

    /// Notes that the client can be dialled, and says so the first time.
    pub(super) fn registered(&self) {
        if !self.is_known.swap(true, Ordering::Relaxed) && self.may_log() {
            info!(peer = %self.client.peer, "peer can be dialled");
        }
    }

    /// Returns how long to wait before the next request of this client is read.
    pub(super) fn pace(&self) -> Duration {
        self.shared().pace(self.ticket.source)
    }
}

impl Drop for ConnectedClient {
    fn drop(&mut self) {
        let shared = &self.ticket.shared;
        lock(&shared.connections).remove(&self.ticket.id);
        shared.bulletin.forget(self.ticket.id);
        if let Some(nodes) = &shared.nodes {
            nodes.release(self.client.peer, self.ticket.id);
        }
        let event = shared.command(&self.client, Command::Disconnect);
        let was_registered = matches!(
            event,
            Event::Disconnected {
                was_registered: true
            }
        );
        if was_registered && self.may_log() {
            info!(peer = %self.client.peer, "peer is gone");
        }
    }
}

/// The room that a request takes while it is read, given back when dropped.
#[derive(Debug)]
pub(super) struct Room<'a> {
    shared: &'a Shared,
    source: IpAddr,
    bytes: usize,
}

impl Room<'_> {
    /// Makes the room larger; tells whether that was possible.
    pub(super) fn grow(&mut self, bytes: usize) -> bool {
        let has_room = lock(&self.shared.buffers).take(self.source, bytes);
        if has_room {
            self.bytes += bytes;
        }
        has_room
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        lock(&self.shared.buffers).give_back(self.source, self.bytes);
    }
}
