//! Which sockets something has happened to.

use netns_lab::virtual_time::{SocketId, Transmit, World};

use crate::stage::{A, B, MS, SECOND, end, near, pair, pass};

fn changed_until(world: &mut World, millis: u32) -> Vec<SocketId> {
    world.run_until(millis * MS, |_| false);
    world.take_changed()
}

#[test]
fn a_socket_changes_when_something_comes_for_it_and_not_by_its_own_calls() {
    let (mut world, a, b) = pair(near());
    let listener = world.listen(b, 5000).unwrap();
    assert_eq!(world.take_changed(), []);
    let socket = world.connect(a, end(A), end(B)).unwrap();
    world.take_changed();
    assert_eq!(changed_until(&mut world, 79), []);
    assert_eq!(changed_until(&mut world, 81), [socket]);
    let changed = changed_until(&mut world, 125);
    let accepted = world.accept(listener).unwrap().socket;
    assert_eq!(changed, [listener, accepted]);
    world.send(socket, b"data").unwrap();
    assert_eq!(world.take_changed(), []);
    assert_eq!(changed_until(&mut world, 170), [accepted]);
    assert_eq!(world.recv(accepted, &mut [0; 4]), Ok(Some(4)));
    assert_eq!(world.take_changed(), []);
    world.abort(accepted).unwrap();
    pass(&mut world, SECOND);
    assert_eq!(world.take_changed(), [socket]);
}

#[test]
fn sockets_come_in_the_order_of_their_hosts_and_each_once() {
    let (mut world, a, b) = pair(near());
    let mut opened = vec![];
    for (host, address) in [(a, end(A)), (b, end(B))] {
        for port in 1..=3 {
            let local = (address.ip(), port).into();
            opened.push(world.bind_udp(host, local).unwrap());
        }
    }
    for _ in 0..2 {
        for (from, to) in [(0, 5), (5, 1), (2, 4), (3, 0), (4, 2), (1, 3)] {
            let destination = world.local_end(opened[to]).unwrap();
            let transmit = Transmit {
                destination,
                source: None,
                ecn: 0,
                payload: b"x",
            };
            world.send_to(opened[from], &transmit).unwrap();
        }
    }
    assert_eq!(world.take_changed(), []);
    pass(&mut world, SECOND);
    assert_eq!(world.take_changed(), opened);
    assert_eq!(world.take_changed(), []);
}
