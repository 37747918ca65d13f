//! What some boxes do to packets that they should leave alone.

use std::net::SocketAddr;

use netns_lab::model::{Directions, NatSpec, Side, Verdict};
use netns_lab_rig::packets::{ACK, SYN, body, endpoint, ends, mend, segment, udp};

use crate::bench::Bench;

/// As Linux sends them: MSS, SACK permitted, timestamps, NOP, window scale 7.
const OPTIONS: [u8; 20] = [
    2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7,
];

/// The same with the window scale at an odd place, and the end of options behind it.
const ODD: [u8; 8] = [2, 4, 5, 180, 3, 3, 7, 0];

fn a() -> SocketAddr {
    endpoint("10.1.0.2:40000")
}

fn b() -> SocketAddr {
    endpoint("192.0.2.1:40000")
}

/// Returns the options of what comes out, whose checksum the bench has looked at.
fn through(bench: &mut Bench, side: Side, flags: u8, options: &[u8]) -> Vec<u8> {
    let ends = match side {
        Side::Internal => (a(), b()),
        Side::External => (b(), endpoint("203.0.113.2:40000")),
    };
    let packet = segment(ends.0, ends.1, flags, options, &[]);
    let (_, outputs) = bench.handle(side, &packet);
    body(&outputs[0].packet)[20..].to_vec()
}

#[test]
fn the_window_scale_is_taken_out_of_syns_in_the_directions_that_are_told() {
    for (directions, out, back) in [
        (Directions::Neither, false, false),
        (Directions::Outbound, true, false),
        (Directions::Inbound, false, true),
        (Directions::Both, true, true),
    ] {
        let spec = NatSpec::port_preserving().strip_window_scale(directions);
        for options in [&OPTIONS[..], &ODD] {
            let mut bench = Bench::new(spec);
            for (side, flags, is_stripped) in [
                (Side::Internal, SYN, out),
                (Side::External, SYN | ACK, back),
            ] {
                let mut expected = options.to_vec();
                if is_stripped {
                    let at = options.windows(3).position(|it| it == [3, 3, 7]).unwrap();
                    expected[at..at + 3].fill(1);
                }
                assert_eq!(through(&mut bench, side, flags, options), expected);
            }
            // Other segments have no such option to lose.
            assert_eq!(through(&mut bench, Side::Internal, ACK, options), options);
        }
    }
}

#[test]
fn options_that_are_cut_off_pass() {
    let spec = NatSpec::port_preserving().strip_window_scale(Directions::Both);
    for options in [
        [1, 1, 1, 3],
        [8, 0, 3, 3],
        [2, 200, 1, 1],
        [1, 1, 3, 9],
        [0, 3, 3, 7],
    ] {
        let mut bench = Bench::new(spec);
        assert_eq!(through(&mut bench, Side::Internal, SYN, &options), options);
    }
}

#[test]
fn all_udp_is_dropped_and_nothing_else() {
    let mut bench = Bench::new(NatSpec::port_preserving().drop_udp());
    for packet in [udp(a(), b(), b"data", true), udp(a(), b(), b"", true)] {
        let (verdict, outputs) = bench.handle(Side::Internal, &packet);
        assert_eq!(verdict.to_string(), "DROP UDP");
        assert!(outputs.is_empty());
    }
    assert_eq!(
        through(&mut bench, Side::Internal, SYN, &[1, 1, 1, 1]),
        [1, 1, 1, 1]
    );
}

#[test]
fn udp_with_an_ecn_mark_is_dropped() {
    let mut bench = Bench::new(NatSpec::port_preserving().drop_ecn_udp());
    for (class, passes) in [(0, true), (1, false), (2, false), (3, false), (0xB8, true)] {
        let mut packet = udp(a(), b(), b"data", true);
        packet[1] = class;
        mend(&mut packet);
        let (verdict, outputs) = bench.handle(Side::Internal, &packet);
        assert_eq!(verdict.forwarded(), passes, "{class}: {verdict}");
        if passes {
            assert_eq!(ends(&outputs[0].packet).2, b());
        } else {
            assert_eq!(verdict.to_string(), "DROP UDP with an ECN mark");
            assert!(matches!(verdict, Verdict::Dropped(_)));
        }
    }
}
