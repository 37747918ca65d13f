//! Further punch ports, for more connections to one peer than two ports have room for.
//!
//! Two ports here and two there make four pairs, and each pair has room for one connection. Whoever
//! dials the same peer once more does so from two ports of its own, with mappings of their own, as
//! another endpoint would. The peer need not know: it connects to the candidates that it is told.
//! The ports are let go with the last connection that was dialled from them.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, Weak},
    time::Instant,
};

use p2pconnect_host::{Host, TcpListener};
use p2pconnect_proto::PeerId;
use tokio::time::timeout_at;

use crate::{
    DialError,
    machine::{nat64::Nat64, punch_ports::PunchPorts, task::AbortOnDrop},
    nat::{
        behaviour::Behaviour,
        mappings::{Claims, Mapped, Mappings},
    },
    status::Observer,
    sync::lock,
};

/// How many connections to one peer there is room for on two punch ports, if it has two as well.
const ROOM: usize = 4;

/// How many times further ports are opened: with each go two listeners and two connections to every
/// STUN server. There is room for 68 connections to one peer then.
const MAX_MORE: usize = 16;

/// All punch ports of an endpoint, and which connections use them.
#[derive(Debug, Default)]
pub(crate) struct PortSets {
    first: Arc<PairCount>,
    more: Mutex<Vec<Weak<PortSet>>>,
}

/// Accepts connections on a punch port for as long as what it returns exists.
pub(crate) type Accept = dyn Fn(TcpListener) -> AbortOnDrop + Send + Sync;

/// What further punch ports are opened with.
pub(crate) struct PortSetOpener {
    pub(crate) host: Host,
    pub(crate) id: PeerId,
    pub(crate) accept: Box<Accept>,
    /// Those of the first ports: the same servers are asked.
    pub(crate) mappings: Arc<Mappings>,
    pub(crate) nat64: Arc<Nat64>,
}

/// How many connections to each peer there are, or are being made, on the same two ports.
#[derive(Debug, Default)]
struct PairCount(Mutex<BTreeMap<PeerId, usize>>);

/// Two further punch ports.
#[derive(Debug)]
struct PortSet {
    used: Arc<PairCount>,
    ports: PunchPorts,
    mappings: Mappings,
    _accepting: Vec<AbortOnDrop>,
}

/// The use of a port set by one connection to a peer. Ends when this is dropped.
#[derive(Debug)]
pub(crate) struct PortSetLease {
    used: Arc<PairCount>,
    peer: PeerId,
    more: Option<Arc<PortSet>>,
}

impl PortSets {
    /// Leases the first port set for a connection that a peer has dialled, on pairs of the peer's
    /// choice.
    pub(crate) fn answer(&self, peer: PeerId) -> PortSetLease {
        self.first.take(peer, usize::MAX);
        PortSetLease {
            used: Arc::clone(&self.first),
            peer,
            more: None,
        }
    }

    /// Leases a port set for a connection to a peer; opens further ports if there is no room on
    /// those that are open.
    ///
    /// Cancel safe.
    pub(crate) async fn take(
        &self,
        peer: PeerId,
        deadline: Instant,
        opener: &PortSetOpener,
    ) -> Result<PortSetLease, DialError> {
        if let Some(lease) = self.find(peer) {
            return Ok(lease);
        }
        let more = Arc::new(opener.open().map_err(DialError::Ports)?);
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
        let lease = PortSetLease {
            used: Arc::clone(&more.used),
            peer,
            more: Some(Arc::clone(&more)),
        };
        match timeout_at(deadline.into(), more.mappings.first()).await {
            Ok(Ok(())) => Ok(lease),
            // The peer may be near enough to be reached without.
            Ok(Err(failure)) => {
                tracing::debug!(server = %failure.server, error = %failure.error, "no mapping");
                Ok(lease)
            }
            Err(_) => Err(DialError::TimedOut),
        }
    }

    /// Finds room for one more connection on the ports that are open.
    fn find(&self, peer: PeerId) -> Option<PortSetLease> {
        let lease = |used: &Arc<PairCount>, more| {
            used.take(peer, ROOM).then(|| PortSetLease {
                used: Arc::clone(used),
                peer,
                more,
            })
        };
        lease(&self.first, None).or_else(|| {
            self.with_more(|all| {
                let mut open = all.iter().filter_map(Weak::upgrade);
                open.find_map(|more| lease(&Arc::clone(&more.used), Some(more)))
            })
        })
    }

    fn with_more<T>(&self, use_more: impl FnOnce(&mut Vec<Weak<PortSet>>) -> T) -> T {
        use_more(&mut lock(&self.more))
    }
}

impl fmt::Debug for PortSetOpener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PortSetOpener")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl PortSetOpener {
    fn open(&self) -> std::io::Result<PortSet> {
        let (ports, listeners) = PunchPorts::open(&self.host)?;
        let accepting = listeners.into_iter().map(&self.accept).collect();
        // What these ports add to the first two is no news to whoever observes.
        let (observer, behaviour) = (
            Observer::none(),
            Arc::new(Behaviour::new(self.host.clone())),
        );
        let nat64 = Arc::clone(&self.nat64);
        let mappings = Mappings::new(
            &self.host,
            ports.clone(),
            &self.id,
            observer,
            behaviour,
            nat64,
        );
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

impl PortSetLease {
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

impl Drop for PortSetLease {
    fn drop(&mut self) {
        self.used.give_back(self.peer);
    }
}

impl PairCount {
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
        use_counts(&mut lock(&self.0))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use super::*;

    const PEER: PeerId = PeerId::from_public_key([1; 32]);

    #[test]
    fn a_lease_ends_with_its_connection() {
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
