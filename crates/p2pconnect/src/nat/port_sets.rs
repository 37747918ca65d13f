//! Further punch ports, for more connections to one peer than two ports have room for.
//!
//! Two ports here and two there make four pairs, and each pair has room for one connection. Whoever
//! dials the same peer once more does so from two ports of its own, with mappings of their own, as
//! another endpoint would. The peer need not know: it connects to the candidates that it is told.
//! The ports are let go with the last connection that was dialled from them.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Instant,
};

use p2pconnect_proto::PeerId;
use tokio::{net::TcpListener, time::timeout_at};

use crate::{
    DialError,
    machine::{nat64::Nat64, punch_ports::PunchPorts, task::AbortOnDrop},
    nat::{
        behaviour::Behaviour,
        mappings::{Claims, Mapped, Mappings},
    },
    status::Observer,
};

/// How many connections to one peer there is room for on two punch ports, if it has two as well.
const ROOM: usize = 4;

/// How many times further ports are opened: with each go two listeners and two connections to every
/// STUN server. There is room for 68 connections to one peer then.
const MAX_MORE: usize = 16;

/// All punch ports of an endpoint, and which connections use them.
#[derive(Debug, Default)]
pub(crate) struct PortSets {
    first: Arc<Used>,
    more: Mutex<Vec<Weak<PortSet>>>,
}

/// Accepts connections on a punch port for as long as what it returns exists.
pub(crate) type Accept = dyn Fn(TcpListener) -> AbortOnDrop + Send + Sync;

/// What further punch ports are opened with.
pub(crate) struct Opening {
    pub(crate) id: PeerId,
    pub(crate) accept: Box<Accept>,
    /// Those of the first ports: the same servers are asked.
    pub(crate) mappings: Arc<Mappings>,
    pub(crate) nat64: Arc<Nat64>,
}

/// How many connections to which peer there are, or are being made, on the same two ports.
#[derive(Debug, Default)]
struct Used(Mutex<BTreeMap<PeerId, usize>>);

/// Two further punch ports.
#[derive(Debug)]
struct PortSet {
    used: Arc<Used>,
    ports: PunchPorts,
    mappings: Mappings,
    _accepting: Vec<AbortOnDrop>,
}

/// The room for one connection. It is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    used: Arc<Used>,
    peer: PeerId,
    more: Option<Arc<PortSet>>,
}

impl PortSets {
    /// Takes a place for a connection that somebody else dials, on ports of their choice.
    pub(crate) fn answer(&self, peer: PeerId) -> Place {
        self.first.take(peer, usize::MAX);
        Place {
            used: Arc::clone(&self.first),
            peer,
            more: None,
        }
    }

    /// Takes a place for a connection to a peer, on further ports if need be.
    ///
    /// Cancel safe.
    pub(crate) async fn take(
        &self,
        peer: PeerId,
        deadline: Instant,
        opening: &Opening,
    ) -> Result<Place, DialError> {
        if let Some(place) = self.find(peer) {
            return Ok(place);
        }
        let more = Arc::new(opening.open().map_err(DialError::Ports)?);
        let is_room = self.with_more(|all| {
            all.retain(|it| it.strong_count() > 0);
            let is_room = all.len() < MAX_MORE;
            if is_room {
                all.push(Arc::downgrade(&more));
            }
            is_room
        });
        if !is_room {
            return Err(DialError::TooManyConnections);
        }
        tracing::debug!(peer = %peer.short(), "further punch ports opened");
        more.used.take(peer, usize::MAX);
        let place = Place {
            used: Arc::clone(&more.used),
            peer,
            more: Some(Arc::clone(&more)),
        };
        match timeout_at(deadline.into(), more.mappings.first()).await {
            Ok(Ok(())) => Ok(place),
            // The peer may be near enough to be reached without.
            Ok(Err(failure)) => {
                tracing::debug!(server = %failure.server, error = %failure.error, "no mapping");
                Ok(place)
            }
            Err(_) => Err(DialError::TimedOut),
        }
    }

    /// Finds room for one more connection on the ports that are open.
    fn find(&self, peer: PeerId) -> Option<Place> {
        let place = |used: &Arc<Used>, more| {
            used.take(peer, ROOM).then(|| Place {
                used: Arc::clone(used),
                peer,
                more,
            })
        };
        place(&self.first, None).or_else(|| {
            self.with_more(|all| {
                let mut open = all.iter().filter_map(Weak::upgrade);
                open.find_map(|more| place(&Arc::clone(&more.used), Some(more)))
            })
        })
    }

    fn with_more<T>(&self, use_more: impl FnOnce(&mut Vec<Weak<PortSet>>) -> T) -> T {
        use_more(&mut self.more.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opening")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Opening {
    fn open(&self) -> std::io::Result<PortSet> {
        let (ports, listeners) = PunchPorts::open()?;
        let accepting = listeners.into_iter().map(&self.accept).collect();
        // What these ports add to the first two is no news to whoever observes.
        let (observer, behaviour) = (Observer::none(), Arc::new(Behaviour::new()));
        let nat64 = Arc::clone(&self.nat64);
        let mappings = Mappings::new(ports.clone(), &self.id, observer, behaviour, nat64);
        for mapped in self.mappings.known() {
            mappings.start(mapped.server);
        }
        mappings.complete(Vec::new());
        Ok(PortSet {
            used: Arc::default(),
            ports,
            mappings,
            _accepting: accepting,
        })
    }
}

impl Place {
    /// Returns the ports to connect from, if they are not the first ones.
    pub(crate) fn ports(&self) -> Option<&PunchPorts> {
        self.more.as_ref().map(|more| &more.ports)
    }

    /// Returns the ports to be connected to, if they are not the first ones, with their mappings.
    pub(crate) fn further(&self) -> Option<(&PunchPorts, Vec<Mapped>)> {
        let more = self.more.as_ref()?;
        Some((&more.ports, more.mappings.known()))
    }

    /// Returns how their mappings become known.
    pub(crate) fn mappings(&self) -> Option<&Mappings> {
        self.more.as_ref().map(|more| &more.mappings)
    }

    /// Returns what else will be known of them.
    pub(crate) fn claims(&self) -> Option<Claims> {
        self.more.as_ref().map(|more| more.mappings.claims())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.used.give_back(self.peer);
    }
}

impl Used {
    /// Counts one more connection, unless there are so many.
    fn take(&self, peer: PeerId, room: usize) -> bool {
        self.with(|used| {
            let count = used.entry(peer).or_insert(0);
            let is_room = *count < room;
            *count += usize::from(is_room);
            is_room
        })
    }

    fn give_back(&self, peer: PeerId) {
        self.with(|used| {
            if let Some(count) = used.get_mut(&peer) {
                *count -= 1;
                if *count == 0 {
                    used.remove(&peer);
                }
            }
        });
    }

    fn with<T>(&self, use_counts: impl FnOnce(&mut BTreeMap<PeerId, usize>) -> T) -> T {
        use_counts(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use super::*;

    const PEER: PeerId = PeerId::from_public_key([1; 32]);

    #[test]
    fn a_place_is_free_again_when_its_connection_ends() {
        let port_sets = PortSets::default();
        let mut taken: Vec<_> = (0..ROOM).map(|_| port_sets.find(PEER).unwrap()).collect();
        assert!(port_sets.find(PEER).is_none());
        assert!(port_sets.find(PeerId::from_public_key([2; 32])).is_some());
        taken.pop();
        taken.push(port_sets.find(PEER).unwrap());
        drop(taken);
        assert!(port_sets.first.with(|used| used.is_empty()));
    }

    #[test]
    fn what_others_dial_takes_room_too_and_is_never_turned_away() {
        let port_sets = PortSets::default();
        let answered: Vec<_> = (0..=ROOM).map(|_| port_sets.answer(PEER)).collect();
        assert!(port_sets.find(PEER).is_none());
        drop(answered);
        assert!(port_sets.find(PEER).is_some());
    }
}
