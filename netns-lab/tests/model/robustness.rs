//! What holds for any packets, in any order, on any box.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use netns_lab::model::{
    Hairpinning, Limits, NatModel, NatSpec, Output, Pooling, PrefixPair, RstEffect, Side,
    SimultaneousOpen, Translation, Translation6, UnsolicitedSyn, Verdict, WhenFull,
};
use netns_lab_rig::packets::{
    assert_checksums, echo_reply, echo_request, icmp_error, is_echo, mend, tcp_with, udp,
};
use proptest::prelude::*;

use crate::bench::{ALL, PORT_ASSIGNMENTS};

/// The external addresses, IPv4 and IPv6.
fn external() -> Vec<IpAddr> {
    ["203.0.113.1", "203.0.113.2", "2001:db8:1::1"]
        .map(|address| address.parse().unwrap())
        .to_vec()
}

const UNSOLICITED: [UnsolicitedSyn; 5] = [
    UnsolicitedSyn::Nothing,
    UnsolicitedSyn::Rst,
    UnsolicitedSyn::IcmpProhibited,
    UnsolicitedSyn::IcmpPortUnreachable,
    UnsolicitedSyn::IcmpPortUnreachableAfter(Duration::from_secs(6)),
];

const PREFIXES: PrefixPair = PrefixPair {
    internal: Ipv6Addr::new(0xFD01, 0x203, 0x405, 0, 0, 0, 0, 0),
    external: Ipv6Addr::new(0x2001, 0xDB8, 1, 0, 0, 0, 0, 0),
    length: 48,
};

/// Few enough that full tables are common.
const LIMITS: Limits = Limits {
    sessions: 12,
    sessions_per_host: 6,
    when_full: WhenFull::Refuse,
};

fn spec() -> impl Strategy<Value = NatSpec> {
    let classes = (
        prop::sample::select(&ALL[..]),
        prop::sample::select(&ALL[..]),
        prop::sample::select(&PORT_ASSIGNMENTS[..]),
        prop::sample::select(&UNSOLICITED[..]),
    );
    let knobs = (
        prop::sample::select(
            &[
                SimultaneousOpen::Allowed,
                SimultaneousOpen::Dropped,
                SimultaneousOpen::Reset,
            ][..],
        ),
        prop::sample::select(&[RstEffect::Closes, RstEffect::Transitory, RstEffect::Ignored][..]),
        prop::sample::select(
            &[
                Hairpinning::None,
                Hairpinning::InternalSource,
                Hairpinning::ExternalSource,
            ][..],
        ),
    );
    let bits = any::<[bool; 5]>();
    let prefixes = Translation6::Nptv6(PREFIXES);
    let v6 = prop::sample::select(vec![Translation6::None, Translation6::Nat66, prefixes]);
    (classes, knobs, bits, v6).prop_map(|(classes, knobs, bits, translation6)| {
        let [nat, pickup, arbitrary, refresh, evict] = bits;
        NatSpec {
            translation: if nat {
                Translation::Nat44
            } else {
                Translation::None
            },
            translation6,
            mapping: classes.0,
            filtering: classes.1,
            ports: classes.2,
            unsolicited: classes.3,
            simultaneous_open: knobs.0,
            rst: knobs.1,
            hairpinning: knobs.2,
            pickup,
            pooling: if arbitrary {
                Pooling::Arbitrary
            } else {
                Pooling::Paired
            },
            udp_inbound_refresh: refresh,
            limits: Limits {
                when_full: if evict {
                    WhenFull::EvictSoonestToExpire
                } else {
                    WhenFull::Refuse
                },
                ..LIMITS
            },
            ..NatSpec::rfc5382()
        }
    })
}

/// Two endpoints of one family, from few enough values that they meet.
fn ends() -> impl Strategy<Value = (SocketAddr, SocketAddr)> {
    let host = |family: [&str; 4]| family.map(|address| address.parse::<IpAddr>().unwrap());
    let families = [
        host(["10.1.0.2", "192.0.2.1", "203.0.113.1", "203.0.113.2"]),
        host(["10.1.0.3", "10.1.0.2", "192.0.2.2", "203.0.113.2"]),
        host([
            "fd01:203:405:1::2",
            "2001:db8:2::2",
            "2001:db8:1::1",
            "2001:db8:1:d550::2",
        ]),
    ];
    let port = || prop_oneof![Just(0u16), 40_000u16..40_003, any::<u16>()];
    let hosts = (
        prop::sample::select(families.to_vec()),
        0usize..4,
        0usize..4,
    );
    (hosts, port(), port()).prop_map(|((family, from, to), from_port, to_port)| {
        (
            (family[from], from_port).into(),
            (family[to], to_port).into(),
        )
    })
}

#[derive(Debug, Clone)]
enum Step {
    Tcp(Side, SocketAddr, SocketAddr, u8, Vec<u8>),
    Udp(Side, SocketAddr, SocketAddr, bool),
    /// An echo request, or else a reply.
    Echo(Side, SocketAddr, SocketAddr, bool),
    /// An answer to an earlier output: the ends swapped, with these flags.
    Reply(prop::sample::Index, u8),
    /// An ICMP error about an earlier output, with so much of it.
    Error(prop::sample::Index, usize),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let side = || prop_oneof![Just(Side::Internal), Just(Side::External)];
    let data = prop::collection::vec(any::<u8>(), 0..1300);
    let step = prop_oneof![
        4 => (side(), ends(), 0u8..64, data)
            .prop_map(|(side, (from, to), flags, data)| Step::Tcp(side, from, to, flags, data)),
        4 => (side(), ends())
            .prop_map(|(side, (from, to))| Step::Tcp(side, from, to, 2, Vec::new())),
        2 => (side(), ends(), any::<bool>())
            .prop_map(|(side, (from, to), sum)| Step::Udp(side, from, to, sum)),
        2 => (side(), ends(), any::<bool>())
            .prop_map(|(side, (from, to), asks)| Step::Echo(side, from, to, asks)),
        4 => (any::<prop::sample::Index>(), 0u8..64).prop_map(|(at, flags)| Step::Reply(at, flags)),
        2 => (any::<prop::sample::Index>(), 0usize..100).prop_map(|(at, n)| Step::Error(at, n)),
        1 => (0u64..8000).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..120)
}

/// Runs the steps, and returns all that the box said and sent.
fn run(spec: NatSpec, seed: u64, steps: &[Step]) -> (Vec<Verdict>, Vec<Output>) {
    let external = external();
    let mut nat = NatModel::new(spec, external, seed).unwrap();
    let (mut verdicts, mut outputs) = (Vec::new(), Vec::<Output>::new());
    let mut now = Duration::ZERO;
    for step in steps {
        let (side, packet) = match step {
            Step::Tcp(side, from, to, flags, data) => (*side, tcp_with(*from, *to, *flags, data)),
            Step::Echo(side, from, to, true) => (*side, echo_request(*from, to.ip())),
            Step::Echo(side, from, to, false) => (*side, echo_reply(from.ip(), *to)),
            Step::Udp(side, from, to, checksum) => (*side, udp(*from, *to, b"x", *checksum)),
            Step::Reply(_, _) | Step::Error(_, _) if outputs.is_empty() => continue,
            Step::Reply(at, flags) => {
                let output = at.get(&outputs);
                let (protocol, from, to) = netns_lab_rig::packets::ends(&output.packet);
                let packet = match protocol {
                    6 => tcp_with(to, from, *flags, b""),
                    1 | 58 => echo_reply(to.ip(), from),
                    _ => udp(to, from, b"y", true),
                };
                (output.side, packet)
            }
            Step::Error(at, bytes) => {
                let output = at.get(&outputs);
                let (_, from, to) = netns_lab_rig::packets::ends(&output.packet);
                (
                    output.side,
                    icmp_error(to.ip(), from.ip(), &output.packet, *bytes),
                )
            }
            Step::Wait(seconds) => {
                now += Duration::from_secs(*seconds);
                continue;
            }
        };
        verdicts.push(nat.handle_packet(now, side, &packet));
        outputs.extend(std::iter::from_fn(|| nat.poll_output()));
        assert_bounds(&nat, spec);
    }
    (verdicts, outputs)
}

fn assert_bounds(nat: &NatModel, spec: NatSpec) {
    let mut hosts = std::collections::BTreeMap::<_, usize>::new();
    for mapping in nat.mappings() {
        assert!(mapping.sessions().count() > 0, "a mapping without sessions");
        *hosts.entry(mapping.internal().ip()).or_default() += mapping.sessions().count();
    }
    assert!(hosts.values().sum::<usize>() <= spec.limits.sessions);
    assert!(
        hosts
            .values()
            .all(|count| *count <= spec.limits.sessions_per_host)
    );
}

/// Whether a NAT may show an address to the world.
fn is_external(address: IpAddr, spec: NatSpec) -> bool {
    match (address, spec.translation6) {
        (IpAddr::V6(address), Translation6::Nptv6(prefixes)) => {
            address.segments()[..3] == prefixes.external.segments()[..3]
        }
        _ => external().contains(&address),
    }
}

proptest! {
    #[test]
    fn outputs_have_right_checksums_and_tables_stay_in_bounds(
        spec in spec(),
        seed: u64,
        steps in steps(),
    ) {
        for output in run(spec, seed, &steps).1 {
            assert_checksums(&output.packet);
        }
    }

    #[test]
    fn the_seed_decides_everything(spec in spec(), seed: u64, steps in steps()) {
        prop_assert_eq!(run(spec, seed, &steps), run(spec, seed, &steps));
    }

    /// No private address ever leaves a NAT, not even inside an ICMP error.
    #[test]
    fn private_sources_do_not_leak(spec in spec(), seed: u64, steps in steps()) {
        let translation6 = match spec.translation6 {
            Translation6::None => Translation6::Nat66,
            other => other,
        };
        let spec = NatSpec { translation: Translation::Nat44, translation6, ..spec };
        for output in run(spec, seed, &steps).1 {
            let (protocol, source, _) = netns_lab_rig::packets::ends(&output.packet);
            if output.side == Side::External {
                prop_assert!(is_external(source.ip(), spec));
            }
            let is_error = !is_echo(&output.packet) && matches!(protocol, 1 | 58);
            if output.side == Side::External && is_error {
                let (_, _, quoted) = netns_lab_rig::packets::icmp(&output.packet);
                let (_, _, destination) = netns_lab_rig::packets::ends(quoted);
                prop_assert!(is_external(destination.ip(), spec));
            }
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        spec in spec(),
        packets in prop::collection::vec(
            (
                prop_oneof![Just(0x45u8), Just(0x60), any::<u8>()],
                prop::sample::select(&[1u8, 6, 17, 58][..]),
                prop::collection::vec(any::<u8>(), 0..120),
                any::<bool>(),
            ),
            1..20,
        ),
    ) {
        let external = external();
        let mut nat = NatModel::new(spec, external, 7).unwrap();
        for (version, protocol, mut packet, outside) in packets {
            for (at, value) in [(0, version), (6, protocol & 0x40), (9, protocol), (2, 0)] {
                if let Some(byte) = packet.get_mut(at) {
                    *byte = value;
                }
            }
            let side = if outside { Side::External } else { Side::Internal };
            nat.handle_packet(Duration::ZERO, side, &packet);
        }
    }

    /// Any damage to a good packet: cut off, and a byte changed, with the header checksum mended so
    /// that it gets past the first look.
    #[test]
    fn damaged_packets_never_panic(
        spec in spec(),
        (from, to) in ends(),
        kind in 0u8..5,
        length in 0usize..120,
        change in (0usize..70, any::<u8>()),
    ) {
        let tcp = tcp_with(from, to, 2, b"");
        let mut packet = match kind {
            0 => tcp,
            1 => udp(from, to, b"data", true),
            2 => echo_request(from, to.ip()),
            3 => icmp_error(to.ip(), from.ip(), &echo_request(from, to.ip()), 60),
            _ => icmp_error(to.ip(), from.ip(), &tcp, 60),
        };
        packet.truncate(length);
        if let Some(byte) = packet.get_mut(change.0) {
            *byte = change.1;
        }
        let shown = packet.len() as u16;
        if packet.len() >= 20 {
            packet[2..4].copy_from_slice(&shown.to_be_bytes());
            mend(&mut packet);
        }
        let mut nat = NatModel::new(spec, external(), 7).unwrap();
        for side in [Side::Internal, Side::External] {
            nat.handle_packet(Duration::ZERO, side, &packet);
        }
    }
}
