//! Which external endpoint a mapping gets (RFC 4787 sections 4.1 and 4.2).

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use netns_lab::model::{
    NatModel, NatSpec, Pooling, PortAssignment, PortRange, Side, SpecError, UnsolicitedSyn,
};
use netns_lab_rig::packets::{SYN, endpoint};
use proptest::prelude::*;

use crate::bench::{APD, Bench, EI, EXTERNAL};

fn with(ports: PortAssignment) -> NatSpec {
    NatSpec {
        ports,
        filtering: APD,
        unsolicited: UnsolicitedSyn::Nothing,
        ..NatSpec::rfc5382()
    }
}

fn host(number: u8, port: u16) -> SocketAddr {
    ([10, 1, 0, number], port).into()
}

fn server(number: u8) -> SocketAddr {
    ([192, 0, 2, number], 443).into()
}

#[test]
fn a_preserved_port_goes_to_who_comes_first() {
    let mut bench = Bench::new(with(PortAssignment::Preserved));
    let first = bench.send(host(2, 40_000), server(1), SYN).unwrap();
    let second = bench.send(host(3, 40_000), server(2), SYN).unwrap();
    assert_eq!(first.port(), 40_000);
    assert_ne!(second.port(), 40_000);
}

#[test]
fn an_overloaded_port_is_shared_until_the_remote_endpoint_is_the_same() {
    let mut bench = Bench::new(with(PortAssignment::PreservedWithOverload));
    let (a, b) = (host(2, 40_000), host(3, 40_000));
    assert_eq!(bench.send(a, server(1), SYN).unwrap().port(), 40_000);
    let shared = bench.send(b, server(2), SYN).unwrap();
    assert_eq!(shared.port(), 40_000);
    let other = bench.send(b, server(1), SYN).unwrap();
    assert_ne!(other.port(), 40_000);
    // Answers find the right host, and later packets the same mapping.
    assert_eq!(bench.receive(server(1), shared, SYN), Some(a));
    assert_eq!(bench.receive(server(2), shared, SYN), Some(b));
    assert_eq!(bench.receive(server(1), other, SYN), Some(b));
    assert_eq!(bench.send(b, server(1), SYN), Some(other));
    assert_eq!(bench.send(b, server(3), SYN), Some(shared));
}

#[test]
fn an_overloaded_port_makes_mappings_that_look_endpoint_independent() {
    let mut bench = Bench::new(NatSpec {
        mapping: APD,
        ..with(PortAssignment::PreservedWithOverload)
    });
    for n in 1..5 {
        let external = bench.send(host(2, 40_000), server(n), SYN).unwrap();
        assert_eq!(external.port(), 40_000);
    }
    assert_eq!(bench.nat.mappings().count(), 4);
}

#[test]
fn a_range_with_no_port_left_drops() {
    let port_range = PortRange {
        first: 5000,
        last: 5002,
    };
    for ports in [
        PortAssignment::Preserved,
        PortAssignment::Random,
        PortAssignment::Sequential { delta: 1 },
        PortAssignment::RandomInBlock { size: 3 },
    ] {
        let mut bench = Bench::new(NatSpec {
            port_range,
            ..with(ports)
        });
        let given: BTreeSet<_> = (1..4)
            .map(|n| bench.send(host(2, n), server(1), SYN).unwrap().port())
            .collect();
        assert!(ports == PortAssignment::Preserved || given == (5000..5003).collect());
        if ports == PortAssignment::Preserved {
            // Those are the hosts' own ports; strangers to the range get the rest.
            continue;
        }
        assert_eq!(
            bench.verdict(Side::Internal, host(2, 9), server(1), SYN),
            "DROP no external port left for 10.1.0.2:9"
        );
    }
}

#[test]
fn specifications_that_describe_no_box_are_refused() {
    let good = NatSpec::rfc5382();
    let range = |first, last| NatSpec {
        port_range: PortRange { first, last },
        ..good
    };
    let block = |size| with(PortAssignment::RandomInBlock { size });
    let limits = NatSpec {
        limits: netns_lab::model::Limits {
            sessions_per_host: 0,
            ..good.limits
        },
        ..good
    };
    for (spec, error) in [
        (range(0, 9), SpecError::PortRange),
        (range(9, 8), SpecError::PortRange),
        (
            with(PortAssignment::Sequential { delta: 0 }),
            SpecError::ZeroDelta,
        ),
        (block(0), SpecError::BlockSize),
        (block(u16::MAX), SpecError::BlockSize),
        (limits, SpecError::ZeroLimit),
    ] {
        let refused = NatModel::new(spec, vec![EXTERNAL.into()], 7).err();
        assert_eq!(refused, Some(error));
    }
    let homeless = NatModel::new(good, Vec::new(), 7).err();
    assert_eq!(homeless, Some(SpecError::NoExternalAddress));
}

proptest! {
    #[test]
    fn sequential_ports_are_delta_apart(seed: u64, delta in 1u16..9, first in 1024u16..60_000) {
        let port_range = PortRange { first, last: first + 999 };
        let ports = PortAssignment::Sequential { delta };
        let spec = NatSpec { mapping: APD, port_range, ..with(ports) };
        let mut bench = Bench::with(spec, &[EXTERNAL.into()], seed);
        let ports: Vec<_> = (1..100)
            .map(|n| bench.send(host(2, 40_000), server(n), SYN).unwrap().port())
            .collect();
        for pair in ports.windows(2) {
            let expected = (pair[0] - first + delta) % 1000 + first;
            prop_assert_eq!(pair[1], expected);
        }
    }

    #[test]
    fn random_ports_lie_in_the_range_and_differ_by_seed(seed: u64) {
        let spec = NatSpec { mapping: APD, ..with(PortAssignment::Random) };
        let ports = |seed| -> Vec<u16> {
            let mut bench = Bench::with(spec, &[EXTERNAL.into()], seed);
            (1..20)
                .map(|n| bench.send(host(2, 40_000), server(n), SYN).unwrap().port())
                .collect()
        };
        prop_assert!(ports(seed).iter().all(|port| *port >= 1024));
        prop_assert_ne!(ports(seed), ports(seed ^ 1));
    }

    /// RFC 7422 section 2: all ports of a host lie in its block, and no two hosts share one.
    #[test]
    fn each_host_has_a_block_of_its_own(
        seed: u64,
        // The range has 126 blocks of 512, so that some of these hosts want the same.
        flows in prop::collection::vec(
            (prop_oneof![2u8..9, 128u8..135], any::<u16>(), 1u8..9),
            1..100,
        ),
    ) {
        let ports = PortAssignment::RandomInBlock { size: 512 };
        let mut bench = Bench::with(with(ports), &[EXTERNAL.into()], seed);
        let mut owners = std::collections::BTreeMap::new();
        for (number, port, remote) in flows {
            let external = bench.send(host(number, port), server(remote), SYN).unwrap();
            let block = (external.port() - 1024) / 512;
            prop_assert_eq!(*owners.entry(block).or_insert(number), number);
        }
    }

    /// RFC 4787 REQ-2: with paired pooling a host has one address.
    #[test]
    fn paired_pooling_keeps_a_host_on_one_address(
        seed: u64,
        flows in prop::collection::vec((2u8..30, any::<u16>(), 1u8..9), 1..60),
        pairs: bool,
    ) {
        let pooling = if pairs { Pooling::Paired } else { Pooling::Arbitrary };
        let external: Vec<IpAddr> = (1..5).map(|n| [203, 0, 113, n].into()).collect();
        let spec = NatSpec { pooling, mapping: EI, ..with(PortAssignment::Random) };
        let mut bench = Bench::with(spec, &external, seed);
        let mut addresses = std::collections::BTreeMap::new();
        for (number, port, remote) in flows {
            let seen = bench.send(host(number, port), server(remote), SYN).unwrap();
            prop_assert!(external.contains(&seen.ip()));
            let first = *addresses.entry(number).or_insert_with(|| seen.ip());
            prop_assert!(!pairs || first == seen.ip());
        }
    }
}

#[test]
fn arbitrary_pooling_uses_all_addresses() {
    let external: Vec<IpAddr> = (1..5).map(|n| [203, 0, 113, n].into()).collect();
    let spec = NatSpec {
        pooling: Pooling::Arbitrary,
        mapping: APD,
        ..with(PortAssignment::Random)
    };
    let mut bench = Bench::with(spec, &external, 7);
    let from = endpoint("10.1.0.2:1");
    let used: BTreeSet<_> = (1..100)
        .map(|n| bench.send(from, server(n), SYN).unwrap().ip())
        .collect();
    assert_eq!(used.len(), 4);
}
