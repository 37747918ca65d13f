//! NATs and firewalls, with the connection tracking of Linux.
//!
//! What is modelled was measured on Linux 6.18: an RST makes an unanswered entry go away at once;
//! ICMP leaves it; a SYN from outside that meets an entry in SYN_SENT passes and makes it
//! SYN_SENT2, in which only the two initial sequence numbers seen so far are valid. Whatever is
//! not valid leaves untranslated, which is as good as lost.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

use crate::packet::{Body, IcmpCode, Packet};

/// How the external port is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ports {
    /// No translation at all: a firewall.
    Untranslated,
    /// The local one.
    Kept,
    /// A random one for each local address and port.
    Random,
    /// A random one for each destination.
    RandomPerDestination,
}

/// What becomes of a packet from outside that nobody asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unsolicited {
    /// It goes to whoever has the external port.
    Admit,
    Drop,
    Reset,
    Icmp(IcmpCode),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NatSpec {
    pub(crate) ports: Ports,
    pub(crate) unsolicited: Unsolicited,
}

/// What a box does with a packet from outside.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Inbound {
    Pass(Packet),
    Answer(Packet),
    Drop,
}

#[derive(Debug)]
pub(crate) struct NatBox {
    spec: NatSpec,
    external: Ipv4Addr,
    mappings: BTreeMap<SocketAddr, u16>,
    entries: Vec<Entry>,
    /// How many packets left untranslated.
    pub(crate) leaked: u32,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    inside: SocketAddr,
    external: SocketAddr,
    remote: SocketAddr,
    origin: Side,
    state: Tracking,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Inside,
    Outside,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tracking {
    SynSent { seq: u32 },
    SynSent2 { seq: u32, reply: u32 },
    Answered { seq: u32, reply: u32 },
    Gone,
}

impl NatBox {
    pub(crate) const fn new(spec: NatSpec, external: Ipv4Addr) -> Self {
        Self {
            spec,
            external,
            mappings: BTreeMap::new(),
            entries: Vec::new(),
            leaked: 0,
        }
    }

    /// Returns the address under which a STUN server sees `inside`.
    pub(crate) fn map(&mut self, inside: SocketAddr, rng: &mut ChaCha8Rng) -> SocketAddr {
        let port = match self.spec.ports {
            Ports::Untranslated => return inside,
            Ports::Kept => inside.port(),
            Ports::Random | Ports::RandomPerDestination => rng.random_range(1024..u16::MAX),
        };
        let port = *self.mappings.entry(inside).or_insert(port);
        (self.external, port).into()
    }

    pub(crate) fn outbound(&mut self, packet: Packet, rng: &mut ChaCha8Rng) -> Option<Packet> {
        let found = self
            .entries
            .iter()
            .position(|entry| entry.inside == packet.src && entry.remote == packet.dst);
        let index = match (found, packet.body) {
            (Some(index), _) => index,
            (None, Body::Syn { seq }) => {
                let external = match self.spec.ports {
                    Ports::Untranslated | Ports::Kept | Ports::Random => self.map(packet.src, rng),
                    Ports::RandomPerDestination => {
                        (self.external, rng.random_range(1024..u16::MAX)).into()
                    }
                };
                self.entries.push(Entry {
                    inside: packet.src,
                    external,
                    remote: packet.dst,
                    origin: Side::Inside,
                    state: Tracking::SynSent { seq },
                });
                self.entries.len() - 1
            }
            (None, _) => {
                self.leaked += 1;
                return None;
            }
        };
        let src = self.entries[index].external;
        if self.track(index, Side::Inside, packet.body) {
            Some(Packet { src, ..packet })
        } else {
            self.leaked += 1;
            None
        }
    }

    pub(crate) fn inbound(&mut self, packet: Packet) -> Inbound {
        let found = self
            .entries
            .iter()
            .position(|entry| entry.external == packet.dst && entry.remote == packet.src);
        let Some(index) = found.or_else(|| self.admit(packet)) else {
            return self.refuse(packet);
        };
        let dst = self.entries[index].inside;
        if self.track(index, Side::Outside, packet.body) {
            Inbound::Pass(Packet { dst, ..packet })
        } else {
            self.refuse(packet)
        }
    }

    fn admit(&mut self, packet: Packet) -> Option<usize> {
        let Body::Syn { seq } = packet.body else {
            return None;
        };
        if self.spec.unsolicited != Unsolicited::Admit {
            return None;
        }
        let inside = match self.spec.ports {
            Ports::Untranslated => packet.dst,
            Ports::Kept | Ports::Random | Ports::RandomPerDestination => {
                let has_port = |(_, port): &(&SocketAddr, &u16)| **port == packet.dst.port();
                *self.mappings.iter().find(has_port)?.0
            }
        };
        self.entries.push(Entry {
            inside,
            external: packet.dst,
            remote: packet.src,
            origin: Side::Outside,
            state: Tracking::SynSent { seq },
        });
        Some(self.entries.len() - 1)
    }

    fn refuse(&self, packet: Packet) -> Inbound {
        let seq = match packet.body {
            Body::Syn { seq } | Body::SynAck { seq, .. } => seq,
            Body::Ack { .. } | Body::Rst { .. } | Body::Message { .. } | Body::Icmp { .. } => {
                return Inbound::Drop;
            }
        };
        match self.spec.unsolicited {
            Unsolicited::Admit | Unsolicited::Drop => Inbound::Drop,
            Unsolicited::Reset => Inbound::Answer(packet.answer(Body::Rst {
                seq: None,
                ack: seq,
            })),
            Unsolicited::Icmp(code) => {
                Inbound::Answer(packet.answer(Body::Icmp { syn: seq, code }))
            }
        }
    }

    /// Follows the connection, and tells whether the packet is valid.
    fn track(&mut self, index: usize, from: Side, body: Body) -> bool {
        let entry = &mut self.entries[index];
        let original = entry.origin == from;
        let (next, valid) = match entry.state {
            Tracking::SynSent { seq } => in_syn_sent(seq, original, body),
            Tracking::SynSent2 { seq, reply } => in_syn_sent2(seq, reply, original, body),
            Tracking::Answered { seq, reply } => in_answered(seq, reply, original, body),
            Tracking::Gone => (Tracking::Gone, false),
        };
        if next == Tracking::Gone {
            self.entries.swap_remove(index);
        } else {
            entry.state = next;
        }
        valid
    }
}

fn in_syn_sent(seq: u32, original: bool, body: Body) -> (Tracking, bool) {
    let same = Tracking::SynSent { seq };
    match (original, body) {
        (true, Body::Syn { seq }) => (Tracking::SynSent { seq }, true),
        (false, Body::Syn { seq: reply }) => (Tracking::SynSent2 { seq, reply }, true),
        (false, Body::SynAck { seq: reply, ack }) if ack == seq => {
            (Tracking::Answered { seq, reply }, true)
        }
        (false, Body::Rst { .. }) => (Tracking::Gone, true),
        (_, Body::Icmp { .. }) => (same, true),
        (_, _) => (same, false),
    }
}

fn in_syn_sent2(seq: u32, reply: u32, original: bool, body: Body) -> (Tracking, bool) {
    let same = Tracking::SynSent2 { seq, reply };
    let (own, other) = if original { (seq, reply) } else { (reply, seq) };
    match body {
        Body::Syn { seq: new } => (same, new == own),
        Body::SynAck { seq: new, ack } if new == own && ack == other => {
            (Tracking::Answered { seq, reply }, true)
        }
        Body::Rst { seq: Some(new), .. } if new == own => (Tracking::Gone, true),
        Body::Icmp { .. } => (same, true),
        Body::SynAck { .. } | Body::Rst { .. } | Body::Ack { .. } | Body::Message { .. } => {
            (same, false)
        }
    }
}

fn in_answered(seq: u32, reply: u32, original: bool, body: Body) -> (Tracking, bool) {
    let same = Tracking::Answered { seq, reply };
    let own = if original { seq } else { reply };
    match body {
        Body::Syn { seq: new }
        | Body::SynAck { seq: new, .. }
        | Body::Ack { seq: new, .. }
        | Body::Message { seq: new, .. } => (same, new == own),
        Body::Rst { seq: Some(new), .. } if new == own => (Tracking::Gone, true),
        Body::Rst { .. } => (same, false),
        Body::Icmp { .. } => (same, true),
    }
}

/// Tells whether an address belongs to a private network of the simulation.
pub(crate) const fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_private(),
        IpAddr::V6(_) => false,
    }
}
