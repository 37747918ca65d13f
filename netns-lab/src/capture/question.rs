//! Questions about connections that a capture can answer.

use std::net::IpAddr;

use super::{Direction, End, Packet, Transport};
use crate::packet::TcpFlags;

/// How a TCP connection was opened, read from the packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Handshake {
    /// Both sides sent SYN, and both answered with SYN-ACK (RFC 9293 section 3.5).
    Simultaneous,
    /// One side sent SYN, the other answered with SYN-ACK.
    Accepted {
        /// The address of the side that connected.
        client: IpAddr,
    },
    /// No handshake was completed.
    None,
}

/// What one side of a connection did.
#[derive(Debug, Default, Clone, Copy)]
struct Side {
    syn: bool,
    syn_ack: bool,
}

pub(super) fn handshake(packets: &[Packet], one: End, other: End) -> Handshake {
    let steps: Vec<_> = packets
        .iter()
        .filter_map(|packet| step(packet, one, other))
        .collect();
    let Some((_, ports, _)) = steps
        .iter()
        .rev()
        .find(|(.., flags)| flags.is_syn_ack())
        .copied()
    else {
        return Handshake::None;
    };
    let mut attempt = Attempt::default();
    // Of those that were reset later.
    let mut completed = Handshake::None;
    for (from_one, _, flags) in steps.iter().filter(|(_, these, _)| *these == ports) {
        if flags.is_rst() {
            if attempt.acknowledged {
                completed = attempt.handshake(one, other);
            }
            // What follows is another attempt.
            attempt = Attempt::default();
        } else {
            attempt.take(*from_one, *flags);
        }
    }
    match attempt.handshake(one, other) {
        Handshake::None => completed,
        handshake => handshake,
    }
}

/// What both sides did until one of them reset it.
#[derive(Debug, Default, Clone, Copy)]
struct Attempt {
    sides: [Side; 2],
    /// Whether a SYN-ACK was answered.
    acknowledged: bool,
}

impl Attempt {
    fn take(&mut self, from_one: bool, flags: TcpFlags) {
        let [one, other] = &mut self.sides;
        let (sender, receiver) = if from_one { (one, other) } else { (other, one) };
        if flags.is_syn_ack() {
            sender.syn_ack = true;
        } else if flags.is_syn() {
            sender.syn = true;
        } else if flags.is_ack() {
            self.acknowledged |= receiver.syn_ack;
        }
    }

    fn handshake(&self, one: End, other: End) -> Handshake {
        match self.sides {
            [Side { syn_ack: true, .. }, Side { syn_ack: true, .. }] => Handshake::Simultaneous,
            [Side { syn: true, .. }, Side { syn_ack: true, .. }] => Handshake::Accepted {
                client: one.address,
            },
            [Side { syn_ack: true, .. }, Side { syn: true, .. }] => Handshake::Accepted {
                client: other.address,
            },
            _ => Handshake::None,
        }
    }
}

/// Reads a packet between the two ends: whether `one` sent it, the ports of `one` and `other`, and
/// the flags. Each packet counts once, where it left.
fn step(packet: &Packet, one: End, other: End) -> Option<(bool, (u16, u16), TcpFlags)> {
    let Transport::Tcp {
        source_port,
        destination_port,
        flags,
        ..
    } = packet.transport
    else {
        return None;
    };
    if packet.direction != Direction::FromHost {
        return None;
    }
    let sent_by = |end: End| end.matches(packet.source, source_port);
    let sent_to = |end: End| end.matches(packet.destination, destination_port);
    if sent_by(one) && sent_to(other) {
        Some((true, (source_port, destination_port), flags))
    } else if sent_by(other) && sent_to(one) {
        Some((false, (destination_port, source_port), flags))
    } else {
        None
    }
}
