//! The places of connections in the counts, from their first packet on, and the clients that have
//! proved who they are.

use std::{
    future::pending,
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use p2pconnect_host::clock;
use p2pconnect_link::Link;
use p2pconnect_proto::{
    PeerId, SessionToken,
    close::{self, Close},
    message::{Extensions, Refusal},
};
use p2pconnect_stun::TlsPlace;
use tracing::info;

use super::{
    counts::Handshake,
    farewell::{GOODBYE, back_after},
    lock::lock,
    notices::Notices,
    shared::{Room, Shared, Way, not_served},
};
use crate::registry::{Client, Command, ConnectionId, Event};

/// How a client is told that it is not let in.
#[derive(Debug)]
pub(super) struct TurnedAway {
    pub(super) close: Close,
    pub(super) words: String,
}

/// What is ready once a connection has to make room for another one.
pub(super) type Displaced = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A connection's place in the counts, given back when dropped.
#[derive(Debug)]
pub(super) struct Ticket {
    shared: Arc<Shared>,
    id: ConnectionId,
    source: IpAddr,
    /// How the handshake ends if nothing else comes.
    outcome: Handshake,
    is_tcp: bool,
    /// The place of one by TCP among those that STUN's servers have accepted.
    place: Option<Box<TlsPlace>>,
}

impl Ticket {
    pub(super) fn new(shared: Arc<Shared>, source: IpAddr) -> Self {
        lock(&shared.gate).enter(source);
        let id = ConnectionId(shared.next_connection.fetch_add(1, Ordering::Relaxed));
        Self {
            shared,
            id,
            source,
            outcome: Handshake::Failed,
            is_tcp: false,
            place: None,
        }
    }

    /// Returns the ticket of a connection by TCP.
    pub(super) fn of_tcp(shared: Arc<Shared>, source: IpAddr, place: Option<TlsPlace>) -> Self {
        shared.by_tcp.fetch_add(1, Ordering::Relaxed);
        let mut ticket = Self::new(shared, source);
        ticket.is_tcp = true;
        ticket.place = place.map(Box::new);
        ticket
    }

    pub(super) const fn id(&self) -> ConnectionId {
        self.id
    }

    /// Tells whether a peer is served only if it shows that it has been invited.
    pub(super) fn has_to_prove(&self, peer: &PeerId) -> bool {
        self.shared.has_to_prove(peer)
    }

    /// Returns a future that is ready once the connection has to make room for another one.
    pub(super) fn displaced(&mut self) -> Displaced {
        match &mut self.place {
            Some(place) => Box::pin(place.displaced()),
            None => Box::pin(pending()),
        }
    }

    /// Turns the place of a handshake into the place of a client that has proved who it is.
    ///
    /// # Errors
    ///
    /// It is none of those who are served, or comes too often. Its handshake counts as one that has
    /// failed then, so that it cannot come again and again.
    pub(super) fn admit(
        mut self,
        client: Client,
        notices: Notices,
    ) -> Result<ConnectedClient, TurnedAway> {
        let notices = Arc::new(notices);
        let shared = Arc::clone(&self.shared);
        // Whoever changes it finds the connection among the others, or this finds the change.
        let members = lock(&shared.members);
        if !members.serves(shared.applicant(&client.peer, notices.proof())) {
            drop(members);
            self.outcome = Handshake::NotServed;
            if shared.may_log(self.source) {
                info!(peer = %client.peer, "peer is not served");
            }
            return Err(TurnedAway {
                close: Close {
                    code: close::NOT_SERVED,
                    retry_after: None,
                },
                words: not_served(&client.peer),
            });
        }
        let arrived = lock(&shared.arrivals).take(client.peer, clock::now());
        if let Err(wait) = arrived {
            drop(members);
            self.outcome = Handshake::TooMany;
            if shared.may_log(self.source) {
                info!(peer = %client.peer, "peer connects too often");
            }
            return Err(TurnedAway {
                close: Close {
                    code: close::OVERLOADED,
                    retry_after: Some(wait),
                },
                words: "this peer id connects too often".to_owned(),
            });
        }
        lock(&shared.connections).insert(self.id, Arc::clone(&notices));
        drop(members);
        if shared.is_ending() {
            notices.link().close(back_after(Duration::ZERO), GOODBYE);
        }
        self.outcome = Handshake::Succeeded;
        shared.counts.handshake(self.outcome);
        lock(&shared.gate).handshake_over();
        Ok(ConnectedClient {
            client,
            notices,
            is_known: AtomicBool::new(false),
            is_new: AtomicBool::new(true),
            ticket: self,
        })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.is_tcp {
            self.shared.by_tcp.fetch_sub(1, Ordering::Relaxed);
        }
        let mut gate = lock(&self.shared.gate);
        if self.outcome == Handshake::Succeeded {
            gate.leave(self.source);
            return;
        }
        if self.is_tcp && self.outcome == Handshake::Failed {
            // Only QUIC keeps something of it.
            gate.handshake_over();
            gate.leave(self.source);
        } else {
            gate.handshake_failed(self.source, clock::now());
        }
        self.shared.counts.handshake(self.outcome);
    }
}

/// A client and its connection; dropping it forgets both.
#[derive(Debug)]
pub(super) struct ConnectedClient {
    pub(super) client: Client,
    pub(super) notices: Arc<Notices>,
    /// Whether the peer can be dialled, and an operator has been told so.
    is_known: AtomicBool,
    /// Whether the client has yet to register or to dial for the first time.
    is_new: AtomicBool,
    ticket: Ticket,
}

impl ConnectedClient {
    pub(super) fn link(&self) -> &Link {
        self.notices.link()
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.ticket.shared
    }

    /// Returns what all connections share, for tasks that outlive this one.
    pub(super) fn share(&self) -> Arc<Shared> {
        Arc::clone(&self.ticket.shared)
    }

    /// Tells whether somebody waits for this client.
    pub(super) fn is_awaited(&self) -> bool {
        self.shared().is_awaited(self.ticket.id)
    }

    /// Forgets that anybody waits for this client, and returns in which introductions somebody did,
    /// with the way to tell them.
    pub(super) fn give_up(&self) -> Vec<(SessionToken, Way)> {
        self.shared().give_up(self.ticket.id)
    }

    /// The same for those introductions alone that this client has asked for.
    pub(super) fn give_up_dials(&self) -> Vec<(SessionToken, Way)> {
        self.shared().give_up_dials(self.ticket.id)
    }

    /// Returns room for a request of this client, of no size yet.
    pub(super) fn room(&self) -> Room<'_> {
        self.shared().room(self.ticket.source)
    }

    /// Notes that the client has been heard of.
    pub(super) fn hear(&self) {
        self.notices.hear();
        if let Some(place) = &self.ticket.place {
            place.heard();
        }
    }

    /// Tells whether an operator is to be told of what this client has caused.
    pub(super) fn may_log(&self) -> bool {
        self.shared().may_log(self.ticket.source)
    }

    /// Notes that the client can be dialled, and says so the first time.
    pub(super) fn registered(&self) {
        if !self.is_known.swap(true, Ordering::Relaxed) && self.may_log() {
            info!(peer = %self.client.peer, "peer can be dialled");
        }
    }

    /// Tells whether there is room for what a client comes for, if it has just come.
    pub(super) fn welcome_request(&self, extensions: &Extensions) -> Result<(), Refusal> {
        if self.is_new.load(Ordering::Relaxed) {
            self.shared()
                .admit_newcomer(&self.client.peer, extensions)?;
            self.is_new.store(false, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Returns how long to wait before the next request of this client is read.
    pub(super) fn pace(&self) -> Duration {
        self.shared().pace(self.ticket.source)
    }
}

impl Drop for ConnectedClient {
    fn drop(&mut self) {
        let shared = &self.ticket.shared;
        lock(&shared.connections).remove(&self.ticket.id);
        shared.bulletin.forget(self.ticket.id);
        if let Some(nodes) = &shared.nodes {
            nodes.release(self.client.peer, self.ticket.id);
        }
        lock(&shared.arrived).remove(&self.ticket.id);
        let event = shared.command(&self.client, Command::Disconnect);
        let was_registered = matches!(
            event,
            Event::Disconnected {
                was_registered: true
            }
        );
        if was_registered && self.may_log() {
            info!(peer = %self.client.peer, "peer is gone");
        }
    }
}
