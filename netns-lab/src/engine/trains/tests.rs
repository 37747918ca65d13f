//! Which packets are joined, and what of.

use std::net::SocketAddr;

use netns_lab_rig::packets::{ACK, FIN, PSH, SYN, edit_tcp, segment};
use proptest::prelude::*;

use super::*;

const ENDS: [[&str; 2]; 2] = [
    ["192.0.2.1", "203.0.113.7"],
    ["2001:db8:1::2", "2001:db8:2::2"],
];

/// A segment as it comes off a link.
#[derive(Debug, Clone, Copy)]
struct Made {
    ipv6: bool,
    port: u16,
    sequence: u32,
    acknowledgement: u32,
    flags: u8,
    data: usize,
    option: u8,
}

const PLAIN: Made = Made {
    ipv6: false,
    port: 4000,
    sequence: u32::MAX - 700,
    acknowledgement: 9,
    flags: ACK,
    data: 500,
    option: 1,
};

impl Made {
    /// The segment that goes on where this one ends.
    fn next(self) -> Self {
        Self {
            sequence: self.sequence.wrapping_add(self.data as u32),
            ..self
        }
    }

    fn packet(&self) -> Vec<u8> {
        let [from, to] = ENDS[usize::from(self.ipv6)].map(|end| end.parse().unwrap());
        let data = (0..self.data).map(|at| (at as u32).wrapping_add(self.sequence) as u8);
        let data: Vec<_> = data.collect();
        let (from, to) = (SocketAddr::new(from, self.port), SocketAddr::new(to, 80));
        let mut packet = segment(from, to, self.flags, &[254, 4, 0, self.option], &data);
        edit_tcp(&mut packet, |tcp| {
            tcp.set_seq_number(TcpSeqNumber(self.sequence.cast_signed()));
            tcp.set_ack_number(TcpSeqNumber(self.acknowledgement.cast_signed()));
            tcp.set_window_len(256);
        });
        packet
    }

    fn due(&self) -> Due {
        due(self.packet())
    }
}

fn due(packet: Vec<u8>) -> Due {
    Due {
        device: 3,
        packet: packet.into(),
    }
}

/// Returns how many packets each train has.
fn lengths(due: &[Due]) -> Vec<usize> {
    Train::all(due).map(|train| train.len()).collect()
}

#[test]
fn segments_that_follow_each_other_are_one_packet() {
    for ipv6 in [false, true] {
        let first = Made { ipv6, ..PLAIN };
        let last = Made {
            data: 300,
            flags: ACK | PSH,
            ..first.next().next()
        };
        let segments = [first, first.next(), last, last.next()];
        let due = segments.map(|made| made.due());
        assert_eq!(lengths(&due), [3, 1]);
        let train = Train::all(&due).next().unwrap();
        let outgoing = train.outgoing();
        let whole = Made {
            data: 1300,
            flags: last.flags,
            ..first
        };
        let whole = whole.packet();
        let transport = if ipv6 { 40 } else { 20 };
        let division = outgoing.division.unwrap();
        let told = (division.transport, division.data, division.segment);
        assert_eq!(told, (transport, transport + 24, 500));
        // But for the checksum, which the kernel completes, it is what one segment of that length
        // would be.
        let mut joined = outgoing.parts.concat();
        let field = usize::from(transport) + 16;
        joined[field..field + 2].copy_from_slice(&whole[field..field + 2]);
        assert_eq!(joined, whole);
    }
}

/// What the kernel adds to the sum of the pseudo-header makes the checksum right.
#[test]
fn the_checksum_of_a_train_is_that_of_its_pseudo_header() {
    for ipv6 in [false, true] {
        let first = Made { ipv6, ..PLAIN };
        let due = [first.due(), first.next().due()];
        let train = Train::all(&due).next().unwrap();
        let joined = train.outgoing().parts.concat();
        let transport = if ipv6 { 40 } else { 20 };
        let complete = !checksum::data(&joined[transport..]);
        let mut complete_packet = joined;
        TcpPacket::new_unchecked(&mut complete_packet[transport..]).set_checksum(complete);
        let headers = Headers::read(&complete_packet).unwrap();
        assert!(headers.is_intact(&complete_packet));
    }
}

#[test]
fn what_differs_in_anything_else_stays_alone() {
    let next = PLAIN.next();
    for other in [
        Made { port: 4001, ..next },
        Made {
            sequence: next.sequence.wrapping_add(1),
            ..next
        },
        Made {
            acknowledgement: 10,
            ..next
        },
        Made {
            flags: ACK | FIN,
            ..next
        },
        Made {
            flags: ACK | 0x40,
            ..next
        },
        Made { flags: SYN, ..next },
        Made { data: 501, ..next },
        Made { data: 0, ..next },
        Made { option: 2, ..next },
        Made { ipv6: true, ..next },
    ] {
        assert_eq!(lengths(&[PLAIN.due(), other.due()]), [1, 1], "{other:?}");
    }
    let pushed = Made {
        flags: ACK | PSH,
        ..PLAIN
    };
    assert_eq!(lengths(&[pushed.due(), next.due()]), [1, 1]);
    let elsewhere = Due {
        device: 4,
        ..next.due()
    };
    assert_eq!(lengths(&[PLAIN.due(), elsewhere]), [1, 1]);
}

#[test]
fn a_damaged_segment_stays_alone_and_damaged() {
    for ipv6 in [false, true] {
        let first = Made { ipv6, ..PLAIN };
        let good = first.next().packet();
        for at in 0..good.len() {
            let mut damaged = good.clone();
            damaged[at] ^= 0x10;
            let due = [first.due(), due(damaged.clone())];
            // What no checksum covers: the class, the flow and the hop limit of IPv6.
            if !ipv6 || !matches!(at, 0..4 | 7) {
                assert_eq!(lengths(&due), [1, 1], "{at}");
            }
        }
    }
}

#[test]
fn no_train_is_longer_than_a_packet_can_be() {
    let mut made = PLAIN;
    let mut due = Vec::new();
    for _ in 0..200 {
        due.push(made.due());
        made = made.next();
    }
    // 44 bytes of headers, and as many times 500 as fit.
    assert_eq!(lengths(&due), [130, 70]);
}

proptest! {
    /// Nothing is lost, and nothing changes places.
    #[test]
    fn trains_have_all_packets_in_their_order(
        packets in prop::collection::vec((0u8..6, prop::collection::vec(any::<u8>(), 0..60)), 0..40),
    ) {
        let mut made = PLAIN;
        let due: Vec<_> = packets
            .into_iter()
            .map(|(kind, noise)| match kind {
                0 => due(noise),
                1 => made.due(),
                _ => {
                    made = made.next();
                    made.due()
                }
            })
            .collect();
        let mut left = &due[..];
        for train in Train::all(&due) {
            let (own, rest) = left.split_at(train.len());
            left = rest;
            let outgoing = train.outgoing();
            match outgoing.division {
                None => prop_assert_eq!(outgoing.parts, [&*own[0].packet]),
                Some(division) => {
                    let data = own.iter().map(|due| &due.packet[division.data.into()..]);
                    prop_assert_eq!(outgoing.parts[1..].concat(), data.collect::<Vec<_>>().concat());
                }
            }
        }
        prop_assert!(left.is_empty());
    }
}
