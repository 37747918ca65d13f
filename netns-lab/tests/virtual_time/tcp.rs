//! TCP between hosts in virtual time, as Linux would do it.

use std::net::SocketAddr;

use netns_lab::{
    LinkSpec,
    virtual_time::{Failure, HostId, Opening, SocketError, SocketState, Uplink, World},
};

use crate::{
    boxes::{Answer, Firewall, Loses, RefusesDataOnce},
    stage::{A, B, MS, SECOND, end, is, near, pair, times, wait},
};

/// A public host `a`, and `b` behind a firewall.
fn behind(answer: Answer) -> (World, HostId, HostId) {
    let mut world = World::new(1);
    let core = Uplink::core(near());
    let a = world.add_host("a", &[end(A).ip()], core).unwrap();
    let firewall = world
        .add_middlebox("firewall", Firewall::new(answer), &[], core)
        .unwrap();
    let b = world
        .add_host("b", &[end(B).ip()], Uplink::behind(firewall))
        .unwrap();
    (world, a, b)
}

#[test]
fn a_connection_takes_one_round_trip() {
    let (mut world, a, b) = pair(near());
    let listener = world.listen(b, 5000).unwrap();
    let socket = world.connect(a, end(A), end(B)).unwrap();
    assert!(is(&world, socket, SocketState::Connecting));
    wait(&mut world, socket, SocketState::Connected);
    assert_eq!(world.opened(socket), Ok(Some((Opening::Active, 80 * MS))));
    assert_eq!(world.accept(listener), None);
    assert!(world.run_until(SECOND, |world| world.now() >= 120 * MS));
    let accepted = world.accept(listener).unwrap();
    assert_eq!((accepted.local, accepted.remote), (end(B), end(A)));
    assert_eq!(world.ends(accepted.socket), Ok((end(B), end(A))));
    let opened = world.opened(accepted.socket);
    assert_eq!(opened, Ok(Some((Opening::Passive, 120 * MS))));
    assert_eq!(world.accept(listener), None);
    assert_eq!(world.listen(b, 5000), Err(SocketError::AddressInUse));
}

#[test]
fn ipv6_works_alike() {
    let mut world = World::new(1);
    let (local, remote) = (end("[2001:db8::1]:4000"), end("[2001:db8::2]:5000"));
    let core = Uplink::core(near());
    let a = world
        .add_host("a", &[local.ip(), end(A).ip()], core)
        .unwrap();
    let b = world.add_host("b", &[remote.ip()], core).unwrap();
    world.listen(b, 5000).unwrap();
    let socket = world.connect(a, local, remote).unwrap();
    wait(&mut world, socket, SocketState::Connected);
    let refused = world.connect(a, local, end("[2001:db8::2]:5001")).unwrap();
    wait(&mut world, refused, SocketState::Failed(Failure::Refused));
    let mixed = world.connect(a, end(A), remote);
    assert_eq!(mixed, Err(SocketError::AddressNotAvailable));
}

#[test]
fn crossing_syns_make_one_connection_in_one_round_trip() {
    let (mut world, a, b) = pair(near());
    let from_a = world.connect(a, end(A), end(B)).unwrap();
    let from_b = world.connect(b, end(B), end(A)).unwrap();
    world.run_until(SECOND, |_| false);
    let opened = Ok(Some((Opening::Simultaneous, 80 * MS)));
    assert_eq!(world.opened(from_a), opened);
    assert_eq!(world.opened(from_b), opened);
    assert_eq!(world.send(from_a, b"here"), Ok(4));
    let mut buffer = [0; 8];
    assert_eq!(world.recv(from_b, &mut buffer), Ok(None));
    world.run_until(2 * SECOND, |_| false);
    assert_eq!(world.recv(from_b, &mut buffer), Ok(Some(4)));
    assert_eq!(&buffer[..4], b"here");
}

#[test]
fn a_crossing_syn_does_not_go_to_the_listener_on_the_port() {
    let (mut world, a, b) = pair(near());
    let at_a = world.listen(a, 4000).unwrap();
    let at_b = world.listen(b, 5000).unwrap();
    let from_a = world.connect(a, end(A), end(B)).unwrap();
    world.run_until(30 * MS, |_| false);
    let from_b = world.connect(b, end(B), end(A)).unwrap();
    world.run_until(SECOND, |_| false);
    let opening = |socket| world.opened(socket).unwrap().map(|(how, _)| how);
    assert_eq!(opening(from_a), Some(Opening::Simultaneous));
    assert_eq!(opening(from_b), Some(Opening::Simultaneous));
    assert_eq!(world.accept(at_a), None);
    assert_eq!(world.accept(at_b), None);
    // A SYN from other ends goes to the listener, beside the connection.
    let other = world.connect(a, end("203.0.113.1:4001"), end(B)).unwrap();
    wait(&mut world, other, SocketState::Connected);
    world.run_until(2 * SECOND, |_| false);
    let accepted = world.accept(at_b).unwrap();
    assert_eq!(accepted.remote, end("203.0.113.1:4001"));
}

#[test]
fn a_connection_that_the_listener_took_leaves_no_room_for_another() {
    let (mut world, a, b) = pair(near());
    world.listen(b, 5000).unwrap();
    let socket = world.connect(a, end(A), end(B)).unwrap();
    world.run_until(50 * MS, |_| false);
    let taken = Err(SocketError::AddressNotAvailable);
    assert_eq!(world.connect(b, end(B), end(A)), taken);
    assert_eq!(world.connect(a, end(A), end(B)), taken);
    assert_eq!(world.connect(a, end(B), end(A)), taken, "not its address");
    wait(&mut world, socket, SocketState::Connected);
}

#[test]
fn sockets_share_a_port() {
    let (mut world, a, b) = pair(near());
    let mut dialled = vec![];
    for port in 6000..6050 {
        let listener = world.listen(b, port).unwrap();
        let remote = SocketAddr::new(end(B).ip(), port);
        dialled.push((listener, world.connect(a, end(A), remote).unwrap()));
    }
    world.run_until(SECOND, |_| false);
    for (listener, socket) in dialled {
        assert!(is(&world, socket, SocketState::Connected));
        assert_eq!(world.accept(listener).unwrap().remote, end(A));
    }
}

#[test]
fn rst_refuses_an_attempt_and_frees_its_ends() {
    for answer in [Answer::Rst, Answer::Late(100 * MS)] {
        let (mut world, a, b) = behind(answer);
        let socket = world.connect(a, end(A), end(B)).unwrap();
        wait(&mut world, socket, SocketState::Failed(Failure::Refused));
        let late = if answer == Answer::Rst { 0 } else { 100 };
        assert_eq!(world.now(), (80 + late) * MS);
        assert_eq!(world.opened(socket), Ok(None));
        let from_b = world.connect(b, end(B), end(A)).unwrap();
        let again = world.connect(a, end(A), end(B)).unwrap();
        wait(&mut world, again, SocketState::Connected);
        wait(&mut world, from_b, SocketState::Connected);
        assert_eq!(world.abort(socket), Ok(()));
        let state = world.state(socket);
        assert_eq!(state, Err(SocketError::UnknownSocket));
        assert!(is(&world, again, SocketState::Connected));
    }
}

#[test]
fn icmp_errors_end_an_attempt_as_on_linux() {
    for (code, failure) in [
        (0, Failure::NetworkUnreachable),
        (1, Failure::HostUnreachable),
        (2, Failure::ProtocolUnreachable),
        (3, Failure::Refused),
        (9, Failure::NetworkUnreachable),
        (10, Failure::HostUnreachable),
        (13, Failure::HostUnreachable),
    ] {
        let (mut world, a, _b) = behind(Answer::Icmp(code));
        let socket = world.connect(a, end(A), end(B)).unwrap();
        wait(&mut world, socket, SocketState::Failed(failure));
        assert_eq!(world.now(), 80 * MS);
        assert_eq!(world.connect(a, end(A), end(B)).map(|_| ()), Ok(()));
    }
}

#[test]
fn an_icmp_error_about_its_data_does_not_end_a_connection() {
    for code in [0, 1, 2, 3, 13] {
        let mut world = World::new(1);
        let core = Uplink::core(near());
        let a = world.add_host("a", &[end(A).ip()], core).unwrap();
        let refuses = Box::new(RefusesDataOnce { code, done: false });
        let refuses = world.add_middlebox("refuses", refuses, &[], core).unwrap();
        let b = world
            .add_host("b", &[end(B).ip()], Uplink::behind(refuses))
            .unwrap();
        let listener = world.listen(b, 5000).unwrap();
        let socket = world.connect(a, end(A), end(B)).unwrap();
        wait(&mut world, socket, SocketState::Connected);
        world.run_until(SECOND, |_| false);
        let accepted = world.accept(listener).unwrap().socket;
        assert_eq!(world.send(socket, b"still"), Ok(5));
        world.run_until(5 * SECOND, |_| false);
        assert_eq!(times(&world, "a", "icmp").len(), 1, "{}", world.log());
        assert!(is(&world, socket, SocketState::Connected));
        // The data is sent again, and comes through.
        assert_eq!(world.recv(accepted, &mut [0; 8]), Ok(Some(5)));
    }
}

#[test]
fn syns_are_repeated_as_on_linux() {
    let (mut world, a, _b) = behind(Answer::Drop);
    let socket = world.connect(a, end(A), end(B)).unwrap();
    wait(&mut world, socket, SocketState::Failed(Failure::TimedOut));
    let expected = [0, 1, 2, 3, 4, 5, 7, 11, 19, 35, 67].map(|second| second * 1000);
    assert_eq!(times(&world, "a", "sent"), expected);
    assert_eq!(world.now(), 131 * SECOND);
    assert_eq!(world.next_event(), None);
}

#[test]
fn a_lost_syn_costs_a_second() {
    let mut world = World::new(1);
    let core = Uplink::core(near());
    let lossy = Loses {
        numbers: vec![1, 3],
        seen: 0,
    };
    let lossy = world
        .add_middlebox("lossy", Box::new(lossy), &[], core)
        .unwrap();
    let a = world
        .add_host("a", &[end(A).ip()], Uplink::behind(lossy))
        .unwrap();
    let b = world.add_host("b", &[end(B).ip()], core).unwrap();
    let listener = world.listen(b, 5000).unwrap();
    let socket = world.connect(a, end(A), end(B)).unwrap();
    wait(&mut world, socket, SocketState::Connected);
    assert_eq!(world.now(), 1080 * MS);
    // The third packet is the ACK: the SYN-ACK is repeated after a second.
    assert!(world.run_until(5 * SECOND, |world| world.accept(listener).is_some()));
    assert_eq!(world.now(), 2120 * MS);
}

#[test]
fn a_syn_ack_for_an_abandoned_attempt_is_reset() {
    let (mut world, a, b) = pair(near());
    let listener = world.listen(b, 5000).unwrap();
    let socket = world.connect(a, end(A), end(B)).unwrap();
    world.abort(socket).unwrap();
    assert_eq!(times(&world, "a", "sent").len(), 1, "no rst for an attempt");
    world.run_until(200 * SECOND, |_| false);
    // The SYN-ACK met no socket, and the RST ended the half-open connection.
    assert_eq!(times(&world, "a", "to no socket"), [80]);
    assert_eq!(times(&world, "b", "sent").len(), 1);
    assert_eq!(world.accept(listener), None);
}

#[test]
fn abort_resets_the_other_end() {
    let (mut world, a, b) = pair(near());
    let listener = world.listen(b, 5000).unwrap();
    let socket = world.connect(a, end(A), end(B)).unwrap();
    wait(&mut world, socket, SocketState::Connected);
    world.run_until(SECOND, |_| false);
    let accepted = world.accept(listener).unwrap().socket;
    world.abort(socket).unwrap();
    wait(&mut world, accepted, SocketState::Failed(Failure::Reset));
    assert_eq!(world.now(), 1040 * MS);
    assert_eq!(world.recv(accepted, &mut [0]), Err(Failure::Reset.into()));
    let again = world.connect(a, end(A), end(B)).unwrap();
    wait(&mut world, again, SocketState::Connected);
}

#[test]
fn a_closed_direction_leaves_the_other_open() {
    let (mut world, a, b) = pair(near());
    let listener = world.listen(b, 5000).unwrap();
    let socket = world.connect(a, end(A), end(B)).unwrap();
    assert_eq!(world.shutdown(socket), Err(SocketError::NotConnected));
    wait(&mut world, socket, SocketState::Connected);
    assert_eq!(world.send(socket, b"question"), Ok(8));
    world.shutdown(socket).unwrap();
    assert_eq!(world.send(socket, b"more"), Err(SocketError::NotConnected));
    world.run_until(SECOND, |_| false);
    let other = world.accept(listener).unwrap().socket;
    let mut buffer = [0; 100];
    assert_eq!(world.recv(other, &mut buffer), Ok(Some(8)));
    assert_eq!(world.recv(other, &mut buffer), Ok(Some(0)));
    assert_eq!(world.send(other, b"the answer"), Ok(10));
    world.run_until(2 * SECOND, |_| false);
    assert_eq!(world.recv(socket, &mut buffer), Ok(Some(10)));
    assert_eq!(world.recv(socket, &mut buffer), Ok(None));
    world.close(other).unwrap();
    world.run_until(3 * SECOND, |_| false);
    assert_eq!(world.recv(socket, &mut buffer), Ok(Some(0)));
    // TIME-WAIT holds the ends for a while.
    let taken = Err(SocketError::AddressNotAvailable);
    assert_eq!(world.connect(a, end(A), end(B)), taken);
    world.run_until(70 * SECOND, |_| false);
    assert!(is(&world, socket, SocketState::Closed));
    assert!(world.connect(a, end(A), end(B)).is_ok());
}

#[test]
fn a_closed_listener_resets_what_nobody_took() {
    let (mut world, a, b) = pair(near());
    let listener = world.listen(b, 5000).unwrap();
    let socket = world.connect(a, end(A), end(B)).unwrap();
    world.run_until(SECOND, |_| false);
    world.close(listener).unwrap();
    wait(&mut world, socket, SocketState::Failed(Failure::Reset));
    let refused = world.connect(a, end(A), end(B)).unwrap();
    wait(&mut world, refused, SocketState::Failed(Failure::Refused));
    world.listen(b, 5000).unwrap();
}

#[test]
fn data_arrives_whole_through_loss_jitter_and_reordering() {
    let link = LinkSpec::delay(10 * MS).jitter(15 * MS).reordering();
    for seed in 0..5 {
        let mut world = World::new(seed);
        let link = Uplink::core(link.loss(0.05));
        let a = world.add_host("a", &[end(A).ip()], link).unwrap();
        let b = world.add_host("b", &[end(B).ip()], link).unwrap();
        let from_a = world.connect(a, end(A), end(B)).unwrap();
        let from_b = world.connect(b, end(B), end(A)).unwrap();
        let bytes =
            |step: usize| -> Vec<u8> { (0..50_000).map(|n: usize| (n * step / 7) as u8).collect() };
        let mut ways = [
            (from_a, from_b, bytes(3), 0, vec![]),
            (from_b, from_a, bytes(5), 0, vec![]),
        ];
        let whole = world.run_until(3600 * SECOND, |world| {
            let mut whole = true;
            for (from, to, data, sent, received) in &mut ways {
                *sent += world.send(*from, &data[*sent..]).unwrap_or(0);
                let mut buffer = [0; 4096];
                while let Ok(Some(taken @ 1..)) = world.recv(*to, &mut buffer) {
                    received.extend_from_slice(&buffer[..taken]);
                }
                whole &= received.len() >= data.len();
            }
            whole
        });
        assert!(whole, "seed {seed}: incomplete");
        for (_, _, data, _, received) in &ways {
            assert!(data == received, "seed {seed}: damaged");
        }
    }
}

#[test]
fn the_core_has_no_private_addresses() {
    let mut world = World::new(1);
    let core = Uplink::core(near());
    let home = end("192.168.1.2:4000");
    let a = world.add_host("a", &[home.ip()], core).unwrap();
    world.add_host("b", &[end(B).ip()], core).unwrap();
    world.connect(a, home, end(B)).unwrap();
    world.run_until(100 * MS, |_| false);
    assert_eq!(times(&world, "core", "private source address"), [20]);
    let nowhere = world.add_host("c", &[end(A).ip()], core).unwrap();
    world
        .connect(nowhere, end(A), end("203.0.113.9:1"))
        .unwrap();
    world.run_until(200 * MS, |_| false);
    assert_eq!(times(&world, "core", "no such destination"), [120]);
}

#[test]
fn neighbours_behind_one_box_need_no_core() {
    let mut world = World::new(1);
    let core = Uplink::core(near());
    let firewall = Firewall::new(Answer::Drop);
    let home = world.add_middlebox("home", firewall, &[], core).unwrap();
    let inside = Uplink::behind(home).link(LinkSpec::delay(MS));
    let a = world.add_host("a", &[end(A).ip()], inside).unwrap();
    let b = world.add_host("b", &[end(B).ip()], inside).unwrap();
    world.listen(b, 5000).unwrap();
    let socket = world.connect(a, end(A), end(B)).unwrap();
    wait(&mut world, socket, SocketState::Connected);
    assert_eq!(world.now(), 4 * MS);
    assert_eq!(times(&world, "core", ""), [0; 0]);
    let again = world.add_host("c", &[end(A).ip()], core);
    assert!(again.is_err(), "one address in two places");
}
