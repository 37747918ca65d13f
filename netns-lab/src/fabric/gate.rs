//! Gates: a packet waits until another one has been seen.
//!
//! They put packets into an exact order without sleeps. Two gates make SYNs cross: each side's SYN
//! waits, before its first NAT, until the other side has sent its own.

use std::{collections::VecDeque, fmt, str::FromStr, sync::Arc, time::Duration};

use super::{
    Fabric, NodeId,
    queue::What,
    topology::{Network, Node},
};
use crate::{
    middlebox::Side,
    packet::{Body, Headers, IcmpContent, Protocol, Segment},
    record::Event,
};

/// Packets that wait at one gate: far more than any scenario needs.
const MAX_HELD: usize = 1024;

/// Holds packets until another packet has been seen, and then lets all pass.
///
/// ```
/// use netns_lab::Gate;
///
/// # fn main() -> Result<(), netns_lab::GateError> {
/// let crossing = [
///     Gate::new("syn from a to b".parse()?, "syn from b to a".parse()?),
///     Gate::new("syn from b to a".parse()?, "syn from a to b".parse()?),
/// ];
/// let a_first = Gate::new("syn from b".parse()?, "syn from a at b.nat".parse()?);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gate {
    hold: PacketPattern,
    until: PacketPattern,
    limit: Duration,
}

/// Describes packets, such as `syn from a to b at b.nat`.
///
/// A packet is `from` a host if it has the source address of the host or of a box in front of it,
/// and `to` one likewise; so an answer of a's NAT is from a as well. Without `at` it is seen where
/// its host sends it, before its first box; with `at`, where it arrives at that host or box, or the
/// `core`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PacketPattern {
    kind: PacketKind,
    from: String,
    to: Option<String>,
    at: Option<String>,
}

/// What a packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PacketKind {
    /// A TCP segment with SYN and without ACK.
    Syn,
    /// A TCP segment with SYN and ACK.
    SynAck,
    /// A TCP segment with RST.
    Rst,
    /// A TCP segment with FIN.
    Fin,
    /// A TCP segment with data.
    Data,
    /// An ICMP error about a TCP segment.
    Icmp,
    /// Any packet.
    Any,
}

/// Why there can be no such gate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GateError {
    /// The text describes no packets.
    #[error(
        "{text:?} describes no packets: write \"KIND from HOST [to HOST] [at PLACE]\", \
         KIND being one of syn, syn-ack, rst, fin, data, icmp, any"
    )]
    Pattern {
        /// What was given.
        text: String,
    },
    /// There is no such host or box.
    #[error("a gate names {name:?}, which is no host or box of the lab: there are {known}")]
    UnknownPlace {
        /// What was asked for.
        name: String,
        /// All names that there are.
        known: String,
    },
}

impl Gate {
    /// How long a packet waits at most, unless told otherwise: longer than the first seven SYNs of
    /// Linux take.
    pub const LIMIT: Duration = Duration::from_secs(10);

    /// Makes a gate that holds packets until one of the others has been seen, and no longer than
    /// [`Gate::LIMIT`].
    pub const fn new(hold: PacketPattern, until: PacketPattern) -> Self {
        Self {
            hold,
            until,
            limit: Self::LIMIT,
        }
    }

    /// Sets how long a packet waits at most.
    #[must_use]
    pub const fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hold {} until {}", self.hold, self.until)
    }
}

impl PacketKind {
    const ALL: [(Self, &'static str); 7] = [
        (Self::Syn, "syn"),
        (Self::SynAck, "syn-ack"),
        (Self::Rst, "rst"),
        (Self::Fin, "fin"),
        (Self::Data, "data"),
        (Self::Icmp, "icmp"),
        (Self::Any, "any"),
    ];

    fn matches(self, body: &Body) -> bool {
        match body {
            Body::Tcp(segment) => self.matches_segment(segment),
            Body::Icmp(icmp) => match icmp.content {
                IcmpContent::Error(Ok(about)) if about.protocol == Protocol::Tcp => {
                    matches!(self, Self::Icmp | Self::Any)
                }
                IcmpContent::Error(_) | IcmpContent::Echo(_) | IcmpContent::Other => {
                    self == Self::Any
                }
            },
            Body::Udp(_) | Body::Unread(_) => self == Self::Any,
        }
    }

    const fn matches_segment(self, segment: &Segment) -> bool {
        let flags = segment.flow.flags;
        match self {
            Self::Syn => flags.is_syn(),
            Self::SynAck => flags.is_syn_ack(),
            Self::Rst => flags.is_rst(),
            Self::Fin => flags.is_fin(),
            Self::Data => segment.payload > 0,
            Self::Icmp => false,
            Self::Any => true,
        }
    }
}

impl fmt::Display for PacketPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name =
            |(kind, name): &(PacketKind, &'static str)| (*kind == self.kind).then_some(*name);
        let kind = PacketKind::ALL.iter().find_map(name).unwrap_or_default();
        write!(f, "{kind} from {}", self.from)?;
        if let Some(to) = &self.to {
            write!(f, " to {to}")?;
        }
        if let Some(at) = &self.at {
            write!(f, " at {at}")?;
        }
        Ok(())
    }
}

impl FromStr for PacketPattern {
    type Err = GateError;

    fn from_str(text: &str) -> Result<Self, GateError> {
        parse(text).ok_or_else(|| GateError::Pattern { text: text.into() })
    }
}

fn parse(text: &str) -> Option<PacketPattern> {
    let mut words = text.split_whitespace();
    let kind = words.next()?;
    let (kind, _) = *PacketKind::ALL.iter().find(|(_, name)| *name == kind)?;
    let (mut from, mut to, mut at) = (None, None, None);
    while let Some(word) = words.next() {
        let slot = match word {
            "from" => &mut from,
            "to" => &mut to,
            "at" => &mut at,
            _ => return None,
        };
        if slot.replace(words.next()?.to_owned()).is_some() {
            return None;
        }
    }
    let from = from?;
    Some(PacketPattern { kind, from, to, at })
}

/// Where a packet is when gates look at it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Spot {
    /// A node is about to put it on the link above.
    Sent { node: usize, at: Duration },
    /// It comes off the link above a node to a place, the core being none.
    Arrived {
        link: usize,
        towards: Side,
        place: Option<usize>,
    },
}

/// The gates of a fabric.
#[derive(Debug, Default)]
pub(super) struct Gates {
    all: Vec<Running>,
}

#[derive(Debug)]
struct Running {
    text: Arc<str>,
    hold: Resolved,
    until: Resolved,
    limit: Duration,
    open: bool,
    held: VecDeque<(Spot, Arc<[u8]>)>,
}

/// A pattern with places instead of names.
#[derive(Debug)]
struct Resolved {
    kind: PacketKind,
    /// The host, and the addresses that it is known by.
    from: (Option<usize>, Vec<Network>),
    to: Option<Vec<Network>>,
    at: Option<At>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Core,
    Node(usize),
}

impl Resolved {
    fn matches(&self, spot: Spot, packet: &[u8]) -> bool {
        let here = match (spot, self.at) {
            (Spot::Sent { node, .. }, None) => self.from.0 == Some(node),
            (Spot::Arrived { place: None, .. }, Some(At::Core)) => true,
            (Spot::Arrived { place, .. }, Some(At::Node(at))) => place == Some(at),
            (Spot::Sent { .. }, Some(_)) | (Spot::Arrived { .. }, _) => false,
        };
        let Some(Headers { ip, body }) = Headers::read(packet).filter(|_| here) else {
            return false;
        };
        let known = |networks: &[Network], address| {
            networks.iter().any(|network| network.contains(address))
        };
        self.kind.matches(&body)
            && known(&self.from.1, ip.source)
            && self
                .to
                .as_ref()
                .is_none_or(|networks| known(networks, ip.destination))
    }
}

impl Fabric {
    /// Adds a gate.
    pub(crate) fn add_gate(&mut self, gate: &Gate) -> Result<(), GateError> {
        let running = Running {
            text: gate.to_string().into(),
            hold: self.resolve(&gate.hold)?,
            until: self.resolve(&gate.until)?,
            limit: gate.limit,
            open: false,
            held: VecDeque::new(),
        };
        self.gates.all.push(running);
        Ok(())
    }

    fn resolve(&self, pattern: &PacketPattern) -> Result<Resolved, GateError> {
        let node = |name: &str| {
            let mut names = self.nodes.iter().map(|node| &*node.name);
            names.position(|known| known == name).ok_or_else(|| {
                let known: Vec<_> = self.nodes.iter().map(|node| &*node.name).collect();
                GateError::UnknownPlace {
                    name: name.into(),
                    known: known.join(", "),
                }
            })
        };
        let from = node(&pattern.from)?;
        let to = pattern.to.as_deref().map(node).transpose()?;
        let at = match pattern.at.as_deref() {
            None => None,
            Some("core") => Some(At::Core),
            Some(name) => Some(At::Node(node(name)?)),
        };
        Ok(Resolved {
            kind: pattern.kind,
            from: (Some(from), known_as(&self.nodes, from)),
            to: to.map(|to| known_as(&self.nodes, to)),
            at,
        })
    }

    /// Lets a packet pass, or keeps it; and lets those go that waited for it.
    pub(super) fn pass_gates(&mut self, spot: Spot, packet: Arc<[u8]>) -> Option<Arc<[u8]>> {
        if self.gates.all.iter().all(|gate| gate.open) {
            return Some(packet);
        }
        let mut seen = Vec::new();
        let mut holder = None;
        for (number, gate) in self.gates.all.iter().enumerate() {
            if gate.open {
                continue;
            }
            if gate.until.matches(spot, &packet) {
                seen.push(number);
            } else if gate.hold.matches(spot, &packet) && holder.is_none() {
                holder = Some(number);
            }
        }
        let held = holder.is_some();
        if let Some(number) = holder {
            self.hold(number, spot, Arc::clone(&packet));
        }
        for number in seen {
            self.open_gate(number, false);
        }
        (!held).then_some(packet)
    }

    fn hold(&mut self, number: usize, spot: Spot, packet: Arc<[u8]>) {
        let gate = &mut self.gates.all[number];
        let verdict = if gate.held.len() < MAX_HELD {
            gate.held.push_back((spot, Arc::clone(&packet)));
            format!("held: {}", gate.text)
        } else {
            format!("dropped: too much waits at a gate: {}", gate.text)
        };
        if gate.held.len() == 1 {
            let at = self.now + gate.limit;
            self.queue.push(at, What::GateLimit(number));
        }
        self.note_at_gate(spot, verdict, packet);
    }

    /// Opens a gate for good.
    pub(super) fn open_gate(&mut self, number: usize, too_late: bool) {
        let gate = &mut self.gates.all[number];
        if std::mem::replace(&mut gate.open, true) {
            return;
        }
        let text = Arc::clone(&gate.text);
        let reason = if too_late {
            "waited too long"
        } else {
            "released"
        };
        for (spot, packet) in std::mem::take(&mut gate.held) {
            self.note_at_gate(spot, format!("{reason}: {text}"), Arc::clone(&packet));
            // It may have to wait at another gate of the same place.
            if let Some(packet) = self.pass_gates(spot, packet) {
                self.go_on(spot, packet);
            }
        }
    }

    fn note_at_gate(&mut self, spot: Spot, text: String, packet: Arc<[u8]>) {
        let (link, towards) = match spot {
            Spot::Sent { node, .. } => (node, Side::External),
            Spot::Arrived { link, towards, .. } => (link, towards),
        };
        let sent = matches!(spot, Spot::Sent { .. });
        let event = Event::AtGate { text, sent };
        self.observe(link, towards, event, packet);
    }

    fn go_on(&mut self, spot: Spot, packet: Arc<[u8]>) {
        match spot {
            Spot::Sent { node, at } => {
                self.carry(at.max(self.now), node, Side::External, packet, None);
            }
            Spot::Arrived {
                link,
                towards: Side::External,
                ..
            } => self.enter_above(link, packet),
            Spot::Arrived {
                link,
                towards: Side::Internal,
                ..
            } => self.enter_below(link, packet),
        }
    }
}

/// Returns the addresses of a node and of all boxes in front of it.
fn known_as(nodes: &[Node], node: usize) -> Vec<Network> {
    let above = |node: &usize| nodes[*node].parent;
    std::iter::successors(Some(node), above)
        .flat_map(|node| nodes[node].networks.iter().copied())
        .collect()
}

impl NodeId {
    /// Returns the place of the node in the order in which nodes were added.
    pub(crate) const fn index(self) -> usize {
        self.0
    }
}
