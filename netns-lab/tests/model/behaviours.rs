//! The knobs that RFC 5382 leaves open or forbids, one by one.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use netns_lab::model::{
    DropReason, Limits, NatSpec, Protocol, RstEffect, SessionState, Side, SimultaneousOpen,
    SpecError, Timers, UnsolicitedSyn, Verdict, WhenFull,
};
use netns_lab_rig::packets::{
    ACK, FIN, RST, SYN, body, endpoint, ends, flags, icmp, icmp_error, tcp, tcp_with, udp,
};

use crate::bench::{AD, APD, Bench, EI, EXTERNAL};

const SILENT: NatSpec = NatSpec {
    filtering: APD,
    unsolicited: UnsolicitedSyn::Nothing,
    ..NatSpec::rfc5382()
};

fn a() -> SocketAddr {
    endpoint("10.1.0.2:40000")
}

fn b() -> SocketAddr {
    endpoint("192.0.2.1:40000")
}

fn established(spec: NatSpec) -> (Bench, SocketAddr) {
    let mut bench = Bench::new(spec);
    let external = bench.send(a(), b(), SYN).unwrap();
    bench.receive(b(), external, SYN | ACK).unwrap();
    bench.send(a(), b(), ACK).unwrap();
    (bench, external)
}

#[test]
fn verdicts_say_what_was_done_and_why() {
    let mut bench = Bench::new(SILENT);
    let external = endpoint("203.0.113.2:40000");
    let stranger = endpoint("192.0.2.2:40000");
    for (side, from, to, flags, expected) in [
        (
            Side::External,
            b(),
            external,
            SYN,
            "DROP no mapping for 203.0.113.2:40000",
        ),
        (
            Side::Internal,
            a(),
            b(),
            SYN,
            "MAP 10.1.0.2:40000 -> 203.0.113.2:40000",
        ),
        (
            Side::Internal,
            a(),
            b(),
            SYN,
            "NAT 10.1.0.2:40000 -> 203.0.113.2:40000",
        ),
        (
            Side::External,
            b(),
            external,
            SYN,
            "NAT 203.0.113.2:40000 -> 10.1.0.2:40000",
        ),
        (
            Side::External,
            stranger,
            external,
            SYN,
            "DROP no permission for 192.0.2.2:40000 (address-and-port-dependent filtering)",
        ),
        (
            Side::Internal,
            a(),
            stranger,
            ACK,
            "DROP no connection 10.1.0.2:40000 -> 192.0.2.2:40000",
        ),
        (
            Side::External,
            b(),
            endpoint("203.0.113.9:1"),
            SYN,
            "DROP not for this NAT: 203.0.113.9:1",
        ),
    ] {
        assert_eq!(bench.verdict(side, from, to, flags), expected);
    }
}

#[test]
fn unsolicited_syns_get_the_answer_of_the_box() {
    let external = SocketAddr::from((EXTERNAL, 1));
    let syn = tcp_with(b(), external, SYN, b"12345");
    let cases = [
        (UnsolicitedSyn::Rst, ", answered by RST", None),
        (
            UnsolicitedSyn::IcmpProhibited,
            ", answered by ICMP administratively prohibited",
            Some((3, 13)),
        ),
        (
            UnsolicitedSyn::IcmpPortUnreachable,
            ", answered by ICMP port unreachable",
            Some((3, 3)),
        ),
    ];
    for (unsolicited, words, error) in cases {
        let mut bench = Bench::new(NatSpec {
            unsolicited,
            ..SILENT
        });
        let (verdict, outputs) = bench.handle(Side::External, &syn);
        assert_eq!(
            verdict.to_string(),
            format!("DROP no mapping for {external}{words}")
        );
        let [output] = &outputs[..] else {
            panic!("{outputs:?}");
        };
        assert_eq!(output.side, Side::External);
        match error {
            Some(error) => {
                let (kind, code, quoted) = icmp(&output.packet);
                assert_eq!((kind, code), error);
                assert_eq!(quoted, syn);
            }
            None => {
                assert_eq!(ends(&output.packet), (6, external, b()));
                assert_eq!(flags(&output.packet), RST | ACK);
                // It acknowledges the SYN and the data on it (RFC 9293 section 3.10.7.1).
                assert_eq!(body(&output.packet)[8..12], 1006u32.to_be_bytes());
            }
        }
        // Nothing but a SYN has an answer.
        for other in [ACK, RST, SYN | ACK, FIN | ACK] {
            let (_, outputs) = bench.handle(Side::External, &tcp(b(), external, other));
            assert!(outputs.is_empty());
        }
    }
}

#[test]
fn some_nats_refuse_simultaneous_open() {
    for (simultaneous_open, answers) in
        [(SimultaneousOpen::Dropped, 0), (SimultaneousOpen::Reset, 1)]
    {
        let mut bench = Bench::new(NatSpec {
            simultaneous_open,
            filtering: EI,
            ..SILENT
        });
        let external = bench.send(a(), b(), SYN).unwrap();
        let (verdict, outputs) = bench.handle(Side::External, &tcp(b(), external, SYN));
        assert!(!verdict.forwarded(), "{verdict}");
        assert_eq!(outputs.len(), answers);
        for output in outputs {
            assert_eq!(ends(&output.packet), (6, external, b()));
            assert_eq!(flags(&output.packet), RST | ACK);
        }
        // The state is as before, and a proper answer or a stranger's SYN passes.
        assert_eq!(bench.receive(b(), external, SYN | ACK), Some(a()));
        let stranger = endpoint("192.0.2.9:9");
        assert_eq!(bench.receive(stranger, external, SYN), Some(a()));
    }
}

#[test]
fn a_reset_does_to_the_mapping_what_the_box_makes_of_it() {
    for (rst, after_reset, after_4_min) in [
        (RstEffect::Closes, None, None),
        (RstEffect::Transitory, Some(a()), None),
        (RstEffect::Ignored, Some(a()), Some(a())),
    ] {
        for from_inside in [true, false] {
            let (mut bench, external) = established(NatSpec { rst, ..SILENT });
            if from_inside {
                assert_eq!(bench.send(a(), b(), RST), Some(external));
            } else {
                assert_eq!(bench.receive(b(), external, RST), Some(a()));
            }
            let mut other = Bench {
                nat: bench.nat.clone(),
                ..bench
            };
            assert_eq!(other.receive(b(), external, SYN), after_reset, "{rst:?}");
            bench.wait(Timers::RFC5382.transitory);
            assert_eq!(bench.receive(b(), external, ACK), after_4_min, "{rst:?}");
        }
    }
}

#[test]
fn timers_are_those_of_the_state() {
    let minute = Duration::from_secs(60);
    let timers = Timers {
        transitory: minute,
        established: 5 * minute,
        time_wait: 2 * minute,
        udp: 3 * minute,
        echo: minute,
    };
    let spec = NatSpec { timers, ..SILENT };
    let just_before = |timer: Duration| timer - Duration::from_nanos(1);
    // One end's FIN leaves the connection established, both FINs end it.
    for (fins, timer) in [(0, 5 * minute), (1, 5 * minute), (2, 2 * minute)] {
        for (idle, reached) in [(just_before(timer), Some(a())), (timer, None)] {
            let (mut bench, external) = established(spec);
            if fins > 0 {
                bench.send(a(), b(), FIN | ACK).unwrap();
            }
            if fins > 1 {
                bench.receive(b(), external, FIN | ACK).unwrap();
            }
            bench.wait(idle);
            assert_eq!(bench.receive(b(), external, ACK), reached, "{fins} FINs");
        }
    }
}

#[test]
fn packets_of_both_directions_keep_a_connection() {
    let (mut bench, external) = established(SILENT);
    for _ in 0..4 {
        bench.wait(Timers::RFC5382.established * 2 / 3);
        assert_eq!(bench.receive(b(), external, ACK), Some(a()));
        bench.wait(Timers::RFC5382.established * 2 / 3);
        assert_eq!(bench.send(a(), b(), ACK), Some(external));
    }
}

#[test]
fn udp_mappings_have_the_same_classes_and_five_minutes() {
    let stranger = endpoint("192.0.2.1:9");
    let far = endpoint("192.0.2.9:9");
    for (filtering, near_passes, far_passes) in
        [(EI, true, true), (AD, true, false), (APD, false, false)]
    {
        let mut bench = Bench::new(NatSpec {
            filtering,
            ..SILENT
        });
        let external = bench.send_udp(a(), b()).unwrap();
        let mapping = bench.nat.mappings().next().unwrap();
        assert_eq!(
            (mapping.protocol(), mapping.internal()),
            (Protocol::Udp, a())
        );
        assert_eq!(bench.receive_udp(stranger, external).is_some(), near_passes);
        assert_eq!(bench.receive_udp(far, external).is_some(), far_passes);
        // TCP does not pass a UDP mapping.
        assert_eq!(bench.receive(b(), external, SYN), None);
        bench.wait(Timers::RFC5382.udp - Duration::from_nanos(1));
        assert_eq!(bench.receive_udp(b(), external), Some(a()));
        bench.wait(Duration::from_nanos(1));
        assert_eq!(bench.receive_udp(b(), external), None);
    }
}

#[test]
fn udp_from_outside_refreshes_only_where_asked_for() {
    for (udp_inbound_refresh, filtering) in [(false, EI), (true, EI), (true, APD)] {
        let mut bench = Bench::new(NatSpec {
            udp_inbound_refresh,
            filtering,
            ..SILENT
        });
        let external = bench.send_udp(a(), b()).unwrap();
        bench.wait(Duration::from_secs(180));
        bench.receive_udp(b(), external).unwrap();
        let stranger = endpoint("192.0.2.9:9");
        assert_eq!(
            bench.receive_udp(stranger, external).is_some(),
            filtering == EI
        );
        bench.wait(Duration::from_secs(180));
        let reached = bench.receive_udp(b(), external);
        assert_eq!(reached, udp_inbound_refresh.then_some(a()));
    }
}

#[test]
fn a_full_table_refuses_or_makes_room() {
    let limits = |sessions, sessions_per_host, when_full| Limits {
        sessions,
        sessions_per_host,
        when_full,
    };
    let other_host = endpoint("10.1.0.3:1");
    let remote = |n: u8| SocketAddr::from(([192, 0, 2, n], 1));
    let bench = |limits| {
        let mut bench = Bench::new(NatSpec { limits, ..SILENT });
        for n in 1..=3 {
            bench.send(a(), remote(n), SYN).unwrap();
            bench.wait(Duration::from_secs(1));
        }
        bench
    };

    let mut full = bench(limits(3, 9, WhenFull::Refuse));
    assert_eq!(
        full.verdict(Side::Internal, other_host, remote(4), SYN),
        "DROP session table full"
    );
    assert!(full.send(a(), remote(1), SYN).is_some());

    let mut full = bench(limits(9, 3, WhenFull::Refuse));
    assert_eq!(full.send(a(), remote(4), SYN), None);
    assert!(full.send(other_host, remote(4), SYN).is_some());

    let mut full = bench(limits(3, 9, WhenFull::EvictSoonestToExpire));
    assert!(full.send(other_host, remote(4), SYN).is_some());
    assert_eq!(
        full.receive(remote(1), endpoint("203.0.113.2:40000"), SYN),
        None
    );
    assert_eq!(
        full.receive(remote(2), endpoint("203.0.113.2:40000"), SYN),
        Some(a())
    );
}

#[test]
fn a_reboot_forgets_everything_and_may_change_the_address() {
    let (mut bench, external) = established(SILENT);
    bench.nat.reboot(None).unwrap();
    assert_eq!(bench.nat.mappings().count(), 0);
    assert_eq!(bench.receive(b(), external, ACK), None);
    assert_eq!(bench.send(a(), b(), ACK), None);
    assert_eq!(bench.send(a(), b(), SYN), Some(external));

    let refused = bench.nat.reboot(Some(vec!["2001:db8::1".parse().unwrap()]));
    assert_eq!(refused, Err(SpecError::NoExternalAddress));
    assert_eq!(bench.nat.mappings().count(), 1);

    bench
        .nat
        .reboot(Some(vec![[203, 0, 113, 3].into()]))
        .unwrap();
    assert_eq!(
        bench.send(a(), b(), SYN),
        Some(endpoint("203.0.113.3:40000"))
    );
    assert!(
        bench
            .verdict(Side::External, b(), external, SYN)
            .contains("not for this NAT")
    );
}

#[test]
fn a_box_that_picks_up_connections_survives_its_reboot() {
    let (mut bench, external) = established(NatSpec {
        pickup: true,
        ..SILENT
    });
    bench.nat.reboot(None).unwrap();
    // What comes first from outside is lost, and the next from inside mends it.
    assert_eq!(bench.receive(b(), external, ACK), None);
    for stray in [RST, RST | ACK, SYN | ACK] {
        assert_eq!(bench.send(a(), b(), stray), None);
    }
    assert_eq!(bench.send(a(), b(), ACK), Some(external));
    assert_eq!(bench.receive(b(), external, ACK), Some(a()));
    let states: Vec<_> = bench.nat.mappings().flat_map(|m| m.sessions()).collect();
    assert_eq!(states, [(b(), SessionState::Established)]);
}

#[test]
fn a_firewall_filters_both_families_and_translates_none() {
    for [inside, asked, stranger] in [
        ["203.0.113.5:1", "192.0.2.1:1", "192.0.2.2:1"],
        [
            "[2001:db8:1::2]:1",
            "[2001:db8:2::2]:1",
            "[2001:db8:3::2]:1",
        ],
    ] {
        let (inside, asked, stranger) = (endpoint(inside), endpoint(asked), endpoint(stranger));
        let mut bench = Bench::with(NatSpec::firewall(), &[], 7);
        assert_eq!(bench.receive(asked, inside, SYN), None);
        assert_eq!(bench.verdict(Side::Internal, inside, asked, SYN), "PASS");
        assert_eq!(bench.verdict(Side::External, asked, inside, SYN), "PASS");
        assert_eq!(bench.receive(stranger, inside, SYN), None);
        let packet = tcp(inside, asked, ACK);
        let (_, outputs) = bench.handle(Side::Internal, &packet);
        assert_eq!(outputs[0].packet, packet);
    }
}

#[test]
fn a_nat44_filters_ipv6_and_answers_it_from_its_own_address() {
    let (inside, outside) = (endpoint("[2001:db8:1::2]:1"), endpoint("[2001:db8:2::2]:2"));
    let own: IpAddr = "2001:db8:1::1".parse().unwrap();
    for (unsolicited, code) in [
        (UnsolicitedSyn::IcmpProhibited, 1),
        (UnsolicitedSyn::IcmpPortUnreachable, 4),
    ] {
        let spec = NatSpec {
            unsolicited,
            ..SILENT
        };
        let mut bench = Bench::with(spec, &[EXTERNAL.into(), own], 7);
        let (_, outputs) = bench.handle(Side::External, &tcp(outside, inside, SYN));
        assert_eq!(ends(&outputs[0].packet).1.ip(), own);
        assert_eq!(icmp(&outputs[0].packet).1, code);
        assert_eq!(bench.send(inside, outside, SYN), Some(inside));
    }
    let mut bench = Bench::new(NatSpec {
        unsolicited: UnsolicitedSyn::Rst,
        ..SILENT
    });
    let (_, outputs) = bench.handle(Side::External, &tcp(outside, inside, SYN));
    assert_eq!(ends(&outputs[0].packet), (6, inside, outside));
}

/// RFC 768: zero would say that there is no checksum.
#[test]
fn a_udp_checksum_that_becomes_zero_is_sent_as_all_ones() {
    let external = endpoint("203.0.113.2:40000");
    let blank = udp(external, b(), &[0, 0], true);
    // This data makes the sum of the translated datagram all ones.
    let data = &body(&blank)[6..8];
    let mut bench = Bench::new(SILENT);
    let (_, outputs) = bench.handle(Side::Internal, &udp(a(), b(), data, true));
    assert_eq!(ends(&outputs[0].packet).1, external);
    assert_eq!(body(&outputs[0].packet)[6..8], [0xFF, 0xFF]);

    let (_, outputs) = bench.handle(Side::Internal, &udp(a(), b(), data, false));
    assert_eq!(body(&outputs[0].packet)[6..8], [0, 0]);
}

#[test]
fn icmp_errors_must_be_about_a_session_and_for_its_end() {
    let mut bench = Bench::new(SILENT);
    let (_, outputs) = bench.handle(Side::Internal, &tcp(a(), b(), SYN));
    let sent = &outputs[0].packet;
    let external = ends(sent).1;
    let router = [192, 0, 2, 254].into();
    let other_flow = tcp(external, endpoint("192.0.2.9:9"), SYN);
    for error in [
        icmp_error(router, [203, 0, 113, 9].into(), sent, 40),
        icmp_error(router, external.ip(), &other_flow, 40),
    ] {
        let (verdict, _) = bench.handle(Side::External, &error);
        assert_eq!(verdict, Verdict::Dropped(DropReason::UnrelatedIcmp));
    }
    let received = tcp(b(), a(), SYN | ACK);
    for (to, quoted) in [
        (router, &received),
        (b().ip(), &tcp(endpoint("192.0.2.9:9"), a(), SYN)),
    ] {
        let error = icmp_error(a().ip(), to, quoted, 40);
        let (verdict, _) = bench.handle(Side::Internal, &error);
        assert_eq!(verdict, Verdict::Dropped(DropReason::UnrelatedIcmp));
    }
}

#[test]
fn a_host_at_its_limit_makes_room_at_its_own_cost() {
    let limits = Limits {
        sessions: 9,
        sessions_per_host: 1,
        when_full: WhenFull::EvictSoonestToExpire,
    };
    let mut bench = Bench::new(NatSpec { limits, ..SILENT });
    let other_host = endpoint("10.1.0.3:50000");
    let others = bench.send(other_host, b(), SYN).unwrap();
    bench.wait(Duration::from_secs(1));
    let external = bench.send(a(), b(), SYN).unwrap();
    bench.send(a(), endpoint("192.0.2.9:9"), SYN).unwrap();
    assert_eq!(bench.receive(b(), external, SYN), None);
    assert_eq!(bench.receive(b(), others, SYN), Some(other_host));
}

/// Room for a stranger may cost the mapping that the stranger wanted.
#[test]
fn nothing_passes_a_mapping_that_made_room_for_it() {
    let limits = Limits {
        sessions_per_host: 1,
        when_full: WhenFull::EvictSoonestToExpire,
        ..Limits::GENEROUS
    };
    let mut bench = Bench::new(NatSpec {
        limits,
        filtering: EI,
        ..SILENT
    });
    let external = bench.send(a(), b(), SYN).unwrap();
    let stranger = endpoint("192.0.2.9:9");
    assert_eq!(
        bench.verdict(Side::External, stranger, external, SYN),
        "DROP session table full"
    );
    assert_eq!(bench.nat.mappings().count(), 0);
}

#[test]
fn only_a_syn_begins_a_connection_from_outside() {
    let mut bench = Bench::new(NatSpec {
        filtering: EI,
        unsolicited: UnsolicitedSyn::Rst,
        ..SILENT
    });
    let external = bench.send(a(), b(), SYN).unwrap();
    let stranger = endpoint("192.0.2.9:9");
    for flags in [ACK, SYN | ACK, FIN | ACK, RST, SYN | FIN, 0] {
        assert_eq!(
            bench.verdict(Side::External, stranger, external, flags),
            "DROP no connection 192.0.2.9:9 -> 203.0.113.2:40000"
        );
    }
}

#[test]
fn acknowledgements_without_both_syns_establish_nothing() {
    let mut bench = Bench::new(SILENT);
    let external = bench.send(a(), b(), SYN).unwrap();
    bench.receive(b(), external, ACK).unwrap();
    bench.send(a(), b(), ACK).unwrap();
    let states: Vec<_> = bench.nat.mappings().flat_map(|m| m.sessions()).collect();
    assert_eq!(states, [(b(), SessionState::OutboundSyn)]);
}

/// RFC 1812 section 4.3.2.3 and RFC 4443 section 3.1.
#[test]
fn icmp_answers_fit_into_the_smallest_packet_that_all_can_take() {
    let spec = NatSpec {
        unsolicited: UnsolicitedSyn::IcmpPortUnreachable,
        ..NatSpec::firewall()
    };
    for (from, to, length) in [
        ("192.0.2.1:1", "203.0.113.5:1", 576),
        ("[2001:db8:2::2]:1", "[2001:db8:1::2]:1", 1280),
    ] {
        let mut bench = Bench::with(spec, &[], 7);
        let syn = tcp_with(endpoint(from), endpoint(to), SYN, &[7; 1400]);
        let (_, outputs) = bench.handle(Side::External, &syn);
        assert_eq!(outputs[0].packet.len(), length);
    }
}

#[test]
fn more_late_answers_than_the_box_remembers_are_not_given() {
    let mut bench = Bench::new(NatSpec {
        unsolicited: NatSpec::rfc5382().unsolicited,
        ..SILENT
    });
    let external = SocketAddr::from((EXTERNAL, 1));
    for port in 1..2000 {
        bench.handle(
            Side::External,
            &tcp(([192, 0, 2, 1], port).into(), external, SYN),
        );
    }
    let answers = bench.wait_for_outputs(NatSpec::RFC5382_ANSWER_DELAY);
    assert_eq!(answers.len(), 1024);
}
