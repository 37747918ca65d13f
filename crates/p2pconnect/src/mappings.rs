//! Holds the NAT mappings of the punch ports.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use p2pconnect_proto::{NatReport, PeerId, PunchPort, ReflexiveToken, message::ReflexiveClaim};
use p2pconnect_punch::behaviour::Observation;
use p2pconnect_stun::{
    Commitment, HeldMapping, Mapping, MappingConfig, MappingError, MappingEvent, MappingState,
    query,
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    Status, behaviour::Behaviour, discovery::Network, nat64::Nat64, punch_ports::PunchPorts,
    status::Observer, task::AbortOnDrop, tcp,
};

/// The most STUN servers of one address family that are asked. A second one shows whether the
/// NAT's mapping depends on the destination; more would show the same.
const MAX_SERVERS_PER_FAMILY: usize = 2;

/// The pause before a server that did not answer is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(15);

/// How long the other punch ports may lag behind the first mapping that arrives. They started at
/// the same moment, so only a lost packet makes them later than this.
const STRAGGLER_LIMIT: Duration = Duration::from_millis(25);

/// How long one alternate address may take to answer.
const QUERY_LIMIT: Duration = Duration::from_secs(5);

/// The mapping of one punch port, as one server sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mapped {
    pub(crate) punch_port: PunchPort,
    pub(crate) local: SocketAddr,
    pub(crate) mapped: SocketAddr,
    pub(crate) server: SocketAddr,
    pub(crate) token: Option<ReflexiveToken>,
}

/// A server that tells no mapping, and why.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) server: SocketAddr,
    pub(crate) error: MappingError,
}

/// The mappings of an endpoint. Dropping it lets them go.
#[derive(Debug)]
pub(crate) struct Mappings {
    shared: Arc<Shared>,
    ports: PunchPorts,
    tasks: Mutex<Vec<AbortOnDrop>>,
}

#[derive(Debug)]
struct Shared {
    table: watch::Sender<Table>,
    behaviour: Arc<Behaviour>,
    nat64: Arc<Nat64>,
    /// Which addresses serve for comparison, once that is known.
    alternates: watch::Sender<Option<Vec<SocketAddr>>>,
    /// Whether the alternate addresses have been asked, if there are any.
    compared: watch::Sender<bool>,
    claims: Vec<Claimed>,
    observer: Observer,
}

/// What the STUN servers of one address family shall attest of one punch port, by a salt that only
/// this endpoint and those it tells know.
#[derive(Debug)]
struct Claimed {
    is_ipv4: bool,
    claim: ReflexiveClaim,
    commitment: Commitment,
}

#[derive(Debug, Default)]
struct Table {
    slots: BTreeMap<(PunchPort, SocketAddr), Slot>,
    /// Whether every server that there is has been named.
    complete: bool,
}

#[derive(Debug)]
enum Slot {
    Asking,
    Failed(MappingError),
    Held(Mapped),
}

impl Mappings {
    pub(crate) fn new(
        ports: PunchPorts,
        id: &PeerId,
        observer: Observer,
        behaviour: Arc<Behaviour>,
        nat64: Arc<Nat64>,
    ) -> Self {
        let claim = |punch_port, is_ipv4| {
            let mut salt = [0; 16];
            getrandom::fill(&mut salt).ok()?;
            Some(Claimed {
                is_ipv4,
                claim: ReflexiveClaim { punch_port, salt },
                commitment: Commitment::new(salt, id),
            })
        };
        let both = |(punch_port, _)| [true, false].map(|is_ipv4| claim(punch_port, is_ipv4));
        let claims = ports.iter().flat_map(both).flatten().collect();
        let shared = Shared {
            table: watch::Sender::default(),
            behaviour,
            nat64,
            alternates: watch::Sender::default(),
            compared: watch::Sender::default(),
            claims,
            observer,
        };
        Self {
            shared: Arc::new(shared),
            ports,
            tasks: Mutex::default(),
        }
    }

    /// Starts to hold a mapping of every punch port at `server`, unless that goes on already.
    pub(crate) fn start(&self, server: SocketAddr) {
        let mut started = Vec::new();
        self.shared.table.send_modify(|table| {
            let same_family = |it: &&(PunchPort, SocketAddr)| {
                it.0 == PunchPort::PRIMARY && it.1.is_ipv4() == server.is_ipv4()
            };
            let full = table.slots.keys().filter(same_family).count() >= MAX_SERVERS_PER_FAMILY;
            for (punch_port, port) in self.ports.iter() {
                if !full && !table.slots.contains_key(&(punch_port, server)) {
                    table.slots.insert((punch_port, server), Slot::Asking);
                    started.push((punch_port, port));
                }
            }
        });
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        for (punch_port, port) in started {
            let shared = Arc::clone(&self.shared);
            tasks.push(AbortOnDrop::spawn(shared.hold(punch_port, port, server)));
        }
    }

    /// Says that no further server will be named, and which addresses serve for comparison.
    pub(crate) fn complete(&self, alternates: Vec<SocketAddr>) {
        self.shared.table.send_modify(|table| table.complete = true);
        self.shared.alternates.send_replace(Some(alternates));
    }

    /// Waits for the first mapping, and a moment longer for the others.
    ///
    /// Cancel safe.
    pub(crate) async fn first(&self) -> Result<(), Failure> {
        let mut table = self.shared.table.subscribe();
        // The sender lives as long as `self`.
        if let Ok(table) = table
            .wait_for(|table| table.any_held() || table.is_hopeless())
            .await
            && let Some(failure) = table.failure()
        {
            return Err(failure);
        }
        if timeout(STRAGGLER_LIMIT, table.wait_for(|table| !table.any_asking()))
            .await
            .is_err()
        {
            tracing::debug!("going on without the mapping of every punch port");
        }
        Ok(())
    }

    /// Returns the claims to mappings that are not known yet, but may be known to a STUN server.
    pub(crate) fn claims(&self) -> Vec<ReflexiveClaim> {
        let table = self.shared.table.borrow();
        let is_open = |claimed: &&Claimed| {
            let mut slots = table.slots.iter().filter(|(key, _)| claimed.is_of(key));
            let is_asked = slots.clone().any(|(_, it)| matches!(it, Slot::Asking));
            is_asked && !slots.any(|(_, it)| matches!(it, Slot::Held(_)))
        };
        let open = self.shared.claims.iter().filter(is_open);
        open.map(|claimed| claimed.claim).collect()
    }

    /// Returns why no mapping is known, once it is certain that no server tells any.
    pub(crate) fn failure(&self) -> Option<Failure> {
        let table = self.shared.table.borrow();
        table.is_hopeless().then(|| table.failure()).flatten()
    }

    /// Returns the mappings known now, those of the primary port first, each address once.
    pub(crate) fn known(&self) -> Vec<Mapped> {
        let table = self.shared.table.borrow();
        let mut known: Vec<Mapped> = Vec::new();
        for slot in table.slots.values() {
            if let Slot::Held(mapped) = slot
                && known.iter().all(|it| it.mapped != mapped.mapped)
            {
                known.push(mapped.clone());
            }
        }
        known
    }

    /// Watches for whatever is new from now on and others should know.
    pub(crate) fn changes(&self) -> Changes {
        Changes {
            table: self.shared.table.subscribe(),
            nat: self.shared.behaviour.reports(),
            outlook: self.shared.behaviour.outlook(),
        }
    }

    /// Waits until the punch ports are mapped in another network than `known`, or for the first
    /// time, and returns it. Cancel safe.
    pub(crate) async fn other_network(&self, known: Option<Network>) -> Network {
        let mut table = self.shared.table.subscribe();
        loop {
            let network = table.borrow_and_update().network();
            if let Some(network) = network.filter(|it| Some(*it) != known) {
                return network;
            }
            // The sender lives as long as `self`.
            if table.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits until it is known how other addresses of the servers see the punch port, as far as it
    /// can be. Cancel safe.
    pub(crate) async fn compared(&self) {
        let mut compared = self.shared.compared.subscribe();
        if compared.wait_for(|compared| *compared).await.is_err() {
            std::future::pending().await
        }
    }
}

/// Sees changes of an endpoint's mappings and of what is known of its NAT.
#[derive(Debug)]
pub(crate) struct Changes {
    table: watch::Receiver<Table>,
    nat: watch::Receiver<NatReport>,
    outlook: watch::Receiver<()>,
}

impl Changes {
    /// Waits for the next change. Cancel safe.
    pub(crate) async fn next(&mut self) {
        // The senders live as long as the endpoint.
        tokio::select! {
            Ok(()) = self.table.changed() => {}
            Ok(()) = self.nat.changed() => {}
            Ok(()) = self.outlook.changed() => {}
            else => std::future::pending().await,
        }
    }
}

impl Claimed {
    /// Tells whether it is for what a server tells of a punch port.
    fn is_of(&self, (punch_port, server): &(PunchPort, SocketAddr)) -> bool {
        self.claim.punch_port == *punch_port && self.is_ipv4 == server.is_ipv4()
    }
}

impl Table {
    fn any_held(&self) -> bool {
        self.slots
            .values()
            .any(|slot| matches!(slot, Slot::Held(_)))
    }

    fn any_asking(&self) -> bool {
        self.slots.values().any(|slot| matches!(slot, Slot::Asking))
    }

    /// Returns where the primary punch port is mapped: over IPv4, or once no further server will
    /// be named, over IPv6.
    fn network(&self) -> Option<Network> {
        let mapped = self.slots.values().filter_map(|slot| match slot {
            Slot::Held(mapped) => Some(mapped),
            Slot::Asking | Slot::Failed(_) => None,
        });
        let mut primary = mapped.filter(|it| it.punch_port == PunchPort::PRIMARY);
        let found = primary.find(|it| it.mapped.is_ipv4() || (self.complete && !self.asks_v4()))?;
        Some(Network {
            local: found.local.ip(),
            external: found.mapped.ip(),
            server: found.server,
        })
    }

    fn asks_v4(&self) -> bool {
        self.slots.keys().any(|(_, server)| server.is_ipv4())
    }

    fn is_hopeless(&self) -> bool {
        self.complete && !self.any_held() && !self.any_asking()
    }

    /// Returns why there is no mapping at all.
    fn failure(&self) -> Option<Failure> {
        if self.any_held() {
            return None;
        }
        self.slots
            .iter()
            .find_map(|((_, server), slot)| match slot {
                Slot::Failed(error) => Some(Failure {
                    server: *server,
                    error: error.clone(),
                }),
                Slot::Asking | Slot::Held(_) => None,
            })
    }
}

impl Shared {
    /// Holds one mapping for as long as the future is polled.
    async fn hold(self: Arc<Self>, punch_port: PunchPort, port: u16, server: SocketAddr) {
        loop {
            match self.open((punch_port, port), server).await {
                Ok(held) => self.follow(punch_port, server, held).await,
                Err(error) => {
                    tracing::debug!(%error, "stun server tells no mapping");
                    self.set(punch_port, server, Slot::Failed(error));
                    sleep(RETRY_PAUSE).await;
                }
            }
        }
    }

    async fn open(
        &self,
        (punch_port, port): (PunchPort, u16),
        server: SocketAddr,
    ) -> Result<HeldMapping, MappingError> {
        let key = (punch_port, server);
        let claimed = self.claims.iter().find(|it| it.is_of(&key));
        let server = self.nat64.reach(server).await;
        let source = tcp::source_address(server)
            .await
            .map_err(|_| MappingError::Unreachable)?;
        let mut config = MappingConfig::default();
        config.commitment = claimed.map(|it| it.commitment);
        HeldMapping::open(SocketAddr::new(source, port), server, config).await
    }

    /// Keeps the table true to a mapping, until it cannot be held from its address any more.
    async fn follow(
        self: &Arc<Self>,
        punch_port: PunchPort,
        server: SocketAddr,
        mut held: HeldMapping,
    ) {
        let first = held.current();
        let local = first.local;
        self.observer.tell(Status::Mapped {
            local,
            mapped: first.mapped,
            server: first.server,
        });
        let learn = |mapping| self.learn(punch_port, server, mapping);
        learn(first);
        let mut states = held.subscribe();
        let mut alternates = self.alternates.subscribe();
        alternates.mark_changed();
        let mut comparing = JoinSet::new();
        loop {
            tokio::select! {
                event = held.next_event() => match event {
                    Some(MappingEvent::MappingChanged { old, new }) => {
                        let changed = Status::MappingChanged { local, old, new: new.mapped };
                        self.observer.tell(changed);
                        learn(new);
                    }
                    Some(MappingEvent::Mapped(mapping)) => learn(mapping),
                    Some(MappingEvent::Lost { error }) => {
                        tracing::debug!(%error, "stun connection lost, reconnecting");
                    }
                    None => return,
                },
                Ok(()) = states.changed() => {
                    let MappingState { mapping, lost, .. } = states.borrow_and_update().clone();
                    match lost {
                        Some(error) if self.has_moved(local, server).await => {
                            tracing::debug!(%error, "this machine has another address now");
                            self.behaviour.forget(local.ip());
                            // The server is asked again at once, and has not failed yet.
                            return self.set(punch_port, server, Slot::Asking);
                        }
                        Some(_) | None => learn(mapping),
                    }
                }
                Ok(()) = alternates.changed(), if punch_port == PunchPort::PRIMARY => {
                    if let Some(alternates) = alternates.borrow_and_update().clone() {
                        let shared = Arc::clone(self);
                        comparing.spawn(shared.compare(local, server, alternates));
                    }
                }
            }
        }
    }

    /// Takes in the mapping of a punch port that a server tells, which may be reached by another
    /// address than its own.
    fn learn(&self, punch_port: PunchPort, asked: SocketAddr, mapping: Mapping) {
        let Mapping {
            local,
            server,
            mapped,
            token,
            ..
        } = mapping;
        if punch_port == PunchPort::PRIMARY {
            self.behaviour.observe(Observation {
                local,
                server,
                mapped,
            });
        } else {
            self.behaviour.saw(mapped);
        }
        self.set(
            punch_port,
            asked,
            Slot::Held(Mapped {
                punch_port,
                local,
                mapped,
                server,
                token,
            }),
        );
    }

    /// Asks the server's alternate addresses, all at once, how they see the same local port.
    async fn compare(
        self: Arc<Self>,
        local: SocketAddr,
        server: SocketAddr,
        alternates: Vec<SocketAddr>,
    ) {
        let comparable = |it: &SocketAddr| it.is_ipv4() == server.is_ipv4() && *it != server;
        let mut asking = JoinSet::new();
        for alternate in alternates.into_iter().filter(comparable) {
            let shared = Arc::clone(&self);
            asking.spawn(async move { shared.ask_alternate(local, alternate).await });
        }
        asking.join_all().await;
        self.compared.send_replace(true);
    }

    async fn ask_alternate(&self, local: SocketAddr, alternate: SocketAddr) {
        let alternate = self.nat64.reach(alternate).await;
        match query(local, alternate, QUERY_LIMIT).await {
            Ok(mapped) => self.behaviour.observe(Observation {
                local,
                server: alternate,
                mapped,
            }),
            Err(error) => tracing::debug!(%error, "no second opinion on the mapping"),
        }
    }

    /// Stores what is known of a mapping, and wakes those who watch if its address is new. A fresh
    /// token alone, which comes with each answer, wakes nobody.
    fn set(&self, punch_port: PunchPort, server: SocketAddr, slot: Slot) {
        self.table.send_if_modified(|table| {
            let address = |slot: &Slot| match slot {
                Slot::Held(mapped) => Some(mapped.mapped),
                Slot::Asking | Slot::Failed(_) => None,
            };
            let new = address(&slot);
            match table.slots.insert((punch_port, server), slot) {
                Some(old @ Slot::Held(_)) => address(&old) != new,
                // Nobody waits for a server that is tried again in vain.
                Some(Slot::Failed(_)) => new.is_some(),
                Some(Slot::Asking) | None => true,
            }
        });
    }

    /// Tells whether packets to `server` leave from another address by now, as they do after a
    /// change of networks. While there is no way to it, they leave from none.
    async fn has_moved(&self, local: SocketAddr, server: SocketAddr) -> bool {
        let source = tcp::source_address(self.nat64.reach(server).await).await;
        source.is_ok_and(|source| source != local.ip())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use std::collections::BTreeSet;

    use p2pconnect_proto::message::MAX_CLAIMS;
    use p2pconnect_stun::{StunServer, StunServerConfig};

    use super::*;

    fn mappings() -> Mappings {
        let (ports, _listeners) = PunchPorts::open().unwrap();
        let id = PeerId::from_public_key([1; 32]);
        let behaviour = Arc::new(Behaviour::new());
        let nat64 = Arc::new(Nat64::told("::"));
        Mappings::new(ports, &id, Observer::none(), behaviour, nat64)
    }

    #[tokio::test]
    async fn what_a_server_of_either_family_sees_is_claimed_apart() {
        let mappings = mappings();
        assert_eq!(mappings.claims(), []);
        mappings.start("127.0.0.1:9".parse().unwrap());
        assert_eq!(mappings.claims().len(), 2);
        mappings.start("[::1]:9".parse().unwrap());
        let claims = mappings.claims();
        let salts: BTreeSet<_> = claims.iter().map(|it| it.salt).collect();
        assert_eq!((claims.len(), salts.len()), (MAX_CLAIMS, MAX_CLAIMS));
    }

    #[tokio::test]
    async fn a_mapping_is_given_up_when_its_address_is_not_ours_any_more() {
        let config = StunServerConfig::default();
        let server = StunServer::bind(&["127.0.0.1:0".parse().unwrap()], config).unwrap();
        let (address, server) = (server.local_addrs()[0], server.spawn());
        // The routes choose 127.0.0.1, as if the machine had moved there.
        let formerly = "127.0.0.2:0".parse().unwrap();
        let config = MappingConfig::default();
        let held = HeldMapping::open(formerly, address, config).await.unwrap();

        let mappings = mappings();
        mappings.complete(Vec::new());
        let shared = Arc::clone(&mappings.shared);
        let ends = async {
            mappings.changes().next().await;
            assert_eq!(mappings.known().len(), 1);
            drop(server);
        };
        let follow = shared.follow(PunchPort::PRIMARY, address, held);
        let both = async { tokio::join!(ends, follow) };
        timeout(Duration::from_secs(5), both).await.unwrap();
        assert!(mappings.known().is_empty());
        let failure = mappings.failure();
        assert!(
            failure.is_none(),
            "it is asked from here first: {failure:?}"
        );
    }

    #[tokio::test]
    async fn who_refuses_explains_why_no_mapping_is_known() {
        let mappings = mappings();
        let closed = closed_port();
        mappings.start(closed);
        assert!(mappings.failure().is_none(), "it has not answered yet");
        mappings.complete(Vec::new());
        let first = timeout(Duration::from_secs(5), mappings.first()).await;
        assert_eq!(first.unwrap().unwrap_err().server, closed);
        let failure = mappings.failure().unwrap();
        assert_eq!(
            (failure.server, failure.error),
            (closed, MappingError::Refused)
        );
    }

    #[tokio::test]
    async fn alternates_that_do_not_answer_cost_their_time_once() {
        let any = ["127.0.0.1:0".parse().unwrap()];
        let server = StunServer::bind(&any, StunServerConfig::default()).unwrap();
        let (address, _server) = (server.local_addrs()[0], server.spawn());
        let mappings = mappings();
        mappings.start(address);
        let first = timeout(Duration::from_secs(5), mappings.first()).await;
        first.unwrap().unwrap();

        // The system takes connections, and nobody answers.
        let silent = [(); 3].map(|()| std::net::TcpListener::bind(any[0]).unwrap());
        tokio::time::pause();
        let began = tokio::time::Instant::now();
        mappings.complete(silent.iter().map(|it| it.local_addr().unwrap()).collect());
        mappings.compared().await;
        let took = began.elapsed();
        assert!(took >= QUERY_LIMIT, "they were not asked: {took:?}");
        assert!(took < 2 * QUERY_LIMIT, "one after the other: {took:?}");
    }

    /// Returns an address that refuses connections.
    fn closed_port() -> SocketAddr {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    }
}
