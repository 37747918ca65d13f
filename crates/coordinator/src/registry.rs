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
mod event;
mod in_flight;
mod limits;
mod relays;
mod unsettled;

use std::{
    collections::BTreeMap,
    fmt,
    net::IpAddr,
    time::{Duration, Instant},
};

use p2pconnect_proto::{
    Candidate, NatReport, PeerId, SessionToken, TokenKey,
    message::{
        DialPolicy, DialRequest, Extensions, MAX_ALLOWED_PEERS, MAX_CANDIDATES, MAX_CLAIMS,
        MAX_HANDSHAKE, MAX_PEER_EXTENSIONS, Refusal, RefusalReason, Registration, Unsupported,
    },
};

pub use command::{Client, Command, ConnectionId, Moment};
pub use event::{Event, Introductions, Meeting, Side};
pub use limits::Limits;

use crate::{
    admission::{Admitted, Claimant, admit, is_reachable_from},
    network::{site, subscriber},
    rate::RateLimiter,
};
use in_flight::{InFlight, Introducing};
use relays::Relays;
use unsettled::{Introduced, Unsettled};

/// The table of registered peers and of what goes on between them.
pub struct Registry {
    limits: Limits,
    key: TokenKey,
    peers: BTreeMap<PeerId, Registered>,
    in_flight: InFlight,
    relays: Relays,
    unsettled: Unsettled,
    dials_by_peer: RateLimiter<PeerId>,
    dials_by_source: RateLimiter<IpAddr>,
    registrations: RateLimiter<PeerId>,
    relayed_by_source: RateLimiter<IpAddr>,
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
            dials_by_source: RateLimiter::new(0, Duration::ZERO),
            registrations: RateLimiter::new(0, Duration::ZERO),
            relayed_by_source: RateLimiter::new(0, Duration::ZERO),
            in_flight: InFlight::new(),
            relays: Relays::new(),
            unsettled: Unsettled::new(),
            peers: BTreeMap::new(),
            limits: Limits::default(),
            key,
        };
        registry.set_limits(limits);
        registry
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
                self.unsettled.settle(dialler, client.connection);
                Ok(Event::Settled)
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
    /// introductions, and on which connections, somebody did.
    pub fn give_up(&mut self, connection: ConnectionId) -> Vec<(SessionToken, ConnectionId)> {
        self.unsettled.forget(connection)
    }

    /// The same for those introductions alone that this client has asked for.
    pub fn give_up_dials(&mut self, connection: ConnectionId) -> Vec<(SessionToken, ConnectionId)> {
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
            return Err(RefusalReason::Full.into());
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
            Registered {
                client: *client,
                serial,
                candidates: admitted.candidates,
                nat: nat.well_formed(),
                policy,
                peer_extensions,
            },
        );
        Ok(Event::Registered {
            unproven: admitted.unproven,
            replaced: former
                .map(|former| former.client.connection)
                .filter(|&former| former != client.connection),
        })
    }

    fn dial(
        &mut self,
        client: &Client,
        request: DialRequest,
        witnessed: Vec<Candidate>,
        session: SessionToken,
        now: Moment,
    ) -> Result<Event, Refusal> {
        refuse_too_much(&request.candidates, &request.peer_extensions)?;
        if request.handshake.len() > MAX_HANDSHAKE || request.claims.len() > MAX_CLAIMS {
            return Err(RefusalReason::TooLarge.into());
        }
        refuse_unknown(&request.extensions)?;
        if request.callee == client.peer {
            return Err(RefusalReason::OwnId.into());
        }
        // Both are charged before anything is looked up, so that asking who is online is slow.
        let source = site(client.seen.ip());
        let taken = self.dials_by_peer.take(client.peer, now.monotonic);
        taken.map_err(too_soon)?;
        let taken = self.dials_by_source.take(source, now.monotonic);
        taken.map_err(too_soon)?;
        self.charge(client, request.handshake.len(), now)?;
        let mut admitted = self.admit(client, &request.candidates, now);
        let witnessed: Vec<_> = witnessed
            .into_iter()
            .filter(Candidate::is_well_formed)
            .collect();
        admitted.candidates.splice(0..0, witnessed.iter().cloned());
        admitted.candidates.truncate(MAX_CANDIDATES);
        let callee = self.peers.get(&request.callee);
        let callee = callee.filter(|it| it.policy.admits(&client.peer));
        // The same for both, so that nobody else learns who is online.
        let callee = callee.ok_or(RefusalReason::Unavailable)?;
        let (flights, limits) = (&mut self.in_flight, &self.limits);
        if let Some(session) = flights.share(client, &callee.client, limits, now.monotonic) {
            return Ok(Event::Crossed(session));
        }
        let introducing = Introducing {
            session,
            dialler: client,
            callee: &callee.client,
        };
        if !flights.start(introducing, limits, now.monotonic) {
            return Err(RefusalReason::TooMany.into());
        }
        let dialler = Side {
            peer: client.peer,
            connection: client.connection,
            candidates: reachable(&admitted.candidates, &callee.client),
            nat: request.nat.well_formed(),
            peer_extensions: request.peer_extensions,
        };
        let witnessed = reachable(&witnessed, &callee.client).len();
        let serial = callee.serial;
        let seen_together = subscriber(client.seen.ip()) == subscriber(callee.client.seen.ip());
        let callee = Side {
            peer: request.callee,
            connection: callee.client.connection,
            candidates: reachable(&callee.candidates, client),
            nat: callee.nat,
            peer_extensions: callee.peer_extensions.clone(),
        };
        let introduced = Introduced {
            session,
            dialler: (dialler.peer, dialler.connection),
            callee: callee.connection,
        };
        self.follow(introduced, request.handshake.len(), now.monotonic);
        Ok(Event::Meet(Box::new(Meeting {
            session,
            dialler,
            callee,
            serial,
            witnessed: u8::try_from(witnessed).unwrap_or(u8::MAX),
            seen_together,
            handshake: request.handshake,
            unproven: admitted.unproven,
        })))
    }

    /// Notes what may follow an introduction whose dialler has sent so many bytes with it: more
    /// bytes, and that one side waits for the other in vain.
    fn follow(&mut self, introduced: Introduced, sent: usize, now: Instant) {
        let (_, dialler) = introduced.dialler;
        self.relays.expire(self.limits.relaying, now);
        self.relays
            .start(introduced.session, dialler, introduced.callee, sent, now);
        self.unsettled.expire(self.limits.relaying, now);
        self.unsettled.start(introduced, now);
    }

    /// Finds out which connection bytes of a handshake go to.
    fn relay(
        &mut self,
        client: &Client,
        session: SessionToken,
        bytes: usize,
        now: Moment,
    ) -> Result<ConnectionId, Refusal> {
        self.relays.expire(self.limits.relaying, now.monotonic);
        self.charge(client, bytes, now)?;
        let passed = self.relays.pass(session, client.connection, bytes);
        passed.map_err(Refusal::from)
    }

    /// Charges a client's network for bytes that are to pass to somebody else.
    fn charge(&mut self, client: &Client, bytes: usize, now: Moment) -> Result<(), Refusal> {
        let (source, bytes) = (site(client.seen.ip()), u32::try_from(bytes));
        let bytes = bytes.unwrap_or(u32::MAX);
        let limiter = &mut self.relayed_by_source;
        let taken = limiter.take_many(source, bytes, now.monotonic);
        taken.map_err(too_soon)
    }

    fn disconnect(&mut self, client: &Client) -> Event {
        self.unsettled.forget(client.connection);
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
fn too_soon(wait: Duration) -> Refusal {
    Refusal::until(RefusalReason::TooMany, wait)
}

fn refuse_unknown(extensions: &Extensions) -> Result<(), RefusalReason> {
    if !extensions.are_within_limits() {
        return Err(RefusalReason::TooLarge);
    }
    match extensions.unknown_required() {
        Some(kind) => Err(RefusalReason::Unsupported(Unsupported::Extension(kind))),
        None => Ok(()),
    }
}

fn reachable(candidates: &[Candidate], from: &Client) -> Vec<Candidate> {
    candidates
        .iter()
        .filter(|candidate| is_reachable_from(candidate, from.seen))
        .cloned()
        .collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests;
