//! Which attempts the reports of both NATs ask for, beyond the addresses that servers have seen.
//!
//! Each side derives the plan by itself, from the two reports and from what both sides know of each
//! other's ports; the two plans are mirror images, so that the SYNs cross. Nothing here waits or
//! answers: the checklist carries the plan out.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use p2pconnect_proto::{
    Candidate, CandidateKind, NatFiltering, NatReport, PortAssignment, PunchPort, Role,
    UnsolicitedSyn,
};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use crate::{Base, Introduced, behaviour::mapping_varies};

mod fill;
mod guess;
mod prediction;
#[cfg(test)]
mod tests;

/// The most ports of a range that are used to fill it.
///
/// Carrier NATs give a subscriber 256 to 4,096 flows. With 3,200 all ports of blocks of 3,000 are
/// in use, the largest but one that is common.
pub(crate) const MAX_FILL: u32 = 3200;

/// The largest range, as its NAT's report tells it, that is filled as far as [`MAX_FILL`] goes.
///
/// A report takes a range for up to two thirds larger than it is, so this may be one of 3,072
/// ports, which is filled. Two of 4,000, which may be taken for no more than this, meet in 64 %;
/// beyond that the chance soon is too small to try.
const MAX_RANGE: u32 = 5120;

/// The largest range, as its NAT's report tells it, of which each port may be needed: the smallest
/// that a cloud gives to a machine has 32 ports, and a dozen of them are in use.
const SCARCE: u32 = 96;

/// The most time that a peer is given to find out about its NAT.
const MAX_DISCOVERY_TIME: Duration = Duration::from_secs(1);

/// How long a side that everybody can reach leaves the dialling to its peer, at least, and at
/// least 6 round-trip times: the peer's hedges come first.
const LEAST_HOLD: Duration = Duration::from_millis(500);

/// The longest round-trip time that counts for that.
const MAX_HOLD: Duration = Duration::from_millis(300);

/// How much later the side starts whose SYN must not be the first, at most, and at most a quarter
/// of a round trip.
///
/// SYNs that start together cross by half a round trip, so the lead matters where that is about as
/// long as the start moments of two hosts differ: on paths of a few milliseconds.
const LEAD: Duration = Duration::from_millis(5);

/// Local ports that hardly anything else uses: above what services use by custom, and below what
/// systems give to other programs (Linux: from 32,768; IANA: from 49,152).
pub const UNUSED_PORTS: std::ops::Range<u16> = 10_000..32_000;

/// SYNs to guessed ports that are sent in one millisecond.
///
/// 480 SYNs in about 20 ms were measured to arrive all; a burst of all at once overruns the queue
/// of a slow uplink.
const SYNS_PER_MS: u32 = 32;

/// All attempts that one side makes beyond the plain pairs.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) strategy: Strategy,
    pub(crate) attempts: Vec<Planned>,
    /// Whether they all go from one port to several of the peer's, of which each belongs to one
    /// session there.
    pub(crate) opens_holes: bool,
    /// How long the plain pairs wait, so that they do not take the ports that the plan needs.
    pub(crate) plain_after: Duration,
    /// How much longer than others it takes, whichever side waits for the other.
    pub(crate) lasts_longer: Duration,
}

/// One attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Planned {
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    /// What the remote address is.
    pub(crate) kind: CandidateKind,
    /// The group that it starts with, as with plain pairs.
    pub(crate) stage: u32,
    /// How much later than its group.
    pub(crate) after: Duration,
    /// Whether it is one of hundreds, with a budget of their own.
    pub(crate) is_guess: bool,
}

/// Of what kind the ports of each side are.
#[derive(Debug, Clone, Copy)]
struct Classes {
    local: Class,
    remote: Class,
}

/// How two NATs are brought together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strategy {
    /// The addresses that servers have seen suffice, or nothing better is known.
    Plain,
    /// Every address that counts can be predicted.
    Prediction,
    /// `keeper` can be predicted and lets in whomever it has sent to, from any port.
    Door { keeper: Who },
    /// `random` has a random port for each connection, and the other a fixed one.
    Guess { random: Who },
    /// All ports of small ranges are used at once, each side's to the one port that the other
    /// has named: it is in the range, and so among those that are in use then.
    Fill,
    /// Too many ports are possible on both sides.
    OutOfReach,
}

/// One of the two sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Local,
    Remote,
}

/// What can be known of the port from which a side's next connection comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// The one that servers have seen.
    Stable,
    /// That of an unused local port plus so much for each further one.
    Predictable { step: u16, counts_all: bool },
    /// Any of a range.
    Random { first: u16, last: u16 },
    /// It varies, and that is all that is known.
    Hidden,
}

/// One side, as far as the choice of a strategy goes.
#[derive(Debug, Clone, Copy)]
struct Side {
    class: Class,
    filtering: NatFiltering,
}

/// The addresses that a plan is made of.
#[derive(Debug)]
struct Addresses<'a> {
    /// The first of the row of unused local ports.
    unused: Option<SocketAddr>,
    /// Where a side with a fixed mapping connects from.
    primary: Option<SocketAddr>,
    /// Those of the peer's candidates that are reached over IPv4.
    remote: Vec<&'a Candidate>,
    introduced: &'a Introduced,
}

impl Plan {
    /// Makes the plan of one side, with so many guesses at most and randomness from `seed`, but for
    /// the holes that are drawn by a seed of their own.
    pub(crate) fn new(
        introduced: &Introduced,
        max_guesses: u32,
        seed: [u8; 32],
        hole_seed: Option<[u8; 32]>,
    ) -> Self {
        let addresses = Addresses::of(introduced);
        let local = Side::of(&introduced.local_nat, addresses.unused.is_some());
        let remote = Side::of(&introduced.remote_nat, addresses.predicted().is_some());
        let strategy = choose(local, remote);
        // Apart from what draws the pauses.
        let draw = |seed, stream| {
            let mut random = ChaCha8Rng::from_seed(seed);
            random.set_stream(stream);
            random
        };
        let classes = Classes {
            local: local.class,
            remote: remote.class,
        };
        let mut attempts = match strategy {
            Strategy::Plain | Strategy::OutOfReach => Vec::new(),
            Strategy::Prediction => prediction::attempts(classes, &addresses),
            Strategy::Door { keeper } => prediction::door(keeper, classes, &addresses),
            Strategy::Guess {
                random: Who::Remote,
            } => guess::open_holes(
                remote.class,
                &addresses,
                &mut draw(hole_seed.unwrap_or(seed), 1),
            ),
            Strategy::Guess { random: Who::Local } => {
                guess::try_ports(local.class, &addresses, &mut draw(seed, 2))
            }
            Strategy::Fill => fill::attempts(classes, &addresses),
        };
        // Behind a NAT64 the peer's addresses are IPv6, and ours may still be those of another
        // network.
        attempts.retain(|attempt| attempt.local.is_ipv4() == attempt.remote.is_ipv4());
        let mut guesses = 0..max_guesses;
        attempts.retain(|attempt| !attempt.is_guess || guesses.next().is_some());
        let last = attempts.iter().map(|attempt| attempt.after).max();
        let plain_after = match strategy {
            _ if holds(local, remote, introduced.role) => {
                LEAST_HOLD.max(introduced.rtt_via_coordinator.min(MAX_HOLD) * 6)
            }
            // They would take ports of the range that is to be filled.
            Strategy::Fill => last.unwrap_or_default() + Duration::from_millis(1),
            // Or of the few that there are, where any one suffices.
            Strategy::Guess { random: Who::Local } if local.class.is_scarce() => LEAST_HOLD,
            Strategy::Plain if lets_the_peer_go_first(introduced) => {
                LEAD.min(introduced.rtt_via_coordinator / 4)
            }
            Strategy::Plain
            | Strategy::Prediction
            | Strategy::Door { .. }
            | Strategy::Guess { .. }
            | Strategy::OutOfReach => Duration::ZERO,
        };
        let second = (strategy == Strategy::Fill).then(|| fill::second(classes, introduced));
        let second = second.flatten();
        let turn = second.map_or(Duration::ZERO, fill::Second::local_wait);
        let wait = patience(local, introduced) + turn;
        for attempt in &mut attempts {
            attempt.after += wait;
        }
        tracing::debug!(?strategy, attempts = attempts.len(), ?wait, "plan");
        let opens_holes = match strategy {
            Strategy::Guess { random } => random == Who::Remote,
            Strategy::Door { keeper } => keeper == Who::Remote,
            Strategy::Prediction => local.class == Class::Stable,
            Strategy::Plain | Strategy::Fill | Strategy::OutOfReach => false,
        };
        Self {
            strategy,
            attempts,
            opens_holes,
            plain_after: plain_after + wait,
            lasts_longer: second.map_or(Duration::ZERO, |it| it.after),
        }
    }

    /// Returns the local addresses to which the peer connects from ports that nobody knows.
    pub(crate) fn doors(&self) -> BTreeSet<SocketAddr> {
        let keeps = self.strategy == Strategy::Door { keeper: Who::Local };
        let attempts = self.attempts.iter().filter(|_| keeps);
        attempts.map(|attempt| attempt.local).collect()
    }

    /// Returns how many guesses it makes, each once.
    pub(crate) fn guesses(&self) -> u32 {
        let guesses = self.attempts.iter().filter(|attempt| attempt.is_guess);
        u32::try_from(guesses.count()).unwrap_or(u32::MAX)
    }
}

impl Side {
    /// Unknown filtering counts as the strictest, and an unknown mapping as the friendliest: most
    /// NATs are like that, and a plain punch tells soon.
    fn of(nat: &NatReport, has_unused: bool) -> Self {
        let class = match (mapping_varies(nat.mapping), nat.ports) {
            (None, _) => Class::Stable,
            (Some(_), None) => Class::Hidden,
            (Some(_), Some(_)) if !has_unused => Class::Hidden,
            (Some(_), Some(PortAssignment::Preserved)) => Class::Predictable {
                step: 1,
                counts_all: false,
            },
            (Some(_), Some(PortAssignment::Sequential { delta })) => Class::Predictable {
                step: delta,
                counts_all: true,
            },
            (Some(_), Some(PortAssignment::Random { first, last })) => Class::Random {
                first: first.min(last),
                last: first.max(last),
            },
        };
        let strictest = NatFiltering::AddressAndPortDependent;
        Self {
            class,
            filtering: nat.filtering.unwrap_or(strictest),
        }
    }

    fn is_predictable(self) -> bool {
        matches!(self.class, Class::Predictable { .. })
    }

    /// Tells whether whoever was sent to gets in from any port.
    fn admits_addresses(self) -> bool {
        self.filtering != NatFiltering::AddressAndPortDependent
    }
}

impl Strategy {
    /// Tells whether both reports leave no hope, whatever they do not know.
    ///
    /// Who turns away unsolicited SYNs does not let in everybody, even if nobody has found out
    /// whom else.
    pub(crate) fn is_impossible(self, nats: [NatReport; 2]) -> bool {
        let strictest = NatFiltering::AddressAndPortDependent;
        let is_closed = |nat: &NatReport| match nat.filtering {
            Some(filtering) => filtering != NatFiltering::EndpointIndependent,
            None => nat.unsolicited.is_some(),
        };
        // Whoever has one address for all and admits addresses lets in the other from any port.
        let no_way_in = |nat: &NatReport| {
            mapping_varies(nat.mapping).is_some() || nat.filtering == Some(strictest)
        };
        let varies = nats.iter().any(|nat| mapping_varies(nat.mapping).is_some());
        let closed = nats.iter().all(is_closed);
        match self {
            Self::OutOfReach => closed,
            Self::Plain => varies && closed && nats.iter().all(no_way_in),
            Self::Prediction | Self::Door { .. } | Self::Guess { .. } | Self::Fill => false,
        }
    }
}

impl Strategy {
    /// Tells whether attempts go to or from ports that are predicted or guessed.
    pub(crate) const fn guesses(self) -> bool {
        match self {
            Self::Plain | Self::OutOfReach => false,
            Self::Prediction | Self::Door { .. } | Self::Guess { .. } | Self::Fill => true,
        }
    }
}

impl Class {
    /// Returns how many ports it may be.
    fn ports(self) -> u32 {
        match self {
            Self::Stable | Self::Predictable { .. } => 1,
            Self::Random { first, last } => u32::from(last - first) + 1,
            Self::Hidden => u32::MAX,
        }
    }

    /// Tells whether it is one of so few that a dial has to be sparing with them.
    fn is_scarce(self) -> bool {
        self.ports() <= SCARCE && matches!(self, Self::Random { .. })
    }
}

impl Who {
    const fn other(self) -> Self {
        match self {
            Self::Local => Self::Remote,
            Self::Remote => Self::Local,
        }
    }
}

/// Returns how many ports of this side's sequence others may get, so that the plan still holds, or
/// nothing where nobody can predict a port: both NATs give each destination another one, and too
/// many are possible.
#[must_use]
pub fn spare_ports([local, remote]: [&NatReport; 2]) -> Option<u32> {
    let [local, remote] = [local, remote].map(|nat| Side::of(nat, true));
    match choose(local, remote) {
        Strategy::OutOfReach => None,
        Strategy::Fill => Some(fill::SPARE),
        Strategy::Prediction if remote.class == Class::Stable => {
            Some(prediction::WINDOW - prediction::ATTEMPTS)
        }
        Strategy::Prediction | Strategy::Door { .. } | Strategy::Guess { .. } | Strategy::Plain => {
            Some(0)
        }
    }
}

/// Tells whether sessions of the same two peers take ports from each other, by what the two are
/// told of each other: both NATs give each destination another port, and there are not enough
/// ports, or their order counts. No address stands for one of their sessions alone then.
#[must_use]
pub fn is_contended([local, remote]: [&NatReport; 2]) -> bool {
    let [local, remote] = [local, remote].map(|nat| Side::of(nat, true));
    let counts = [local, remote].map(|side| prediction::counts_all(side.class));
    let varies = |side: Side| side.class != Class::Stable;
    let both_vary = varies(local) && varies(remote);
    match choose(local, remote) {
        Strategy::Fill => true,
        Strategy::Prediction | Strategy::Door { .. } => both_vary && counts.contains(&true),
        Strategy::Plain | Strategy::Guess { .. } | Strategy::OutOfReach => false,
    }
}

/// Returns how many unused local ports a round from behind a NAT takes at most where it guesses
/// random ports; 0 if it does not.
#[must_use]
pub fn guessed_ports(nat: &NatReport) -> u16 {
    let class = Side::of(nat, true).class;
    let most = match class {
        Class::Stable | Class::Predictable { .. } | Class::Hidden => 0,
        Class::Random { .. } if class.ports() > MAX_RANGE => 2 * guess::BATCH,
        Class::Random { .. } => class.ports().clamp(2 * guess::BATCH, MAX_FILL),
    };
    // It is 3,200 at most.
    most as u16
}

/// Tells whether a NAT has so few ports that a dial has to be sparing with them.
pub(crate) fn is_scarce(nat: &NatReport) -> bool {
    Side::of(nat, true).class.is_scarce()
}

/// Tells whether this side only listens at first.
///
/// Its NAT lets everybody in at the ports that servers have seen, but its own SYNs to the peer come
/// from others. Two connections between the same two ports of the hosts would spoil each other.
fn holds(local: Side, remote: Side, role: Role) -> bool {
    let open = |side: Side| {
        side.class != Class::Stable && side.filtering == NatFiltering::EndpointIndependent
    };
    open(local) && (!open(remote) || role == Role::Controlled)
}

/// Returns how long a peer that has just started takes to find out how its NAT assigns ports, and
/// to say that the introduction is stale, by the round-trip time by way of the coordinator.
#[must_use]
pub fn discovery_time(rtt_via_coordinator: Duration) -> Duration {
    (rtt_via_coordinator * 3).min(MAX_DISCOVERY_TIME)
}

/// Returns how long this side waits with all attempts. Each takes one of its NAT's few ports, and
/// if the peer, which does not know its NAT yet, turns out to need them all, the next introduction
/// needs the port that was taken.
fn patience(local: Side, introduced: &Introduced) -> Duration {
    match local.class {
        Class::Random { .. }
            if local.class.is_scarce() && introduced.remote_nat.mapping.is_none() =>
        {
            discovery_time(introduced.rtt_via_coordinator)
        }
        Class::Random { .. } | Class::Stable | Class::Predictable { .. } | Class::Hidden => {
            Duration::ZERO
        }
    }
}

/// Tells whether the peer's SYN should leave before ours.
///
/// The peer's NAT would turn away ours if it came first; our NAT drops the peer's in silence, and
/// its socket stays as it is.
fn lets_the_peer_go_first(introduced: &Introduced) -> bool {
    let drops = introduced.local_nat.unsolicited == Some(UnsolicitedSyn::Dropped);
    let answers = match introduced.remote_nat.unsolicited {
        Some(UnsolicitedSyn::Reset | UnsolicitedSyn::Icmp) => true,
        Some(UnsolicitedSyn::Dropped) | None => false,
    };
    drops && answers
}

/// Chooses the strategy; the other side, to which this one is the remote one, chooses the same.
fn choose(local: Side, remote: Side) -> Strategy {
    let both = [(local, Who::Local), (remote, Who::Remote)];
    let stable = both.iter().find(|(side, _)| side.class == Class::Stable);
    let open = NatFiltering::EndpointIndependent;
    let is_open = both.iter().any(|(side, _)| side.filtering == open);
    let Some((stable, who)) = stable else {
        if is_open {
            return Strategy::Plain;
        }
        return choose_varying(local, remote);
    };
    let other = match who {
        Who::Local => remote,
        Who::Remote => local,
    };
    match other.class {
        // Also where whoever comes gets in: SYNs that cross are half a round trip sooner than one
        // that is accepted by the dialler.
        Class::Predictable { .. } => Strategy::Prediction,
        _ if is_open || stable.admits_addresses() => Strategy::Plain,
        Class::Stable | Class::Hidden => Strategy::Plain,
        Class::Random { .. } => Strategy::Guess {
            random: who.other(),
        },
    }
}

/// Chooses the strategy where both mappings vary.
fn choose_varying(local: Side, remote: Side) -> Strategy {
    let keeps_door = |side: Side| side.is_predictable() && side.admits_addresses();
    let most = local.class.ports().max(remote.class.ports());
    match (local.class, remote.class) {
        (Class::Predictable { .. }, Class::Predictable { .. }) => Strategy::Prediction,
        _ if keeps_door(local) => Strategy::Door { keeper: Who::Local },
        _ if keeps_door(remote) => Strategy::Door {
            keeper: Who::Remote,
        },
        (Class::Hidden, _) | (_, Class::Hidden) => Strategy::Plain,
        _ if most > MAX_RANGE => Strategy::OutOfReach,
        _ => Strategy::Fill,
    }
}

impl<'a> Addresses<'a> {
    fn of(introduced: &'a Introduced) -> Self {
        // Behind a NAT64, the way to IPv4 begins at an IPv6 address.
        let begins_there = |base: &&Base| {
            let mut translated = introduced.translated.iter();
            base.address.is_ipv4()
                || translated.any(|ip| introduced.is_routed(base.address.ip(), *ip))
        };
        let bases = || introduced.bases.iter().filter(begins_there);
        let of_port = |port| bases().filter(move |base| base.punch_port == port);
        let unused = of_port(PunchPort::FRESH).next().map(|base| base.address);
        let on_the_way =
            |address: &SocketAddr| unused.is_some_and(|unused| unused.ip() == address.ip());
        let primaries = || of_port(PunchPort::PRIMARY).map(|base| base.address);
        let remote = introduced.remote_candidates.iter();
        let remote: Vec<_> = remote
            .filter(|it| introduced.is_over_ipv4(it.address.ip()))
            .collect();
        let leads_out = |address: &SocketAddr| {
            let ips = remote.iter().map(|it| it.address.ip());
            let mut afar = ips.filter(|ip| introduced.is_global_ipv4(*ip));
            afar.any(|ip| introduced.is_routed(address.ip(), ip))
        };
        let primary = primaries().find(on_the_way);
        Self {
            unused,
            primary: primary
                .or_else(|| primaries().find(leads_out))
                .or_else(|| primaries().next()),
            remote,
            introduced,
        }
    }

    /// Returns the local port of the `n`-th attempt from unused ones.
    fn unused(&self, n: u32) -> Option<SocketAddr> {
        let first = self.unused?;
        let port = u16::try_from(u32::from(first.port()) + n).ok()?;
        Some(SocketAddr::new(first.ip(), port))
    }

    /// Returns where the peer's first connection from an unused port is expected to come from.
    fn predicted(&self) -> Option<SocketAddr> {
        let predicted = |it: &&&Candidate| {
            it.kind == CandidateKind::Predicted && it.punch_port == PunchPort::FRESH
        };
        self.remote.iter().find(predicted).map(|it| it.address)
    }

    /// Returns the peer's fixed address, and what it is.
    fn target(&self) -> Option<(SocketAddr, CandidateKind)> {
        let of_kind = |kind| {
            self.remote.iter().find(move |it| {
                it.kind == kind
                    && it.punch_port == PunchPort::PRIMARY
                    && self.introduced.is_global_ipv4(it.address.ip())
            })
        };
        let found = of_kind(CandidateKind::ServerReflexive)
            .or_else(|| of_kind(CandidateKind::Mapped))
            .or_else(|| of_kind(CandidateKind::Host))?;
        Some((found.address, found.kind))
    }

    /// Returns the ports of the peer's that are known to be in use.
    fn used_ports(&self) -> BTreeSet<u16> {
        self.used().map(|address| address.port()).collect()
    }

    /// Returns the addresses that the peer's connections to servers take up.
    fn used(&self) -> impl Iterator<Item = SocketAddr> {
        let of_kind = |it: &&&Candidate| it.kind == CandidateKind::ServerReflexive;
        self.remote.iter().filter(of_kind).map(|it| it.address)
    }
}

/// Returns how much later than the first SYN the `n`-th is sent.
fn paced(n: u32) -> Duration {
    Duration::from_millis((n / SYNS_PER_MS).into())
}
