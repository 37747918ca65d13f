//! Middleboxes for tests, simple enough to be obviously right.

use std::borrow::Cow;
use std::collections::{BTreeSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use netns_lab::virtual_time::{Middlebox, Outgoing, Side};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    Icmpv4DstUnreachable, Icmpv4Packet, Icmpv4Repr, IpProtocol, Ipv4Packet, Ipv4Repr, TcpPacket,
};

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
    ) -> Cow<'static, str> {
        let (source, destination) = ends(packet);
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

    fn handle_timeout(&mut self, now: Duration, out: &mut Vec<Outgoing>) -> Cow<'static, str> {
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
    ) -> Cow<'static, str> {
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

    fn handle_timeout(&mut self, _now: Duration, _out: &mut Vec<Outgoing>) -> Cow<'static, str> {
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
    ) -> Cow<'static, str> {
        let ip = Ipv4Packet::new_checked(packet).unwrap();
        let tcp = TcpPacket::new_checked(ip.payload()).unwrap();
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

    fn handle_timeout(&mut self, _now: Duration, _out: &mut Vec<Outgoing>) -> Cow<'static, str> {
        "nothing".into()
    }
}

fn ends(packet: &[u8]) -> (SocketAddr, SocketAddr) {
    let ip = Ipv4Packet::new_checked(packet).unwrap();
    let tcp = TcpPacket::new_checked(ip.payload()).unwrap();
    (
        (ip.src_addr(), tcp.src_port()).into(),
        (ip.dst_addr(), tcp.dst_port()).into(),
    )
}

/// The answer of RFC 9293 section 3.10.7.1 to a SYN.
fn rst(syn: &[u8]) -> Vec<u8> {
    let ip = Ipv4Packet::new_checked(syn).unwrap();
    let tcp = TcpPacket::new_checked(ip.payload()).unwrap();
    let mut body = [0; 20];
    let mut answer = TcpPacket::new_unchecked(&mut body[..]);
    answer.set_src_port(tcp.dst_port());
    answer.set_dst_port(tcp.src_port());
    answer.set_ack_number(tcp.seq_number() + tcp.segment_len());
    answer.set_header_len(20);
    answer.set_rst(true);
    answer.set_ack(true);
    answer.fill_checksum(&ip.dst_addr().into(), &ip.src_addr().into());
    datagram(ip.dst_addr(), ip.src_addr(), IpProtocol::Tcp, &body)
}

/// Destination unreachable (RFC 792) about a packet.
fn unreachable(about: &[u8], code: u8) -> Vec<u8> {
    let ip = Ipv4Packet::new_checked(about).unwrap();
    let caps = ChecksumCapabilities::default();
    let repr = Icmpv4Repr::DstUnreachable {
        reason: Icmpv4DstUnreachable::from(code),
        header: Ipv4Repr::parse(&ip, &caps).unwrap(),
        data: &ip.payload()[..8],
    };
    let mut body = vec![0; repr.buffer_len()];
    repr.emit(&mut Icmpv4Packet::new_unchecked(&mut body), &caps);
    datagram(ip.dst_addr(), ip.src_addr(), IpProtocol::Icmp, &body)
}

fn datagram(source: Ipv4Addr, destination: Ipv4Addr, protocol: IpProtocol, body: &[u8]) -> Vec<u8> {
    let repr = Ipv4Repr {
        src_addr: source,
        dst_addr: destination,
        next_header: protocol,
        payload_len: body.len(),
        hop_limit: 64,
    };
    let mut packet = vec![0; 20 + body.len()];
    let mut ip = Ipv4Packet::new_unchecked(&mut packet[..]);
    repr.emit(&mut ip, &ChecksumCapabilities::default());
    ip.payload_mut().copy_from_slice(body);
    packet
}
