//! Which pairs there are, and in what order they start (RFC 8445 section 6.1.2).

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use p2pconnect_proto::{Candidate, CandidateKind, PunchPort, Role};

use crate::{
    Base, CandidatePair, CheckId, Introduced,
    agenda::Agenda,
    pair::{CheckState, DialledBy, Ending, Pair, PairId, Scope},
    plan::{Plan, Planned},
    schedule::{Redialler, Timing},
};
use last::Last;

mod last;

/// The most pairs of a session, without those that are planned.
///
/// Four local bases of a family (two interfaces with two punch ports) times the 16 candidates
/// that an introduction may hold.
pub(crate) const MAX_PAIRS: usize = 64;

/// The most addresses that are remembered because somebody connected from them.
///
/// They are kept only for the report; eight strangers tell as much as eighty.
pub(crate) const MAX_PEER_REFLEXIVE: usize = 8;

/// All pairs of a session, the first to start first.
#[derive(Debug)]
pub(crate) struct Checklist {
    pairs: Vec<Pair>,
    by_address: BTreeMap<Ends, PairId>,
    agenda: Agenda,
    remote_ips: Vec<IpAddr>,
    translated: BTreeSet<IpAddr>,
    /// How many pairs were learnt from inbound connections.
    peer_reflexive: usize,
    /// How many pairs only the peer dials.
    by_peer: usize,
    /// Whether there are pairs whose packets are never IPv4.
    has_ipv6: bool,
}

/// The two ends of a pair, without the flow label and scope of IPv6, which accepted addresses may
/// lack.
type Ends = [(IpAddr, u16); 2];

impl Checklist {
    pub(crate) fn form(
        introduced: &Introduced,
        plan: &Plan,
        timing: &Timing,
        redialler: &mut Redialler,
    ) -> Self {
        let mut found = BTreeMap::new();
        for base in &introduced.bases {
            for candidate in &introduced.remote_candidates {
                if introduced.is_routed(base.address.ip(), candidate.address.ip())
                    && can_work(base, candidate, &introduced.bases)
                {
                    let pair = (base.address, candidate.address);
                    let stage = stage(introduced.role, base.punch_port, candidate.punch_port);
                    // An address that is both host and server-reflexive is a host's public one.
                    let entry = found.entry(pair).or_insert((stage, candidate.kind));
                    *entry = (*entry).min((stage, candidate.kind));
                }
            }
        }
        let mut ordered: Vec<_> = found
            .into_iter()
            .map(|((local, remote), (stage, kind))| {
                (
                    stage,
                    CandidatePair {
                        local,
                        remote,
                        kind,
                    },
                )
            })
            .collect();
        let scope = |remote: SocketAddr| Scope::of(remote.ip(), &introduced.translated);
        ordered.sort_by_key(|(stage, pair)| (*stage, scope(pair.remote), pair.kind));
        ordered.truncate(MAX_PAIRS);
        let mut checklist = Self {
            pairs: Vec::new(),
            by_address: BTreeMap::new(),
            agenda: Agenda::default(),
            remote_ips: introduced
                .remote_candidates
                .iter()
                .map(|candidate| candidate.address.ip())
                .collect(),
            translated: introduced.translated.clone(),
            peer_reflexive: 0,
            by_peer: 0,
            has_ipv6: false,
        };
        let seen: BTreeSet<_> = ordered
            .iter()
            .map(|(_, pair)| ends(pair.local, pair.remote))
            .collect();
        // First, since the plain pairs may take the ports that it predicts.
        for attempt in &plan.attempts {
            let mut pair = planned_pair(attempt, scope(attempt.remote), timing, redialler);
            pair.is_guess &= !seen.contains(&ends(attempt.local, attempt.remote));
            checklist.push_once(pair);
        }
        let last = Last::of(introduced, plan, &ordered);
        let after = |pair: &CandidatePair| {
            // NATs of IPv4 are the reason.
            if introduced.is_over_ipv4(pair.remote.ip()) {
                plan.plain_after
            } else {
                Duration::ZERO
            }
        };
        for mut pair in start_moments(ordered, after, scope, timing, redialler) {
            last.apply(&mut pair, timing);
            checklist.push_once(pair);
        }
        checklist
    }

    /// Adds a pair, unless there is one with the same ends: the system makes one connection between
    /// them.
    ///
    /// A port may be predicted that servers have seen, and steps may come back to where they began.
    fn push_once(&mut self, pair: Pair) {
        let CandidatePair { local, remote, .. } = pair.pair;
        if !self.by_address.contains_key(&ends(local, remote)) {
            self.push(pair);
        }
    }

    fn push(&mut self, pair: Pair) -> PairId {
        let id = PairId(self.pairs.len());
        let remote = pair.pair.remote;
        self.has_ipv6 |= remote.is_ipv6() && !self.translated.contains(&remote.ip());
        self.by_peer += usize::from(pair.dialled_by == DialledBy::Peer);
        let ends = ends(pair.pair.local, pair.pair.remote);
        self.by_address.entry(ends).or_insert(id);
        self.agenda.enter(id, &pair);
        self.pairs.push(pair);
        id
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Pair> {
        self.pairs.iter()
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = PairId> + use<> {
        (0..self.pairs.len()).map(PairId)
    }

    pub(crate) fn pair(&self, id: PairId) -> &Pair {
        &self.pairs[id.0]
    }

    pub(crate) fn pair_mut(&mut self, id: PairId) -> &mut Pair {
        &mut self.pairs[id.0]
    }

    /// Takes a pair on in its life.
    pub(crate) fn set_state(&mut self, id: PairId, state: CheckState) {
        let pair = &mut self.pairs[id.0];
        self.agenda.leave(id, pair);
        pair.enter(state);
        self.agenda.enter(id, pair);
    }

    pub(crate) const fn agenda(&self) -> &Agenda {
        &self.agenda
    }

    /// Notes how late the peer is, at least, as an answer on a pair tells.
    pub(crate) fn note_lateness(&mut self, id: PairId, lateness: Duration) {
        self.agenda.note_lateness(&self.pairs[id.0], lateness);
    }

    /// Finds the pair whose attempt is `check`.
    pub(crate) fn in_progress(&self, wanted: CheckId) -> Option<(PairId, Instant)> {
        let id = self.agenda.attempt(wanted)?;
        match self.pair(id).state() {
            CheckState::InProgress { since, .. } => Some((id, since)),
            CheckState::Waiting { .. }
            | CheckState::AwaitingAccept { .. }
            | CheckState::Open
            | CheckState::Ended(_) => None,
        }
    }

    /// Tells whether nothing can be sent on any pair any more.
    ///
    /// Nothing comes in on what only the peer dials either, if nothing has ever left.
    pub(crate) const fn is_unreachable(&self) -> bool {
        self.agenda.unreachable() + self.by_peer == self.pairs.len()
    }

    pub(crate) const fn has_ipv6(&self) -> bool {
        self.has_ipv6
    }

    /// Tells whether a NAT64 leads to IPv4 addresses of the peer's.
    pub(crate) fn has_nat64(&self) -> bool {
        !self.translated.is_empty()
    }

    /// Tells whether the peer has named a port that its router leads to it, whoever comes.
    pub(crate) fn has_port_mapping(&self) -> bool {
        let mapped = |pair: &Pair| pair.pair.kind == CandidateKind::Mapped;
        self.pairs.iter().any(mapped)
    }

    /// Returns where an address means something.
    pub(crate) fn scope(&self, remote: IpAddr) -> Scope {
        Scope::of(remote, &self.translated)
    }

    /// Tells whether the peer said that it has this address, whatever the port.
    pub(crate) fn knows(&self, remote: IpAddr) -> bool {
        self.remote_ips.contains(&remote)
    }

    /// Finds the pair that an inbound connection belongs to, or makes one while there is room.
    pub(crate) fn of_accepted(
        &mut self,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> (CandidatePair, Option<PairId>) {
        if let Some(&id) = self.by_address.get(&ends(local, remote)) {
            return (self.pair(id).pair, Some(id));
        }
        let pair = CandidatePair {
            local,
            remote,
            kind: CandidateKind::PeerReflexive,
        };
        if self.peer_reflexive >= MAX_PEER_REFLEXIVE {
            return (pair, None);
        }
        self.peer_reflexive += 1;
        let state = CheckState::Ended(Ending::Passive);
        let scope = self.scope(remote.ip());
        let id = self.push(Pair::new(pair, scope, u32::MAX, state));
        (pair, Some(id))
    }
}

fn ends(local: SocketAddr, remote: SocketAddr) -> Ends {
    [local, remote].map(|end| (end.ip(), end.port()))
}

/// Compares without the flow label and scope of IPv6, which accepted addresses may lack.
fn same(a: SocketAddr, b: SocketAddr) -> bool {
    a.ip() == b.ip() && a.port() == b.port()
}

/// Tells in which group two punch ports meet; both sides come to the same answer.
fn stage(role: Role, local: PunchPort, remote: PunchPort) -> u32 {
    let (controlling, controlled) = match role {
        Role::Controlling => (local, remote),
        Role::Controlled => (remote, local),
    };
    match (controlling, controlled) {
        (PunchPort::PRIMARY, PunchPort::PRIMARY) => 0,
        (PunchPort::SPARE, PunchPort::SPARE) => 1,
        (PunchPort::PRIMARY, PunchPort::SPARE) => 2,
        (PunchPort::SPARE, PunchPort::PRIMARY) => 3,
        (_, _) => 4,
    }
}

fn can_work(base: &Base, candidate: &Candidate, bases: &[Base]) -> bool {
    let (local, remote) = (base.address, candidate.address);
    let own = bases.iter().any(|base| same(base.address, remote));
    let reflexive = candidate.kind == CandidateKind::PeerReflexive;
    // What is predicted of unused ports is for the plan.
    let planned = [base.punch_port, candidate.punch_port].contains(&PunchPort::FRESH);
    !own && !reflexive
        && !planned
        && local.is_ipv4() == remote.is_ipv4()
        && remote.port() != 0
        && !remote.ip().is_unspecified()
        && !remote.ip().is_multicast()
        && local.ip().is_loopback() == remote.ip().is_loopback()
        && link_agrees(local, remote)
}

/// Tells whether two addresses can be on one link, if one of them is good for a single link only.
fn link_agrees(local: SocketAddr, remote: SocketAddr) -> bool {
    match (local, remote) {
        (SocketAddr::V4(local), SocketAddr::V4(remote)) => {
            !remote.ip().is_broadcast() && local.ip().is_link_local() == remote.ip().is_link_local()
        }
        (SocketAddr::V6(local), SocketAddr::V6(remote)) => {
            let links = (
                local.ip().is_unicast_link_local(),
                remote.ip().is_unicast_link_local(),
            );
            match links {
                (false, false) => true,
                (true, true) => local.scope_id() != 0 && local.scope_id() == remote.scope_id(),
                (true, false) | (false, true) => false,
            }
        }
        (SocketAddr::V4(_), SocketAddr::V6(_)) | (SocketAddr::V6(_), SocketAddr::V4(_)) => false,
    }
}

fn planned_pair(
    attempt: &Planned,
    scope: Scope,
    timing: &Timing,
    redialler: &mut Redialler,
) -> Pair {
    let pair = CandidatePair {
        local: attempt.local,
        remote: attempt.remote,
        kind: attempt.kind,
    };
    let due = timing.start_of(attempt.stage, 0) + attempt.after;
    let due = if attempt.is_guess {
        due
    } else {
        due + redialler.toward(scope).jitter(timing, attempt.stage)
    };
    let mut pair = Pair::new(pair, scope, attempt.stage, CheckState::Waiting { due });
    pair.is_guess = attempt.is_guess;
    pair
}

fn start_moments(
    ordered: Vec<(u32, CandidatePair)>,
    after: impl Fn(&CandidatePair) -> Duration,
    scope: impl Fn(SocketAddr) -> Scope,
    timing: &Timing,
    redialler: &mut Redialler,
) -> Vec<Pair> {
    let mut place = BTreeMap::new();
    ordered
        .into_iter()
        .map(|(stage, pair)| {
            let place: &mut u32 = place.entry(stage).or_default();
            let scope = scope(pair.remote);
            let share = redialler.toward(scope);
            let due = timing.start_of(stage, *place) + share.jitter(timing, stage);
            *place += 1;
            let due = due + after(&pair);
            Pair::new(pair, scope, stage, CheckState::Waiting { due })
        })
        .collect()
}
