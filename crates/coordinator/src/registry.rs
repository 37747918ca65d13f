//! Who is there and who may meet whom: the coordinator without its sockets.
//!
//! A [`Registry`] takes one [`Command`] at a time and answers with one [`Event`]. It knows no
//! socket, clock or randomness: the time and every session's token come with the command.
//!
//! What always holds:
//! - Nobody is told an address of a peer whose policy does not admit them.
//! - A peer id has one registration, the newest, and it ends with the connection it came over. On
//!   one connection the newest is the one that was sent last.
//! - Every table has a limit.

mod command;
mod dialling;
mod elsewhere;
mod event;
mod in_flight;
mod limits;
mod relays;
mod unsettled;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::SocketAddr,
    time::{Duration, Instant},
};

use p2pconnect_proto::{
    Candidate, NatReport, PeerId, SessionToken, TokenKey,
    message::{
        DialPolicy, Extensions, MAX_ALLOWED_PEERS, MAX_CANDIDATES, MAX_PEER_EXTENSIONS, Refusal,
        RefusalReason, Registration, Unsupported,
    },
};

pub use command::{Client, Command, ConnectionId, Moment, Place};
pub use elsewhere::Asked;
pub use event::{Elsewhere, Event, Introductions, Meeting, Side};
pub use limits::{BoardLimits, Limits};

use crate::{
    admission::{Admitted, Claimant, admit, is_reachable_from},
    rate::{NetworkLimiter, RateLimiter},
};
use in_flight::InFlight;
use relays::Relays;
use unsettled::Unsettled;

/// When a peer may come again that finds no room: peers come and go.
const FULL: Duration = Duration::from_secs(10);

/// The table of registered peers and of what goes on between them.
pub struct Registry {
    limits: Limits,
    key: TokenKey,
    /// Whether there are other coordinators, so that whoever is not here may be there.
    has_others: bool,
    /// Apart from their ids: a table that is searched is never full.
    peers: BTreeMap<PeerId, Box<Registered>>,
    /// The connections that last and whose peer has registered over another one since.
    superseded: BTreeSet<ConnectionId>,
    in_flight: InFlight,
    relays: Relays,
    unsettled: Unsettled,
    dials_by_peer: RateLimiter<PeerId>,
    dials_by_source: NetworkLimiter,
    registrations: RateLimiter<PeerId>,
    relayed_by_source: NetworkLimiter,
}

#[derive(Debug)]
struct Registered {
    client: Client,
    serial: u32,
    candidates: Vec<Candidate>,
    nat: NatReport,
    policy: DialPolicy,
    peer_extensions: Vec<u8>,
}

impl Registered {
    /// Tells whether what a client sends with this number was sent before this.
    ///
    /// Requests on one connection may overtake each other, and the numbers wrap around. Those of
    /// different connections, and so of different processes perhaps, have nothing to do with each
    /// other.
    fn is_newer_than(&self, client: &Client, serial: u32) -> bool {
        let ahead = self.serial.wrapping_sub(serial);
        self.client.connection == client.connection && (1..1 << 31).contains(&ahead)
    }
}

impl Registry {
    /// Returns an empty registry that believes the tokens made with `key`.
    #[must_use]
    pub fn new(limits: Limits, key: TokenKey) -> Self {
        let mut registry = Self {
            dials_by_peer: RateLimiter::new(0, Duration::ZERO),
            dials_by_source: NetworkLimiter::new(),
            registrations: RateLimiter::new(0, Duration::ZERO),
            relayed_by_source: NetworkLimiter::new(),
            in_flight: InFlight::new(),
            relays: Relays::new(),
            unsettled: Unsettled::new(),
            peers: BTreeMap::new(),
            superseded: BTreeSet::new(),
            limits: Limits::default(),
            has_others: false,
            key,
        };
        registry.set_limits(limits);
        registry
    }

    /// Notes that whoever is not here may be at another coordinator.
    pub const fn expect_others(&mut self) {
        self.has_others = true;
    }

    /// Sets how much is done for whom from now on. What is above a limit already may stay.
    pub fn set_limits(&mut self, limits: Limits) {
        let of = &limits;
        self.dials_by_peer
            .set(of.dial_burst_per_peer, of.dial_interval_per_peer);
        self.dials_by_source
            .set(of.dial_burst_per_source, of.dial_interval_per_source);
        self.registrations
            .set(of.register_burst, of.register_interval);
        self.relayed_by_source
            .set(of.relay_burst_per_source, of.relay_interval_per_source);
        self.limits = limits;
    }

    /// Carries out one command that `client` has sent at `now`.
    pub fn handle_command(&mut self, client: &Client, command: Command, now: Moment) -> Event {
        let result = match command {
            Command::Register(registration) => self.register(client, registration, now),
            Command::Dial {
                request,
                witnessed,
                session,
            } => self.dial(client, request, witnessed, session, now),
            Command::Settled(dialler) => {
                self.in_flight.settle(dialler, client.peer);
                let over = self.unsettled.settle(dialler, client.connection);
                Ok(Event::Settled { over })
            }
            Command::Relay { session, bytes } => {
                let to = self.relay(client, session, bytes, now);
                to.map(|to| Event::Pass { to })
            }
            Command::Disconnect => Ok(self.disconnect(client)),
        };
        result.unwrap_or_else(Event::Refused)
    }

    /// Tells whether somebody may still wait for the client on this connection, in an introduction
    /// of the last seconds.
    pub fn is_awaited(&mut self, connection: ConnectionId, now: Instant) -> bool {
        self.unsettled.expire(self.limits.relaying, now);
        self.unsettled.is_awaited(connection)
    }

    /// Forgets that anybody waits for the client on this connection, and returns in which
    /// introductions, and where, somebody did.
    pub fn give_up(&mut self, connection: ConnectionId) -> Vec<(SessionToken, Place)> {
        self.unsettled.forget(connection)
    }

    /// The same for those introductions alone that this client has asked for.
    pub fn give_up_dials(&mut self, connection: ConnectionId) -> Vec<(SessionToken, Place)> {
        self.unsettled.forget_dials(connection)
    }

    /// Returns how many peers are registered.
    #[must_use]
    pub fn registered_count(&self) -> usize {
        self.peers.len()
    }

    /// Returns how many entries are kept of introductions of the last seconds.
    pub fn introductions(&mut self, now: Instant) -> usize {
        self.in_flight.expire(&self.limits, now);
        self.relays.expire(self.limits.relaying, now);
        self.unsettled.expire(self.limits.relaying, now);
        self.in_flight.len() + self.relays.len() + self.unsettled.len()
    }

    fn register(
        &mut self,
        client: &Client,
        registration: Registration,
        now: Moment,
    ) -> Result<Event, Refusal> {
        // What was under way when another process registered would take the peer back.
        if self.superseded.contains(&client.connection) {
            return Ok(Event::Superseded);
        }
        let Registration {
            serial,
            candidates,
            nat,
            policy,
            peer_extensions,
            extensions,
        } = registration;
        refuse_too_much(&candidates, &peer_extensions)?;
        refuse_unknown(&extensions)?;
        match &policy {
            DialPolicy::Only(peers) if peers.len() > MAX_ALLOWED_PEERS => {
                return Err(RefusalReason::TooLarge.into());
            }
            DialPolicy::Unknown(number) => {
                let unknown = Unsupported::DialPolicy(*number);
                return Err(RefusalReason::Unsupported(unknown).into());
            }
            DialPolicy::Anyone | DialPolicy::Only(_) => {}
        }
        let taken = self.registrations.take(client.peer, now.monotonic);
        taken.map_err(too_soon)?;
        let is_new = !self.peers.contains_key(&client.peer);
        if is_new && self.peers.len() >= self.limits.max_peers {
            return Err(Refusal::until(RefusalReason::Full, FULL));
        }

        let admitted = self.admit(client, &candidates, now);
        let former = self.peers.get(&client.peer);
        if former.is_some_and(|former| former.is_newer_than(client, serial)) {
            return Ok(Event::Registered {
                unproven: admitted.unproven,
                replaced: None,
            });
        }
        let former = self.peers.insert(
            client.peer,
            Box::new(Registered {
                client: *client,
                serial,
                candidates: admitted.candidates,
                nat: nat.well_formed(),
                policy,
                peer_extensions,
            }),
        );
        let replaced = former
            .map(|former| former.client.connection)
            .filter(|&former| former != client.connection);
        self.superseded.extend(replaced);
        Ok(Event::Registered {
            unproven: admitted.unproven,
            replaced,
        })
    }

    /// Finds out where bytes of a handshake go to.
    fn relay(
        &mut self,
        client: &Client,
        session: SessionToken,
        bytes: usize,
        now: Moment,
    ) -> Result<Place, Refusal> {
        self.relays.expire(self.limits.relaying, now.monotonic);
        self.charge(client, bytes, now)?;
        let from = Place::Here(client.connection);
        let passed = self.relays.pass(session, from, bytes);
        passed.map_err(Refusal::from)
    }

    /// Charges a client's network for bytes that are to pass to somebody else.
    fn charge(&mut self, client: &Client, bytes: usize, now: Moment) -> Result<(), Refusal> {
        let (source, bytes) = (client.seen.ip(), u32::try_from(bytes));
        let bytes = bytes.unwrap_or(u32::MAX);
        let limiter = &mut self.relayed_by_source;
        let taken = limiter.take_many(source, bytes, now.monotonic);
        taken.map_err(too_soon)
    }

    fn disconnect(&mut self, client: &Client) -> Event {
        self.unsettled.forget(client.connection);
        self.superseded.remove(&client.connection);
        let registered = self.peers.get(&client.peer);
        let was_registered =
            registered.is_some_and(|peer| peer.client.connection == client.connection);
        if was_registered {
            self.peers.remove(&client.peer);
        }
        Event::Disconnected { was_registered }
    }

    fn admit(&self, client: &Client, candidates: &[Candidate], now: Moment) -> Admitted {
        let claimant = Claimant {
            peer: client.peer,
            seen: client.seen,
        };
        admit(candidates, &claimant, &self.key, now.unix_secs)
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("limits", &self.limits)
            .field("peers", &self.peers.len())
            .finish_non_exhaustive()
    }
}

fn refuse_too_much(candidates: &[Candidate], peer_extensions: &[u8]) -> Result<(), RefusalReason> {
    if candidates.len() > MAX_CANDIDATES || peer_extensions.len() > MAX_PEER_EXTENSIONS {
        return Err(RefusalReason::TooLarge);
    }
    Ok(())
}

/// Returns the refusal of what is possible again after some time.
pub(crate) fn too_soon(wait: Duration) -> Refusal {
    Refusal::until(RefusalReason::TooMany, wait)
}

/// Refuses extensions that must not be passed over and are not known, and too many.
pub(crate) fn refuse_unknown(extensions: &Extensions) -> Result<(), RefusalReason> {
    if !extensions.are_within_limits() {
        return Err(RefusalReason::TooLarge);
    }
    match extensions.unknown_required() {
        Some(kind) => Err(RefusalReason::Unsupported(Unsupported::Extension(kind))),
        None => Ok(()),
    }
}

fn reachable(candidates: &[Candidate], seen: SocketAddr) -> Vec<Candidate> {
    candidates
        .iter()
        .filter(|candidate| is_reachable_from(candidate, seen))
        .cloned()
        .collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests;
