//! Middleboxes for tests, simple enough to be obviously right.

use std::{
    collections::{BTreeSet, VecDeque},
    net::SocketAddr,
    time::Duration,
};

use netns_lab::virtual_time::{Middlebox, Outgoing, Remark, Side};
use netns_lab_rig::packets::{ACK, RST, body, edit_tcp, ends, icmp_error_of, tcp};
use smoltcp::wire::{TcpPacket, TcpSeqNumber};

/// What a firewall does with what nobody inside asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Drop,
    Rst,
    Icmp(u8),
    /// RST, so much later.
    Late(Duration),
}

/// A stateful IPv4 firewall without timers for its flows.
#[derive(Debug)]
pub(crate) struct Firewall {
    answer: Answer,
    flows: BTreeSet<(SocketAddr, SocketAddr)>,
    late: VecDeque<(Duration, Vec<u8>)>,
}

impl Firewall {
    pub(crate) fn new(answer: Answer) -> Box<Self> {
        Box::new(Self {
            answer,
            flows: BTreeSet::new(),
            late: VecDeque::new(),
        })
    }
}

impl Middlebox for Firewall {
    fn handle(
        &mut self,
        now: Duration,
        side: Side,
        packet: &[u8],
        out: &mut Vec<Outgoing>,
    ) -> Remark {
        let (_, source, destination) = ends(packet);
        if side == Side::Internal {
            self.flows.insert((source, destination));
        } else if !self.flows.contains(&(destination, source)) {
            let (packet, verdict) = match self.answer {
                Answer::Drop => return "dropped: unsolicited".into(),
                Answer::Rst => (rst(packet), "answered with rst: unsolicited".into()),
                Answer::Icmp(code) => {
                    let verdict = format!("answered with icmp 3/{code}: unsolicited");
                    (unreachable(packet, code), verdict.into())
                }
                Answer::Late(delay) => {
                    self.late.push_back((now + delay, rst(packet)));
                    return "will be answered with rst: unsolicited".into();
                }
            };
            let side = Side::External;
            out.push(Outgoing { side, packet });
            return verdict;
        }
        let side = match side {
            Side::Internal => Side::External,
            Side::External => Side::Internal,
        };
        let packet = packet.to_vec();
        out.push(Outgoing { side, packet });
        "passed".into()
    }

    fn next_timeout(&self) -> Option<Duration> {
        self.late.front().map(|(at, _)| *at)
    }

    fn handle_timeout(&mut self, now: Duration, out: &mut Vec<Outgoing>) -> Remark {
        let due = self.late.partition_point(|(at, _)| *at <= now);
        let side = Side::External;
        let packets = self.late.drain(..due);
        out.extend(packets.map(|(_, packet)| Outgoing { side, packet }));
        "late answer".into()
    }
}

/// A wire that loses the packets from inside whose numbers are listed.
#[derive(Debug)]
pub(crate) struct Loses {
    pub(crate) numbers: Vec<usize>,
    pub(crate) seen: usize,
}

impl Middlebox for Loses {
    fn handle(
        &mut self,
        _now: Duration,
        side: Side,
        packet: &[u8],
        out: &mut Vec<Outgoing>,
    ) -> Remark {
        if side == Side::Internal {
            self.seen += 1;
            if self.numbers.contains(&self.seen) {
                return "dropped: its turn".into();
            }
        }
        let side = match side {
            Side::Internal => Side::External,
            Side::External => Side::Internal,
        };
        let packet = packet.to_vec();
        out.push(Outgoing { side, packet });
        "passed".into()
    }

    fn next_timeout(&self) -> Option<Duration> {
        None
    }

    fn handle_timeout(&mut self, _now: Duration, _out: &mut Vec<Outgoing>) -> Remark {
        "nothing".into()
    }
}

/// A wire that answers the first data from outside with "unreachable".
#[derive(Debug)]
pub(crate) struct RefusesDataOnce {
    pub(crate) code: u8,
    pub(crate) done: bool,
}

impl Middlebox for RefusesDataOnce {
    fn handle(
        &mut self,
        _now: Duration,
        side: Side,
        packet: &[u8],
        out: &mut Vec<Outgoing>,
    ) -> Remark {
        let tcp = TcpPacket::new_checked(body(packet)).unwrap();
        if side == Side::External && !tcp.payload().is_empty() && !self.done {
            self.done = true;
            let packet = unreachable(packet, self.code);
            out.push(Outgoing { side, packet });
            return "refused: the first data".into();
        }
        let side = match side {
            Side::Internal => Side::External,
            Side::External => Side::Internal,
        };
        let packet = packet.to_vec();
        out.push(Outgoing { side, packet });
        "passed".into()
    }

    fn next_timeout(&self) -> Option<Duration> {
        None
    }

    fn handle_timeout(&mut self, _now: Duration, _out: &mut Vec<Outgoing>) -> Remark {
        "nothing".into()
    }
}

/// The answer of RFC 9293 section 3.10.7.1 to a SYN.
fn rst(syn: &[u8]) -> Vec<u8> {
    let (_, source, destination) = ends(syn);
    let syn = TcpPacket::new_checked(body(syn)).unwrap();
    let mut answer = tcp(destination, source, RST | ACK);
    edit_tcp(&mut answer, |rst| {
        rst.set_seq_number(TcpSeqNumber(0));
        rst.set_ack_number(syn.seq_number() + syn.segment_len());
    });
    answer
}

/// Destination unreachable (RFC 792) about a packet.
fn unreachable(about: &[u8], code: u8) -> Vec<u8> {
    let (_, source, destination) = ends(about);
    let quoted = &about[..about.len() - body(about).len() + 8];
    icmp_error_of([3, code], destination.ip(), source.ip(), quoted)
}
