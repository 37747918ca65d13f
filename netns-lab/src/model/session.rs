//! The state of one connection through the box (RFC 5382 sections 3 to 5).

use std::time::Duration;

use p2pconnect_nat::{NatSpec, RstEffect, Timers};

use super::Side;
use crate::packet::{Protocol, TcpFlags};

/// How far a session has come, as the box sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum SessionState {
    /// UDP, which has no states.
    Udp,
    /// An echo, which has none either.
    Echo,
    /// A SYN has gone out.
    OutboundSyn,
    /// A SYN has come in.
    InboundSyn,
    /// A SYN-ACK has answered a SYN, but not been acknowledged.
    SynAck,
    /// SYNs without ACK have crossed.
    SimultaneousOpen,
    /// Each end has acknowledged the other's SYN.
    Established,
    /// One end has sent its FIN.
    HalfClosed,
    /// Both ends have sent their FINs.
    TimeWait,
    /// An end has sent a reset.
    Reset,
}

/// What has been seen of a TCP connection, by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Seen {
    syn: BySide,
    /// A SYN-ACK, as opposed to a SYN.
    syn_ack: bool,
    /// An acknowledgement of the other side's SYN.
    ack: BySide,
    fin: BySide,
    rst: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct BySide {
    internal: bool,
    external: bool,
}

/// One session of a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Session {
    kind: Kind,
    pub(super) expires: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tcp(Seen),
    Udp,
    Echo,
}

impl BySide {
    const fn set(&mut self, side: Side) {
        match side {
            Side::Internal => self.internal = true,
            Side::External => self.external = true,
        }
    }

    const fn get(self, side: Side) -> bool {
        match side {
            Side::Internal => self.internal,
            Side::External => self.external,
        }
    }

    const fn both(self) -> bool {
        self.internal && self.external
    }
}

impl Seen {
    /// A connection whose beginning the box has missed.
    const MIDSTREAM: Self = {
        let both = BySide {
            internal: true,
            external: true,
        };
        let neither = BySide {
            internal: false,
            external: false,
        };
        Self {
            syn: both,
            syn_ack: true,
            ack: both,
            fin: neither,
            rst: false,
        }
    };

    const fn state(&self) -> SessionState {
        if self.rst {
            SessionState::Reset
        } else if self.fin.both() {
            SessionState::TimeWait
        } else if self.fin.internal || self.fin.external {
            SessionState::HalfClosed
        } else if self.ack.both() {
            SessionState::Established
        } else if self.syn_ack {
            SessionState::SynAck
        } else if self.syn.both() {
            SessionState::SimultaneousOpen
        } else if self.syn.internal {
            SessionState::OutboundSyn
        } else {
            SessionState::InboundSyn
        }
    }

    fn see(&mut self, from: Side, flags: TcpFlags) {
        let over = matches!(self.state(), SessionState::TimeWait | SessionState::Reset);
        if flags.is_syn() && over {
            // The ends use their ports again (RFC 9293 section 3.6.1).
            *self = Self::default();
        }
        if flags.has_syn() {
            self.syn.set(from);
            self.syn_ack |= flags.is_ack();
        }
        if flags.is_ack() && self.syn.get(from.other()) {
            self.ack.set(from);
        }
        if flags.is_fin() {
            self.fin.set(from);
        }
    }
}

impl Session {
    /// Starts a session with its first packet, which it still has to see.
    ///
    /// Until a packet makes it last longer, it ends at `expires`.
    pub(super) fn new(protocol: Protocol, flags: TcpFlags, expires: Duration) -> Self {
        let kind = match protocol {
            Protocol::Tcp if flags.is_syn() => Kind::Tcp(Seen::default()),
            Protocol::Tcp => Kind::Tcp(Seen::MIDSTREAM),
            Protocol::Udp => Kind::Udp,
            Protocol::Echo => Kind::Echo,
        };
        Self { kind, expires }
    }

    pub(super) const fn state(&self) -> SessionState {
        match &self.kind {
            Kind::Tcp(seen) => seen.state(),
            Kind::Udp => SessionState::Udp,
            Kind::Echo => SessionState::Echo,
        }
    }

    /// Takes note of a packet, and returns whether the session goes on.
    pub(super) fn see(
        &mut self,
        now: Duration,
        from: Side,
        flags: TcpFlags,
        spec: &NatSpec,
    ) -> bool {
        match &mut self.kind {
            Kind::Tcp(seen) if flags.is_rst() => match spec.rst {
                RstEffect::Closes => return false,
                RstEffect::Transitory => seen.rst = true,
                // Not even a refresh: a reset shows no life.
                RstEffect::Ignored => return true,
            },
            Kind::Tcp(seen) => seen.see(from, flags),
            Kind::Udp if from == Side::External && !spec.udp_inbound_refresh => return true,
            // Whoever asks keeps the mapping.
            Kind::Echo if from == Side::External => return true,
            Kind::Udp | Kind::Echo => {}
        }
        self.expires = now.saturating_add(self.state().timeout(&spec.timers));
        true
    }
}

impl SessionState {
    /// Returns how long the state lasts without packets. A connection that one end has closed
    /// counts as established until the other has as well (RFC 5382 section 5).
    const fn timeout(self, timers: &Timers) -> Duration {
        match self {
            Self::Udp => timers.udp,
            Self::Echo => timers.echo,
            Self::OutboundSyn
            | Self::InboundSyn
            | Self::SynAck
            | Self::SimultaneousOpen
            | Self::Reset => timers.transitory,
            Self::Established | Self::HalfClosed => timers.established,
            Self::TimeWait => timers.time_wait,
        }
    }
}
