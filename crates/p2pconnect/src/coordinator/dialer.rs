//! Where and how to reach the coordinator: its addresses and the ways to each, one after the other
//! and beside each other (RFC 8305).

mod ways;

use std::{io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use p2pconnect_host::{Host, Shortage, clock};
use p2pconnect_identity::{SecretKey, Stranger};
use p2pconnect_link::{ConnectError, Link, quic, tcp};
use p2pconnect_proto::{CoordinatorAddr, GreaseSource};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{BindError, CoordinatorError, machine::nat64::Nat64};
use ways::{Way, Ways};

/// The most addresses of a coordinator that are tried, so that the last of them starts within
/// 2 seconds.
const MAX_ADDRESSES: usize = 8;

/// How long an address, or a way to one, is tried alone, as RFC 8305 section 8 recommends. Where
/// UDP passes, QUIC is there before, unless a round trip takes longer.
const HEAD_START: Duration = Duration::from_millis(250);

/// Makes connections to a coordinator.
#[derive(Debug, Clone)]
pub(crate) struct Dialer {
    address: CoordinatorAddr,
    quic: quic::Client,
    tcp: tcp::Client,
    stranger: Stranger,
    pub(super) local_host: Host,
    pub(super) nat64: Arc<Nat64>,
    pub(super) grease: Arc<GreaseSource>,
    ways: Arc<Ways>,
}

/// A connection to a coordinator.
#[derive(Debug)]
pub(super) struct Reached {
    /// Where the coordinator is.
    pub(super) host: SocketAddr,
    pub(super) link: Link,
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
    ) -> Result<Self, BindError> {
        let stranger = Stranger::default();
        let grease = GreaseSource::new(local_host.random_seed());
        Ok(Self {
            quic: quic::Client::new(key, address.id, &stranger, grease.draw())?,
            tcp: tcp::Client::new(key, address.id, &stranger, grease.draw())?,
            address,
            stranger,
            local_host,
            nat64,
            grease: Arc::new(grease),
            ways: Arc::default(),
        })
    }

    /// Looks up the coordinator's addresses, and how to reach IPv4 ones from a machine that has
    /// IPv6 only.
    pub(crate) async fn resolve(
        &self,
        limit: Duration,
    ) -> Result<Vec<SocketAddr>, CoordinatorError> {
        let CoordinatorAddr { host, port, .. } = &self.address;
        let failed = |reason: String| CoordinatorError::Resolve {
            host: host.clone(),
            reason,
        };
        let found = self.local_host.look_up(host, *port, limit).await;
        let mut addresses = found.map_err(|error| failed(error.to_string()))?;
        self.nat64.untranslate(&mut addresses).await;
        if addresses.is_empty() {
            Err(failed("it has no address".to_owned()))
        } else {
            Ok(addresses)
        }
    }

    /// Connects to the first of the addresses that answers. Each gets a head start on the next one
    /// (RFC 8305 section 5), so that one that is dead costs little time.
    ///
    /// Cancel safe.
    pub(super) async fn connect(
        &self,
        addresses: &[SocketAddr],
    ) -> Result<Reached, CoordinatorError> {
        let mut error = CoordinatorError::Resolve {
            host: self.address.host.clone(),
            reason: "it has no address".to_owned(),
        };
        let mut waiting = addresses.iter().copied().take(MAX_ADDRESSES).peekable();
        let mut attempts = JoinSet::new();
        loop {
            if let Some(address) = waiting.next() {
                let dialer = self.clone();
                attempts.spawn(async move { dialer.connect_to(address).await });
            }
            tokio::select! {
                Some(joined) = attempts.join_next() => match joined {
                    Ok(Ok(reached)) => return Ok(reached),
                    // A server that is somebody else says more than one that is silent.
                    Ok(Err(_)) if matches!(error, CoordinatorError::WrongIdentity { .. }) => {}
                    Ok(Err(latest)) => error = latest,
                    Err(failed) => tracing::error!(%failed, "an attempt ended without a result"),
                },
                () = sleep(HEAD_START), if waiting.peek().is_some() => {}
                else => return Err(error),
            }
        }
    }

    async fn connect_to(&self, host: SocketAddr) -> Result<Reached, CoordinatorError> {
        let address = self.nat64.reach(host).await;
        // QUIC takes what cannot be sent for lost, and would wait for an answer.
        let source = self.local_host.source_address(address);
        if source.is_err_and(|error| is_unrouted(&error)) {
            return Err(CoordinatorError::NoRoute { address });
        }
        let raced = self.race(self.ways.order(clock::now()), address).await;
        let (way, link) = raced.map_err(|failures| self.told(address, failures))?;
        tracing::debug!(%way, %address, "coordinator reached");
        self.ways.worked(way, clock::now());
        Ok(Reached { host, link })
    }

    /// Connects to an address by the first of these ways, or by the second one where the first has
    /// failed or takes long: whichever comes about.
    async fn race(
        &self,
        [first, second]: [Way; 2],
        address: SocketAddr,
    ) -> Result<(Way, Link), Vec<Failure>> {
        let mut one = pin!(self.attempt(first, address));
        let early = timeout(HEAD_START, &mut one).await;
        let mut other = pin!(self.attempt(second, address));
        let (ended, rest) = match early {
            Ok(ended) => (ended, other),
            Err(_) => tokio::select! {
                ended = &mut one => (ended, other),
                ended = &mut other => (ended, one),
            },
        };
        let failure = match ended {
            Ok(link) => return Ok(link),
            // By the other way, it would be the same server.
            Err(failure) if matches!(failure.error, ConnectError::WrongIdentity) => {
                return Err(vec![failure]);
            }
            Err(failure) => failure,
        };
        rest.await.map_err(|other| vec![failure, other])
    }

    async fn attempt(&self, way: Way, address: SocketAddr) -> Result<(Way, Link), Failure> {
        let host = &self.local_host;
        let connected = match way {
            Way::Quic => self.quic.connect(host, address).await.map(Link::from),
            Way::Tls => self.tcp.connect(host, address).await.map(Link::from),
        };
        let connected = connected.map(|link| (way, link));
        connected.map_err(|error| Failure { way, error })
    }

    /// Says why an address is not reached, by all that has failed.
    fn told(&self, address: SocketAddr, mut failures: Vec<Failure>) -> CoordinatorError {
        let is_wrong = |it: &Failure| matches!(it.error, ConnectError::WrongIdentity);
        if failures.iter().any(is_wrong) {
            return CoordinatorError::WrongIdentity {
                address,
                expected: self.address.id,
                similar: (self.stranger.id()).filter(|id| id.is_slip_of(&self.address.id)),
            };
        }
        failures.sort_by_key(|it| it.way);
        let mut shortages = failures.iter().filter_map(|it| match &it.error {
            ConnectError::Socket(error) => Shortage::of(error),
            ConnectError::Failed(_) | ConnectError::Silent(_) | ConnectError::WrongIdentity => None,
        });
        if let Some(shortage) = shortages.next() {
            return CoordinatorError::Shortage(shortage);
        }
        let reasons = failures
            .iter()
            .map(|it| format!("{}: {}", it.way, it.error));
        CoordinatorError::Unreachable {
            address,
            reason: reasons.collect::<Vec<_>>().join("; "),
        }
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
