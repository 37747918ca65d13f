//! Builds an endpoint: keys, coordinator, punch ports, and the tasks that keep it online.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use p2pconnect_host::{Host, LOOKUP_LIMIT, TcpListener, clock, shortage};
use p2pconnect_identity::SecretKey;
use p2pconnect_link::Proxy;
use p2pconnect_proto::{CoordinatorAddr, InviteSecret, message::DialPolicy};
use p2pconnect_punch::PunchConfig;
use p2pconnect_stun::DEFAULT_PORT;
use tokio::{
    sync::{Mutex, mpsc},
    task::JoinSet,
};

use crate::{
    BindError, CoordinatorError, Endpoint, Status,
    coordinator::{dialer::Dialer, lines::Hub, requests::Coordination},
    introduction::{
        listening::Listening, pending_failures::PendingFailures, shared::Inner, shares::Shares,
    },
    machine::{
        nat64::Nat64, port_mapping::PortMappings, punch_ports::PunchPorts, task::AbortOnDrop,
        tcp::STREAM_SILENCE,
    },
    nat::{
        behaviour::Behaviour,
        discovery,
        mappings::{Failure, Mappings},
        port_sets::{Accept, PortSetOpener, PortSets},
        unused_ports::UnusedPorts,
    },
    online::{
        Attempted, Known, RegistrationKeeper, learn,
        line::{CoordinatorLink, Done, Met},
    },
    session::{closed_holes::ClosedHoles, guess_budget::GuessBudget, inbound::Inbound},
    status::Observer,
};

/// The most coordinators that are known at a time.
const MAX_COORDINATORS: usize = 8;

/// Connections that may be under way to [`Endpoint::accept`], or wait for it; whoever dials while
/// there are so many is told to come back.
///
/// The coordinator introduces 32 peers at a time to a callee; as many more may wait.
const MAX_WAITING_CONNECTIONS: usize = 64;

/// The shortest silence that may end a connection: three questions a second apart, which is what
/// Linux counts in.
const MIN_STREAM_SILENCE: Duration = Duration::from_secs(3);

/// Builds an [`Endpoint`].
///
/// # Defaults
///
/// - secret key: a new one, so the peer id is another each time
/// - coordinators: none; one must be set at least
/// - policy: none, which means that the endpoint dials and cannot be dialled
/// - observer: none
/// - port mapping: on
/// - proxy: none
#[derive(Debug)]
#[must_use]
pub struct Builder {
    key: Option<SecretKey>,
    coordinators: Vec<CoordinatorAddr>,
    invite_secret: Option<InviteSecret>,
    policy: Option<DialPolicy>,
    observer: Observer,
    port_mapping: bool,
    max_connections: Option<usize>,
    stream_silence: Duration,
    lookup_limit: Duration,
    proxy: Option<Proxy>,
    host: Host,
}

impl Endpoint {
    /// Starts to build an endpoint.
    pub fn builder() -> Builder {
        Builder::new()
    }
}

impl Builder {
    fn new() -> Self {
        Self {
            key: None,
            coordinators: Vec::new(),
            invite_secret: None,
            policy: None,
            observer: Observer::none(),
            port_mapping: true,
            max_connections: None,
            stream_silence: STREAM_SILENCE,
            lookup_limit: LOOKUP_LIMIT,
            proxy: None,
            host: Host::default(),
        }
    }

    /// Sets the key whose public half is this endpoint's peer id.
    pub fn secret_key(mut self, key: SecretKey) -> Self {
        self.key = Some(key);
        self
    }

    /// Sets the coordinator to meet other peers at, in the place of any that were set before.
    pub fn coordinator(self, coordinator: CoordinatorAddr) -> Self {
        self.coordinators([coordinator])
    }

    /// Sets several coordinators to meet other peers at, in the place of any that were set before;
    /// the first eight count, and of those with the same id the first.
    ///
    /// The endpoint is connected to two of them at a time, prefers the one whose handshake is the
    /// shortest, and needs neither in particular. Those that belong to one service say so, and are
    /// one place then. Where they do not, the endpoint is registered at each that it is connected
    /// to: two peers meet if they have one in common, and a dial asks one after the other. So all
    /// peers should know the same two, or belong to one service.
    pub fn coordinators(mut self, coordinators: impl IntoIterator<Item = CoordinatorAddr>) -> Self {
        self.coordinators.clear();
        for coordinator in coordinators {
            let is_known = self.coordinators.iter().any(|it| it.id == coordinator.id);
            if !is_known && self.coordinators.len() < MAX_COORDINATORS {
                self.coordinators.push(coordinator);
            }
        }
        self
    }

    /// Sets the secret by which a private coordinator serves this endpoint. It is not sent: the
    /// coordinator is shown that the endpoint knows it, by what is of use nowhere else.
    pub fn invite_secret(mut self, secret: InviteSecret) -> Self {
        self.invite_secret = Some(secret);
        self
    }

    /// Lets others dial this endpoint: only those that `policy` admits. Nobody else is told its
    /// addresses.
    pub fn allow(mut self, policy: DialPolicy) -> Self {
        self.policy = Some(policy);
        self
    }

    /// Has the router asked to forward the punch ports, by PCP, NAT-PMP or UPnP, which makes this
    /// endpoint reachable where NATs cannot be punched.
    ///
    /// Nothing waits for the router. No router is asked if the coordinator is on this machine.
    pub fn port_mapping(mut self, wanted: bool) -> Self {
        self.port_mapping = wanted;
        self
    }

    /// Limits how many connections that others have dialled there may be at a time, accepted or
    /// not. Whoever dials when there are so many is told that this peer is busy, before anything is
    /// sent. A connection counts until it is dropped.
    ///
    /// Where several peers may dial, each has a share: one that holds more connections than are
    /// free gets no further one. So a single peer takes half of them, and leaves room for the
    /// others.
    ///
    /// Without a limit only those count that are not accepted yet, see
    /// [`Endpoint::accept`].
    pub fn max_connections(mut self, limit: usize) -> Self {
        self.max_connections = Some(limit);
        self
    }

    /// Sets for how long nothing may come from a peer although something should, be it that it
    /// takes data or that it answers whether it is there; the connection ends with an error then.
    /// By default 60 s, and 3 s at least.
    pub fn stream_silence(mut self, limit: Duration) -> Self {
        self.stream_silence = limit.max(MIN_STREAM_SILENCE);
        self
    }

    /// Limits how long [`bind`](Self::bind) waits for the coordinator's name to be looked up: 15 s
    /// unless set otherwise, in which a resolver asks three name servers. Whoever has less time
    /// than that learns by this that it is the name servers that do not answer.
    pub const fn lookup_limit(mut self, limit: Duration) -> Self {
        self.lookup_limit = limit;
        self
    }

    /// Has the coordinator looked for by way of a proxy as well: where it does not answer directly
    /// within a quarter of a second, and first where that has worked. Peers are connected to
    /// directly. [`proxy_of_variables`](crate::proxy_of_variables) finds the one that the
    /// environment names.
    pub fn proxy(mut self, proxy: Option<Proxy>) -> Self {
        self.proxy = proxy;
        self
    }

    /// Sets the host that the endpoint runs on: the operating system unless set otherwise. Anything
    /// in its place, such as a host in virtual time, has no router that forwards ports.
    pub fn host(mut self, host: Host) -> Self {
        self.host = host;
        self
    }

    /// Has every [`Status`] told to `observe`, which must return quickly.
    pub fn observer(mut self, observe: impl Fn(Status) + Send + Sync + 'static) -> Self {
        self.observer = Observer::new(observe);
        self
    }

    /// Starts the endpoint: binds its punch ports, learns its mappings, connects to the coordinator
    /// and, if others may dial it, registers there.
    ///
    /// Takes two round trips to the coordinator, and a third to register. An endpoint that only
    /// dials is there after one; that no STUN server tells its mappings shows when a dial fails. A
    /// machine that has IPv6 only asks its resolver for a NAT64 before, where it has only an IPv4
    /// address of the coordinator.
    ///
    /// # Errors
    ///
    /// [`BindError`], within about ten seconds, or ten for every two STUN servers of a family if
    /// the coordinator names more of them and none answers.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future undoes everything.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime with I/O and time enabled.
    pub async fn bind(self) -> Result<Endpoint, BindError> {
        let began = clock::now();
        let bound = self.open().await;
        bound.map_err(|error| error.or_shortage(shortage::since(began)))
    }

    /// Returns what makes connections to the coordinators, of which there is one at least.
    fn dialers(&self, key: &SecretKey, nat64: &Arc<Nat64>) -> Result<Vec<Dialer>, BindError> {
        if self.coordinators.is_empty() {
            return Err(BindError::NoCoordinator);
        }
        let dialer = |address: &CoordinatorAddr| {
            let (host, proxy) = (self.host.clone(), self.proxy.clone());
            let (address, observer) = (address.clone(), self.observer.clone());
            let dialer = Dialer::new(key, address, host, Arc::clone(nat64), proxy, observer)?;
            Ok(dialer.invited_by(self.invite_secret.as_ref()))
        };
        self.coordinators.iter().map(dialer).collect()
    }

    async fn open(mut self) -> Result<Endpoint, BindError> {
        let key = self.key.take().map_or_else(SecretKey::generate, Ok)?;
        let nat64 = Arc::new(Nat64::start(self.host.clone()));
        let dialers = self.dialers(&key, &nat64)?;
        let (ports, listeners) = PunchPorts::open(&self.host).map_err(BindError::Ports)?;
        let guess_budget = Arc::new(GuessBudget::new(self.host.clone()));
        let (inbound, mut tasks) = accept(listeners, guess_budget.holes().closed());
        let (mappings, behaviour, discovery) =
            mappings(&self.host, &ports, &key, &self.observer, &nat64);
        tasks.push(discovery);
        let port_mappings =
            PortMappings::new(self.host.clone(), ports.clone(), self.observer.clone());
        let opener = port_set_opener(&self.host, &key, &inbound, &mappings, &nat64);
        let may_forward = self.port_mapping && self.host.is_system();
        let inner = Arc::new(Inner {
            unused_ports: UnusedPorts::new(self.host.clone()),
            host: self.host,
            key,
            invite_secret: self.invite_secret,
            observer: self.observer,
            ports,
            mappings,
            behaviour,
            registered: std::sync::Mutex::default(),
            port_mappings,
            inbound,
            punch: PunchConfig::default(),
            guess_budget,
            lingering: Arc::default(),
            syn_budget: Arc::default(),
            metrics: Arc::default(),
            nat64,
            glare_table: Arc::default(),
            pair_rotation: Arc::default(),
            port_sets: PortSets::default(),
            opener,
            one_each: Arc::default(),
            pending_failures: PendingFailures::default(),
            stream_silence: self.stream_silence,
        });
        // Until all that the server is needed for is done, a dial right after it included.
        let _reserved = inner.behaviour.reserve();
        let listening = self.policy.map(|it| listening(it, self.max_connections));
        let (listening, incoming) = listening.unzip();
        let going = Going {
            inner: Arc::clone(&inner),
            lookup_limit: self.lookup_limit,
            may_forward,
        };
        let (known, link, attempts) = going.online(dialers, listening.as_ref()).await?;
        if listening.is_none() {
            tasks.push(learn_later(&link.met.coordination, &inner));
        }
        let hub = Arc::new(Hub::new(self.coordinators.len(), listening.is_some()));
        // Before any other connection is looked at.
        hub.is_up(known.index, &link.met.coordination, link.met.took);
        if link.done.is_registered {
            hub.is_registered(known.index);
        }
        let lines = hub.watch();
        let keeper =
            RegistrationKeeper::new(Arc::clone(&inner), hub, &self.coordinators, listening);
        tasks.push(AbortOnDrop::spawn(keeper.run(known, link, attempts)));
        let incoming = incoming.map(Mutex::new);
        Ok(Endpoint::new(inner, lines, incoming, tasks))
    }
}

/// What an endpoint goes online with.
struct Going {
    inner: Arc<Inner>,
    lookup_limit: Duration,
    /// Whether the router may be asked to forward ports.
    may_forward: bool,
}

impl Going {
    /// Connects to the coordinators, all at once, and goes on with the first that serves: learns
    /// the mappings and registers, if this endpoint listens. Returns that coordinator, and the
    /// attempts to connect to the others.
    async fn online(
        &self,
        dialers: Vec<Dialer>,
        listening: Option<&Listening>,
    ) -> Result<(Known, CoordinatorLink, JoinSet<Attempted>), BindError> {
        let mut attempts = JoinSet::new();
        for (index, dialer) in dialers.into_iter().enumerate() {
            attempts.spawn(self.attempt(index, dialer));
        }
        let mut failed = Vec::new();
        let (known, link) = loop {
            let (known, met) = self
                .meet_and_map(&mut attempts, &mut failed, listening.is_some())
                .await?;
            // From before the registration, so that nothing that happens meanwhile stays untold.
            let changes = self.inner.mappings.changes();
            if let Some(Listening { policy, .. }) = listening {
                if let Err(error) = self.inner.register(&met.coordination, policy).await {
                    let met = Err(error);
                    failed.push(Attempted { known, met });
                    continue;
                }
                self.inner.observer.tell(Status::Registered);
            }
            let done = Done {
                is_registered: listening.is_some(),
                is_learnt: true,
            };
            break (known, CoordinatorLink { met, changes, done });
        };
        // They are tried again later.
        for failed in failed {
            attempts.spawn(async { failed });
        }
        Ok((known, link, attempts))
    }

    /// Waits for the first attempt that succeeds and, if this endpoint listens, for the mappings.
    async fn meet_and_map(
        &self,
        attempts: &mut JoinSet<Attempted>,
        failed: &mut Vec<Attempted>,
        listens: bool,
    ) -> Result<(Known, Met), BindError> {
        let meeting = self.meet(attempts, failed, listens);
        if !listens {
            // Who only dials need not know its mappings before the coordinator does.
            return Ok(meeting.await?);
        }
        let mapped = async { Ok::<_, CoordinatorError>(self.inner.mappings.first().await) };
        // Coordinators that cannot be reached end the wait for STUN servers beside them.
        let (met, mapped) = tokio::try_join!(meeting, mapped)?;
        mapped.map_err(|Failure { server, error }| BindError::Stun {
            server,
            reason: error,
        })?;
        Ok(met)
    }

    /// Waits for the first attempt that succeeds, also to learn of the STUN servers if that is
    /// wanted. Where none is left, says why that to the first coordinator has failed.
    async fn meet(
        &self,
        attempts: &mut JoinSet<Attempted>,
        failed: &mut Vec<Attempted>,
        learns: bool,
    ) -> Result<(Known, Met), CoordinatorError> {
        while let Some(joined) = attempts.join_next().await {
            let Attempted { known, met } = match joined {
                Ok(attempted) => attempted,
                Err(failure) => {
                    tracing::error!(%failure, "an attempt ended without a result");
                    continue;
                }
            };
            let learnt = match met {
                Ok(met) if learns => {
                    let learning = learn(&met.coordination, &self.inner.mappings).await;
                    learning.map(|()| met)
                }
                met => met,
            };
            match learnt {
                Ok(met) => return Ok((known, met)),
                Err(error) => failed.push(Attempted {
                    known,
                    met: Err(error),
                }),
            }
        }
        let first = failed.iter().min_by_key(|it| it.known.index);
        let error = first.and_then(|it| it.met.as_ref().err().cloned());
        Err(error.unwrap_or(CoordinatorError::Answer))
    }

    /// Returns what connects to a coordinator, and begins to learn the mappings if it is one of the
    /// first two.
    ///
    /// A STUN server is looked for where `serve` puts it by default, beside the coordinator,
    /// because asking the coordinator first would cost a round trip.
    fn attempt(&self, index: usize, dialer: Dialer) -> impl Future<Output = Attempted> + use<> {
        let (inner, may_forward) = (Arc::clone(&self.inner), self.may_forward);
        let lookup_limit = self.lookup_limit;
        async move {
            let mut known = Known {
                index,
                addresses: Vec::new(),
                dialer,
            };
            known.addresses = match known.dialer.resolve(lookup_limit).await {
                Ok(addresses) => addresses,
                Err(error) => {
                    return Attempted {
                        known,
                        met: Err(error),
                    };
                }
            };
            if may_forward && !is_here(&known.addresses) {
                inner.port_mappings.start();
            }
            // Two servers of a family are asked at a time.
            if index < 2 {
                presume_beside(&known, &inner.mappings);
            }
            let met = Met::by(&known.dialer, &known.addresses).await;
            Attempted { known, met }
        }
    }
}

/// Tells whether the coordinator is on this machine.
fn is_here(coordinator: &[SocketAddr]) -> bool {
    !coordinator.is_empty() && coordinator.iter().all(|it| it.ip().is_loopback())
}

fn listening(
    policy: DialPolicy,
    limit: Option<usize>,
) -> (Listening, mpsc::Receiver<crate::Connection>) {
    let (connections, incoming) = mpsc::channel(MAX_WAITING_CONNECTIONS);
    let is_shared = !matches!(&policy, DialPolicy::Only(peers) if peers.len() == 1);
    let open = limit.map(|limit| Arc::new(Shares::new(limit, is_shared)));
    (
        Listening {
            policy,
            connections,
            open,
            called_sessions: Arc::default(),
        },
        incoming,
    )
}

/// Returns the first IPv4 and the first IPv6 address, in the order given.
///
/// A coordinator believes an address only if it has seen the peer there, or if a STUN server
/// vouches for it. So a peer that meets it over one family needs STUN over the other one too.
fn one_of_each_family(addresses: &[SocketAddr]) -> impl Iterator<Item = &SocketAddr> {
    let first = addresses.first();
    let other = addresses
        .iter()
        .find(|it| first.is_some_and(|first| first.is_ipv4() != it.is_ipv4()));
    first.into_iter().chain(other)
}

/// Begins to ask the STUN servers that are most likely beside a coordinator.
fn presume_beside(coordinator: &Known, mappings: &Mappings) {
    for address in one_of_each_family(&coordinator.addresses) {
        // The port of a coordinator's number answers STUN as well, and no web server does.
        if !coordinator.dialer.is_by_web() {
            mappings.presume(*address, Arc::clone(coordinator.dialer.offers()));
        }
        // With the zone of a link-local one.
        let mut beside = *address;
        beside.set_port(DEFAULT_PORT);
        mappings.start(beside);
    }
}

/// Accepts connections, but for those that come through closed holes.
fn accept(
    listeners: Vec<TcpListener>,
    closed: Arc<ClosedHoles>,
) -> (Arc<Inbound>, Vec<AbortOnDrop>) {
    let inbound = Arc::new(Inbound::new(closed));
    let tasks = listeners.into_iter().map(accepting(&inbound)).collect();
    (inbound, tasks)
}

/// Returns what accepts connections on a punch port.
fn accepting(inbound: &Arc<Inbound>) -> Box<Accept> {
    let inbound = Arc::clone(inbound);
    Box::new(move |listener| AbortOnDrop::spawn(Arc::clone(&inbound).accept_from(listener)))
}

/// Returns what further punch ports are opened with.
fn port_set_opener(
    host: &Host,
    key: &SecretKey,
    inbound: &Arc<Inbound>,
    mappings: &Arc<Mappings>,
    nat64: &Arc<Nat64>,
) -> PortSetOpener {
    PortSetOpener {
        host: host.clone(),
        id: key.peer_id(),
        accept: accepting(inbound),
        mappings: Arc::clone(mappings),
        nat64: Arc::clone(nat64),
    }
}

/// Makes what learns the mappings, and what finds out from them how the NAT behaves.
fn mappings(
    host: &Host,
    ports: &PunchPorts,
    key: &SecretKey,
    observer: &Observer,
    nat64: &Arc<Nat64>,
) -> (Arc<Mappings>, Arc<Behaviour>, AbortOnDrop) {
    let behaviour = Arc::new(Behaviour::new(host.clone()));
    let mappings = Arc::new(Mappings::new(
        host,
        ports.clone(),
        &key.peer_id(),
        observer.clone(),
        Arc::clone(&behaviour),
        Arc::clone(nat64),
    ));
    let discovery = discovery::run(
        Arc::clone(&mappings),
        Arc::clone(&behaviour),
        observer.clone(),
    );
    let discovery = AbortOnDrop::spawn(async move { match discovery.await {} });
    (mappings, behaviour, discovery)
}

/// Does so beside the first dial.
fn learn_later(coordination: &Arc<Coordination>, inner: &Arc<Inner>) -> AbortOnDrop {
    let (coordination, inner) = (Arc::clone(coordination), Arc::clone(inner));
    AbortOnDrop::spawn(async move {
        if let Err(error) = learn(&coordination, &inner.mappings).await {
            tracing::debug!(%error, "no welcome");
            inner.mappings.complete(Vec::new());
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stun_is_asked_over_both_families() {
        let address = |text: &str| -> SocketAddr { text.parse().expect("the test names one") };
        let [a, b] = ["[2001:db8::1]:1", "[2001:db8::2]:1"].map(address);
        let [c, d] = ["192.0.2.1:1", "192.0.2.2:1"].map(address);
        let chosen = |all: &[SocketAddr]| one_of_each_family(all).copied().collect::<Vec<_>>();
        assert_eq!(chosen(&[a, b, c, d]), [a, c]);
        assert_eq!(chosen(&[d, c, b]), [d, b]);
        assert_eq!(chosen(&[c, d]), [c]);
        assert!(chosen(&[]).is_empty());
    }
}
