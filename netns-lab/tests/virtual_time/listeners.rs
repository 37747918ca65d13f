//! Listeners and the ports of TCP sockets, as Linux has them.

use std::{collections::BTreeSet, net::SocketAddr};

use netns_lab::virtual_time::{Failure, SocketError, SocketState, Uplink, World};

use crate::stage::{A, B, MS, SECOND, end, is, near, pair, pass, times, wait};

#[test]
fn a_listener_at_an_address_hears_before_the_one_at_all() {
    let mut world = World::new(1);
    let (first, second) = (end("203.0.113.2:5000"), end("203.0.113.7:5000"));
    let core = Uplink::core(near());
    let a = world.add_host("a", &[end(A).ip()], core).unwrap();
    let own = [first.ip(), second.ip()];
    let b = world.add_host("b", &own, core).unwrap();
    let at_first = world.listen_on(b, first, 9).unwrap();
    let anywhere = world.listen_on(b, end("0.0.0.0:5000"), 9).unwrap();
    let in_use = Err(SocketError::AddressInUse);
    assert_eq!(world.listen_on(b, first, 9), in_use);
    assert_eq!(world.listen_on(b, end("0.0.0.0:5000"), 9), in_use);
    assert_eq!(world.listen(b, 5000), in_use);
    assert!(world.listen_on(b, end("[::]:5000"), 9).is_ok());
    let not_own = world.listen_on(b, end(A), 9);
    assert_eq!(not_own, Err(SocketError::AddressNotAvailable));
    for (number, remote) in [(1, first), (2, second)] {
        let local = SocketAddr::new(end(A).ip(), number);
        world.connect(a, local, remote).unwrap();
    }
    pass(&mut world, SECOND);
    for (listener, local) in [(at_first, first), (anywhere, second)] {
        assert_eq!(world.accept(listener).unwrap().local, local);
        assert_eq!(world.accept(listener), None);
    }
    assert_eq!(world.local_end(anywhere), Ok(end("0.0.0.0:5000")));
    world.close(at_first).unwrap();
    world.connect(a, end("203.0.113.1:3"), first).unwrap();
    pass(&mut world, SECOND);
    assert_eq!(world.accept(anywhere).unwrap().local, first);
}

#[test]
fn a_full_queue_makes_syns_wait() {
    let (mut world, a, b) = pair(near());
    let listener = world.listen_on(b, end(B), 2).unwrap();
    let dialled: Vec<_> = (1..=5)
        .map(|port| {
            let local = SocketAddr::new(end(A).ip(), port);
            world.connect(a, local, end(B)).unwrap()
        })
        .collect();
    pass(&mut world, 200 * MS);
    let open = |world: &World| {
        let is_open = |socket: &&_| is(world, **socket, SocketState::Connected);
        dialled.iter().filter(is_open).count()
    };
    // All were half-open together; the queue takes one more than it was told, and the
    // others are not heard, though they believe to be through.
    assert_eq!(open(&world), 5);
    let full = times(&world, "b", "the listener's queue is full");
    assert_eq!(full, [120, 120]);
    let late = world.connect(a, end("203.0.113.1:6"), end(B)).unwrap();
    pass(&mut world, 300 * MS);
    assert!(is(&world, late, SocketState::Connecting));
    let mut accepted = BTreeSet::new();
    world.run_until(20 * SECOND, |world| {
        accepted.extend(world.accept(listener).map(|it| it.remote.port()));
        accepted.len() == 6
    });
    assert_eq!(accepted, (1..=6).collect());
}

#[test]
fn a_listener_does_not_hear_whom_it_leaves_out() {
    let (mut world, a, b) = pair(near());
    let listener = world.listen(b, 5000).unwrap();
    world.leave_out(listener, [end(A)].into()).unwrap();
    let left_out = world.connect(a, end(A), end(B)).unwrap();
    let other = world.connect(a, end("203.0.113.1:9"), end(B)).unwrap();
    pass(&mut world, 500 * MS);
    assert!(is(&world, left_out, SocketState::Connecting));
    assert!(is(&world, other, SocketState::Connected));
    assert_eq!(times(&world, "b", "left out by the listener"), [40]);
    assert_eq!(times(&world, "b", " R"), [0; 0], "not refused");
    world.leave_out(listener, BTreeSet::new()).unwrap();
    wait(&mut world, left_out, SocketState::Connected);
    let unknown = world.leave_out(other, BTreeSet::new());
    assert_eq!(unknown, Err(SocketError::UnknownSocket));
}

#[test]
fn the_host_chooses_what_an_attempt_leaves_open() {
    let mut world = World::new(1);
    let core = Uplink::core(near());
    let own = [end("203.0.113.1:0").ip(), end("203.0.113.8:0").ip()];
    let a = world.add_host("a", &own, core).unwrap();
    let b = world.add_host("b", &[end(B).ip()], core).unwrap();
    let listener = world.listen(b, 5000).unwrap();
    let mut ports = BTreeSet::new();
    for _ in 0..20 {
        let socket = world.connect(a, end("0.0.0.0:0"), end(B)).unwrap();
        let local = world.local_end(socket).unwrap();
        assert_eq!(local.ip(), own[0]);
        assert!(!world.is_tcp_end_free(a, local));
        assert!(!world.is_tcp_end_free(a, SocketAddr::new(end("0.0.0.0:0").ip(), local.port())));
        assert!(world.is_tcp_end_free(a, SocketAddr::new(own[1], local.port())));
        ports.insert(local.port());
    }
    assert_eq!(ports.len(), 20);
    assert!(ports.iter().all(|port| (32_768..=60_999).contains(port)));
    let chosen = world.listen_on(b, end("203.0.113.2:0"), 9).unwrap();
    let port = world.local_end(chosen).unwrap().port();
    assert!((32_768..=60_999).contains(&port));
    let free = world.free_tcp_port(b).unwrap();
    let anywhere = |port| SocketAddr::new(end("0.0.0.0:0").ip(), port);
    assert!(world.is_tcp_end_free(b, anywhere(free)) && free != port);
    assert!(!world.is_tcp_end_free(b, anywhere(port)));
    pass(&mut world, SECOND);
    let accepted = std::iter::from_fn(|| world.accept(listener));
    assert_eq!(accepted.count(), 20);
    assert!(!world.is_tcp_end_free(b, anywhere(5000)));
    world.close(listener).unwrap();
    assert!(world.is_tcp_end_free(b, anywhere(5000)), "for a new one");
}

#[test]
fn half_open_connections_are_forgotten_with_their_listener() {
    let (mut world, a, b) = pair(near());
    let listener = world.listen(b, 5000).unwrap();
    let socket = world.connect(a, end(A), end(B)).unwrap();
    pass(&mut world, 60 * MS);
    world.close(listener).unwrap();
    assert_eq!(times(&world, "b", "sent").len(), 1, "the SYN-ACK");
    // The ACK of the SYN-ACK finds nobody.
    wait(&mut world, socket, SocketState::Connected);
    wait(&mut world, socket, SocketState::Failed(Failure::Reset));
    assert!(world.is_tcp_end_free(b, end("0.0.0.0:5000")));
}

#[test]
fn a_repeated_syn_is_answered_again() {
    let (mut world, a, b) = pair(near());
    world.listen(b, 5000).unwrap();
    let _socket = world.connect(a, end(A), end(B)).unwrap();
    // The SYN-ACK does not come; the SYN comes again.
    pass(&mut world, 30 * MS);
    world.set_link_up("a", false);
    pass(&mut world, 200 * MS);
    world.set_link_up("a", true);
    pass(&mut world, 820 * MS);
    // By its timer 1 s after the first, and for the SYN 1 s after the first.
    assert_eq!(times(&world, "b", " S. "), [40, 1040, 1040]);
}
