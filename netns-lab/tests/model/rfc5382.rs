//! The requirements of RFC 5382, one by one. REQ-6 is about application-level gateways, of which
//! the model has none.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use netns_lab::model::{
    Hairpinning, NatSpec, PortAssignment, RstEffect, SessionState, Side, Verdict,
};
use netns_lab_rig::packets::{
    ACK, FIN, RST, SYN, body, endpoint, ends, flags, icmp, icmp_error, tcp,
};
use proptest::prelude::*;

use crate::bench::{AD, ALL, APD, Bench, EI, EXTERNAL, PORT_ASSIGNMENTS};

fn spec() -> impl Strategy<Value = NatSpec> {
    spec_with(PORT_ASSIGNMENTS.to_vec())
}

/// All but port overloading, which REQ-7 forbids: where two hosts clash, it makes
/// exceptions to every class of mapping.
fn spec_without_overload() -> impl Strategy<Value = NatSpec> {
    let mut ports = PORT_ASSIGNMENTS.to_vec();
    ports.retain(|ports| *ports != PortAssignment::PreservedWithOverload);
    spec_with(ports)
}

fn spec_with(ports: Vec<PortAssignment>) -> impl Strategy<Value = NatSpec> {
    let dependence = || prop::sample::select(&ALL[..]);
    let ports = prop::sample::select(ports);
    (dependence(), dependence(), ports).prop_map(|(mapping, filtering, ports)| NatSpec {
        mapping,
        filtering,
        ports,
        ..NatSpec::rfc5382()
    })
}

/// Some hosts inside, which share ports.
fn internal() -> impl Strategy<Value = SocketAddr> {
    (2u8..6, 40_000u16..40_004).prop_map(|(host, port)| ([10, 1, 0, host], port).into())
}

fn remote() -> impl Strategy<Value = SocketAddr> {
    (1u8..4, 1u16..4).prop_map(|(host, port)| ([192, 0, 2, host], port).into())
}

proptest! {
    /// REQ-1: the mapping is endpoint-independent; and for the other classes, that it depends on
    /// just what RFC 4787 section 4.1 says.
    #[test]
    fn req_1_mappings_depend_on_what_their_class_says(
        spec in spec_without_overload(),
        seed: u64,
        flows in prop::collection::vec((internal(), remote()), 1..60),
    ) {
        let mut bench = Bench::with(spec, &[EXTERNAL.into()], seed);
        let mut seen = BTreeMap::new();
        for (internal, remote) in flows {
            let external = bench.send(internal, remote, SYN).unwrap();
            let key = match spec.mapping {
                m if m == EI => (internal, None, None),
                m if m == AD => (internal, Some(remote.ip()), None),
                _ => (internal, Some(remote.ip()), Some(remote.port())),
            };
            prop_assert_eq!(*seen.entry(key).or_insert(external), external);
        }
        // REQ-7: no two mappings share an external endpoint.
        let mut external: Vec<_> = seen.values().collect();
        external.sort();
        external.dedup();
        prop_assert_eq!(external.len(), seen.len());
    }

    /// REQ-2: the three-way handshake from inside, data and both orders of FIN pass every class,
    /// and the state follows.
    #[test]
    fn req_2_connections_from_inside_pass(spec in spec(), a in internal(), b in remote(), first in any::<bool>()) {
        let mut bench = Bench::new(spec);
        let external = bench.send(a, b, SYN).unwrap();
        prop_assert_eq!(state(&bench), SessionState::OutboundSyn);
        prop_assert_eq!(bench.receive(b, external, SYN | ACK), Some(a));
        prop_assert_eq!(state(&bench), SessionState::SynAck);
        prop_assert_eq!(bench.send(a, b, ACK), Some(external));
        prop_assert_eq!(state(&bench), SessionState::Established);
        for step in [first, !first] {
            if step {
                prop_assert_eq!(bench.send(a, b, FIN | ACK), Some(external));
            } else {
                prop_assert_eq!(bench.receive(b, external, FIN | ACK), Some(a));
            }
        }
        prop_assert_eq!(state(&bench), SessionState::TimeWait);
        // The last acknowledgements still pass.
        prop_assert_eq!(bench.receive(b, external, ACK), Some(a));
        prop_assert_eq!(bench.send(a, b, ACK), Some(external));
    }

    /// REQ-2a: simultaneous open passes every class, whichever SYN comes first once there is
    /// permission.
    #[test]
    fn req_2a_simultaneous_open_passes(spec in spec(), a in internal(), b in remote()) {
        let mut bench = Bench::new(spec);
        let external = bench.send(a, b, SYN).unwrap();
        prop_assert_eq!(bench.receive(b, external, SYN), Some(a));
        prop_assert_eq!(state(&bench), SessionState::SimultaneousOpen);
        prop_assert_eq!(bench.send(a, b, SYN | ACK), Some(external));
        prop_assert_eq!(bench.receive(b, external, SYN | ACK), Some(a));
        prop_assert_eq!(state(&bench), SessionState::Established);
    }

    /// REQ-2: a connection from outside passes where filtering permits it, and its answers leave
    /// from the endpoint that was asked.
    #[test]
    fn req_2_connections_from_outside_pass(spec in spec(), a in internal(), b in remote()) {
        let spec = NatSpec { filtering: EI, ..spec };
        let mut bench = Bench::new(spec);
        let server = endpoint("192.0.2.99:99");
        let external = bench.send(a, server, SYN).unwrap();
        prop_assert_eq!(bench.receive(b, external, SYN), Some(a));
        prop_assert_eq!(bench.send(a, b, SYN | ACK), Some(external));
        prop_assert_eq!(bench.receive(b, external, ACK), Some(a));
        let states: Vec<_> = bench.nat.mappings().flat_map(|m| m.sessions()).collect();
        prop_assert!(states.contains(&(b, SessionState::Established)));
    }

    /// REQ-3: each class of filtering lets in just whom RFC 4787 section 5 says.
    #[test]
    fn req_3_filtering_permits_what_its_class_says(
        spec in spec(),
        a in internal(),
        known in prop::collection::vec(remote(), 1..4),
        stranger in remote(),
    ) {
        let spec = NatSpec { mapping: EI, ..spec };
        let mut bench = Bench::new(spec);
        let external = known.iter().map(|remote| bench.send(a, *remote, SYN).unwrap()).last();
        let expected = match spec.filtering {
            f if f == EI => true,
            f if f == AD => known.iter().any(|remote| remote.ip() == stranger.ip()),
            _ => known.contains(&stranger),
        };
        let reached = bench.receive(stranger, external.unwrap(), SYN);
        prop_assert_eq!(reached, expected.then_some(a));
    }

    /// REQ-4: an unsolicited SYN has no answer for six seconds, then ICMP port
    /// unreachable; and none at all if a SYN from inside comes first.
    #[test]
    fn req_4_unsolicited_syns_are_answered_late_or_not_at_all(
        a in internal(),
        b in remote(),
        after in 0u64..12_000,
    ) {
        let spec = NatSpec { filtering: APD, ..NatSpec::rfc5382() };
        let mut bench = Bench::new(spec);
        let external = bench.send(a, endpoint("192.0.2.99:99"), SYN).unwrap();
        let syn = tcp(b, external, SYN);
        let (verdict, outputs) = bench.handle(Side::External, &syn);
        let is_answered = matches!(verdict, Verdict::Answered { .. });
        prop_assert!(is_answered);
        prop_assert!(outputs.is_empty());
        prop_assert_eq!(bench.nat.poll_timeout(), Some(Duration::from_secs(6)));

        let early = bench.wait_for_outputs(Duration::from_millis(after));
        prop_assert_eq!(early.len(), usize::from(after >= 6000));
        prop_assert_eq!(bench.send(a, b, SYN), Some(external));
        prop_assert_eq!(bench.nat.poll_timeout(), None);
        let late = bench.wait_for_outputs(Duration::from_secs(60));
        prop_assert!(late.is_empty());
        for output in early {
            prop_assert_eq!(output.side, Side::External);
            prop_assert_eq!(ends(&output.packet).2.ip(), b.ip());
            let (kind, code, quoted) = icmp(&output.packet);
            prop_assert_eq!((kind, code), (3, 3));
            prop_assert_eq!(quoted, &syn[..]);
        }
    }

    /// REQ-5: established connections stay for 2 h 4 min, partially open ones for 4 min after their
    /// last packet, and no longer.
    #[test]
    fn req_5_idle_connections_are_kept_for_their_time(
        spec in spec(),
        a in internal(),
        b in remote(),
        established: bool,
        idle in 0u64..9000,
    ) {
        let mut bench = Bench::new(spec);
        let external = bench.send(a, b, SYN).unwrap();
        let mut timeout = 4 * 60;
        if established {
            bench.receive(b, external, SYN | ACK).unwrap();
            bench.send(a, b, ACK).unwrap();
            timeout = 124 * 60;
        }
        bench.wait(Duration::from_secs(idle));
        let expected = (idle < timeout).then_some(a);
        prop_assert_eq!(bench.receive(b, external, ACK), expected);
    }

    /// REQ-7: not even with preserved ports do two hosts share an endpoint.
    #[test]
    fn req_7_ports_are_not_overloaded(
        spec in spec_without_overload(),
        flows in prop::collection::vec((internal(), remote()), 1..60),
    ) {
        let mut bench = Bench::new(spec);
        let mut owners = BTreeMap::new();
        for (internal, remote) in flows {
            let external = bench.send(internal, remote, SYN).unwrap();
            prop_assert_eq!(*owners.entry(external).or_insert(internal), internal);
        }
    }

    /// REQ-8 and REQ-8a: two hosts inside connect through their external endpoints, and each sees
    /// the other's external one.
    #[test]
    fn req_8_hosts_inside_meet_by_hairpinning(spec in spec_without_overload(), port in 1024u16..60_000) {
        let spec = NatSpec { mapping: EI, ..spec };
        let mut bench = Bench::new(spec);
        let (a, b) = ([10, 1, 0, 2], [10, 1, 0, 3]);
        let (a, b) = (SocketAddr::from((a, port)), SocketAddr::from((b, port)));
        let server = endpoint("192.0.2.99:99");
        let a_external = bench.send(a, server, SYN).unwrap();
        let b_external = bench.send(b, server, SYN).unwrap();
        // Each opens its filter for the other, as in simultaneous open.
        bench.handle(Side::Internal, &tcp(a, b_external, SYN));
        for (from, to, to_internal, source, bits) in [
            (b, a_external, a, b_external, SYN),
            (a, b_external, b, a_external, SYN | ACK),
            (b, a_external, a, b_external, ACK),
        ] {
            let (verdict, outputs) = bench.handle(Side::Internal, &tcp(from, to, bits));
            prop_assert_eq!(verdict, Verdict::Hairpinned {
                external: to,
                internal: to_internal,
                source,
            });
            prop_assert_eq!(outputs[0].side, Side::Internal);
            prop_assert_eq!(ends(&outputs[0].packet), (6, source, to_internal));
        }
    }

    /// REQ-9: ICMP errors are translated with what they quote, however little.
    #[test]
    fn req_9_icmp_errors_are_translated(
        spec in spec(),
        a in internal(),
        b in remote(),
        bytes in 28usize..60,
        router in any::<[u8; 4]>(),
    ) {
        let mut bench = Bench::new(spec);
        let (_, outputs) = bench.handle(Side::Internal, &tcp(a, b, SYN));
        let sent = &outputs[0].packet;
        let error = icmp_error(router.into(), EXTERNAL.into(), sent, bytes);
        let (verdict, outputs) = bench.handle(Side::External, &error);
        prop_assert!(verdict.forwarded());
        prop_assert_eq!(ends(&outputs[0].packet).2.ip(), a.ip());
        let (kind, code, quoted) = icmp(&outputs[0].packet);
        prop_assert_eq!((kind, code), (3, 1));
        prop_assert_eq!(ends(quoted), (6, a, b));
    }

    /// REQ-10: no ICMP error ends a mapping or connection.
    #[test]
    fn req_10_icmp_errors_change_no_state(spec in spec(), a in internal(), b in remote(), kind: u8, code: u8) {
        let mut bench = Bench::new(spec);
        let (_, outputs) = bench.handle(Side::Internal, &tcp(a, b, SYN));
        let external = ends(&outputs[0].packet).1;
        let before: Vec<_> = bench.nat.mappings().cloned().collect();
        let mut error = icmp_error([192, 0, 2, 254].into(), EXTERNAL.into(), &outputs[0].packet, 40);
        error[20] = kind;
        error[21] = code;
        // Its checksum is wrong by now, which is not for a NAT to judge.
        bench.nat.handle_packet(Duration::ZERO, Side::External, &error);
        while bench.nat.poll_output().is_some() {}
        let after: Vec<_> = bench.nat.mappings().cloned().collect();
        prop_assert_eq!(before, after);
        prop_assert_eq!(bench.receive(b, external, SYN | ACK), Some(a));
    }
}

fn state(bench: &Bench) -> SessionState {
    let sessions: Vec<_> = bench.nat.mappings().flat_map(|m| m.sessions()).collect();
    let [(_, state)] = sessions[..] else {
        panic!("{sessions:?}");
    };
    state
}

/// REQ-8 names the external source; the other sort exists.
#[test]
fn req_8_other_nats_hairpin_with_the_internal_source_or_not_at_all() {
    let a = endpoint("10.1.0.2:40000");
    let b = endpoint("10.1.0.3:40001");
    for (hairpinning, expected) in [
        (
            Hairpinning::None,
            "DROP no hairpinning to 203.0.113.2:40001",
        ),
        (
            Hairpinning::InternalSource,
            "HAIRPIN 203.0.113.2:40001 -> 10.1.0.3:40001 from 10.1.0.2:40000",
        ),
        (
            Hairpinning::ExternalSource,
            "HAIRPIN 203.0.113.2:40001 -> 10.1.0.3:40001 from 203.0.113.2:40000",
        ),
    ] {
        let mut bench = Bench::new(NatSpec {
            hairpinning,
            ..NatSpec::rfc5382()
        });
        let b_external = bench.send(b, endpoint("192.0.2.1:1"), SYN).unwrap();
        assert_eq!(bench.verdict(Side::Internal, a, b_external, SYN), expected);
    }
}

/// REQ-9 for errors that a host inside sends, and through a hairpin.
#[test]
fn req_9_errors_from_inside_are_translated() {
    let (a, b) = (endpoint("10.1.0.2:40000"), endpoint("192.0.2.1:1"));
    let mut bench = Bench::new(NatSpec::rfc5382());
    let external = bench.send(a, endpoint("192.0.2.9:9"), SYN).unwrap();
    let (_, outputs) = bench.handle(Side::External, &tcp(b, external, SYN));
    let error = icmp_error(a.ip(), b.ip(), &outputs[0].packet, 100);
    let (verdict, outputs) = bench.handle(Side::Internal, &error);
    assert_eq!(
        verdict.to_string(),
        "NAT 10.1.0.2:40000 -> 203.0.113.2:40000"
    );
    assert_eq!(outputs[0].side, Side::External);
    assert_eq!(ends(&outputs[0].packet).1.ip(), external.ip());
    assert_eq!(ends(icmp(&outputs[0].packet).2), (6, b, external));

    let c = endpoint("10.1.0.3:40001");
    let (_, outputs) = bench.handle(Side::Internal, &tcp(c, external, SYN));
    let error = icmp_error(a.ip(), external.ip(), &outputs[0].packet, 100);
    let (_, outputs) = bench.handle(Side::Internal, &error);
    assert_eq!(outputs[0].side, Side::Internal);
    assert_eq!(ends(&outputs[0].packet).2.ip(), c.ip());
    assert_eq!(ends(icmp(&outputs[0].packet).2), (6, c, external));
}

/// REQ-2 for connections that start again on the same ports.
#[test]
fn req_2_ports_may_be_used_again_after_a_connection() {
    let (a, b) = (endpoint("10.1.0.2:40000"), endpoint("192.0.2.1:1"));
    for rst in [RstEffect::Closes, RstEffect::Transitory, RstEffect::Ignored] {
        let mut bench = Bench::new(NatSpec {
            rst,
            ..NatSpec::rfc5382()
        });
        for _ in 0..2 {
            let external = bench.send(a, b, SYN).unwrap();
            bench.receive(b, external, SYN | ACK).unwrap();
            bench.send(a, b, ACK).unwrap();
            assert_eq!(state(&bench), SessionState::Established);
            let (_, outputs) = bench.handle(Side::Internal, &tcp(a, b, RST));
            assert_eq!(flags(&outputs[0].packet), RST);
            assert_eq!(body(&outputs[0].packet).len(), 20);
        }
    }
}
