//! IPv6: address and port translation, and prefix translation (RFC 6296).

use std::net::IpAddr;

use netns_lab::model::{
    NatModel, NatSpec, PortAssignment, PrefixPair, Side, SpecError, Translation6, Verdict,
};
use netns_lab_rig::packets::{ACK, SYN, endpoint, ends, icmp, icmp_error, tcp, udp};

use crate::bench::{APD, Bench, EI};

const INSIDE: &str = "[fd01:203:405:1::1234]:4000";
const SERVER: &str = "[2001:db8:f::1]:443";

fn prefixes() -> PrefixPair {
    PrefixPair {
        internal: "fd01:203:405::".parse().unwrap(),
        external: "2001:db8:1::".parse().unwrap(),
        length: 48,
    }
}

fn nptv6() -> NatSpec {
    NatSpec {
        translation6: Translation6::Nptv6(prefixes()),
        filtering: APD,
        ..NatSpec::rfc5382()
    }
}

fn nat66() -> (NatSpec, Vec<IpAddr>) {
    let spec = NatSpec {
        translation6: Translation6::Nat66,
        mapping: APD,
        filtering: APD,
        ports: PortAssignment::Sequential { delta: 1 },
        ..NatSpec::rfc5382()
    };
    let external = ["203.0.113.2", "2001:db8:1::1"].map(|address| address.parse().unwrap());
    (spec, external.to_vec())
}

#[test]
fn nat66_maps_and_filters_as_nat44_does() {
    let (spec, external) = nat66();
    let mut bench = Bench::with(spec, &external, 7);
    let (inside, server) = (endpoint(INSIDE), endpoint(SERVER));
    let other_server = endpoint("[2001:db8:f::2]:443");
    let first = bench.send(inside, server, SYN).unwrap();
    let second = bench.send(inside, other_server, SYN).unwrap();
    assert_eq!(first.ip(), external[1]);
    assert_eq!(second, (first.ip(), first.port() + 1).into());
    assert_eq!(bench.receive(server, first, SYN | ACK), Some(inside));
    assert_eq!(bench.receive(server, second, SYN), None);
    let v4 = bench.send(endpoint("10.1.0.2:1"), endpoint("192.0.2.1:1"), SYN);
    assert_eq!(v4.unwrap().ip(), external[0]);
}

#[test]
fn nat66_and_nptv6_translate_icmpv6_errors_both_ways() {
    let (nat66, external) = nat66();
    for spec in [nat66, nptv6()] {
        for bytes in [48, 60, 100] {
            let spec = NatSpec {
                filtering: EI,
                ..spec
            };
            let mut bench = Bench::with(spec, &external, 7);
            let (inside, server) = (endpoint(INSIDE), endpoint(SERVER));
            let (_, outputs) = bench.handle(Side::Internal, &tcp(inside, server, SYN));
            let seen = ends(&outputs[0].packet).1;
            let router = "2001:db8:e::1".parse().unwrap();
            let error = icmp_error(router, seen.ip(), &outputs[0].packet, bytes);
            let (_, outputs) = bench.handle(Side::External, &error);
            assert_eq!(ends(&outputs[0].packet).2.ip(), inside.ip());
            assert_eq!(ends(icmp(&outputs[0].packet).2), (6, inside, server));

            let stranger = endpoint("[2001:db8:f::9]:9");
            let (_, outputs) = bench.handle(Side::External, &tcp(stranger, seen, SYN));
            let error = icmp_error(inside.ip(), stranger.ip(), &outputs[0].packet, bytes);
            let (_, outputs) = bench.handle(Side::Internal, &error);
            assert_eq!(ends(&outputs[0].packet).1.ip(), seen.ip());
            assert_eq!(ends(icmp(&outputs[0].packet).2), (6, stranger, seen));
        }
    }
}

#[test]
fn nptv6_changes_the_prefix_and_neither_port_nor_checksum() {
    let mut bench = Bench::with(nptv6(), &["203.0.113.2".parse().unwrap()], 7);
    let (inside, server) = (endpoint(INSIDE), endpoint(SERVER));
    // The example of RFC 6296 section 3.6.
    let external = endpoint("[2001:db8:1:d550::1234]:4000");
    for before in [tcp(inside, server, SYN), udp(inside, server, b"x", true)] {
        let (verdict, outputs) = bench.handle(Side::Internal, &before);
        assert!(matches!(verdict, Verdict::Mapped { .. }));
        assert_eq!(ends(&outputs[0].packet).1, external);
        assert_eq!(outputs[0].packet[40..], before[40..]);
    }
    assert_eq!(bench.receive(server, external, SYN | ACK), Some(inside));
    assert_eq!(
        bench.receive(endpoint("[2001:db8:f::9]:9"), external, SYN),
        None
    );
    assert_eq!(
        bench.verdict(
            Side::Internal,
            endpoint("[fd01:203:405:ffff::1]:1"),
            server,
            SYN
        ),
        "DROP no external address for [fd01:203:405:ffff::1]:1"
    );
}

#[test]
fn nptv6_hairpins() {
    let spec = NatSpec {
        filtering: EI,
        ..nptv6()
    };
    let mut bench = Bench::with(spec, &["203.0.113.2".parse().unwrap()], 7);
    let (a, b) = (endpoint(INSIDE), endpoint("[fd01:203:405:2::5]:5000"));
    let a_external = bench.send(a, endpoint(SERVER), SYN).unwrap();
    let (verdict, outputs) = bench.handle(Side::Internal, &tcp(b, a_external, SYN));
    assert!(matches!(verdict, Verdict::Hairpinned { .. }), "{verdict}");
    let (_, source, destination) = ends(&outputs[0].packet);
    assert_eq!((source.port(), destination), (5000, a));
    assert!(source.to_string().starts_with("[2001:db8:1:"), "{source}");
}

#[test]
fn ipv6_translation_that_cannot_be_is_refused() {
    let external: Vec<IpAddr> = vec!["203.0.113.2".parse().unwrap()];
    let (nat66, _) = nat66();
    let refused = NatModel::new(nat66, external.clone(), 7).err();
    assert_eq!(refused, Some(SpecError::NoExternalAddress));
    for (length, external_prefix) in [
        (0, "2001:db8:1::"),
        (65, "2001:db8:1::"),
        (48, "fd01:203:405::"),
    ] {
        let prefixes = PrefixPair {
            length,
            external: external_prefix.parse().unwrap(),
            ..prefixes()
        };
        let spec = NatSpec {
            translation6: Translation6::Nptv6(prefixes),
            ..NatSpec::rfc5382()
        };
        let refused = NatModel::new(spec, external.clone(), 7).err();
        assert_eq!(refused, Some(SpecError::Prefix));
    }
}
