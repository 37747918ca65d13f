//! UDP between hosts in virtual time, as Linux would do it.

use std::net::SocketAddr;

use netns_lab::{
    LinkSpec,
    model::{NatSpec, Timers},
    virtual_time::{Datagram, Failure, HostId, SocketError, SocketId, Transmit, Uplink, World},
};

use crate::stage::{A, B, MS, SECOND, end, near, pair, pass, times};

/// Sends some bytes without an ECN mark.
fn send(
    world: &mut World,
    from: SocketId,
    to: SocketAddr,
    payload: &[u8],
) -> Result<(), SocketError> {
    let transmit = Transmit {
        destination: to,
        source: None,
        ecn: 0,
        payload,
    };
    world.send_to(from, &transmit)
}

fn receive(world: &mut World, socket: SocketId) -> Option<Datagram> {
    world.recv_from(socket).unwrap()
}

/// Opens a socket at all IPv4 addresses.
fn anywhere(world: &mut World, host: HostId, port: u16) -> SocketId {
    world
        .bind_udp(host, SocketAddr::from(([0; 4], port)))
        .unwrap()
}

#[test]
fn a_datagram_takes_the_way_of_the_links() {
    let (mut world, a, b) = pair(near());
    let (at_a, at_b) = (
        world.bind_udp(a, end(A)).unwrap(),
        anywhere(&mut world, b, 5000),
    );
    send(&mut world, at_a, end(B), b"hello").unwrap();
    pass(&mut world, 40 * MS - MS);
    assert_eq!(receive(&mut world, at_b), None);
    pass(&mut world, MS);
    let came = receive(&mut world, at_b).unwrap();
    assert_eq!((came.source, came.destination), (end(A), end(B)));
    assert_eq!((came.payload.as_slice(), came.ecn), (&b"hello"[..], 0));
    assert_eq!(receive(&mut world, at_b), None);
    assert!(world.log().to_string().contains("udp len 5: to its socket"));
}

#[test]
fn a_datagram_may_be_empty_marked_and_as_long_as_a_packet() {
    let ipv6 = [end("[2001:db8::1]:4000"), end("[2001:db8::2]:5000")];
    for ([from, to], most) in [([end(A), end(B)], 1472), (ipv6, 1452)] {
        let mut world = World::new(1);
        let a = world
            .add_host("a", &[from.ip()], Uplink::core(near()))
            .unwrap();
        let b = world
            .add_host("b", &[to.ip()], Uplink::core(near()))
            .unwrap();
        let (at_a, at_b) = (
            world.bind_udp(a, from).unwrap(),
            world.bind_udp(b, to).unwrap(),
        );
        for (length, ecn) in [(0, 0), (1, 1), (most, 2), (most - 1, 3)] {
            let payload: Vec<u8> = (0..length).map(|n| n as u8).collect();
            let transmit = Transmit {
                destination: to,
                source: None,
                ecn,
                payload: &payload,
            };
            world.send_to(at_a, &transmit).unwrap();
            pass(&mut world, SECOND);
            let came = receive(&mut world, at_b).unwrap();
            assert_eq!((came.ecn, came.payload.len()), (ecn, length));
            assert!(came.payload == payload);
        }
        let too_long = send(&mut world, at_a, to, &vec![0; most + 1]);
        assert_eq!(too_long, Err(SocketError::MessageTooLong));
    }
}

#[test]
fn a_closed_port_is_told_to_connected_sockets_alone() {
    let (mut world, a, _b) = pair(near());
    let (connected, other) = (anywhere(&mut world, a, 4000), anywhere(&mut world, a, 4001));
    world.connect_udp(connected, end(B)).unwrap();
    assert_eq!(world.local_end(connected), Ok(end(A)));
    for socket in [connected, other] {
        send(&mut world, socket, end(B), b"?").unwrap();
    }
    pass(&mut world, 80 * MS);
    assert_eq!(times(&world, "a", "told its socket"), [80]);
    assert_eq!(times(&world, "a", "ignored: no socket asks for it"), [80]);
    assert_eq!(world.take_changed(), [connected]);
    let refused = Err(SocketError::Failed(Failure::Refused));
    assert_eq!(world.recv_from(connected), refused);
    assert_eq!(world.recv_from(connected), Ok(None), "told once");
    assert_eq!(world.recv_from(other), Ok(None));
    // A call to send takes the error as well, and sends nothing.
    send(&mut world, connected, end(B), b"?").unwrap();
    pass(&mut world, SECOND);
    assert_eq!(
        send(&mut world, connected, end(B), b"?").map(Some),
        refused.map(|_| None)
    );
    assert_eq!(send(&mut world, connected, end(B), b"?"), Ok(()));
}

#[test]
fn a_connected_socket_hears_one_end_alone() {
    let (mut world, a, b) = pair(near());
    let at_a = anywhere(&mut world, a, 4000);
    world.connect_udp(at_a, end(B)).unwrap();
    let (friend, stranger) = (anywhere(&mut world, b, 5000), anywhere(&mut world, b, 5001));
    for (socket, word) in [(stranger, b"stranger"), (friend, b"a friend")] {
        send(&mut world, socket, end(A), word).unwrap();
    }
    pass(&mut world, SECOND);
    assert_eq!(receive(&mut world, at_a).unwrap().payload, b"a friend");
    assert_eq!(receive(&mut world, at_a), None);
    assert_eq!(times(&world, "a", "to no socket"), [40]);
}

#[test]
fn a_full_queue_drops() {
    let (mut world, a, b) = pair(near());
    let (at_a, at_b) = (anywhere(&mut world, a, 4000), anywhere(&mut world, b, 5000));
    for _ in 0..300 {
        send(&mut world, at_a, end(B), &[0; 232]).unwrap();
    }
    pass(&mut world, SECOND);
    // 212,992 bytes have room for so many with 768 bytes each beside their own.
    let kept = std::iter::from_fn(|| receive(&mut world, at_b)).count();
    assert_eq!((kept, world.dropped(at_b)), (212, Ok(88)));
    assert_eq!(times(&world, "b", "the socket's queue is full").len(), 88);
    send(&mut world, at_a, end(B), b"room again").unwrap();
    pass(&mut world, SECOND);
    assert!(receive(&mut world, at_b).is_some());
}

#[test]
fn the_socket_at_the_address_hears_before_the_one_at_all() {
    let mut world = World::new(1);
    let (first, second) = (end("203.0.113.1:7000"), end("203.0.113.7:7000"));
    let core = Uplink::core(near());
    let a = world
        .add_host("a", &[first.ip(), second.ip()], core)
        .unwrap();
    let b = world.add_host("b", &[end(B).ip()], core).unwrap();
    let at_first = world.bind_udp(a, first).unwrap();
    let taken = Err(SocketError::AddressInUse);
    assert_eq!(world.bind_udp(a, first), taken);
    assert_eq!(
        world.bind_udp(a, end("0.0.0.0:7000")),
        taken,
        "it would overlap"
    );
    assert!(
        world.bind_udp(a, end("[::]:7000")).is_ok(),
        "another family"
    );
    let not_there = world.bind_udp(a, end("203.0.113.9:7000"));
    assert_eq!(not_there, Err(SocketError::AddressNotAvailable));
    let at_second = world.bind_udp(a, second).unwrap();
    let from = anywhere(&mut world, b, 5000);
    for to in [first, second] {
        send(&mut world, from, to, b"x").unwrap();
    }
    pass(&mut world, SECOND);
    for (socket, local) in [(at_first, first), (at_second, second)] {
        assert_eq!(receive(&mut world, socket).unwrap().destination, local);
        assert_eq!(receive(&mut world, socket), None);
    }
    world.close(at_first).unwrap();
    assert_eq!(world.recv_from(at_first), Err(SocketError::UnknownSocket));
    assert!(world.bind_udp(a, first).is_ok());
}

#[test]
fn a_socket_at_all_addresses_sends_from_the_first_or_the_one_asked_for() {
    let mut world = World::new(1);
    let (first, second) = (end("203.0.113.1:0").ip(), end("203.0.113.7:0").ip());
    let core = Uplink::core(near());
    let a = world.add_host("a", &[first, second], core).unwrap();
    let b = world.add_host("b", &[end(B).ip()], core).unwrap();
    let (at_a, at_b) = (anywhere(&mut world, a, 4000), anywhere(&mut world, b, 5000));
    assert_eq!(world.source_address(a, end(B).ip()), Some(first));
    let from = |source| Transmit {
        destination: end(B),
        source,
        ecn: 0,
        payload: b"x",
    };
    for source in [None, Some(second), Some(first)] {
        world.send_to(at_a, &from(source)).unwrap();
        pass(&mut world, SECOND);
        let seen = receive(&mut world, at_b).unwrap().source;
        assert_eq!(seen.ip(), source.unwrap_or(first));
    }
    let not_own = world.send_to(at_a, &from(Some(end(B).ip())));
    assert_eq!(not_own, Err(SocketError::AddressNotAvailable));
    let ipv6 = send(&mut world, at_a, end("[2001:db8::2]:1"), b"x");
    assert_eq!(ipv6, Err(SocketError::AddressNotAvailable));
    let at_ipv6 = world.bind_udp(a, end("[::]:0")).unwrap();
    let nowhere = send(&mut world, at_ipv6, end("[2001:db8::2]:1"), b"x");
    assert_eq!(nowhere, Err(SocketError::NetworkUnreachable));
}

#[test]
fn port_0_is_an_ephemeral_one_that_the_seed_decides() {
    let ports = |seed| {
        let mut world = World::new(seed);
        let host = world
            .add_host("a", &[end(A).ip()], Uplink::core(near()))
            .unwrap();
        let mut open = || {
            let socket = anywhere(&mut world, host, 0);
            world.local_end(socket).unwrap().port()
        };
        std::array::from_fn::<u16, 50, _>(|_| open())
    };
    let mut seen: Vec<u16> = ports(1).into();
    assert_eq!(ports(1), ports(1));
    assert_ne!(ports(1), ports(2));
    assert!(seen.iter().all(|port| (32_768..=60_999).contains(port)));
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 50);
}

#[test]
fn a_link_may_duplicate_and_reorder_datagrams() {
    let link = LinkSpec::delay(20 * MS).jitter(10 * MS).reordering();
    let (mut world, a, b) = pair(link.duplicating(0.5));
    let (at_a, at_b) = (anywhere(&mut world, a, 4000), anywhere(&mut world, b, 5000));
    for number in 0..100 {
        send(&mut world, at_a, end(B), &[number]).unwrap();
    }
    pass(&mut world, SECOND);
    let came: Vec<u8> = std::iter::from_fn(|| receive(&mut world, at_b))
        .map(|datagram| datagram.payload[0])
        .collect();
    assert!(came.len() > 150 && !came.is_sorted(), "{came:?}");
}

/// A NAT with endpoint-independent mapping, and a server outside.
fn behind_nat(spec: NatSpec) -> (World, SocketId, SocketId) {
    let mut world = World::new(1);
    let core = Uplink::core(near());
    let nat = world.add_nat("nat", spec, &[end(A).ip()], core).unwrap();
    let inside = [end("192.168.1.2:0").ip()];
    let a = world.add_host("a", &inside, Uplink::behind(nat)).unwrap();
    let b = world.add_host("b", &[end(B).ip()], core).unwrap();
    let at_a = anywhere(&mut world, a, 4000);
    let at_b = anywhere(&mut world, b, 5000);
    (world, at_a, at_b)
}

#[test]
fn a_nat_keeps_a_mapping_as_long_as_its_timeout_says() {
    let spec = NatSpec::rfc5382();
    let (mut world, at_a, at_b) = behind_nat(spec);
    send(&mut world, at_a, end(B), b"x").unwrap();
    pass(&mut world, SECOND);
    let seen = receive(&mut world, at_b).unwrap().source;
    assert_eq!(seen, end(A));
    pass(&mut world, Timers::RFC5382.udp - 2 * SECOND);
    for (gap, comes) in [(SECOND, true), (Timers::RFC5382.udp, false)] {
        send(&mut world, at_b, seen, b"x").unwrap();
        pass(&mut world, gap);
        assert_eq!(receive(&mut world, at_a).is_some(), comes);
    }
}
