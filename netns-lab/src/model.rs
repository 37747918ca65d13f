//! A NAT or stateful firewall as pure code: IP packets in, packets out, at a given time.
//!
//! [`NatModel`] is one box. Its owner hands it each packet with the time and the side it came from,
//! and takes what leaves from [`NatModel::poll_output`].
//!
//! ```
//! use std::net::IpAddr;
//! use std::time::Duration;
//!
//! use netns_lab::NatSpec;
//! use netns_lab::model::{NatModel, Side};
//!
//! # fn main() -> Result<(), netns_lab::model::SpecError> {
//! let external: IpAddr = [203, 0, 113, 2].into();
//! let mut nat = NatModel::new(NatSpec::rfc5382(), vec![external], 7)?;
//! let verdict = nat.handle_packet(Duration::ZERO, Side::Internal, b"not IP");
//! assert_eq!(verdict.to_string(), "DROP malformed packet");
//! assert_eq!(nat.poll_output(), None);
//! # Ok(())
//! # }
//! ```
//!
//! # What always holds
//!
//! - The same specification, seed and calls give the same verdicts and packets.
//! - Whatever comes in, nothing panics, and memory stays within [`Limits`] as long as its owner
//!   takes what leaves.
//! - Checksums are corrected, never computed afresh (RFC 1624): a damaged packet stays damaged.
//!
//! # What is deliberately absent
//!
//! - Sequence numbers are not looked at, so every reset and acknowledgement is believed; nor are
//!   they rewritten.
//! - Fragments are dropped, and of ICMP only echoes pass, and errors about echoes, TCP and UDP.
//!   [`NatModel::not_carried`] counts what is dropped for this.
//! - A box answers no echo request itself, whoever asks.
//! - Hop limits are not counted down.
//! - There are no application-level gateways (RFC 5382 REQ-6).
//! - Nothing is translated between IPv4 and IPv6.

mod forward;
mod packet;
mod ports;
mod session;
mod table;
mod verdict;

use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

pub use crate::packet::Protocol;
pub use p2pconnect_nat::{
    Dependence, Directions, Hairpinning, Limits, NatSpec, Pooling, PortAssignment, PortRange,
    PrefixPair, RstEffect, SimultaneousOpen, SpecError, Timers, Translation, Translation6,
    UnsolicitedSyn, WhenFull,
};
pub use session::SessionState;
pub use table::Mapping;
pub use verdict::{Answer, DropReason, Verdict};

use crate::tracked::{TcpState, TrackedConnection};
use ports::PortAllocator;
use table::Table;

/// Most SYNs that wait for a late answer. Far more than labs have under way, and little memory; a
/// SYN beyond it is dropped silently.
const MAX_ANSWERS: usize = 1024;

/// A side of a box.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// Where its hosts are.
    Internal,
    /// Where the rest of the world is.
    External,
}

/// A packet that leaves the box.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Output {
    /// The side it leaves by.
    pub side: Side,
    /// The IP packet.
    pub packet: Vec<u8>,
}

/// One box: a NAT or a stateful firewall, as its [`NatSpec`] says.
///
/// Times count from any fixed moment; one that goes back counts as none passed.
#[derive(Debug, Clone)]
pub struct NatModel {
    spec: NatSpec,
    ports: PortAllocator,
    table: Table,
    /// Answers that wait, by remote and external endpoint.
    pending: BTreeMap<(SocketAddr, SocketAddr), Pending>,
    outputs: VecDeque<Output>,
    /// Packets that no model carries.
    not_carried: BTreeMap<DropReason, u64>,
    now: Duration,
}

#[derive(Debug, Clone)]
struct Pending {
    due: Duration,
    output: Output,
}

impl Side {
    /// Returns the other side.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Internal => Self::External,
            Self::External => Self::Internal,
        }
    }
}

impl NatModel {
    /// Makes a box with nothing in its table; the seed decides all its randomness.
    ///
    /// A NAT translates to the addresses of each family among `external`. A firewall and prefix
    /// translation need none, and send ICMP errors from the first of the right family, or else in
    /// the name of the host that the SYN was for.
    ///
    /// # Errors
    ///
    /// [`SpecError`] if the specification contradicts itself.
    pub fn new(spec: NatSpec, external: Vec<IpAddr>, seed: u64) -> Result<Self, SpecError> {
        spec.check()?;
        check_external(&spec, &external)?;
        let ports = PortAllocator::new(external, ChaCha8Rng::seed_from_u64(seed));
        Ok(Self {
            spec,
            ports,
            table: Table::default(),
            pending: BTreeMap::new(),
            outputs: VecDeque::new(),
            not_carried: BTreeMap::new(),
            now: Duration::ZERO,
        })
    }

    /// Takes a whole IP packet that came in by `side`, and says what became of it.
    ///
    /// What leaves in consequence, and what was due before, is for
    /// [`NatModel::poll_output`].
    pub fn handle_packet(&mut self, now: Duration, side: Side, packet: &[u8]) -> Verdict {
        self.handle_timeout(now);
        self.forward(side, packet).unwrap_or_else(|drop| {
            if drop.is_not_carried() {
                *self.not_carried.entry(drop).or_default() += 1;
            }
            Verdict::Dropped(drop)
        })
    }

    /// Returns the next packet that leaves.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Returns when the box wants to send something by itself, if ever: call
    /// [`NatModel::handle_timeout`] then.
    ///
    /// Sessions expire without being told to, so they do not count.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.pending.values().map(|pending| pending.due).min()
    }

    /// Sends the answers that are due, and forgets what has expired.
    pub fn handle_timeout(&mut self, now: Duration) {
        self.now = self.now.max(now);
        self.table.expire(self.now);
        while let Some(key) = self.next_due() {
            if let Some(pending) = self.pending.remove(&key) {
                self.send(pending.output);
            }
        }
    }

    /// Forgets everything, as a box does that loses power; with `new_external` it comes back with
    /// other addresses.
    ///
    /// # Errors
    ///
    /// [`SpecError::NoExternalAddress`] if the new addresses have none to translate to; the box is
    /// then as before.
    pub fn reboot(&mut self, new_external: Option<Vec<IpAddr>>) -> Result<(), SpecError> {
        if let Some(external) = &new_external {
            self.check_external(external)?;
        }
        self.ports.reboot(new_external);
        self.table = Table::default();
        self.pending.clear();
        self.outputs.clear();
        Ok(())
    }

    /// Returns the mappings as of the last call that brought the time, the oldest first.
    pub fn mappings(&self) -> impl Iterator<Item = &Mapping> {
        self.table.mappings()
    }

    /// Returns how many packets were dropped so far because the model carries no such packets, by
    /// the reason.
    pub fn not_carried(&self) -> impl Iterator<Item = (DropReason, u64)> {
        let counts = self.not_carried.iter();
        counts.map(|(reason, packets)| (*reason, *packets))
    }

    /// Refuses addresses that lack a family to translate to.
    pub(crate) fn check_external(&self, external: &[IpAddr]) -> Result<(), SpecError> {
        check_external(&self.spec, external)
    }

    /// Returns the addresses that it translates to.
    pub(crate) fn external(&self) -> &[IpAddr] {
        self.ports.external()
    }

    /// Returns its TCP sessions in the form in which netfilter tells its own.
    pub(crate) fn tracked_connections(&self) -> Vec<TrackedConnection> {
        let mut connections = Vec::new();
        for mapping in self.mappings() {
            for (peer, state, expires) in mapping.expiries() {
                let Some(state) = tcp_state(state) else {
                    continue;
                };
                let left = expires.saturating_sub(self.now).as_secs();
                connections.push(TrackedConnection {
                    source: mapping.internal(),
                    destination: peer,
                    mapped: mapping.external(),
                    peer,
                    state,
                    expires_in: u32::try_from(left).unwrap_or(u32::MAX),
                });
            }
        }
        connections
    }

    /// Returns the answer that is due longest.
    fn next_due(&self) -> Option<(SocketAddr, SocketAddr)> {
        let due = |pending: &Pending| (pending.due <= self.now).then_some(pending.due);
        let waiting = self.pending.iter();
        let ready = waiting.filter_map(|(key, pending)| Some((due(pending)?, *key)));
        ready.min().map(|(_, key)| key)
    }

    fn send(&mut self, output: Output) {
        self.outputs.push_back(output);
    }
}

/// Returns what netfilter calls a state of TCP.
const fn tcp_state(state: SessionState) -> Option<TcpState> {
    Some(match state {
        SessionState::Udp | SessionState::Echo => return None,
        SessionState::OutboundSyn | SessionState::InboundSyn => TcpState::SynSent,
        SessionState::SynAck => TcpState::SynReceived,
        SessionState::SimultaneousOpen => TcpState::SynSent2,
        SessionState::Established => TcpState::Established,
        SessionState::HalfClosed | SessionState::TimeWait | SessionState::Reset => {
            TcpState::Closing
        }
    })
}

/// Refuses a set of external addresses that lacks a family to translate to.
fn check_external(spec: &NatSpec, external: &[IpAddr]) -> Result<(), SpecError> {
    let lacks_ipv4 = !external.iter().any(IpAddr::is_ipv4);
    let lacks_ipv6 = !external.iter().any(IpAddr::is_ipv6);
    if spec.translation == Translation::Nat44 && lacks_ipv4
        || spec.translation6 == Translation6::Nat66 && lacks_ipv6
    {
        return Err(SpecError::NoExternalAddress);
    }
    Ok(())
}
