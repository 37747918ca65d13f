//! Where and how to reach the coordinator: its addresses and the ways to each, one after the other
//! and beside each other (RFC 8305).

mod ways;

use std::{
    collections::VecDeque,
    io,
    net::{Ipv6Addr, SocketAddr, SocketAddrV6},
    sync::{Arc, Mutex},
    time::Duration,
};

use p2pconnect_host::{Host, Shortage, clock};
use p2pconnect_identity::{SecretKey, Stranger};
use p2pconnect_link::{ConnectError, Destination, Link, Proxy, ProxyError, quic, tcp, web};
use p2pconnect_proto::{CoordinatorAddr, GreaseSource, InviteSecret, PeerId};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use super::{offers::Offers, puzzles::Puzzles};
use crate::{
    BindError, CoordinatorError, Status, machine::nat64::Nat64, status::Observer, sync::lock,
};
use ways::{Way, Ways};

/// The most addresses of a coordinator that are tried, so that the last of them starts within
/// 2 seconds.
const MAX_ADDRESSES: usize = 8;

/// How long an address, or a way to one, is tried alone, as RFC 8305 section 8 recommends. Where
/// UDP passes, QUIC is there before, unless a round trip takes longer.
const HEAD_START: Duration = Duration::from_millis(250);

/// How long the others are tried before the web is, if nobody has named that: most coordinators are
/// not there, and a packet that is lost comes again meanwhile.
const HEAD_START_OF_WEB: Duration = Duration::from_secs(1);

/// How long the coordinator's name is looked up where a proxy can look it up as well.
const LOOKUP_BEFORE_PROXY: Duration = Duration::from_secs(2);

/// Where a coordinator is taken to be whose address the proxy alone knows: elsewhere, at an address
/// that nobody has (RFC 4291 section 2.4). Nothing is sent there.
pub(super) const SOMEWHERE: SocketAddr = SocketAddr::V6(SocketAddrV6::new(
    Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 1),
    0,
    0,
    0,
));

/// Makes connections to a coordinator.
#[derive(Debug, Clone)]
pub(crate) struct Dialer {
    address: CoordinatorAddr,
    quic: quic::Client,
    tcp: tcp::Client,
    /// How the coordinator is reached if it is behind a web server. Not by an address that no URL
    /// can have.
    web: Option<web::Client>,
    web_port: u16,
    stranger: Stranger,
    pub(super) local_host: Host,
    pub(super) nat64: Arc<Nat64>,
    pub(super) grease: Arc<GreaseSource>,
    proxy: Option<Arc<Proxy>>,
    /// Who this peer is, and how it proves that it has been invited.
    pub(super) id: PeerId,
    pub(super) proof: Option<[u8; 32]>,
    pub(super) puzzles: Arc<Puzzles>,
    ways: Arc<Ways>,
    offers: Arc<Offers>,
    observer: Observer,
    /// Who has issued the certificate of those who have intercepted last.
    intercepted_by: Arc<Mutex<Option<String>>>,
}

/// A connection to a coordinator.
#[derive(Debug)]
pub(super) struct Reached {
    /// Where the coordinator is, [`SOMEWHERE`] if that is unknown.
    pub(super) host: SocketAddr,
    pub(super) link: Link,
    /// Whether the coordinator may see something else in this endpoint's place.
    pub(super) is_hidden: bool,
    /// Where and by what the web leads to the coordinator, if nothing else does.
    pub(super) web: Option<(SocketAddr, web::Client)>,
}

/// Which way round a coordinator is looked for.
#[derive(Debug, Clone, Copy)]
enum Route {
    /// At one of its addresses.
    Direct(SocketAddr),
    Proxy,
}

/// Why one way has failed.
#[derive(Debug)]
struct Failure {
    way: Way,
    error: ConnectError,
}

impl Dialer {
    pub(crate) fn new(
        key: &SecretKey,
        address: CoordinatorAddr,
        local_host: Host,
        nat64: Arc<Nat64>,
        proxy: Option<Proxy>,
        observer: Observer,
    ) -> Result<Self, BindError> {
        let stranger = Stranger::default();
        let grease = GreaseSource::new(local_host.random_seed());
        let tcp = tcp::Client::new(key, address.id, &stranger, grease.draw())?;
        let by_web = address.by_web();
        let web = match (web::Client::new(tcp.clone(), &by_web), &address.web) {
            (Ok(web), _) => Some(web),
            (Err(error), Some(_)) => return Err(error.into()),
            (Err(_), None) => None,
        };
        Ok(Self {
            quic: quic::Client::new(key, address.id, &stranger, grease.draw())?,
            web,
            web_port: by_web.port,
            tcp,
            address,
            stranger,
            local_host,
            nat64,
            grease: Arc::new(grease),
            proxy: proxy.map(Arc::new),
            id: key.peer_id(),
            proof: None,
            puzzles: Arc::default(),
            ways: Arc::default(),
            offers: Arc::default(),
            observer,
            intercepted_by: Arc::default(),
        })
    }

    /// Has it prove to the coordinator that it knows a secret.
    pub(crate) fn invited_by(mut self, secret: Option<&InviteSecret>) -> Self {
        self.proof = secret.map(|it| it.prove(&self.address.id, &self.id));
        self
    }

    /// Tells whether the coordinator is named by where a web server is in front of it.
    pub(crate) const fn is_by_web(&self) -> bool {
        self.address.web.is_some()
    }

    /// Returns what connects to the same coordinator once another key has taken the place of its
    /// own.
    pub(crate) fn succeeded_by(&self, key: &SecretKey, id: PeerId) -> Result<Self, BindError> {
        let address = CoordinatorAddr {
            id,
            ..self.address.clone()
        };
        Self::new(
            key,
            address,
            self.local_host.clone(),
            Arc::clone(&self.nat64),
            self.proxy.as_deref().cloned(),
            self.observer.clone(),
        )
    }

    /// Returns the coordinator that is connected to.
    pub(crate) const fn coordinator(&self) -> &CoordinatorAddr {
        &self.address
    }

    /// Returns where connections to the coordinator are offered that TLS may go on with.
    pub(crate) const fn offers(&self) -> &Arc<Offers> {
        &self.offers
    }

    /// Looks up the coordinator's addresses, and how to reach IPv4 ones from a machine that has
    /// IPv6 only. There may be none where a proxy looks the name up as well.
    pub(crate) async fn resolve(
        &self,
        limit: Duration,
    ) -> Result<Vec<SocketAddr>, CoordinatorError> {
        let CoordinatorAddr { host, port, .. } = &self.address;
        let failed = |reason: String| CoordinatorError::Resolve {
            host: host.clone(),
            reason,
        };
        let limit = match &self.proxy {
            Some(_) => limit.min(LOOKUP_BEFORE_PROXY),
            None => limit,
        };
        let found = self.local_host.look_up(host, *port, limit).await;
        let mut addresses = match found {
            Ok(addresses) => addresses,
            Err(error) if self.proxy.is_some() => {
                tracing::debug!(%error, "the proxy has to look up the coordinator's name");
                return Ok(Vec::new());
            }
            Err(error) => return Err(failed(error.to_string())),
        };
        self.nat64.untranslate(&mut addresses).await;
        if addresses.is_empty() {
            Err(failed("it has no address".to_owned()))
        } else {
            Ok(addresses)
        }
    }

    /// Connects to the first of the addresses that answers, or by way of the proxy. Each gets a
    /// head start on the next one (RFC 8305 section 5), so that one that is dead costs little time.
    ///
    /// Cancel safe.
    pub(super) async fn connect(
        &self,
        addresses: &[SocketAddr],
    ) -> Result<Reached, CoordinatorError> {
        let known = addresses.first().copied();
        let mut waiting = self.routes(addresses);
        let mut attempts = JoinSet::new();
        let (mut direct, mut by_proxy) = (None, None);
        loop {
            if let Some(route) = waiting.pop_front() {
                let dialer = self.clone();
                attempts.spawn(async move { (route, dialer.connect_by(route, known).await) });
            }
            tokio::select! {
                Some(joined) = attempts.join_next() => match joined {
                    Ok((_, Ok(reached))) => return Ok(reached),
                    Ok((Route::Proxy, Err(error))) => by_proxy = Some(error),
                    // A server that is somebody else says more than one that is silent.
                    Ok((Route::Direct(_), Err(_)))
                        if matches!(direct, Some(CoordinatorError::WrongIdentity { .. })) => {}
                    Ok((Route::Direct(_), Err(latest))) => direct = Some(latest),
                    Err(failed) => tracing::error!(%failed, "an attempt ended without a result"),
                },
                () = sleep(HEAD_START), if !waiting.is_empty() => {}
                else => return Err(self.told_of(direct, by_proxy)),
            }
        }
    }

    /// Returns how the coordinator is looked for, one after the other.
    fn routes(&self, addresses: &[SocketAddr]) -> VecDeque<Route> {
        let direct = addresses.iter().copied().take(MAX_ADDRESSES);
        let mut routes: VecDeque<_> = direct.map(Route::Direct).collect();
        match (&self.proxy, self.ways.first(clock::now())) {
            (Some(_), Way::Proxy) => routes.push_front(Route::Proxy),
            (Some(_), Way::Quic | Way::Tls | Way::WebSocket) => routes.push_back(Route::Proxy),
            (None, _) => {}
        }
        routes
    }

    /// Says why no route leads to the coordinator.
    fn told_of(
        &self,
        direct: Option<CoordinatorError>,
        by_proxy: Option<CoordinatorError>,
    ) -> CoordinatorError {
        match (direct, by_proxy, &self.proxy) {
            (Some(error @ CoordinatorError::WrongIdentity { .. }), _, _)
            | (_, Some(error @ CoordinatorError::WrongIdentity { .. }), _) => error,
            (direct, Some(CoordinatorError::Proxy { reason, .. }), Some(proxy)) => {
                CoordinatorError::Proxy {
                    proxy: proxy.to_string(),
                    reason,
                    directly: direct.map(Box::new),
                }
            }
            (Some(error), _, _) | (None, Some(error), _) => error,
            (None, None, _) => CoordinatorError::Resolve {
                host: self.address.host.clone(),
                reason: "it has no address".to_owned(),
            },
        }
    }

    async fn connect_by(
        &self,
        route: Route,
        known: Option<SocketAddr>,
    ) -> Result<Reached, CoordinatorError> {
        match (route, &self.proxy) {
            (Route::Direct(address), _) => self.connect_to(address).await,
            (Route::Proxy, Some(proxy)) => self.connect_through(proxy, known).await,
            (Route::Proxy, None) => Err(self.told_of(None, None)),
        }
    }

    /// Connects by way of the proxy to the coordinator, whose address may be known.
    async fn connect_through(
        &self,
        proxy: &Proxy,
        known: Option<SocketAddr>,
    ) -> Result<Reached, CoordinatorError> {
        let to = Destination {
            name: &self.address.host,
            port: self.address.port,
            address: known,
        };
        let host = known.unwrap_or(SOMEWHERE);
        let failed = |reason| CoordinatorError::Proxy {
            proxy: proxy.to_string(),
            reason,
            directly: None,
        };
        let told = |error| match error {
            ConnectError::WrongIdentity => self.wrong_identity(host),
            other => failed(other.to_string()),
        };
        let link = match self.attempt_by(proxy, to).await {
            Err(error) if is_of_its_port(&error) && !self.is_by_web() => {
                let by_web = self.attempt_by_web(proxy, to).await;
                by_web.map_err(|other| match other {
                    ConnectError::WrongIdentity => told(other),
                    other => failed(in_one(&[(Way::Tls, &error), (Way::WebSocket, &other)])),
                })?
            }
            connected => connected.map_err(told)?,
        };
        tracing::debug!(%proxy, "coordinator reached");
        self.ways.worked(Way::Proxy, clock::now());
        Ok(Reached {
            host,
            link,
            is_hidden: true,
            web: None,
        })
    }

    /// Connects by way of the proxy as the coordinator is named.
    async fn attempt_by(&self, proxy: &Proxy, to: Destination<'_>) -> Result<Link, ConnectError> {
        if self.is_by_web() {
            return self.attempt_by_web(proxy, to).await;
        }
        let connected = self.tcp.connect_by(proxy, &self.local_host, to).await;
        connected.map(Link::from)
    }

    async fn attempt_by_web(
        &self,
        proxy: &Proxy,
        to: Destination<'_>,
    ) -> Result<Link, ConnectError> {
        let port = self.web_port;
        let to = Destination { port, ..to };
        let connected = self.web()?.connect_by(proxy, &self.local_host, to).await;
        connected.map(|it| self.take(it))
    }

    /// Returns where the web leads to the coordinator that has this address.
    const fn at_web(&self, mut address: SocketAddr) -> SocketAddr {
        address.set_port(self.web_port);
        address
    }

    fn web(&self) -> Result<&web::Client, ConnectError> {
        let no_url = || ConnectError::Failed("no URL can have this address".to_owned());
        self.web.as_ref().ok_or_else(no_url)
    }

    /// Takes a connection by a WebSocket, and tells of whoever intercepts the TLS around it.
    fn take(&self, connected: web::Connected) -> Link {
        let mut before = lock(&self.intercepted_by);
        if let Some(issuer) = &connected.intercepted_by
            && before.as_ref() != Some(issuer)
        {
            let issuer = issuer.clone();
            self.observer.tell(Status::Intercepted { issuer });
        }
        *before = connected.intercepted_by;
        connected.connection.into()
    }

    fn wrong_identity(&self, address: SocketAddr) -> CoordinatorError {
        let expected = self.address.id;
        CoordinatorError::WrongIdentity {
            address,
            expected,
            similar: (self.stranger.id()).filter(|id| id.is_slip_of(&expected)),
        }
    }

    async fn connect_to(&self, host: SocketAddr) -> Result<Reached, CoordinatorError> {
        let address = self.nat64.reach(host).await;
        // QUIC takes what cannot be sent for lost, and would wait for an answer.
        let source = self.local_host.source_address(address);
        if source.is_err_and(|error| is_unrouted(&error)) {
            return Err(CoordinatorError::NoRoute { address });
        }
        let raced = self.race(address).await;
        let (way, link) = raced.map_err(|failures| self.told(address, failures))?;
        tracing::debug!(%way, %address, "coordinator reached");
        self.ways.worked(way, clock::now());
        let is_hidden = way == Way::WebSocket;
        let web = self.web.clone().filter(|_| is_hidden);
        Ok(Reached {
            host,
            link,
            is_hidden,
            web: web.map(|it| (self.at_web(host), it)),
        })
    }

    /// Connects to an address by the first of the ways, or by the next one where those before have
    /// failed or take long: whichever comes about. TLS goes on with a connection that is offered
    /// once QUIC is late.
    async fn race(&self, address: SocketAddr) -> Result<(Way, Link), Vec<Failure>> {
        let mut waiting = match self.is_by_web() {
            true => VecDeque::from([Way::WebSocket]),
            false => VecDeque::from(self.ways.order(clock::now())),
        };
        let mut attempts = JoinSet::new();
        let mut failures = Vec::new();
        let mut due = Instant::now();
        loop {
            let waits_for_quic = waiting.front() == Some(&Way::Tls);
            tokio::select! {
                Some(joined) = attempts.join_next() => match joined {
                    Ok(Ok(link)) => return Ok(link),
                    Ok(Err(failure @ Failure { error: ConnectError::WrongIdentity, .. })) => {
                        // By another way, it would be the same server.
                        return Err(vec![failure]);
                    }
                    Ok(Err(failure)) => {
                        failures.push(failure);
                        if attempts.is_empty() {
                            due = Instant::now();
                        }
                    }
                    Err(failed) => tracing::error!(%failed, "an attempt ended without a result"),
                },
                () = self.offers.late(address), if waits_for_quic => {
                    waiting.pop_front();
                    let dialer = self.clone();
                    attempts.spawn(async move { dialer.go_on(address).await });
                    due = Instant::now() + HEAD_START_OF_WEB;
                }
                () = sleep_until(due), if !waiting.is_empty() => {
                    if let Some(way) = waiting.pop_front() {
                        let dialer = self.clone();
                        attempts.spawn(async move { dialer.attempt(way, address).await });
                    }
                    due = Instant::now() + match waiting.front() {
                        Some(Way::WebSocket) => HEAD_START_OF_WEB,
                        Some(Way::Quic | Way::Tls | Way::Proxy) | None => HEAD_START,
                    };
                }
                else => return Err(failures),
            }
        }
    }

    async fn attempt(&self, way: Way, address: SocketAddr) -> Result<(Way, Link), Failure> {
        let host = &self.local_host;
        let connected = match way {
            Way::Quic => self.quic.connect(host, address).await.map(Link::from),
            Way::Tls | Way::Proxy => self.tcp.connect(host, address).await.map(Link::from),
            Way::WebSocket => self.attempt_web(address).await,
        };
        let connected = connected.map(|link| (way, link));
        connected.map_err(|error| Failure { way, error })
    }

    /// Goes on with a connection that is offered. If that leads nowhere, TLS begins anew.
    async fn go_on(&self, address: SocketAddr) -> Result<(Way, Link), Failure> {
        if let Some(stream) = self.offers.take(address).await {
            match self.tcp.go_on(stream, address).await {
                Ok(connection) => return Ok((Way::Tls, connection.into())),
                Err(error) => tracing::debug!(%error, "tls does not go on behind stun"),
            }
        }
        self.attempt(Way::Tls, address).await
    }

    async fn attempt_web(&self, address: SocketAddr) -> Result<Link, ConnectError> {
        let connecting = self.web()?.connect(&self.local_host, self.at_web(address));
        let connected = connecting.await;
        connected.map(|it| self.take(it))
    }

    /// Says why an address is not reached, by all that has failed.
    fn told(&self, address: SocketAddr, mut failures: Vec<Failure>) -> CoordinatorError {
        let is_wrong = |it: &Failure| matches!(it.error, ConnectError::WrongIdentity);
        if failures.iter().any(is_wrong) {
            return self.wrong_identity(address);
        }
        failures.sort_by_key(|it| it.way);
        let mut shortages = failures.iter().filter_map(|it| match &it.error {
            ConnectError::Socket(error) => Shortage::of(error),
            ConnectError::Failed(_)
            | ConnectError::Foreign(_)
            | ConnectError::Intercepted { .. }
            | ConnectError::NotTls
            | ConnectError::NoWebSocket(_)
            | ConnectError::Proxy(_)
            | ConnectError::Silent(_)
            | ConnectError::WrongIdentity => None,
        });
        if let Some(shortage) = shortages.next() {
            return CoordinatorError::Shortage(shortage);
        }
        let all: Vec<_> = failures.iter().map(|it| (it.way, &it.error)).collect();
        CoordinatorError::Unreachable {
            address,
            reason: in_one(&all),
        }
    }
}

/// Says what has become of all of these.
fn in_one(failures: &[(Way, &ConnectError)]) -> String {
    let reasons = failures
        .iter()
        .map(|(way, error)| format!("{way}: {error}"));
    reasons.collect::<Vec<_>>().join("; ")
}

/// Tells whether a proxy may lead to another port of the coordinator all the same, or to what
/// whoever intercepts TLS lets through.
const fn is_of_its_port(error: &ConnectError) -> bool {
    match error {
        ConnectError::Proxy(error) => matches!(
            error,
            ProxyError::Refused(_) | ProxyError::NoProxy(_) | ProxyError::Closed
        ),
        ConnectError::Failed(_)
        | ConnectError::Foreign(_)
        | ConnectError::Intercepted { .. }
        | ConnectError::NotTls
        | ConnectError::NoWebSocket(_) => true,
        ConnectError::Silent(_) | ConnectError::Socket(_) | ConnectError::WrongIdentity => false,
    }
}

/// Tells whether the kernel knows no route to an address, or none of its own to send from.
fn is_unrouted(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::AddrNotAvailable
    )
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests;
