//! Dials: whether their callee may be told of them, and within what limits.

use std::{net::SocketAddr, time::Instant};

use p2pconnect_proto::{
    Candidate, NatReport, PeerId, SessionToken,
    message::{
        DialRequest, Extensions, MAX_CANDIDATES, MAX_CLAIMS, MAX_HANDSHAKE, Refusal, RefusalReason,
    },
    nodes::RemoteDial,
};

use super::{
    Client, Elsewhere, Event, Meeting, Moment, Place, Registry, Side, in_flight::Introducing,
    reachable, refuse_too_much, refuse_unknown, too_soon, unsettled::Introduced,
};
use crate::network::subscriber;

/// A dial whose dialler is known, wherever it is.
#[derive(Debug)]
pub(super) struct Dialling {
    pub(super) session: SessionToken,
    pub(super) dialler: PeerId,
    pub(super) from: Place,
    pub(super) seen: SocketAddr,
    /// Whether it dials over the connection that it is registered on; here that is found out when
    /// it matters.
    pub(super) is_registered: bool,
    pub(super) candidates: Vec<Candidate>,
    /// How many of the candidates, from the first, stand for claims.
    pub(super) witnessed: usize,
    pub(super) nat: NatReport,
    pub(super) handshake: Vec<u8>,
    pub(super) peer_extensions: Vec<u8>,
    pub(super) unproven: Vec<SocketAddr>,
}

impl Registry {
    pub(super) fn dial(
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
        let source = client.seen.ip();
        let taken = self.dials_by_peer.take(client.peer, now.monotonic);
        taken.map_err(too_soon)?;
        let taken = self.dials_by_source.take_many(source, 1, now.monotonic);
        taken.map_err(too_soon)?;
        self.charge(client, request.handshake.len(), now)?;
        let admitted = self.admit(client, &request.candidates, now);
        let witnessed = witnessed.into_iter().filter(Candidate::is_well_formed);
        let mut candidates: Vec<_> = witnessed.collect();
        let witnessed = candidates.len();
        candidates.extend(admitted.candidates);
        candidates.truncate(MAX_CANDIDATES);
        let dialling = Dialling {
            session,
            dialler: client.peer,
            from: Place::Here(client.connection),
            seen: client.seen,
            is_registered: true,
            candidates,
            witnessed,
            nat: request.nat.well_formed(),
            handshake: request.handshake,
            peer_extensions: request.peer_extensions,
            unproven: admitted.unproven,
        };
        if self.has_others && !self.peers.contains_key(&request.callee) {
            return self.look_elsewhere(client, request.callee, dialling, now);
        }
        self.meet(request.callee, dialling, now)
    }

    /// Introduces a dialler to a peer that is registered here.
    pub(super) fn meet(
        &mut self,
        callee: PeerId,
        dialling: Dialling,
        now: Moment,
    ) -> Result<Event, Refusal> {
        let callee = self.peers.get(&callee);
        let callee = callee.filter(|it| it.policy.admits(&dialling.dialler));
        // The same for both, so that nobody else learns who is online.
        let callee = callee.ok_or(RefusalReason::Unavailable)?;
        let (flights, limits, at) = (&mut self.in_flight, &self.limits, now.monotonic);
        let served_by = match dialling.from {
            Place::Here(connection) => {
                let dialler = Client {
                    peer: dialling.dialler,
                    connection,
                    seen: dialling.seen,
                };
                flights.share(&dialler, &callee.client, limits, at)
            }
            Place::There(_) if dialling.is_registered => {
                flights.share_with_one_asked_for(dialling.dialler, &callee.client, limits, at)
            }
            Place::There(_) => None,
        };
        if let Some(session) = served_by {
            return Ok(Event::Crossed(session));
        }
        let to = Place::Here(callee.client.connection);
        let introducing = Introducing {
            session: dialling.session,
            dialler: dialling.dialler,
            from: dialling.from,
            may_serve_another: dialling.is_registered,
            callee: callee.client.peer,
            to: Some(to),
        };
        flights.start(introducing, limits, at).map_err(too_soon)?;
        let seen = (dialling.seen, callee.client.seen);
        let witnessed = dialling.witnessed.min(dialling.candidates.len());
        let witnessed = reachable(&dialling.candidates[..witnessed], seen.1).len();
        let serial = callee.serial;
        let callee = Side {
            peer: callee.client.peer,
            place: to,
            candidates: reachable(&callee.candidates, seen.0),
            nat: callee.nat,
            peer_extensions: callee.peer_extensions.clone(),
        };
        let introduced = Introduced {
            session: dialling.session,
            dialler: (dialling.dialler, dialling.from),
            callee: to,
        };
        self.follow(introduced, dialling.handshake.len(), at);
        Ok(Event::Meet(Box::new(Meeting {
            session: dialling.session,
            dialler: Side {
                peer: dialling.dialler,
                place: dialling.from,
                candidates: reachable(&dialling.candidates, seen.1),
                nat: dialling.nat,
                peer_extensions: dialling.peer_extensions,
            },
            callee,
            serial,
            witnessed: u8::try_from(witnessed).unwrap_or(u8::MAX),
            seen_together: subscriber(seen.0.ip()) == subscriber(seen.1.ip()),
            handshake: dialling.handshake,
            unproven: dialling.unproven,
        })))
    }

    /// Has whoever holds the callee asked, unless a dial of the callee's serves this one as well.
    fn look_elsewhere(
        &mut self,
        client: &Client,
        callee: PeerId,
        dialling: Dialling,
        now: Moment,
    ) -> Result<Event, Refusal> {
        let (flights, limits, at) = (&mut self.in_flight, &self.limits, now.monotonic);
        if let Some(session) = flights.share_with_one_elsewhere(client, callee, limits, at) {
            return Ok(Event::Crossed(session));
        }
        let introducing = Introducing {
            session: dialling.session,
            dialler: client.peer,
            from: dialling.from,
            may_serve_another: true,
            callee,
            to: None,
        };
        flights.start(introducing, limits, at).map_err(too_soon)?;
        let own = self.peers.get(&client.peer);
        let is_registered = own.is_some_and(|own| own.client.connection == client.connection);
        let dial = RemoteDial {
            session: dialling.session,
            dialler: client.peer,
            seen: client.seen,
            is_registered,
            callee,
            candidates: dialling.candidates,
            witnessed: u8::try_from(dialling.witnessed).unwrap_or(u8::MAX),
            nat: dialling.nat,
            handshake: dialling.handshake,
            peer_extensions: dialling.peer_extensions,
            rtt_us: 0,
            extensions: Extensions::default(),
        };
        Ok(Event::Elsewhere(Box::new(Elsewhere {
            dial,
            unproven: dialling.unproven,
        })))
    }

    /// Notes what may follow an introduction whose dialler has sent so many bytes with it: more
    /// bytes, and that one side waits for the other in vain.
    pub(super) fn follow(&mut self, introduced: Introduced, sent: usize, now: Instant) {
        let (_, dialler) = introduced.dialler;
        self.relays.expire(self.limits.relaying, now);
        self.relays
            .start(introduced.session, dialler, introduced.callee, sent, now);
        self.unsettled.expire(self.limits.relaying, now);
        self.unsettled.start(introduced, now);
    }
}
