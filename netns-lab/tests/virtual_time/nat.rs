//! The NAT model between hosts in virtual time.

use std::{net::IpAddr, time::Duration};

use netns_lab::{
    BoxSpec, HostSpec, LinkSpec, Topology,
    model::{NatModel, NatSpec},
    virtual_time::{HostId, Opening, Ping, PongKind, SocketError, Uplink, World},
};

use crate::stage::{MS, end};

/// Adds a host with the same private address as the other, behind a NAT.
fn home(world: &mut World, name: &str, external: IpAddr, seed: u64) -> HostId {
    let nat = NatModel::new(NatSpec::rfc5382(), vec![external], seed).unwrap();
    let core = Uplink::core(LinkSpec::delay(20 * MS));
    let nat = world
        .add_middlebox(
            &format!("nat of {name}"),
            Box::new(nat),
            &[external.into()],
            core,
        )
        .unwrap();
    let inside = [end("192.168.1.2:1").ip()];
    world.add_host(name, &inside, Uplink::behind(nat)).unwrap()
}

#[test]
fn two_homes_punch_through_and_no_private_address_leaves() {
    let mut world = World::new(1);
    let (outside_a, outside_b) = (end("203.0.113.1:4000"), end("203.0.113.2:5000"));
    let a = home(&mut world, "a", outside_a.ip(), 1);
    let b = home(&mut world, "b", outside_b.ip(), 2);
    let from_a = world
        .connect(a, end("192.168.1.2:4000"), outside_b)
        .unwrap();
    let from_b = world
        .connect(b, end("192.168.1.2:5000"), outside_a)
        .unwrap();
    world.run_until(500 * MS, |_| false);
    let opened = Ok(Some((Opening::Simultaneous, 80 * MS)));
    assert_eq!(world.opened(from_a), opened, "{}", world.log());
    assert_eq!(world.opened(from_b), opened, "{}", world.log());
    assert!(!world.log().to_string().contains("private source"));
}

/// A host behind one box and one behind two, and a public one whose link is small.
fn behind_one_and_two() -> World {
    let link = LinkSpec::delay(10 * MS);
    let topology = Topology::new()
        .shared_box(BoxSpec::new("cgn", NatSpec::random_per_destination()).link(link))
        .host(HostSpec::new("s").link(link.mtu(1000)))
        .host(HostSpec::new("a").behind(NatSpec::rfc5382()).link(link))
        .host(
            HostSpec::new("b")
                .behind(NatSpec::random_port())
                .behind_shared("cgn"),
        );
    World::build(&topology, 1).unwrap()
}

/// Asks for an echo, and returns what comes of it, from whom and when.
fn ping(
    world: &mut World,
    host: HostId,
    to: IpAddr,
    length: u16,
) -> Option<(PongKind, IpAddr, Duration)> {
    let ping = Ping {
        to,
        identifier: 77,
        sequence: 9,
        length,
    };
    let start = world.now();
    assert_eq!(world.ping(host, ping), Ok(()));
    let mut pongs = Vec::new();
    world.run_until(start + 1000 * MS, |world| {
        pongs = world.take_pongs(host);
        !pongs.is_empty()
    });
    let pong = pongs.pop()?;
    assert_eq!((pong.identifier, pong.sequence), (77, 9));
    Some((pong.kind, pong.from, world.now() - start))
}

#[test]
fn echoes_go_through_one_box_and_two() {
    let mut world = behind_one_and_two();
    let s = world.addresses(world.find_host("s").unwrap()).to_vec();
    for name in ["a", "b"] {
        let from = world.find_host(name).unwrap();
        for to in &s {
            let seen = ping(&mut world, from, *to, 56);
            let log = world.log();
            assert_eq!(seen, Some((PongKind::Reply, *to, 40 * MS)), "{log}");
        }
        let told = PongKind::Error { kind: 3, code: 4 };
        let router = end("192.0.2.1:1").ip();
        let seen = ping(&mut world, from, s[0], 1200);
        assert_eq!(seen, Some((told, router, 20 * MS)), "{}", world.log());
    }
    let log = world.log().to_string();
    assert!(
        log.contains("> 203.0.113.1 echo request id 77 seq 9: MAP "),
        "{log}"
    );
    assert!(log.contains("echo reply id 77 seq 9: to its ping"), "{log}");
    assert!(
        log.contains("icmp 3/4 about 192.168.2.2 > 203.0.113.1 echo request id 77"),
        "{log}"
    );
    assert!(!log.contains("private source"), "{log}");
}

#[test]
fn echoes_that_nobody_answers_are_accounted_for() {
    let mut world = behind_one_and_two();
    let s = world.find_host("s").unwrap();
    for to in ["203.0.113.2:1", "203.0.113.250:1"] {
        assert_eq!(ping(&mut world, s, end(to).ip(), 56), None);
    }
    let log = world.log().to_string();
    let refused = "DROP echo 203.0.113.1 -> 203.0.113.2 that nobody inside has asked for";
    assert!(log.contains(refused), "{log}");
    assert!(
        log.contains("dropped by the core: no such destination"),
        "{log}"
    );
}

#[test]
fn an_echo_fits_into_a_packet() {
    let mut world = behind_one_and_two();
    let host = world.find_host("a").unwrap();
    for (length, result) in [(1452, Ok(())), (1453, Err(SocketError::MessageTooLong))] {
        let ping = Ping {
            to: end("203.0.113.1:1").ip(),
            identifier: 1,
            sequence: 1,
            length,
        };
        assert_eq!(world.ping(host, ping), result);
    }
}
