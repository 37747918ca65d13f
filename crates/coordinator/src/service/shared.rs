use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use p2pconnect_proto::message::{Notice, Welcome};
use p2pconnect_stun::Witness;
use quinn::Connection;
use tracing::info;

use super::{
    Config,
    gate::{Attempt, Gate, Verdict},
    notices::Notices,
};
use crate::registry::{Client, Command, ConnectionId, Event, Moment, Registry};

/// What all connections of a coordinator have in common.
///
/// Every lock is held for one look-up or one command, and never across an await.
#[derive(Debug)]
pub(super) struct Shared {
    registry: Mutex<Registry>,
    connections: Mutex<BTreeMap<ConnectionId, Arc<Notices>>>,
    gate: Mutex<Gate>,
    next_connection: AtomicU64,
    stun_servers: Vec<SocketAddr>,
    stun_alternates: Vec<SocketAddr>,
    witness: Option<Witness>,
}

impl Shared {
    pub(super) fn new(config: Config) -> Self {
        Self {
            registry: Mutex::new(Registry::new(config.limits, config.token_key)),
            connections: Mutex::default(),
            gate: Mutex::new(Gate::new(config.service)),
            next_connection: AtomicU64::new(0),
            stun_servers: config.stun_servers,
            stun_alternates: config.stun_alternates,
            witness: config.witness,
        }
    }

    pub(super) fn judge(&self, attempt: Attempt) -> Verdict {
        lock(&self.gate).judge(attempt, Instant::now())
    }

    pub(super) fn command(&self, client: &Client, command: Command) -> Event {
        lock(&self.registry).handle_command(client, command, now())
    }

    /// Returns the way to tell the client on this connection something, while it lasts.
    pub(super) fn notices(&self, id: ConnectionId) -> Option<Arc<Notices>> {
        lock(&self.connections).get(&id).cloned()
    }

    pub(super) const fn witness(&self) -> Option<&Witness> {
        self.witness.as_ref()
    }

    pub(super) fn welcome(&self, observed: SocketAddr) -> Notice {
        Notice::Welcome(Welcome {
            observed,
            stun_servers: self.stun_servers.clone(),
            stun_alternates: self.stun_alternates.clone(),
        })
    }
}

/// A connection's place in the counts, given back when dropped.
#[derive(Debug)]
pub(super) struct Ticket {
    shared: Arc<Shared>,
    id: ConnectionId,
    source: IpAddr,
    in_handshake: bool,
}

impl Ticket {
    pub(super) fn new(shared: Arc<Shared>, source: IpAddr) -> Self {
        lock(&shared.gate).enter(source);
        let id = ConnectionId(shared.next_connection.fetch_add(1, Ordering::Relaxed));
        Self {
            shared,
            id,
            source,
            in_handshake: true,
        }
    }

    pub(super) const fn id(&self) -> ConnectionId {
        self.id
    }

    /// Turns the place of a handshake into the place of a client that has proved who it is.
    pub(super) fn admit(mut self, client: Client, connection: Connection) -> Session {
        self.in_handshake = false;
        lock(&self.shared.gate).handshake_succeeded();
        let notices = Arc::new(Notices::new(connection.clone()));
        lock(&self.shared.connections).insert(self.id, Arc::clone(&notices));
        Session {
            client,
            connection,
            notices,
            ticket: self,
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut gate = lock(&self.shared.gate);
        if self.in_handshake {
            gate.handshake_failed(self.source, Instant::now());
        } else {
            gate.leave(self.source);
        }
    }
}

/// A client and its connection; dropping it forgets both.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) connection: Connection,
    pub(super) notices: Arc<Notices>,
    ticket: Ticket,
}

impl Session {
    pub(super) fn shared(&self) -> &Shared {
        &self.ticket.shared
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let shared = &self.ticket.shared;
        lock(&shared.connections).remove(&self.ticket.id);
        let event = shared.command(&self.client, Command::Disconnect);
        if matches!(
            event,
            Event::Disconnected {
                was_registered: true
            }
        ) {
            info!(peer = %self.client.peer.short(), "peer gone");
        }
    }
}

fn now() -> Moment {
    Moment {
        monotonic: Instant::now(),
        // A clock before 1970 makes every token valid until its expiry, as a slow clock does.
        unix_secs: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs()),
    }
}

/// A panic elsewhere leaves no half-done change behind that matters more than going on serving.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
