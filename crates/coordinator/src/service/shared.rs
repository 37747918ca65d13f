//! What all connections of a coordinator share.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use p2pconnect_host::{ELSEWHERE, Host, clock};
use p2pconnect_identity::SecretKey;
use p2pconnect_proto::{
    Candidate, Grease, GreaseSource, PeerId, SessionToken, close,
    message::{
        BOARD, CLUSTER, Extension, Extensions, Introduction, Notice, Refusal, RefusalReason,
        SUCCESSION, Welcome,
    },
    nodes::{NodeId, RemoteDial, RemoteSettled},
};
use p2pconnect_stun::Witness;
use tokio::sync::watch;
use tracing::{error, info};

use super::{
    Config, ServiceLimits,
    buffers::Buffers,
    bulletin::Bulletin,
    counts::{Counts, Present},
    farewell::{Farewell, REPLACED},
    gate::{Attempt, Gate, Verdict},
    journal::Journal,
    lock::lock,
    nodes::Nodes,
    notices::Notices,
    stun_servers::told,
};
use crate::{
    Limits, Members,
    concealed::{Concealed, Findings},
    members::Applicant,
    metrics::Family,
    network::site,
    newcomers::Newcomers,
    rate::RateLimiter,
    registry::{Asked, Client, Command, ConnectionId, Event, Moment, Place, Registry},
};

/// The requests that one network may send at once: those of 2,000 dials.
const REQUEST_BURST: u32 = 8_192;

/// How long it takes until a network may send another request. A request takes 8 µs at least, so
/// these are 1 % of a core.
const REQUEST_INTERVAL: Duration = Duration::from_millis(1);

/// How often a peer may connect at once: as often as it may dial, as each dial of the command line
/// connects.
const ARRIVAL_BURST: u32 = 256;

/// How long it takes until it may connect once more.
const ARRIVAL_INTERVAL: Duration = Duration::from_millis(100);

/// What all connections of a coordinator have in common.
///
/// Every lock is held for one look-up or one command, and never across an await.
#[derive(Debug)]
pub(super) struct Shared {
    registry: Mutex<Registry>,
    /// Its own, and the one that it had before.
    server_ids: Vec<PeerId>,
    /// Locked before the connections where both are.
    pub(super) members: Mutex<Members>,
    newcomers: Mutex<Newcomers>,
    pub(super) arrivals: Mutex<RateLimiter<PeerId>>,
    pub(super) connections: Mutex<BTreeMap<ConnectionId, Arc<Notices>>>,
    pub(super) gate: Mutex<Gate>,
    buffers: Mutex<Buffers>,
    requests: Mutex<RateLimiter<IpAddr>>,
    journal: Mutex<Journal>,
    concealed: Mutex<Concealed>,
    pub(super) bulletin: Arc<Bulletin>,
    findings: watch::Sender<Findings>,
    /// Once the coordinator is going to end.
    farewell: OnceLock<Arc<Farewell>>,
    /// The connections of those who have registered elsewhere since.
    pub(super) arrived: Mutex<BTreeSet<ConnectionId>>,
    /// What every welcome says besides.
    said: Vec<Extension>,
    pub(super) counts: Counts,
    pub(super) next_connection: AtomicU64,
    /// The connections by TCP, those in their handshake included.
    pub(super) by_tcp: AtomicUsize,
    stun_servers: Vec<SocketAddr>,
    stun_alternates: Vec<SocketAddr>,
    witness: Option<Witness>,
    /// The other coordinators, if there are any.
    pub(super) nodes: Option<Arc<Nodes>>,
    pub(super) grease: GreaseSource,
    pub(super) host: Host,
}

impl Shared {
    pub(super) fn new(config: Config, nodes: Option<Nodes>) -> Self {
        let nodes = nodes.map(Arc::new);
        let limits = config.limits.board.clone();
        let bulletin = Bulletin::new(limits, &config.host, nodes.clone());
        let mut newcomers = Newcomers::new(config.host.random_seed(), clock::now());
        newcomers.set_limits(&config.limits);
        let said = said(&config);
        let server_ids = config.keys().map(SecretKey::peer_id).collect();
        let mut registry = Registry::new(config.limits, config.token_key);
        if nodes.is_some() {
            registry.expect_others();
        }
        Self {
            bulletin: Arc::new(bulletin),
            registry: Mutex::new(registry),
            server_ids,
            members: Mutex::new(config.members),
            newcomers: Mutex::new(newcomers),
            arrivals: Mutex::new(RateLimiter::new(ARRIVAL_BURST, ARRIVAL_INTERVAL)),
            connections: Mutex::default(),
            buffers: Mutex::new(Buffers::new(&config.service)),
            gate: Mutex::new(Gate::new(config.service)),
            requests: Mutex::new(RateLimiter::new(REQUEST_BURST, REQUEST_INTERVAL)),
            journal: Mutex::new(Journal::new()),
            concealed: Mutex::default(),
            findings: watch::Sender::default(),
            farewell: OnceLock::new(),
            arrived: Mutex::default(),
            said,
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
        lock(&self.newcomers).set_limits(&limits);
        lock(&self.registry).set_limits(limits);
        lock(&self.buffers).set_limits(&service);
        lock(&self.gate).set_limits(service);
    }

    /// Serves nobody but these from now on, and closes the connections of those who are there and
    /// are not served any more. Returns how many these are.
    pub(super) fn set_members(&self, members: Members) -> usize {
        let mut current = lock(&self.members);
        *current = members;
        let mut closed = 0;
        for notices in lock(&self.connections).values() {
            let link = notices.link();
            let is_left_out =
                |peer: &PeerId| !current.serves(self.applicant(peer, notices.proof()));
            if let Some(peer) = link.peer_id().filter(is_left_out) {
                link.close(close::NOT_SERVED, &not_served(&peer));
                closed += 1;
            }
        }
        closed
    }

    /// Tells whether a peer is served only if it shows that it has been invited.
    pub(super) fn has_to_prove(&self, peer: &PeerId) -> bool {
        let members = lock(&self.members);
        !members.invites.is_empty() && !members.serves(self.applicant(peer, None))
    }

    pub(super) fn applicant<'a>(
        &'a self,
        peer: &'a PeerId,
        proof: Option<&'a [u8; 32]>,
    ) -> Applicant<'a> {
        Applicant {
            coordinators: &self.server_ids,
            peer,
            proof,
        }
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
        self.nodes.iter().flat_map(|it| it.measure()).collect()
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

    /// Returns all clients, those first that came first.
    pub(super) fn clients(&self) -> Vec<(ConnectionId, Arc<Notices>)> {
        let connections = lock(&self.connections);
        let each = connections.iter();
        each.map(|(id, it)| (*id, Arc::clone(it))).collect()
    }

    /// Notes that the coordinator is going to end, and how clients are let go. The first word
    /// counts.
    pub(super) fn bid(&self, farewell: Farewell) -> Arc<Farewell> {
        Arc::clone(self.farewell.get_or_init(|| Arc::new(farewell)))
    }

    /// Tells whether the coordinator is going to end without any other place for its clients, so
    /// that nothing new is begun.
    pub(super) fn is_ending(&self) -> bool {
        self.farewell.get().is_some_and(|it| !it.has_place())
    }

    /// Takes in that the peer on this connection has registered over another one, and closes it. A
    /// coordinator that is going to end lets it finish its introductions before.
    pub(super) fn replaced(&self, former: ConnectionId) {
        if self.farewell.get().is_some() {
            lock(&self.arrived).insert(former);
        } else if let Some(former) = self.notices(former) {
            former.link().close(close::REPLACED, REPLACED);
        }
    }

    /// Tells whether the peer on this connection has registered elsewhere since.
    pub(super) fn has_arrived(&self, id: ConnectionId) -> bool {
        lock(&self.arrived).contains(&id)
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
        let mut extensions = self.grease.extensions();
        extensions.0.extend(self.said.iter().cloned());
        Notice::Welcome(Welcome {
            observed,
            stun_servers: told(&self.stun_servers),
            stun_alternates: told(&self.stun_alternates),
            features: self.features(),
            extensions,
        })
    }

    /// Returns the numbers of what this coordinator can do, and of what means nothing.
    fn features(&self) -> Vec<u16> {
        let board = self.bulletin.is_kept().then_some(BOARD);
        let grease = self.grease.draw().map(Grease::number);
        board.into_iter().chain(grease).collect()
    }

    /// Tells whether a peer that has just come is served; otherwise, what it has to do.
    pub(super) fn admit_newcomer(
        &self,
        peer: &PeerId,
        request: &Extensions,
    ) -> Result<(), Refusal> {
        lock(&self.newcomers).admit(peer, request, clock::now())
    }

    /// Returns room for a request from a network, of no size yet.
    pub(super) const fn room(&self, source: IpAddr) -> Room<'_> {
        Room {
            shared: self,
            source,
            bytes: 0,
        }
    }

    /// Returns the address of this machine that packets of a family leave from. That may change at
    /// any time, and costs no packet.
    fn own_address(&self, is_ipv4: bool) -> Option<IpAddr> {
        let everybody = ELSEWHERE.iter().find(|it| it.is_ipv4() == is_ipv4)?;
        self.host.source_address(*everybody).ok()
    }
}

/// Returns what a coordinator of this configuration says of itself.
fn said(config: &Config) -> Vec<Extension> {
    let of_others = config.others.as_ref();
    let of_others = of_others.map(|it| it.key.cluster_name().to_vec());
    let cluster = config.cluster.clone().or(of_others);
    let cluster = cluster.into_iter().map(|value| (CLUSTER, value));
    let successor = config.key.peer_id();
    let former = config.former_key.iter();
    let succession = former.filter_map(|key| {
        let said = key.succeeded_by(successor);
        let said = said.inspect_err(|error| error!(%error, "the former key signs nothing"));
        Some((SUCCESSION, said.ok()?.to_value()))
    });
    let all = cluster.chain(succession);
    all.map(|(kind, value)| Extension { kind, value }).collect()
}

/// Says to a peer that it is not served, and what to do about it.
pub(super) fn not_served(peer: &PeerId) -> String {
    format!(
        "this coordinator does not serve this peer id: ask its operator to allow {peer}, or for an \
         invite secret"
    )
}

/// The way to tell one side of an introduction something.
#[derive(Debug)]
pub(super) enum Way {
    Here(Arc<Notices>),
    /// By way of the coordinator that it is at.
    There(NodeId),
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
