//! Asks the router to forward the punch ports, and keeps it doing so.
//!
//! All of it happens beside everything else: nobody waits for a router, and one that maps nothing
//! costs a few packets.

mod lease;
mod route;
mod upnp;

use std::{
    net::SocketAddr,
    num::NonZeroU16,
    sync::{Arc, Mutex},
    time::Duration,
};

use p2pconnect_host::Host;
use p2pconnect_proto::PunchPort;
use p2pconnect_stun::next_keepalive;
use tokio::time::{Instant, sleep_until, timeout};

use crate::{
    Status,
    machine::{punch_ports::PunchPorts, task::AbortOnDrop},
    status::Observer,
    sync::{Watched, Watcher, lock},
};
use lease::Lease;
use route::Route;
use upnp::Router;

/// How long finding a router and asking it may take in all. UPnP takes longest: a search, a
/// description, and two requests for each port.
const OBTAIN_LIMIT: Duration = Duration::from_secs(30);

/// How often it is looked whether a lease is due or the network is another one. A multiple of what
/// keeps the mappings alive, so that an idle machine wakes once for both.
const CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// The pause before a router that mapped nothing is asked again; somebody may have switched it on.
const RETRY_PAUSE: Duration = Duration::from_secs(600);

/// How long giving mappings back may take: some round trips on a local network. A router that
/// takes longer forgets them by itself.
const RELEASE_LIMIT: Duration = Duration::from_millis(500);

/// A punch port that the router forwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ForwardedPort {
    pub(crate) punch_port: PunchPort,
    /// The router's own address. If it is a private one, the router is behind another NAT.
    pub(crate) external: SocketAddr,
}

/// The port mappings of an endpoint. Dropping it leaves them to their end, which is near.
#[derive(Debug)]
pub(crate) struct PortMappings {
    shared: Arc<Shared>,
    task: Mutex<Option<AbortOnDrop>>,
}

#[derive(Debug)]
struct Shared {
    host: Host,
    forwarded: Watched<Vec<ForwardedPort>>,
    closing: Watched<bool>,
    ports: PunchPorts,
    observer: Observer,
}

type Held = Vec<(PunchPort, Lease)>;

/// Why leases are not held any longer.
enum Ended {
    /// They ran out, could not be renewed, or belong to a network that this machine has left.
    Gone,
    /// Nobody wants them any more.
    Closing(Held),
}

impl PortMappings {
    /// Has nothing mapped until it is started.
    pub(crate) fn new(host: Host, ports: PunchPorts, observer: Observer) -> Self {
        let shared = Shared {
            host,
            forwarded: Watched::default(),
            closing: Watched::default(),
            ports,
            observer,
        };
        Self {
            shared: Arc::new(shared),
            task: Mutex::default(),
        }
    }

    /// Starts to ask the router.
    pub(crate) fn start(&self) {
        let task = AbortOnDrop::spawn(Arc::clone(&self.shared).keep());
        *lock(&self.task) = Some(task);
    }

    /// Returns what is forwarded now.
    pub(crate) fn known(&self) -> Vec<ForwardedPort> {
        self.shared.forwarded.borrow().clone()
    }

    /// Watches what is forwarded.
    pub(crate) fn changes(&self) -> Watcher<Vec<ForwardedPort>> {
        self.shared.forwarded.watch()
    }

    /// Gives the mappings back, within half a second.
    pub(crate) async fn release(&self) {
        if self.known().is_empty() {
            return;
        }
        self.shared.closing.set(true);
        let released = self.shared.forwarded.wait_for(Vec::is_empty);
        if timeout(RELEASE_LIMIT, released).await.is_err() {
            tracing::debug!("the router keeps the port mappings until they run out");
        }
    }
}

impl Shared {
    /// Keeps the punch ports mapped for as long as the future is polled, or until it is to close.
    async fn keep(self: Arc<Self>) {
        loop {
            let route = Route::current(&self.host);
            let obtaining = async {
                match &route {
                    Some(route) => timeout(OBTAIN_LIMIT, self.obtain(route)).await.ok(),
                    None => None,
                }
            };
            let held = obtaining.await.unwrap_or_default();
            self.publish(&held);
            match self.hold(route.as_ref(), held).await {
                Ended::Gone => self.publish(&[]),
                Ended::Closing(held) => {
                    for (_, lease) in held {
                        lease.release().await;
                    }
                    self.publish(&[]);
                    return;
                }
            }
        }
    }

    /// Asks the router to map every punch port, by the first protocol that it speaks.
    async fn obtain(&self, route: &Route) -> Held {
        let ports: Vec<_> = self
            .ports
            .iter()
            .filter_map(|(punch_port, port)| Some((punch_port, NonZeroU16::new(port)?)))
            .collect();
        let mut held = Held::new();
        for &(punch_port, port) in &ports {
            match Lease::by_pcp(route, port).await {
                Ok(lease) => held.push((punch_port, lease)),
                Err(error) => {
                    tracing::debug!(%error, "no port mapping by PCP or NAT-PMP");
                    if error.is_refusal() {
                        return held;
                    }
                    break;
                }
            }
        }
        if !held.is_empty() {
            return held;
        }
        let router = match Router::find(route).await {
            Ok(router) => router,
            Err(error) => {
                tracing::debug!(%error, "no port mapping by UPnP");
                return held;
            }
        };
        for (punch_port, port) in ports {
            match Lease::by_upnp(&router, port).await {
                Ok(lease) => held.push((punch_port, lease)),
                Err(error) => tracing::debug!(%error, "no port mapping by UPnP"),
            }
        }
        held
    }

    /// Renews leases until that fails, this machine has moved, or they are to be given back.
    async fn hold(&self, route: Option<&Route>, mut held: Held) -> Ended {
        let mut due = Instant::now() + renewal(&held);
        loop {
            tokio::select! {
                () = self.closing.wait_for(|closing| *closing) => return Ended::Closing(held),
                () = sleep_until(next_keepalive(&self.host, CHECK_INTERVAL)) => {}
            }
            if Route::current(&self.host).as_ref() != route {
                tracing::debug!("this machine has another router now");
                return Ended::Gone;
            }
            if Instant::now() + CHECK_INTERVAL < due {
                continue;
            }
            if held.is_empty() {
                return Ended::Gone;
            }
            for (_, lease) in &mut held {
                if let Err(error) = lease.renew().await {
                    tracing::debug!(%error, "a port mapping could not be renewed");
                    return Ended::Gone;
                }
            }
            self.publish(&held);
            due = Instant::now() + renewal(&held);
        }
    }

    /// Tells everybody what is mapped now, if that is new.
    fn publish(&self, held: &[(PunchPort, Lease)]) {
        let new: Vec<_> = held
            .iter()
            .map(|(punch_port, lease)| ForwardedPort {
                punch_port: *punch_port,
                external: lease.external(),
            })
            .collect();
        let changed = self.forwarded.change_if(|forwarded| {
            let changed = *forwarded != new;
            *forwarded = new;
            changed
        });
        for (_, lease) in held.iter().filter(|_| changed) {
            self.observer.tell(Status::PortMapped {
                local: lease.local(),
                external: lease.external(),
                protocol: lease.protocol(),
            });
        }
    }
}

/// Returns how long nothing needs to be asked: half of the shortest lease, as RFC 6887 section
/// 11.2.1 and RFC 6886 section 3.3 have it.
fn renewal(held: &[(PunchPort, Lease)]) -> Duration {
    let lifetimes = held.iter().map(|(_, lease)| lease.lifetime());
    lifetimes.min().map_or(RETRY_PAUSE, |lifetime| lifetime / 2)
}
