//! Introductions whose two sides are at two coordinators.

use p2pconnect_proto::{
    Candidate, PeerId, SessionToken,
    message::{MAX_HANDSHAKE, RefusalReason},
    nodes::{NodeId, RemoteDial, RemoteSettled},
};

use super::{
    Client, ConnectionId, Event, Moment, Place, Registry, dialling::Dialling, refuse_too_much,
    refuse_unknown, unsettled::Introduced,
};

/// A dial that others were asked about.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// The name of the introduction.
    pub session: SessionToken,
    /// Who dials.
    pub client: Client,
    /// Whom it dials.
    pub callee: PeerId,
    /// How many bytes of a handshake went with it.
    pub sent: usize,
}

impl Registry {
    /// Introduces a peer that is at another node to one that is here.
    ///
    /// What its node says of its addresses is believed, as far as it makes sense: that node has
    /// judged what proves them.
    pub fn introduce_from(&mut self, node: NodeId, dial: RemoteDial, now: Moment) -> Event {
        let callee = dial.callee;
        let dialling = self.dialling_from(node, dial);
        let met = dialling.and_then(|it| self.meet(callee, it, now).map_err(|it| it.reason));
        met.unwrap_or_else(|reason| Event::Refused(reason.into()))
    }

    fn dialling_from(&self, node: NodeId, dial: RemoteDial) -> Result<Dialling, RefusalReason> {
        refuse_too_much(&dial.candidates, &dial.peer_extensions)?;
        refuse_unknown(&dial.extensions)?;
        if dial.handshake.len() > MAX_HANDSHAKE {
            return Err(RefusalReason::TooLarge);
        }
        // What is repeated introduces nobody again.
        if self.relays.knows(dial.session) {
            return Err(RefusalReason::Other);
        }
        let candidates = dial.candidates.into_iter();
        let candidates = candidates.filter(Candidate::is_well_formed);
        Ok(Dialling {
            session: dial.session,
            dialler: dial.dialler,
            from: Place::There(node),
            seen: dial.seen,
            is_registered: dial.is_registered,
            candidates: candidates.collect(),
            witnessed: dial.witnessed.into(),
            nat: dial.nat.well_formed(),
            handshake: dial.handshake,
            peer_extensions: dial.peer_extensions,
            unproven: Vec::new(),
        })
    }

    /// Notes what has come of a dial that others were asked about: at which node the callee is told
    /// of it, if that is so.
    pub fn answered(&mut self, asked: &Asked, by: Option<NodeId>, now: Moment) {
        let (dialler, callee) = (asked.client.peer, asked.callee);
        let Some(node) = by else {
            return self.in_flight.cancel(dialler, callee, asked.session);
        };
        let (from, to) = (Place::Here(asked.client.connection), Place::There(node));
        self.in_flight.found(dialler, callee, asked.session, to);
        let introduced = Introduced {
            session: asked.session,
            dialler: (dialler, from),
            callee: to,
        };
        self.follow(introduced, asked.sent, now.monotonic);
    }

    /// Finds out which connection bytes of a handshake go to that have come from another node.
    ///
    /// # Errors
    ///
    /// [`RefusalReason`] where they go nowhere.
    pub fn relay_from(
        &mut self,
        node: NodeId,
        session: SessionToken,
        bytes: usize,
        now: Moment,
    ) -> Result<ConnectionId, RefusalReason> {
        self.relays.expire(self.limits.relaying, now.monotonic);
        match self.relays.pass(session, Place::There(node), bytes)? {
            Place::Here(connection) => Ok(connection),
            Place::There(_) => Err(RefusalReason::Unavailable),
        }
    }

    /// Notes that a node's side of an introduction is not heard of any more. Returns the connection
    /// of the side that is here.
    pub fn silent_from(&mut self, node: NodeId, session: SessionToken) -> Option<ConnectionId> {
        let here = self.side_here(node, session)?;
        self.unsettled.forget_one(session, here);
        Some(here)
    }

    /// Notes that a callee at another node is done with an introduction.
    pub fn settled_from(&mut self, node: NodeId, settled: &RemoteSettled) {
        let RemoteSettled {
            session,
            dialler,
            callee,
        } = *settled;
        if let Some(here) = self.side_here(node, session) {
            self.unsettled.forget_one(session, here);
            self.in_flight.cancel(dialler, callee, session);
        }
    }

    fn side_here(&self, node: NodeId, session: SessionToken) -> Option<ConnectionId> {
        match self.relays.other_side(session, Place::There(node))? {
            Place::Here(connection) => Some(connection),
            Place::There(_) => None,
        }
    }

    /// Forgets the registration of a peer over this connection, as it has registered elsewhere.
    pub fn withdraw(&mut self, peer: PeerId, connection: ConnectionId) {
        let registered = self.peers.get(&peer);
        if registered.is_some_and(|it| it.client.connection == connection) {
            self.peers.remove(&peer);
            self.superseded.insert(connection);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, time::Instant};

    use p2pconnect_proto::{
        NatReport, PunchPort, TokenKey,
        message::{DialPolicy, DialRequest, Extensions, MAX_CANDIDATES, Registration},
    };

    use super::*;
    use crate::registry::{Command, Elsewhere, Limits, Meeting};

    const THERE: NodeId = NodeId::from_bytes([9; 16]);
    const SESSION: SessionToken = SessionToken::from_bytes([7; 16]);

    fn peer(n: u8) -> PeerId {
        PeerId::from_public_key([n; 32])
    }

    fn client(n: u8) -> Client {
        Client {
            peer: peer(n),
            connection: ConnectionId(n.into()),
            seen: ([192, 0, 2, n], 4433).into(),
        }
    }

    fn now() -> Moment {
        Moment {
            monotonic: Instant::now(),
            unix_secs: 0,
        }
    }

    /// Returns a coordinator at which one peer, of number 2, is registered.
    fn with_callee() -> Registry {
        let mut registry = Registry::new(Limits::default(), TokenKey::from_bytes([0; 32]));
        registry.expect_others();
        let registration = Registration::new(DialPolicy::Only(vec![peer(1)]));
        registry.handle_command(&client(2), Command::Register(registration), now());
        registry
    }

    fn dial(dialler: u8, candidates: Vec<Candidate>) -> RemoteDial {
        RemoteDial {
            session: SESSION,
            dialler: peer(dialler),
            seen: ([192, 0, 2, 1], 4433).into(),
            is_registered: false,
            callee: peer(2),
            candidates,
            witnessed: 0,
            nat: NatReport::default(),
            handshake: Vec::new(),
            peer_extensions: Vec::new(),
            rtt_us: 0,
            extensions: Extensions::default(),
        }
    }

    fn meeting(event: Event) -> Meeting {
        match event {
            Event::Meet(meeting) => *meeting,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_dialler_elsewhere_is_judged_by_the_callees_policy() {
        let mut registry = with_callee();
        let refused = registry.introduce_from(THERE, dial(3, Vec::new()), now());
        assert_eq!(refused, Event::Refused(RefusalReason::Unavailable.into()));
        let met = meeting(registry.introduce_from(THERE, dial(1, Vec::new()), now()));
        assert_eq!(met.dialler.place, Place::There(THERE));
        assert_eq!(met.callee.place, Place::Here(client(2).connection));
    }

    #[test]
    fn an_introduction_that_is_repeated_introduces_nobody() {
        let mut registry = with_callee();
        meeting(registry.introduce_from(THERE, dial(1, Vec::new()), now()));
        let again = registry.introduce_from(THERE, dial(1, Vec::new()), now());
        assert_eq!(again, Event::Refused(RefusalReason::Other.into()));
    }

    #[test]
    fn what_another_node_says_of_a_dialler_is_cut_to_what_a_peer_can_mean() {
        let host = |address: SocketAddr| Candidate::host(address, PunchPort::PRIMARY);
        let good = host(([192, 0, 2, 1], 5000).into());
        let wrong = [
            ([127, 0, 0, 1], 5000),
            ([192, 0, 2, 1], 0),
            ([224, 0, 0, 1], 5),
        ];
        let wrong = wrong.map(|it| host(it.into()));
        let mut registry = with_callee();
        let all = wrong.into_iter().chain([good.clone()]).collect();
        let met = meeting(registry.introduce_from(THERE, dial(1, all), now()));
        assert_eq!(met.dialler.candidates, std::slice::from_ref(&good));
        let many = vec![good; MAX_CANDIDATES + 1];
        let refused = registry.introduce_from(THERE, dial(1, many), now());
        assert_eq!(refused, Event::Refused(RefusalReason::TooLarge.into()));
    }

    #[test]
    fn only_the_node_of_the_other_side_says_something_of_an_introduction() {
        let mut registry = with_callee();
        meeting(registry.introduce_from(THERE, dial(1, Vec::new()), now()));
        let another = NodeId::from_bytes([8; 16]);
        let settled = RemoteSettled {
            session: SESSION,
            dialler: peer(1),
            callee: peer(2),
        };
        let callee = client(2).connection;
        let relayed = registry.relay_from(another, SESSION, 10, now());
        assert_eq!(relayed, Err(RefusalReason::Unavailable));
        assert_eq!(registry.silent_from(another, SESSION), None);
        registry.settled_from(another, &settled);
        assert!(registry.is_awaited(callee, Instant::now()));
        assert_eq!(registry.relay_from(THERE, SESSION, 10, now()), Ok(callee));
        assert_eq!(registry.silent_from(THERE, SESSION), Some(callee));
        assert!(!registry.is_awaited(callee, Instant::now()));
    }

    #[test]
    fn who_is_not_here_is_asked_for_and_what_comes_of_that_is_noted() {
        for by in [None, Some(THERE)] {
            let mut registry = with_callee();
            let command = || Command::Dial {
                request: DialRequest::new(peer(5)),
                witnessed: Vec::new(),
                session: SESSION,
            };
            let asked = registry.handle_command(&client(1), command(), now());
            let Event::Elsewhere(elsewhere) = asked else {
                panic!("{asked:?}");
            };
            let Elsewhere { dial, .. } = *elsewhere;
            assert_eq!((dial.dialler, dial.callee), (peer(1), peer(5)));
            assert!(!dial.is_registered);
            let asked = Asked {
                session: SESSION,
                client: client(1),
                callee: peer(5),
                sent: 0,
            };
            registry.answered(&asked, by, now());
            let waits = registry.is_awaited(client(1).connection, Instant::now());
            assert_eq!(waits, by.is_some());
            let settled = RemoteSettled {
                session: SESSION,
                dialler: peer(1),
                callee: peer(5),
            };
            registry.settled_from(THERE, &settled);
            assert!(!registry.is_awaited(client(1).connection, Instant::now()));
        }
    }

    #[test]
    fn a_registration_that_is_withdrawn_is_that_of_one_connection() {
        let mut registry = with_callee();
        registry.withdraw(peer(2), ConnectionId(77));
        assert_eq!(registry.registered_count(), 1);
        registry.withdraw(peer(2), client(2).connection);
        assert_eq!(registry.registered_count(), 0);
        let late = Command::Register(Registration::new(DialPolicy::Anyone));
        let event = registry.handle_command(&client(2), late, now());
        assert_eq!(event, Event::Superseded);
        assert_eq!(registry.registered_count(), 0);
    }
}
