//! Which servers are asked, and what they tell.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use p2pconnect_proto::{Candidate, PunchPort, message::MAX_STUN_SERVERS};
use p2pconnect_stun::MappingError;

use super::{Failure, Mapped, unproven_backoff::UnprovenBackoff};
use crate::nat::network::Network;

/// The most STUN servers of one address family that are asked at a time. A second one shows whether
/// the NAT's mapping depends on the destination; more would show the same.
const MAX_SERVERS_PER_FAMILY: usize = 2;

/// The most servers that are remembered: those that a coordinator names, for mappings and for
/// comparison, the guess that there is one beside it, in each family, and its WebSocket there.
const MAX_SERVERS: usize = 2 * MAX_STUN_SERVERS + 4;

/// What a mapping is of: a punch port, as a server sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) punch_port: PunchPort,
    pub(super) server: SocketAddr,
}

/// What is known of each punch port's mapping at each server.
#[derive(Debug, Default)]
pub(super) struct Table {
    slots: BTreeMap<Key, Slot>,
    /// The servers in the order in which they were named.
    servers: Vec<SocketAddr>,
    /// Those among them that are asked only while the others tell nothing.
    fallbacks: Vec<SocketAddr>,
    /// What servers tell that are asked over another route than their own.
    elsewhere: BTreeMap<Key, Mapped>,
    unproven_backoff: UnprovenBackoff,
    /// Whether every server that there is has been named.
    pub(super) complete: bool,
    /// Whether others will be asked if those that were named do not answer.
    pub(super) may_fall_back: bool,
}

/// What follows from a registration that has not proved all mappings.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unproven {
    /// Whether a mapping is unproven that was not before.
    pub(super) is_new: bool,
    /// Whether there is a token by now that the coordinator should be told of.
    pub(super) is_news: bool,
}

#[derive(Debug)]
pub(super) enum Slot {
    /// It will be asked when one of those that were named before has failed or is lost.
    Waiting,
    Asking,
    Failed(MappingError),
    /// It failed, and is asked again.
    Retrying(MappingError),
    Held(Mapped),
    /// It has answered, and comes back no more. It is tried on, and what it told may still be true,
    /// but another one may take its slot.
    Lost(Mapped, MappingError),
}

impl Slot {
    /// Tells whether somebody is asked here, or has answered.
    const fn is_busy(&self) -> bool {
        match self {
            Self::Waiting | Self::Failed(_) | Self::Lost(..) => false,
            Self::Asking | Self::Retrying(_) | Self::Held(_) => true,
        }
    }

    /// Returns why it tells nothing, if it was asked.
    const fn error(&self) -> Option<&MappingError> {
        match self {
            Self::Failed(error) | Self::Retrying(error) | Self::Lost(_, error) => Some(error),
            Self::Waiting | Self::Asking | Self::Held(_) => None,
        }
    }

    const fn mapped(&self) -> Option<&Mapped> {
        match self {
            Self::Held(mapped) => Some(mapped),
            _ => None,
        }
    }

    /// Returns what a server told last, be it lost or not.
    fn last(&self) -> Option<&Mapped> {
        self.mapped().or_else(|| self.former())
    }

    /// Returns what a server told that is lost.
    const fn former(&self) -> Option<&Mapped> {
        match self {
            Self::Lost(mapped, _) => Some(mapped),
            _ => None,
        }
    }
}

impl Table {
    /// Takes in a server to be asked from these ports. `false` if it is known already, or one too
    /// many.
    pub(super) fn name(
        &mut self,
        server: SocketAddr,
        ports: impl Iterator<Item = PunchPort>,
    ) -> bool {
        if !self.is_new(server) {
            return false;
        }
        self.servers.push(server);
        for punch_port in ports {
            let key = Key { punch_port, server };
            self.slots.insert(key, Slot::Waiting);
            // Those of the next server see at once that it takes up a slot.
            self.ask(key);
        }
        true
    }

    /// Takes in a server to be asked from these ports while no other one of its family answers.
    /// `false` as in [`name`](Self::name).
    pub(super) fn name_fallback(
        &mut self,
        server: SocketAddr,
        ports: impl Iterator<Item = PunchPort>,
    ) -> bool {
        if self.is_new(server) {
            // Before it is asked, since its slot is another one.
            self.fallbacks.push(server);
        }
        self.name(server, ports)
    }

    /// Tells whether a server is not known yet, and there is room for it.
    fn is_new(&self, server: SocketAddr) -> bool {
        !self.servers.contains(&server) && self.servers.len() < MAX_SERVERS
    }

    /// Notes that a server is asked, if it may be: not while so many others of its family are, or
    /// have answered, and not before those that were named before it.
    pub(super) fn ask(&mut self, key: Key) -> bool {
        let is_busy = self.is_busy(key.server);
        let is_free = !self.is_superseded(key) && (is_busy || self.has_room_for(key.server));
        if is_free && let Some(slot) = self.slots.get_mut(&key) {
            *slot = match std::mem::replace(slot, Slot::Asking) {
                Slot::Failed(error) => Slot::Retrying(error),
                Slot::Waiting => Slot::Asking,
                other => other,
            };
        }
        is_free
    }

    fn has_room_for(&self, server: SocketAddr) -> bool {
        let is_fallback = self.is_fallback(server);
        // The two kinds do not take each other's slots.
        let others = self
            .servers
            .iter()
            .filter(|it| it.is_ipv4() == server.is_ipv4() && self.is_fallback(**it) == is_fallback);
        let busy = others.clone().filter(|it| self.is_busy(**it)).count();
        let before = others.take_while(|it| **it != server);
        let is_first = before.clone().all(|it| !self.is_waiting(*it));
        let limit = if is_fallback {
            1
        } else {
            MAX_SERVERS_PER_FAMILY
        };
        busy < limit && is_first
    }

    pub(super) fn is_fallback(&self, server: SocketAddr) -> bool {
        self.fallbacks.contains(&server)
    }

    /// Tells whether a server is asked only while others tell nothing, and one of these tells of
    /// the same punch port. Until then its connection keeps what the NAT has given that port.
    pub(super) fn is_superseded(&self, key: Key) -> bool {
        let is_same = |it: &Key| {
            it.punch_port == key.punch_port && it.server.is_ipv4() == key.server.is_ipv4()
        };
        let mut slots = self.slots.iter();
        self.is_fallback(key.server)
            && slots.any(|(it, slot)| {
                is_same(it) && !self.is_fallback(it.server) && slot.mapped().is_some()
            })
    }

    /// Lets a server wait until it is needed again, and returns what it told last.
    pub(super) fn stand_down(&mut self, key: Key) -> Option<Mapped> {
        match self.slots.insert(key, Slot::Waiting)? {
            Slot::Held(mapped) | Slot::Lost(mapped, _) => Some(mapped),
            Slot::Waiting | Slot::Asking | Slot::Failed(_) | Slot::Retrying(_) => None,
        }
    }

    fn is_busy(&self, server: SocketAddr) -> bool {
        self.of(server).any(Slot::is_busy)
    }

    fn is_waiting(&self, server: SocketAddr) -> bool {
        self.of(server).all(|slot| matches!(slot, Slot::Waiting))
    }

    fn of(&self, server: SocketAddr) -> impl Iterator<Item = &Slot> {
        let of_server = self
            .slots
            .iter()
            .filter(move |(key, _)| key.server == server);
        of_server.map(|(_, slot)| slot)
    }

    /// Stores what is known of a mapping. `true` if that is news to those who watch: a fresh token
    /// alone, which comes with each answer, is none, unless the last one proved nothing.
    pub(super) fn set(&mut self, key: Key, slot: Slot) -> bool {
        let address = |slot: &Slot| slot.mapped().map(|it| it.mapped);
        let new = address(&slot);
        let token = slot.mapped().and_then(|it| it.token.clone());
        let is_lost = slot.former().is_some();
        match self.slots.insert(key, slot) {
            Some(Slot::Held(old)) if Some(old.mapped) == new => {
                token.is_some() && token != old.token && self.unproven_backoff.count(old.mapped)
            }
            Some(Slot::Held(_)) => true,
            Some(Slot::Lost(..)) => !is_lost,
            // Nobody waits for a server that is tried again in vain.
            Some(Slot::Failed(_) | Slot::Retrying(_)) => new.is_some(),
            Some(Slot::Waiting | Slot::Asking) | None => true,
        }
    }

    /// Notes that a server that has answered comes back no more. `true` if that is news.
    ///
    /// Once others hold all the slots of its family, it has failed like one that never answered.
    pub(super) fn lose(&mut self, key: Key, error: MappingError) -> bool {
        let server = key.server;
        let is_other = |it: &&SocketAddr| **it != server && it.is_ipv4() == server.is_ipv4();
        let holds = |it: &&SocketAddr| self.of(**it).any(|slot| slot.mapped().is_some());
        let others = self.servers.iter().filter(is_other).filter(holds).count();
        let slot = match self.slots.get(&key).and_then(Slot::last) {
            Some(last) if others < MAX_SERVERS_PER_FAMILY => Slot::Lost(last.clone(), error),
            Some(_) | None => Slot::Failed(error),
        };
        self.set(key, slot)
    }

    /// Tells whether a server is lost, and nobody else has its slot.
    pub(super) fn is_lost(&self, key: Key) -> bool {
        self.slots
            .get(&key)
            .is_some_and(|slot| slot.former().is_some())
    }

    /// Returns from where each server was asked that has told a mapping.
    pub(super) fn locals(&self) -> Vec<(Key, SocketAddr)> {
        let local = |(key, slot): (&Key, &Slot)| Some((*key, slot.last()?.local));
        self.slots.iter().filter_map(local).collect()
    }

    /// Notes that this machine has left an address, and that the server that was asked from there
    /// is asked again, without having failed. `true` if that is news.
    pub(super) fn leave(&mut self, key: Key, local: SocketAddr) -> bool {
        let last = self.slots.get(&key).and_then(Slot::last);
        last.is_some_and(|last| last.local == local) && self.set(key, Slot::Asking)
    }

    /// Takes in which of the candidates that the coordinator was told it has found unproven.
    pub(super) fn note_unproven(
        &mut self,
        told: &[Candidate],
        unproven: &[SocketAddr],
    ) -> Unproven {
        let is_unproven = |it: &&Mapped| unproven.contains(&it.mapped);
        let addresses = self.held().filter(is_unproven).map(|it| it.mapped);
        let is_new = self.unproven_backoff.renew(addresses.collect());
        let is_told = |it: &Mapped| {
            let is_same = |told: &Candidate| told.address == it.mapped && told.token == it.token;
            it.token.is_none() || told.iter().any(is_same)
        };
        let mut is_news = false;
        for it in self.known().iter().filter(|it| !is_told(it)) {
            is_news |= self.unproven_backoff.count(it.mapped);
        }
        Unproven { is_new, is_news }
    }

    /// Returns the mappings known now, those of the primary port first, each address once. What a
    /// server told that is lost counts where no other one tells the same thing.
    pub(super) fn known(&self) -> Vec<Mapped> {
        let mut known: Vec<Mapped> = Vec::new();
        let is_of = |one: &Mapped, other: &Mapped| {
            one.punch_port == other.punch_port && one.mapped.is_ipv4() == other.mapped.is_ipv4()
        };
        let lost = self.slots.values().filter_map(Slot::former);
        let lost = lost.filter(|it| !self.held().any(|held| is_of(held, it)));
        for mapped in self.held().chain(lost).chain(self.elsewhere()) {
            if known.iter().all(|it| it.mapped != mapped.mapped) {
                known.push(mapped.clone());
            }
        }
        known.sort_by_key(|it| it.punch_port);
        known
    }

    /// Stores what a server tells over another route. `true` if that is news.
    pub(super) fn set_elsewhere(&mut self, key: Key, mapped: Option<Mapped>) -> bool {
        let new = mapped.as_ref().map(|it| it.mapped);
        let old = match mapped {
            Some(mapped) => self.elsewhere.insert(key, mapped),
            None => self.elsewhere.remove(&key),
        };
        old.map(|it| it.mapped) != new
    }

    pub(super) fn elsewhere(&self) -> impl Iterator<Item = &Mapped> {
        self.elsewhere.values()
    }

    /// Tells whether a server was named before all others of its family.
    pub(super) fn is_first_of_its_family(&self, server: SocketAddr) -> bool {
        let mut family = self
            .servers
            .iter()
            .filter(|it| it.is_ipv4() == server.is_ipv4());
        family.next() == Some(&server)
    }

    fn held(&self) -> impl Iterator<Item = &Mapped> {
        self.slots.values().filter_map(Slot::mapped)
    }

    pub(super) fn any_held(&self) -> bool {
        self.held().next().is_some()
    }

    pub(super) fn any_asking(&self) -> bool {
        self.slots.values().any(|slot| matches!(slot, Slot::Asking))
    }

    /// Tells whether no further server will be named, and all that were have answered or failed.
    pub(super) fn is_settled(&self) -> bool {
        self.complete && !self.any_asking()
    }

    /// Tells whether somebody among these is asked for the first time, and none has answered.
    pub(super) fn is_asked_only(&self, is_of: impl Fn(&Key) -> bool) -> bool {
        let slots = || self.slots.iter().filter(|(key, _)| is_of(key));
        slots().any(|(_, slot)| matches!(slot, Slot::Asking))
            && slots().all(|(_, slot)| slot.mapped().is_none())
    }

    /// Returns where the primary punch port is mapped: over IPv4, or where that is not to be had,
    /// over IPv6.
    pub(super) fn network(&self) -> Option<Network> {
        let mut primary = self.held().filter(|it| it.punch_port == PunchPort::PRIMARY);
        let found = primary.find(|it| self.counts(it.mapped.is_ipv4()))?;
        Some(Network {
            local: found.local.ip(),
            external: found.mapped.ip(),
            server: found.server,
        })
    }

    /// Tells whether mappings of a family show how the NAT behaves: NATs are in front of IPv4.
    /// Where no server will be named of that, or all of them have failed, IPv6 serves.
    pub(super) fn counts(&self, is_ipv4: bool) -> bool {
        let has_failed = |slot: &Slot| matches!(slot, Slot::Failed(_) | Slot::Retrying(_));
        let mut over_v4 = self.slots.iter().filter(|(key, _)| key.server.is_ipv4());
        is_ipv4 || (self.complete && over_v4.all(|(_, slot)| has_failed(slot)))
    }

    /// Tells whether all servers have been asked in vain.
    pub(super) fn is_hopeless(&self) -> bool {
        self.complete && !self.may_fall_back && self.have_all_failed()
    }

    /// Tells whether none of the servers that were named has answered, or may yet.
    pub(super) fn have_all_failed(&self) -> bool {
        self.slots.values().all(|slot| slot.error().is_some())
    }

    /// Returns the families (`true` for IPv4) that servers were named of, and none tells a mapping:
    /// what one told that is lost may not be true any more.
    pub(super) fn unmapped(&self) -> BTreeSet<bool> {
        let mut unmapped: BTreeSet<_> = self.servers.iter().map(SocketAddr::is_ipv4).collect();
        for mapped in self.held() {
            unmapped.remove(&mapped.server.is_ipv4());
        }
        unmapped
    }

    /// Returns why there is no mapping at all.
    pub(super) fn failure(&self) -> Option<Failure> {
        if self.any_held() {
            return None;
        }
        let failed = self.slots.iter().filter_map(|(key, slot)| {
            Some(Failure {
                server: key.server,
                error: slot.error()?.clone(),
            })
        });
        // A family that this machine does not have says least.
        failed.min_by_key(|it| it.error == MappingError::Unreachable)
    }
}

#[cfg(test)]
mod tests;
