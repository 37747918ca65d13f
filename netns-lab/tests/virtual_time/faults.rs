//! Addresses come and go, and machines restart.

use netns_lab::{
    LinkSpec,
    model::NatSpec,
    virtual_time::{
        Failure, HostId, SocketError, SocketId, SocketState, Transmit, Uplink, World, WorldError,
    },
};

use crate::stage::{A, B, MS, SECOND, end, is, near, pair, pass, times, wait};

fn hello(world: &mut World, from: SocketId, to: &str) -> Result<(), SocketError> {
    let transmit = Transmit {
        destination: end(to),
        source: None,
        ecn: 0,
        payload: b"hello",
    };
    world.send_to(from, &transmit)
}

/// Connects `a` to `b`.
fn connected(world: &mut World, a: HostId, b: HostId) -> (SocketId, SocketId) {
    let listener = world.listen(b, end(B).port()).unwrap();
    let socket = world.connect(a, end(A), end(B)).unwrap();
    pass(world, SECOND);
    (socket, world.accept(listener).unwrap().socket)
}

#[test]
fn an_address_that_comes_can_be_used_at_once() {
    let (mut world, a, b) = pair(near());
    let new = end("203.0.113.77:6000");
    assert_eq!(
        world.bind_udp(b, new),
        Err(SocketError::AddressNotAvailable)
    );
    world.add_address(b, new.ip()).unwrap();
    let at_b = world.bind_udp(b, new).unwrap();
    let at_a = world.bind_udp(a, end(A)).unwrap();
    hello(&mut world, at_a, "203.0.113.77:6000").unwrap();
    let listener = world.listen(b, 6000).unwrap();
    let socket = world.connect(a, end(A), new).unwrap();
    wait(&mut world, socket, SocketState::Connected);
    assert!(world.recv_from(at_b).unwrap().is_some());
    pass(&mut world, SECOND);
    assert_eq!(world.accept(listener).unwrap().local, new);
    let taken = WorldError::AddressInUse(new.ip().into());
    assert_eq!(world.add_address(b, new.ip()), Err(taken));
    assert_eq!(world.add_address(a, new.ip()), Err(taken));
    assert_eq!(world.addresses(a), [end(A).ip()]);
    assert_eq!(world.addresses(b), [end(B).ip(), new.ip()]);
    assert_eq!(world.source_address(b, end(A).ip()), Some(end(B).ip()));
}

#[test]
fn sockets_at_an_address_that_goes_stay_and_cannot_send() {
    let (mut world, a, b) = pair(near());
    let at_a = world.bind_udp(a, end(A)).unwrap();
    let (socket, accepted) = connected(&mut world, a, b);
    world.remove_address(a, end(A).ip()).unwrap();
    let nowhere = Err(SocketError::NetworkUnreachable);
    assert_eq!(hello(&mut world, at_a, B), nowhere);
    let not_own = Err(SocketError::AddressNotAvailable);
    assert_eq!(world.connect(a, end("203.0.113.1:4009"), end(B)), not_own);
    let unbound = world.connect(a, end("0.0.0.0:0"), end(B));
    assert_eq!(unbound, Err(SocketError::NetworkUnreachable));
    let sent = times(&world, "a", "sent").len();
    assert_eq!(world.send(socket, b"kept"), Ok(4));
    pass(&mut world, 3 * SECOND);
    assert_eq!(times(&world, "a", "sent").len(), sent);
    assert!(is(&world, socket, SocketState::Connected));
    // What others send finds nobody.
    world.send(accepted, b"lost").unwrap();
    pass(&mut world, SECOND);
    assert!(!times(&world, "core", "no such destination").is_empty());
    // It comes back: what waits is sent.
    world.add_address(a, end(A).ip()).unwrap();
    pass(&mut world, 60 * SECOND);
    assert_eq!(world.recv(accepted, &mut [0; 8]), Ok(Some(4)));
    assert_eq!(world.recv(socket, &mut [0; 8]), Ok(Some(4)));
    assert_eq!(hello(&mut world, at_a, B), Ok(()));
}

#[test]
fn an_ipv6_address_that_goes_is_still_sent_from_as_on_linux() {
    let mut world = World::new(1);
    let (from, to) = (end("[2001:db8::1]:4000"), "[2001:db8::2]:5000");
    let a = world
        .add_host("a", &[from.ip()], Uplink::core(near()))
        .unwrap();
    let b = world
        .add_host("b", &[end(to).ip()], Uplink::core(near()))
        .unwrap();
    let (at_a, at_b) = (
        world.bind_udp(a, from).unwrap(),
        world.bind_udp(b, end(to)).unwrap(),
    );
    world.remove_address(a, from.ip()).unwrap();
    hello(&mut world, at_a, to).unwrap();
    pass(&mut world, SECOND);
    assert_eq!(world.recv_from(at_b).unwrap().unwrap().source, from);
    hello(&mut world, at_b, "[2001:db8::1]:4000").unwrap();
    pass(&mut world, SECOND);
    assert_eq!(times(&world, "core", "no such destination"), [1020]);
}

#[test]
fn an_address_behind_a_firewall_moves_with_its_route() {
    let mut world = World::new(1);
    let core = Uplink::core(near());
    let firewall = world
        .add_nat("firewall", NatSpec::firewall(), &[], core)
        .unwrap();
    let a = world
        .add_host("a", &[end(A).ip()], Uplink::behind(firewall))
        .unwrap();
    let b = world.add_host("b", &[end(B).ip()], core).unwrap();
    world.remove_address(a, end(A).ip()).unwrap();
    world.add_address(b, end(A).ip()).unwrap();
    world.listen(b, 4000).unwrap();
    let c = world
        .add_host("c", &[end("203.0.113.9:0").ip()], core)
        .unwrap();
    let socket = world.connect(c, end("203.0.113.9:1"), end(A)).unwrap();
    wait(&mut world, socket, SocketState::Connected);
}

#[test]
fn a_crash_takes_every_socket_without_a_packet() {
    let (mut world, a, b) = pair(near());
    let (socket, accepted) = connected(&mut world, a, b);
    let dialled = world
        .connect(b, end("203.0.113.2:5001"), end("203.0.113.3:1"))
        .unwrap();
    let at_b = world.bind_udp(b, end("0.0.0.0:5000")).unwrap();
    let at_a = world.bind_udp(a, end("0.0.0.0:4000")).unwrap();
    world.connect_udp(at_a, end(B)).unwrap();
    world.take_changed();
    let sent = times(&world, "b", "sent").len();
    world.crash(b).unwrap();
    let changed = world.take_changed();
    for gone in [accepted, dialled, at_b] {
        assert!(changed.contains(&gone), "{gone:?}");
        assert_eq!(world.close(gone), Err(SocketError::UnknownSocket));
    }
    pass(&mut world, 10 * SECOND);
    assert_eq!(times(&world, "b", "sent").len(), sent);
    // As a fresh host answers.
    world.send(socket, b"?").unwrap();
    hello(&mut world, at_a, B).unwrap();
    wait(&mut world, socket, SocketState::Failed(Failure::Reset));
    pass(&mut world, MS);
    let refused = Err(SocketError::Failed(Failure::Refused));
    assert_eq!(world.recv_from(at_a), refused);
    // The same ports, and other sockets.
    let listener = world.listen(b, 5000).unwrap();
    assert!(![accepted, dialled, at_b].contains(&listener));
    let again = world.connect(a, end(A), end(B)).unwrap();
    wait(&mut world, again, SocketState::Connected);
}

#[test]
fn a_link_that_is_down_loses_both_ways() {
    let (mut world, a, b) = pair(near());
    let at_a = world.bind_udp(a, end(A)).unwrap();
    let at_b = world.bind_udp(b, end(B)).unwrap();
    assert!(world.set_link_up("a", false));
    for (up, from, to) in [
        (false, at_a, B),
        (false, at_b, A),
        (true, at_a, B),
        (true, at_b, A),
    ] {
        world.set_link_up("a", up);
        hello(&mut world, from, to).unwrap();
        pass(&mut world, SECOND);
        let other = if from == at_a { at_b } else { at_a };
        assert_eq!(world.recv_from(other).unwrap().is_some(), up);
    }
}

/// A host behind a NAT that has one address, and one outside.
fn behind_nat() -> (World, HostId, HostId) {
    let mut world = World::new(1);
    let core = Uplink::core(LinkSpec::delay(20 * MS));
    let nat = NatSpec::port_preserving();
    let nat = world.add_nat("nat", nat, &[end(A).ip()], core).unwrap();
    let inside = [end("192.168.1.2:0").ip()];
    let a = world.add_host("a", &inside, Uplink::behind(nat)).unwrap();
    let b = world.add_host("b", &[end(B).ip()], core).unwrap();
    (world, a, b)
}

#[test]
fn a_nat_that_reboots_forgets_its_mappings() {
    let (mut world, a, b) = behind_nat();
    let at_a = world.bind_udp(a, end("0.0.0.0:4000")).unwrap();
    let at_b = world.bind_udp(b, end("0.0.0.0:5000")).unwrap();
    hello(&mut world, at_a, B).unwrap();
    pass(&mut world, SECOND);
    for comes in [true, false] {
        hello(&mut world, at_b, A).unwrap();
        pass(&mut world, SECOND);
        assert_eq!(world.recv_from(at_a).unwrap().is_some(), comes);
        world.reboot("nat", None).unwrap();
    }
    assert_eq!(world.reboot("a", None), Err(WorldError::UnknownPlace));
}

#[test]
fn a_nat_may_come_back_with_another_address() {
    let (mut world, a, b) = behind_nat();
    let at_a = world.bind_udp(a, end("0.0.0.0:4000")).unwrap();
    let at_b = world.bind_udp(b, end("0.0.0.0:5000")).unwrap();
    let new = end("203.0.113.50:4000");
    for external in [end(A), new] {
        world.reboot("nat", Some(&[external.ip()])).unwrap();
        assert_eq!(world.external_addresses("nat"), [external.ip()]);
        hello(&mut world, at_a, B).unwrap();
        pass(&mut world, SECOND);
        let seen = world.recv_from(at_b).unwrap().unwrap().source;
        assert_eq!(seen, external);
        hello(&mut world, at_b, &seen.to_string()).unwrap();
        pass(&mut world, SECOND);
        assert!(world.recv_from(at_a).unwrap().is_some());
    }
    hello(&mut world, at_b, A).unwrap();
    pass(&mut world, SECOND);
    assert_eq!(times(&world, "core", "no such destination").len(), 1);
    let in_use = Err(WorldError::AddressInUse(end(B).ip().into()));
    assert_eq!(world.reboot("nat", Some(&[end(B).ip()])), in_use);
    let none = world.reboot("nat", Some(&[]));
    assert!(matches!(none, Err(WorldError::InvalidNat(_))), "{none:?}");
    hello(&mut world, at_b, &new.to_string()).unwrap();
    pass(&mut world, SECOND);
    assert!(world.recv_from(at_a).unwrap().is_some(), "as before");
}

#[test]
fn a_link_may_become_another() {
    let (mut world, a, b) = pair(near());
    let at_a = world.bind_udp(a, end(A)).unwrap();
    let at_b = world.bind_udp(b, end(B)).unwrap();
    for (spec, comes) in [
        (near().loss(1.0), 0),
        (near().duplicating(1.0), 2),
        (near(), 1),
    ] {
        world.set_link("a", spec).unwrap();
        for (from, to, other) in [(at_a, B, at_b), (at_b, A, at_a)] {
            hello(&mut world, from, to).unwrap();
            pass(&mut world, SECOND);
            let come = std::iter::from_fn(|| world.recv_from(other).unwrap());
            assert_eq!(come.count(), comes);
        }
    }
    let invalid = world.set_link("a", near().loss(2.0));
    assert!(matches!(invalid, Err(WorldError::InvalidLink(_))));
    let unknown = world.set_link("c", near());
    assert_eq!(unknown, Err(WorldError::UnknownPlace));
}

#[test]
fn sockets_are_open_until_their_programs_close_them() {
    let (mut world, a, b) = pair(near());
    let (socket, accepted) = connected(&mut world, a, b);
    let datagrams = world.bind_udp(a, end(A)).unwrap();
    assert_eq!((world.open_sockets(a), world.open_sockets(b)), (2, 2));
    world.close(socket).unwrap();
    world.close(datagrams).unwrap();
    world.close(accepted).unwrap();
    assert_eq!((world.open_sockets(a), world.open_sockets(b)), (0, 1));
    world.crash(b).unwrap();
    assert_eq!(world.open_sockets(b), 0);
}
