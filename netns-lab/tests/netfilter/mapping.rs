//! Which external endpoint servers see.

use std::{
    collections::BTreeSet,
    net::{SocketAddr, UdpSocket},
};

use netns_lab::{Dependence, NatSpec, PortAssignment};

use crate::{
    lab,
    net::{PATIENCE, connect_and_accept, listen},
    seen_by_servers,
};

const RANGE: (u16, u16) = (20_000, 20_999);

fn nat(mapping: Dependence, ports: PortAssignment) -> NatSpec {
    NatSpec::port_preserving()
        .mapping(mapping)
        .ports(ports)
        .port_range(RANGE.0, RANGE.1)
}

/// Returns what one address at two ports, and another address, see.
fn ports_seen(nat: NatSpec) -> [u16; 3] {
    let seen = seen_by_servers(&lab(nat), 5000);
    println!("{:?} {:?}: {seen:?}", nat.mapping, nat.ports);
    [seen[0].port(), seen[1].port(), seen[2].port()]
}

/// Checks all mappings with one way of choosing ports; `check` sees the ports in the order in which
/// they were given out.
fn every_mapping(ports: PortAssignment, check: impl Fn(&[u16])) {
    for (mapping, is_right) in [
        (
            Dependence::EndpointIndependent,
            (|[a, b, c]: [u16; 3]| a == b && b == c) as fn(_) -> _,
        ),
        (Dependence::AddressDependent, |[a, b, c]: [u16; 3]| {
            a == b && b != c
        }),
        (
            Dependence::AddressAndPortDependent,
            |[a, b, c]: [u16; 3]| a != b && b != c && a != c,
        ),
    ] {
        let seen = ports_seen(nat(mapping, ports));
        assert!(is_right(seen), "{mapping:?} {ports:?}: {seen:?}");
        let mut given_out = seen.to_vec();
        given_out.dedup();
        check(&given_out);
        assert_eq!(
            ports_seen(nat(mapping, ports)),
            seen,
            "the seed is the same"
        );
    }
}

fn in_range(port: u16) -> bool {
    (RANGE.0..=RANGE.1).contains(&port)
}

#[test]
fn a_port_is_kept_for_the_first_mapping() {
    netns_lab::test(|| {
        every_mapping(PortAssignment::Preserved, |ports| {
            assert_eq!(ports[0], 5000);
            assert!(ports[1..].iter().all(|port| in_range(*port)), "{ports:?}");
        });
    });
}

#[test]
fn ports_are_given_out_in_sequence() {
    netns_lab::test(|| {
        for delta in [1, 3] {
            every_mapping(PortAssignment::Sequential { delta }, |ports| {
                assert!(ports.iter().all(|port| in_range(*port)), "{ports:?}");
                let steps = ports
                    .windows(2)
                    .map(|pair| (i32::from(pair[1]) - i32::from(pair[0])).rem_euclid(1000));
                assert!(
                    steps.into_iter().all(|step| step == i32::from(delta)),
                    "{ports:?}"
                );
            });
        }
    });
}

#[test]
fn ports_are_random_but_the_seeds() {
    netns_lab::test(|| {
        every_mapping(PortAssignment::Random, |ports| {
            assert!(ports.iter().all(|port| in_range(*port)), "{ports:?}");
            assert!(
                ports.windows(2).all(|pair| pair[1] != pair[0] + 1),
                "{ports:?}"
            );
        });
    });
}

#[test]
fn ports_come_from_one_block() {
    netns_lab::test(|| {
        every_mapping(PortAssignment::RandomInBlock { size: 50 }, |ports| {
            let blocks: BTreeSet<_> = ports.iter().map(|port| (port - RANGE.0) / 50).collect();
            assert!(ports.iter().all(|port| in_range(*port)), "{ports:?}");
            assert_eq!(blocks.len(), 1, "{ports:?}");
        });
    });
}

#[test]
fn overloading_keeps_to_a_range() {
    netns_lab::test(|| {
        let nat = NatSpec::port_preserving();
        assert_eq!(ports_seen(nat.port_range(4000, 5000)), [5000; 3]);
        let [one, other, another] = ports_seen(nat.port_range(20_000, 20_999));
        assert!(in_range(one) && one == other && other == another);
    });
}

/// So many of so few ports collide by chance: with 24 of 64 in 99 of 100 seeds.
const CROWD: std::ops::Range<u16> = 5000..5024;

#[test]
fn no_two_endpoints_share_a_port() {
    netns_lab::test(|| {
        for ports in [
            PortAssignment::Random,
            PortAssignment::RandomInBlock { size: 64 },
        ] {
            let nat = nat(Dependence::EndpointIndependent, ports).port_range(20_000, 20_063);
            let lab = lab(nat);
            let (s, t, a) = (lab.host("s"), lab.host("t"), lab.host("a"));
            let listeners = [listen(s, 1, false), listen(t, 1, false)];
            let connections: Vec<_> = CROWD
                .map(|port| connect_and_accept(a, port, &listeners[usize::from(port % 2)]))
                .collect();
            let seen: BTreeSet<_> = connections.iter().map(|(_, _, seen)| seen).collect();
            assert_eq!(seen.len(), CROWD.len(), "{seen:?}");
        }
    });
}

#[test]
fn datagrams_get_ports_of_their_own() {
    netns_lab::test(|| {
        let lab = lab(nat(Dependence::EndpointIndependent, PortAssignment::Random));
        let (s, t, a) = (lab.host("s"), lab.host("t"), lab.host("a"));
        let bind = |host: &netns_lab::Host, port| {
            let address = (host.ipv4(), port);
            let socket = host.run(|| UdpSocket::bind(address).unwrap()).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket
        };
        let servers = [bind(s, 1), bind(t, 1)];
        let mut seen = BTreeSet::new();
        for port in CROWD {
            let client = bind(a, port);
            let by_both = servers.each_ref().map(|server| {
                let to = server.local_addr().unwrap();
                client.send_to(b"ping", to).unwrap();
                let from: SocketAddr = server.recv_from(&mut [0; 8]).unwrap().1;
                server.send_to(b"pong", from).unwrap();
                assert_eq!(client.recv_from(&mut [0; 8]).unwrap().1, to);
                from
            });
            assert_eq!(by_both[0], by_both[1]);
            assert!(in_range(by_both[0].port()));
            assert!(seen.insert(by_both[0]), "{:?} is shared", by_both[0]);
        }
    });
}
