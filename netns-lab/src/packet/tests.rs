//! Whatever comes, nothing panics; and what is read, made and rewritten is right.
#![expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

use std::net::SocketAddr;

use netns_lab_rig::packets::{
    ACK, SYN, assert_checksums, body, echo_reply as pong, echo_request, endpoint, ends, icmp_error,
    mend, segment, tcp_with, udp,
};
use proptest::prelude::*;
use smoltcp::wire::checksum;

use super::{rewrite::updated, *};

/// Three ends of each family.
const ENDS: [[&str; 3]; 2] = [
    ["10.1.0.2:4000", "192.0.2.1:80", "203.0.113.9:50000"],
    [
        "[fd01::2]:4000",
        "[2001:db8::1]:80",
        "[2001:db8:1::9]:50000",
    ],
];

/// MSS, NOP, window scale, and the end of options.
const OPTIONS: [u8; 12] = [2, 4, 5, 180, 1, 3, 3, 7, 0, 0, 0, 0];

/// One packet of each kind that is read, without errors.
fn packets(from: SocketAddr, to: SocketAddr) -> [Vec<u8>; 6] {
    [
        tcp_with(from, to, ACK, b"data"),
        segment(from, to, SYN, &OPTIONS, b""),
        udp(from, to, b"data", true),
        udp(from, to, b"data", false),
        echo_request(from, to.ip()),
        pong(from.ip(), to),
    ]
}

/// All of [`packets`] in both families, each with its ends.
fn all() -> impl Iterator<Item = (Vec<u8>, [SocketAddr; 3])> {
    ENDS.into_iter().flat_map(|texts| {
        let ends = texts.map(endpoint);
        packets(ends[0], ends[1])
            .into_iter()
            .map(move |packet| (packet, ends))
    })
}

/// Returns the flow of a packet that is no error.
fn flow(packet: &[u8]) -> Option<Flow> {
    match Headers::read(packet)?.body {
        Body::Tcp(segment) => Some(segment.flow),
        Body::Udp(flow) => Some(flow),
        Body::Icmp(icmp) => match icmp.content {
            IcmpContent::Echo(flow) => Some(flow),
            IcmpContent::Error(_) | IcmpContent::Other => None,
        },
        Body::Unread(_) => None,
    }
}

/// Returns the flow that an ICMP error quotes.
fn quoted(packet: &[u8]) -> Option<Flow> {
    match Headers::read(packet)?.body {
        Body::Icmp(icmp) => match icmp.content {
            IcmpContent::Error(quoted) => quoted.ok(),
            IcmpContent::Echo(_) | IcmpContent::Other => None,
        },
        Body::Tcp(_) | Body::Udp(_) | Body::Unread(_) => None,
    }
}

/// Calls all that can be called with a packet, whatever it is.
fn use_up(packet: &[u8]) {
    let Some(headers) = Headers::read(packet) else {
        return;
    };
    headers.is_intact(packet);
    headers.to_string();
    if let Body::Tcp(segment) = headers.body {
        reset(&segment);
    }
    let to = ENDS[usize::from(headers.ip.source.is_ipv6())].map(endpoint)[2];
    for end in [End::Source, End::Destination] {
        if let Some(flow) = flow(packet) {
            let mut packet = packet.to_vec();
            flow.rewrite(&mut packet, end, to);
            flow.strip_window_scale(&mut packet);
            echo_reply(&flow, &packet);
        }
        if let Some(flow) = quoted(packet) {
            rewrite_error(&mut packet.to_vec(), &flow, end, to);
        }
    }
}

#[test]
fn what_was_made_is_read() {
    for (packet, _) in all() {
        let headers = Headers::read(&packet).unwrap();
        assert!(headers.is_intact(&packet), "{headers:?}");
        let flow = flow(&packet).unwrap();
        let (protocol, source, destination) = ends(&packet);
        assert_eq!(u8::from(headers.ip.protocol), protocol);
        assert_eq!((flow.source, flow.destination), (source, destination));
        let (from, to) = (destination.ip(), source.ip());
        // In each length in which it can be quoted.
        let transport = packet.len() - body(&packet).len();
        for bytes in 0..=packet.len() {
            let error = icmp_error(from, to, &packet, bytes);
            let told = quoted(&error).map(|flow| (flow.source, flow.destination));
            let expected = (bytes >= transport + 8).then_some((source, destination));
            assert_eq!(told, expected, "{bytes}");
            use_up(&error);
        }
    }
}

#[test]
fn the_header_of_a_segment_is_read() {
    for texts in ENDS {
        let [from, to, _] = texts.map(endpoint);
        let packet = segment(from, to, SYN | ACK, &OPTIONS, b"12345");
        let Body::Tcp(read) = Headers::read(&packet).unwrap().body else {
            panic!("no segment");
        };
        let told = (read.flow.sequence, read.acknowledgement);
        assert_eq!(told, (1000, 0));
        assert_eq!((read.header, read.payload), (32, 5));
        assert_eq!(format!("{:?}", read.flow.flags), "SYN-ACK");
        let line = format!("{from} > {to} S. seq 1000 ack 0 len 5");
        assert_eq!(read.to_string(), line);
    }
}

#[test]
fn a_packet_that_is_cut_off_is_not_read() {
    for (packet, [_, _, router]) in all() {
        let error = icmp_error(router.ip(), ends(&packet).1.ip(), &packet, 200);
        for packet in [packet, error] {
            for length in 0..packet.len() {
                assert_eq!(Headers::read(&packet[..length]), None, "{length}");
            }
            // What is behind its end is no part of it.
            let longer = [&packet[..], b"more"].concat();
            assert_eq!(Headers::read(&longer), Headers::read(&packet));
        }
    }
}

#[test]
fn every_end_can_be_rewritten_of_every_packet_and_of_what_errors_quote() {
    for (packet, [_, _, new]) in all() {
        let flow = flow(&packet).unwrap();
        for end in [End::Source, End::Destination] {
            // An end without a port stays without.
            let port = if flow.has_port(end) { new.port() } else { 0 };
            let expected = match end {
                End::Source => (SocketAddr::new(new.ip(), port), flow.destination),
                End::Destination => (flow.source, SocketAddr::new(new.ip(), port)),
            };
            let mut rewritten = packet.clone();
            flow.rewrite(&mut rewritten, end, new);
            assert_checksums(&rewritten);
            let (_, source, destination) = ends(&rewritten);
            assert_eq!((source, destination), expected);

            let (from, to) = (flow.destination.ip(), flow.source.ip());
            let transport = packet.len() - body(&packet).len();
            for bytes in transport + 8..=packet.len() {
                let mut error = icmp_error(from, to, &packet, bytes);
                let about = quoted(&error).unwrap();
                rewrite_error(&mut error, &about, end, new);
                assert_checksums(&error);
                let about = quoted(&error).unwrap();
                assert_eq!((about.source, about.destination), expected);
                let (_, source, destination) = ends(&error);
                let expected = match end {
                    End::Source => (from, new.ip()),
                    End::Destination => (new.ip(), to),
                };
                assert_eq!((source.ip(), destination.ip()), expected);
            }
        }
    }
}

#[test]
fn damage_is_seen_and_not_hidden() {
    for (packet, [_, _, new]) in all() {
        let flow = flow(&packet).unwrap();
        let has_checksum = flow.protocol != Protocol::Udp || body(&packet)[6..8] != [0, 0];
        let last = packet.len() - 1;
        let mut damaged = packet.clone();
        damaged[last] ^= 0x10;
        let is_intact = |packet: &[u8]| Headers::read(packet).unwrap().is_intact(packet);
        assert_eq!(is_intact(&damaged), !has_checksum);
        flow.rewrite(&mut damaged, End::Source, new);
        assert_eq!(is_intact(&damaged), !has_checksum);
        if new.is_ipv4() {
            let mut damaged = packet;
            damaged[8] ^= 1;
            assert!(!is_intact(&damaged));
        }
    }
}

#[test]
fn answers_are_right() {
    for texts in ENDS {
        let [from, to, _] = texts.map(endpoint);
        let syn = tcp_with(from, to, SYN, b"12345");
        let Body::Tcp(read) = Headers::read(&syn).unwrap().body else {
            panic!("no segment");
        };
        let rst = reset(&read);
        assert_checksums(&rst);
        // It acknowledges the SYN and the data on it (RFC 9293 section 3.10.7.1).
        let line = format!("{to} > {from} R. seq 0 ack 1006 len 0");
        assert_eq!(Headers::read(&rst).unwrap().to_string(), line);

        let request = echo_request(from, to.ip());
        let reply = echo_reply(&flow(&request).unwrap(), &request);
        assert_checksums(&reply);
        assert_eq!(body(&reply), body(&pong(to.ip(), from)));
    }
}

#[test]
fn rfc1624_section_4_example() {
    // m = 0x5555 becomes m' = 0x3285 where the checksum was 0xDD2F.
    assert_eq!(updated(0xDD2F, 0x5555, 0x3285), 0x0000);
}

proptest! {
    #[test]
    fn an_update_equals_a_computation(
        head in prop::collection::vec(any::<u8>(), 0..9),
        old in prop::collection::vec(any::<u8>(), 1..40),
        new in prop::collection::vec(any::<u8>(), 40),
    ) {
        let new = &new[..old.len()];
        // RFC 1624 section 3 excludes only data that is all zero.
        prop_assume!(new.iter().any(|byte| *byte != 0));
        let head = &[&head[..], &vec![1; 10 - head.len()]].concat();
        let field = !checksum::data(&[head, &old[..]].concat());
        let updated = updated(field, checksum::data(&old), checksum::data(new));
        prop_assert_eq!(updated, !checksum::data(&[head, new].concat()));
    }

    #[test]
    fn arbitrary_packets_never_panic(
        version in prop_oneof![Just(0x45u8), Just(0x60), any::<u8>()],
        protocol in prop_oneof![Just(6u8), Just(17), Just(1), Just(58), any::<u8>()],
        mut packet in prop::collection::vec(any::<u8>(), 0..120),
        is_whole: bool,
    ) {
        for (at, value) in [(0, version), (6, protocol), (9, protocol)] {
            if let Some(byte) = packet.get_mut(at) {
                *byte = value;
            }
        }
        if is_whole && packet.len() >= 40 {
            let total = packet.len() as u16;
            let (at, length) = if version == 0x45 { (2, total) } else { (4, total - 40) };
            packet[at..at + 2].copy_from_slice(&length.to_be_bytes());
        }
        use_up(&packet);
    }

    /// A byte changed in a good packet, also in what an error quotes.
    #[test]
    fn damaged_packets_never_panic(
        which in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        byte: u8,
        bytes in 0usize..100,
        is_error: bool,
    ) {
        let packets: Vec<_> = all().collect();
        let (packet, [_, _, router]) = which.get(&packets);
        let mut packet = if is_error {
            icmp_error(router.ip(), router.ip(), packet, bytes)
        } else {
            packet.clone()
        };
        let at = at.index(packet.len());
        packet[at] = byte;
        mend(&mut packet);
        use_up(&packet);
    }
}
