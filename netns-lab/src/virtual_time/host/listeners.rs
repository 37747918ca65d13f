//! The listeners of a host, and the connections that they keep.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
};

use super::udp::unspecified;
use crate::virtual_time::socket::{SocketError, TcpOptions};

/// The longest queue of connections to be accepted: Linux's `net.core.somaxconn`.
pub(super) const MAX_BACKLOG: usize = 4096;

/// Half-open connections that a listener keeps: as many as it lets wait at most.
const MAX_HALF_OPEN: usize = MAX_BACKLOG;

/// The listeners of a host.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    all: BTreeMap<u64, Listener>,
    bound: BTreeMap<SocketAddr, u64>,
}

/// A listener.
#[derive(Debug)]
pub(super) struct Listener {
    /// Where it listens: at one address, or at all of one family or of both.
    locals: Vec<SocketAddr>,
    backlog: usize,
    /// What its connections ask for.
    pub(super) options: TcpOptions,
    half_open: BTreeSet<u64>,
    queue: VecDeque<u64>,
    /// Whose SYNs it does not hear.
    left_out: BTreeSet<SocketAddr>,
}

impl Listeners {
    pub(super) fn insert(
        &mut self,
        number: u64,
        locals: &[SocketAddr],
        backlog: usize,
    ) -> Result<(), SocketError> {
        if locals.iter().any(|local| self.bound.contains_key(local)) {
            return Err(SocketError::AddressInUse);
        }
        self.bound
            .extend(locals.iter().map(|local| (*local, number)));
        let listener = Listener {
            locals: locals.to_vec(),
            backlog: backlog.min(MAX_BACKLOG),
            options: TcpOptions::default(),
            half_open: BTreeSet::new(),
            queue: VecDeque::new(),
            left_out: BTreeSet::new(),
        };
        self.all.insert(number, listener);
        Ok(())
    }

    /// Closes a listener, and returns the connections that it kept, the oldest first.
    pub(super) fn remove(&mut self, number: u64) -> Option<BTreeSet<u64>> {
        let listener = self.all.remove(&number)?;
        for local in &listener.locals {
            self.bound.remove(local);
        }
        let mut kept = listener.half_open;
        kept.extend(listener.queue);
        Some(kept)
    }

    /// Returns where they listen.
    pub(super) fn locals(&self) -> impl Iterator<Item = SocketAddr> {
        self.bound.keys().copied()
    }

    pub(super) fn numbers(&self) -> impl Iterator<Item = &u64> {
        self.all.keys()
    }

    pub(super) fn get(&self, number: u64) -> Result<&Listener, SocketError> {
        self.all.get(&number).ok_or(SocketError::UnknownSocket)
    }

    pub(super) fn get_mut(&mut self, number: u64) -> Result<&mut Listener, SocketError> {
        self.all.get_mut(&number).ok_or(SocketError::UnknownSocket)
    }

    /// Returns the listener that hears a SYN, if any: one at the very address, or else one at all
    /// addresses.
    pub(super) fn hearing(&self, local: SocketAddr, from: SocketAddr) -> Option<u64> {
        let (number, listener) = self.at(local)?;
        (!listener.left_out.contains(&from)).then_some(number)
    }

    /// Returns whether the listener that would hear a SYN leaves its sender out.
    pub(super) fn leaves_out(&self, local: SocketAddr, from: SocketAddr) -> bool {
        let listener = self.at(local);
        listener.is_some_and(|(_, listener)| listener.left_out.contains(&from))
    }

    fn at(&self, local: SocketAddr) -> Option<(u64, &Listener)> {
        let anywhere = SocketAddr::new(unspecified(local.ip()), local.port());
        let number = self
            .bound
            .get(&local)
            .or_else(|| self.bound.get(&anywhere))?;
        Some((*number, self.all.get(number)?))
    }
}

impl Listener {
    /// Returns where it listens; of both families it names IPv4.
    pub(super) fn local(&self) -> Option<SocketAddr> {
        self.locals.first().copied()
    }

    pub(super) fn leave_out(&mut self, remotes: BTreeSet<SocketAddr>) {
        self.left_out = remotes;
    }

    /// Returns whether the queue has no room, as Linux counts: it takes one more than it was told.
    pub(super) fn is_full(&self) -> bool {
        self.queue.len() > self.backlog
    }

    /// Returns whether it takes one more half-open connection.
    pub(super) fn has_room_for_syn(&self) -> bool {
        !self.is_full() && self.half_open.len() < MAX_HALF_OPEN
    }

    pub(super) fn hold(&mut self, connection: u64) {
        self.half_open.insert(connection);
    }

    /// Forgets a half-open connection.
    pub(super) fn release(&mut self, connection: u64) {
        self.half_open.remove(&connection);
    }

    /// Moves a connection that is established into the queue.
    pub(super) fn enqueue(&mut self, connection: u64) {
        self.half_open.remove(&connection);
        self.queue.push_back(connection);
    }

    /// Takes the oldest connection out of the queue.
    pub(super) fn accept(&mut self) -> Option<u64> {
        self.queue.pop_front()
    }
}
