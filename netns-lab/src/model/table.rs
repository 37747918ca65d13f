//! The mappings of a box and their sessions.
//!
//! A mapping lives as long as one of its sessions. All maps are ordered, so that the same calls
//! always find the same things.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use p2pconnect_nat::{Dependence, NatSpec};

use super::{
    Side,
    session::{Session, SessionState},
};
use crate::packet::{Protocol, TcpFlags};

/// A mapping of an internal endpoint to an external one; the two are the same where nothing is
/// translated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    protocol: Protocol,
    internal: SocketAddr,
    external: SocketAddr,
    scope: Scope,
    sessions: BTreeMap<SocketAddr, Session>,
}

/// The remote endpoints that a mapping is for, as far as its behaviour looks at them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Scope {
    address: Option<IpAddr>,
    port: Option<u16>,
}

/// The number of a mapping; a later one is higher.
pub(super) type MappingId = u64;

/// A session of a mapping.
#[derive(Debug, Clone, Copy)]
pub(super) struct SessionKey {
    pub(super) mapping: MappingId,
    pub(super) remote: SocketAddr,
}

/// All mappings and sessions.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    mappings: BTreeMap<MappingId, Mapping>,
    by_internal: BTreeMap<(Protocol, SocketAddr, Scope), MappingId>,
    by_external: BTreeMap<(Protocol, SocketAddr), BTreeSet<MappingId>>,
    by_flow: BTreeMap<(Protocol, SocketAddr, SocketAddr), MappingId>,
    /// Every session, the first to expire in front.
    expiries: BTreeSet<(Duration, MappingId, SocketAddr)>,
    sessions_of_host: BTreeMap<IpAddr, usize>,
    next: MappingId,
}

impl Mapping {
    /// Returns its transport protocol.
    pub const fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Returns the endpoint of the host inside.
    pub const fn internal(&self) -> SocketAddr {
        self.internal
    }

    /// Returns the endpoint that the world sees.
    pub const fn external(&self) -> SocketAddr {
        self.external
    }

    /// Returns the remote endpoints that use it, and how far they have come.
    pub fn sessions(&self) -> impl Iterator<Item = (SocketAddr, SessionState)> {
        self.sessions
            .iter()
            .map(|(remote, session)| (*remote, session.state()))
    }

    /// Returns the same as [`Mapping::sessions`], and when each expires.
    pub(crate) fn expiries(&self) -> impl Iterator<Item = (SocketAddr, SessionState, Duration)> {
        self.sessions
            .iter()
            .map(|(remote, session)| (*remote, session.state(), session.expires))
    }

    /// Returns the state of its session with a remote endpoint.
    pub(super) fn session(&self, remote: SocketAddr) -> Option<SessionState> {
        self.sessions.get(&remote).map(Session::state)
    }

    /// Returns whether a remote endpoint may send to it (RFC 4787 section 5).
    pub(super) fn permits(&self, remote: SocketAddr, filtering: Dependence) -> bool {
        match filtering {
            Dependence::EndpointIndependent => true,
            Dependence::AddressDependent => {
                self.sessions.keys().any(|known| known.ip() == remote.ip())
            }
            Dependence::AddressAndPortDependent => self.sessions.contains_key(&remote),
        }
    }

    /// Returns when its last session expires.
    pub(super) fn expires(&self) -> Duration {
        let expiries = self.sessions.values().map(|session| session.expires);
        expiries.max().unwrap_or_default()
    }
}

impl Scope {
    /// Returns the scope of a mapping made for a packet to this remote endpoint.
    pub(super) fn of(mapping: Dependence, remote: SocketAddr) -> Self {
        let (address, port) = match mapping {
            Dependence::EndpointIndependent => (None, None),
            Dependence::AddressDependent => (Some(remote.ip()), None),
            Dependence::AddressAndPortDependent => (Some(remote.ip()), Some(remote.port())),
        };
        Self { address, port }
    }

    /// Returns the scope of a mapping for one remote endpoint.
    pub(super) fn exactly(remote: SocketAddr) -> Self {
        Self::of(Dependence::AddressAndPortDependent, remote)
    }
}

impl Table {
    pub(super) fn mappings(&self) -> impl Iterator<Item = &Mapping> {
        self.mappings.values()
    }

    pub(super) fn get(&self, id: MappingId) -> Option<&Mapping> {
        self.mappings.get(&id)
    }

    pub(super) fn sessions(&self) -> usize {
        self.expiries.len()
    }

    pub(super) fn sessions_of(&self, host: IpAddr) -> usize {
        self.sessions_of_host
            .get(&host)
            .copied()
            .unwrap_or_default()
    }

    /// Finds the mapping with a session between an internal and a remote endpoint.
    pub(super) fn by_flow(
        &self,
        protocol: Protocol,
        internal: SocketAddr,
        remote: SocketAddr,
    ) -> Option<MappingId> {
        self.by_flow.get(&(protocol, internal, remote)).copied()
    }

    /// Finds the mapping of an internal endpoint for a scope.
    pub(super) fn by_scope(
        &self,
        protocol: Protocol,
        internal: SocketAddr,
        scope: Scope,
    ) -> Option<MappingId> {
        self.by_internal.get(&(protocol, internal, scope)).copied()
    }

    /// Returns the mappings that have an external endpoint: several with port overloading.
    pub(super) fn at_external(
        &self,
        protocol: Protocol,
        external: SocketAddr,
    ) -> impl Iterator<Item = (MappingId, &Mapping)> {
        let ids = self.by_external.get(&(protocol, external));
        ids.into_iter()
            .flatten()
            .filter_map(|id| self.mappings.get(id).map(|mapping| (*id, mapping)))
    }

    /// Returns whether some mapping has an external endpoint.
    pub(super) fn is_taken(&self, protocol: Protocol, external: SocketAddr) -> bool {
        self.by_external.contains_key(&(protocol, external))
    }

    /// Adds a mapping, which must get a session at once.
    pub(super) fn add_mapping(
        &mut self,
        protocol: Protocol,
        internal: SocketAddr,
        external: SocketAddr,
        scope: Scope,
    ) -> MappingId {
        let id = self.next;
        self.next += 1;
        self.by_internal.insert((protocol, internal, scope), id);
        let ids = self.by_external.entry((protocol, external)).or_default();
        ids.insert(id);
        let mapping = Mapping {
            protocol,
            internal,
            external,
            scope,
            sessions: BTreeMap::new(),
        };
        self.mappings.insert(id, mapping);
        id
    }

    /// Adds a session that lasts until `expires` at least.
    pub(super) fn add_session(
        &mut self,
        id: MappingId,
        remote: SocketAddr,
        flags: TcpFlags,
        expires: Duration,
    ) {
        let Some(mapping) = self.mappings.get_mut(&id) else {
            return;
        };
        let session = Session::new(mapping.protocol, flags, expires);
        mapping.sessions.insert(remote, session);
        let flow = (mapping.protocol, mapping.internal, remote);
        self.by_flow.entry(flow).or_insert(id);
        self.expiries.insert((expires, id, remote));
        let host = self.sessions_of_host.entry(mapping.internal.ip());
        *host.or_default() += 1;
    }

    /// Lets a session see a packet, and removes it if that ends it.
    pub(super) fn see(
        &mut self,
        now: Duration,
        session: SessionKey,
        from: Side,
        flags: TcpFlags,
        spec: &NatSpec,
    ) {
        let SessionKey {
            mapping: id,
            remote,
        } = session;
        let mapping = self.mappings.get_mut(&id);
        let Some(session) = mapping.and_then(|mapping| mapping.sessions.get_mut(&remote)) else {
            return;
        };
        let before = session.expires;
        if session.see(now, from, flags, spec) {
            let after = session.expires;
            self.expiries.remove(&(before, id, remote));
            self.expiries.insert((after, id, remote));
        } else {
            self.remove_session(id, remote);
        }
    }

    /// Removes what has expired.
    pub(super) fn expire(&mut self, now: Duration) {
        while let Some((expires, id, remote)) = self.expiries.first().copied() {
            if expires > now {
                return;
            }
            self.remove_session(id, remote);
        }
    }

    /// Removes the session that would expire first, of one host or of all.
    pub(super) fn evict(&mut self, host: Option<IpAddr>) {
        let of_host = |id: &MappingId| {
            let internal = self.mappings.get(id).map(|mapping| mapping.internal.ip());
            host.is_none() || internal == host
        };
        let found = self.expiries.iter().find(|(_, id, _)| of_host(id));
        if let Some((_, id, remote)) = found.copied() {
            self.remove_session(id, remote);
        }
    }

    fn remove_session(&mut self, id: MappingId, remote: SocketAddr) {
        let Some(mapping) = self.mappings.get_mut(&id) else {
            return;
        };
        let Some(session) = mapping.sessions.remove(&remote) else {
            return;
        };
        self.expiries.remove(&(session.expires, id, remote));
        let flow = (mapping.protocol, mapping.internal, remote);
        if self.by_flow.get(&flow) == Some(&id) {
            self.by_flow.remove(&flow);
        }
        let host = mapping.internal.ip();
        let unused = mapping.sessions.is_empty();
        if let Some(count) = self.sessions_of_host.get_mut(&host) {
            *count -= 1;
            if *count == 0 {
                self.sessions_of_host.remove(&host);
            }
        }
        if unused {
            self.remove_mapping(id);
        }
    }

    fn remove_mapping(&mut self, id: MappingId) {
        let Some(mapping) = self.mappings.remove(&id) else {
            return;
        };
        let internal = (mapping.protocol, mapping.internal, mapping.scope);
        if self.by_internal.get(&internal) == Some(&id) {
            self.by_internal.remove(&internal);
        }
        let external = (mapping.protocol, mapping.external);
        if let Some(ids) = self.by_external.get_mut(&external) {
            ids.remove(&id);
            if ids.is_empty() {
                self.by_external.remove(&external);
            }
        }
    }
}
