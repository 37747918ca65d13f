//! ICMP echo through boxes (RFC 5508).

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use netns_lab::model::{
    DropReason, NatSpec, PortRange, Protocol, Side, Timers, Translation6, UnsolicitedSyn, Verdict,
};
use netns_lab_rig::packets::{
    body, echo_reply, echo_request, endpoint, ends, icmp, icmp_error, icmp_message, udp,
};

use crate::bench::{AD, APD, Bench, EI, EXTERNAL, PORT_ASSIGNMENTS};

const SILENT: NatSpec = NatSpec {
    unsolicited: UnsolicitedSyn::Nothing,
    filtering: APD,
    ..NatSpec::rfc5382()
};

/// A host inside with the identifier of its echoes, in both families.
const INSIDE: [&str; 2] = ["10.1.0.2:77", "[fd01::2]:77"];

/// Another host inside, with the same identifier.
const NEIGHBOUR: [&str; 2] = ["10.1.0.3:77", "[fd01::3]:77"];

/// Two hosts outside.
const SERVERS: [[&str; 2]; 2] = [
    ["192.0.2.1", "192.0.2.9"],
    ["2001:db8:f::1", "2001:db8:f::9"],
];

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A NAT of both families.
fn bench(spec: NatSpec) -> Bench {
    let spec = NatSpec {
        translation6: Translation6::Nat66,
        ..spec
    };
    Bench::with(spec, &[EXTERNAL.into(), address("2001:db8:1::1")], 7)
}

/// Returns how many ways each test has: IPv4 and IPv6.
fn families() -> impl Iterator<Item = (SocketAddr, SocketAddr, [IpAddr; 2])> {
    (0..2).map(|family| {
        let inside = endpoint(INSIDE[family]);
        let neighbour = endpoint(NEIGHBOUR[family]);
        (inside, neighbour, SERVERS[family].map(address))
    })
}

/// REQ-1.
#[test]
fn requests_go_out_and_their_replies_come_back() {
    for ports in PORT_ASSIGNMENTS {
        for mapping in [EI, AD, APD] {
            for (inside, _, [server, other]) in families() {
                let mut bench = bench(NatSpec {
                    ports,
                    mapping,
                    ..SILENT
                });
                let seen = bench.ask(inside, server).unwrap();
                assert_ne!(seen.ip(), inside.ip());
                assert_eq!(bench.reply(server, seen), Some(inside));
                // The next request of the same program.
                assert_eq!(bench.ask(inside, server), Some(seen));
                let mapped = bench.nat.mappings().next().unwrap();
                let ends = (mapped.protocol(), mapped.internal(), mapped.external());
                assert_eq!(ends, (Protocol::Echo, inside, seen));
                // REQ-1a: the same identifier for every host that is asked.
                let seen_by_other = bench.ask(inside, other).unwrap();
                assert_eq!(
                    seen_by_other == seen,
                    mapping == EI || keeps(seen, inside, seen_by_other)
                );
                assert_eq!(bench.reply(other, seen_by_other), Some(inside));
            }
        }
    }
}

/// Whether two mappings share the identifier that the host has given.
fn keeps(one: SocketAddr, inside: SocketAddr, other: SocketAddr) -> bool {
    one.port() == inside.port() && other.port() == inside.port()
}

#[test]
fn what_an_echo_carries_stays_as_it_is() {
    for (inside, _, [server, _]) in families() {
        let mut bench = bench(NatSpec {
            ports: PORT_ASSIGNMENTS[3],
            ..SILENT
        });
        let before = echo_request(inside, server);
        let (verdict, outputs) = bench.handle(Side::Internal, &before);
        let seen = ends(&outputs[0].packet).1;
        assert_eq!(verdict.to_string(), format!("MAP {inside} -> {seen}"));
        assert_eq!(body(&outputs[0].packet)[6..], body(&before)[6..]);
        let reply = echo_reply(server, seen);
        let (verdict, outputs) = bench.handle(Side::External, &reply);
        assert_eq!(verdict.to_string(), format!("NAT {seen} -> {inside}"));
        assert_eq!(body(&outputs[0].packet)[6..], body(&reply)[6..]);
    }
}

#[test]
fn hosts_with_one_identifier_get_their_own_replies() {
    for ports in PORT_ASSIGNMENTS {
        for (inside, neighbour, [server, _]) in families() {
            let mut bench = bench(NatSpec { ports, ..SILENT });
            let one = bench.ask(inside, server).unwrap();
            let other = bench.ask(neighbour, server).unwrap();
            assert_ne!(one, other, "{ports:?}");
            assert_eq!(bench.reply(server, one), Some(inside));
            assert_eq!(bench.reply(server, other), Some(neighbour));
        }
    }
}

#[test]
fn filtering_decides_whose_replies_come_in() {
    for filtering in [EI, AD, APD] {
        for (inside, _, [server, stranger]) in families() {
            let mut bench = bench(NatSpec {
                filtering,
                ..SILENT
            });
            let seen = bench.ask(inside, server).unwrap();
            assert_eq!(bench.reply(stranger, seen).is_some(), filtering == EI);
            let another = SocketAddr::new(seen.ip(), seen.port() + 1);
            assert_eq!(bench.reply(server, another), None);
            // What has ports is something else.
            let datagram = udp((stranger, 9).into(), seen, b"", true);
            assert!(!bench.handle(Side::External, &datagram).0.forwarded());
        }
    }
}

/// REQ-2, and REQ-2a.
#[test]
fn an_echo_is_remembered_for_a_minute_after_the_last_request() {
    let short = Timers {
        echo: Duration::from_secs(2),
        ..Timers::RFC5382
    };
    for timers in [Timers::RFC5382, short] {
        for (inside, _, [server, _]) in families() {
            let mut bench = bench(NatSpec { timers, ..SILENT });
            let moment = Duration::from_nanos(1);
            let seen = bench.ask(inside, server).unwrap();
            bench.wait(timers.echo - moment);
            assert_eq!(bench.ask(inside, server), Some(seen));
            bench.wait(timers.echo - moment);
            assert_eq!(bench.reply(server, seen), Some(inside));
            bench.wait(moment);
            assert_eq!(bench.reply(server, seen), None);
            assert_eq!(bench.nat.mappings().count(), 0);
        }
    }
    assert!(Timers::RFC5382.echo >= Duration::from_secs(60));
}

#[test]
fn nobody_inside_is_asked_and_no_box_answers() {
    for filtering in [EI, AD, APD] {
        for (inside, neighbour, [server, _]) in families() {
            let mut bench = bench(NatSpec {
                filtering,
                ..SILENT
            });
            let seen = bench.ask(inside, server).unwrap();
            let asked = (server, seen.port()).into();
            for (side, packet) in [
                (Side::External, echo_request(asked, seen.ip())),
                (Side::Internal, echo_request(neighbour, seen.ip())),
                (Side::Internal, echo_reply(inside.ip(), asked)),
            ] {
                let (_, source, destination) = ends(&packet);
                let (verdict, outputs) = bench.handle(side, &packet);
                let (source, destination) = (source.ip(), destination.ip());
                let reason = DropReason::UnaskedEcho {
                    source,
                    destination,
                };
                assert_eq!(verdict, Verdict::Dropped(reason));
                assert_eq!(outputs, []);
            }
            assert_eq!(bench.nat.mappings().count(), 1);
        }
    }
}

/// REQ-3, REQ-4, and REQ-6: an error neither ends a session nor keeps it.
#[test]
fn errors_about_an_echo_come_back_to_who_asked() {
    for (inside, _, [server, router]) in families() {
        let header = if inside.is_ipv4() { 20 } else { 40 };
        for bytes in [header + 8, header + 9, 100] {
            let mut bench = bench(NatSpec {
                ports: PORT_ASSIGNMENTS[3],
                ..SILENT
            });
            let (_, outputs) = bench.handle(Side::Internal, &echo_request(inside, server));
            let sent = outputs[0].packet.clone();
            let seen = ends(&sent).1;
            bench.wait(Timers::RFC5382.echo - Duration::from_nanos(1));
            let error = icmp_error(router, seen.ip(), &sent, bytes);
            let (verdict, outputs) = bench.handle(Side::External, &error);
            assert_eq!(verdict.to_string(), format!("NAT {seen} -> {inside}"));
            let told = &outputs[0].packet;
            assert_eq!(ends(told).2.ip(), inside.ip());
            let (_, source, destination) = ends(icmp(told).2);
            assert_eq!((source, destination), (inside, (server, 0).into()));
            assert_eq!(bench.nat.mappings().count(), 1);
            bench.wait(Duration::from_nanos(1));
            let (verdict, _) = bench.handle(Side::External, &error);
            assert_eq!(verdict, Verdict::Dropped(DropReason::UnrelatedIcmp));
        }
    }
}

/// REQ-5.
#[test]
fn errors_about_a_reply_go_out_with_the_external_address() {
    for (inside, _, [server, _]) in families() {
        let mut bench = bench(SILENT);
        let seen = bench.ask(inside, server).unwrap();
        let (_, outputs) = bench.handle(Side::External, &echo_reply(server, seen));
        let error = icmp_error(inside.ip(), server, &outputs[0].packet, 60);
        let (_, outputs) = bench.handle(Side::Internal, &error);
        let told = &outputs[0].packet;
        assert_eq!(ends(told).1.ip(), seen.ip());
        assert_eq!(ends(icmp(told).2).2, seen);
    }
}

#[test]
fn a_firewall_lets_echoes_out_and_replies_in() {
    for (inside, _, [server, stranger]) in families() {
        let mut bench = Bench::with(NatSpec::firewall(), &[], 7);
        assert_eq!(bench.ask(inside, server), Some(inside));
        assert_eq!(bench.reply(server, inside), Some(inside));
        assert_eq!(bench.reply(stranger, inside), None);
        let request = echo_request((stranger, 1).into(), inside.ip());
        assert!(!bench.handle(Side::External, &request).0.forwarded());
    }
}

#[test]
fn a_box_can_drop_echoes() {
    for (inside, _, [server, _]) in families() {
        let mut bench = bench(SILENT.drop_echo());
        let (verdict, _) = bench.handle(Side::Internal, &echo_request(inside, server));
        assert_eq!(
            verdict.to_string(),
            "DROP echo request, which this box lets out to nobody"
        );
        assert!(bench.send_udp(inside, (server, 1).into()).is_some());
    }
}

#[test]
fn a_box_without_a_free_identifier_says_so() {
    let mut bench = bench(NatSpec {
        port_range: PortRange {
            first: 4000,
            last: 4000,
        },
        ports: PORT_ASSIGNMENTS[3],
        ..SILENT
    });
    let server = address(SERVERS[0][0]);
    bench.ask(endpoint(INSIDE[0]), server).unwrap();
    let neighbour = endpoint(NEIGHBOUR[0]);
    let (verdict, _) = bench.handle(Side::Internal, &echo_request(neighbour, server));
    assert_eq!(verdict, Verdict::Dropped(DropReason::NoPort(neighbour)));
}

/// REQ-11: what is neither a query nor an error. All that no model carries is counted.
#[test]
fn what_is_not_carried_is_named_and_counted() {
    let mut bench = bench(SILENT);
    let (inside, server) = (address("10.1.0.2"), address(SERVERS[0][0]));
    let timestamp = icmp_message(&[13, 0, 0, 0, 0, 77, 0, 1], inside, server);
    let mut tunnel = udp((inside, 1).into(), (server, 1).into(), b"", true);
    tunnel[9] = 47;
    let mut part = udp((inside, 1).into(), (server, 1).into(), b"", true);
    part[6] = 0x20;
    for (mut packet, times, said) in [
        (timestamp, 2, "DROP ICMP type 13, not carried by the model"),
        (tunnel, 1, "DROP IP protocol 47, not carried by the model"),
        (part, 3, "DROP fragment, not carried by the model"),
    ] {
        netns_lab_rig::packets::mend(&mut packet);
        for _ in 0..times {
            let (verdict, _) = bench.handle(Side::Internal, &packet);
            assert_eq!(verdict.to_string(), said);
        }
    }
    // That is no matter of the model's.
    bench.reply(server, (EXTERNAL, 1).into());
    let counts: Vec<_> = bench.nat.not_carried().collect();
    let expected = [
        (DropReason::Fragment, 3),
        (DropReason::Protocol(47), 1),
        (DropReason::IcmpType(13), 2),
    ];
    assert_eq!(counts, expected);
}

#[test]
fn an_echo_without_identifier_is_malformed() {
    let (inside, server) = (address("10.1.0.2"), address(SERVERS[0][0]));
    for length in 4..8 {
        let cut = icmp_message(&[8, 0, 0, 0, 0, 77, 0][..length], inside, server);
        let (verdict, _) = bench(SILENT).handle(Side::Internal, &cut);
        assert_eq!(verdict, Verdict::Dropped(DropReason::Malformed));
    }
}
