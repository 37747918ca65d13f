//! What programs are given of their host: a number, and a way to each other on it.

use netns_lab::virtual_time::{
    Failure, HostId, Opening, SocketError, SocketState, Transmit, World,
};

use crate::stage::{A, B, MS, SECOND, end, near, pair, pass, wait};

/// Ends on the same host, at its addresses and at those of the loopback.
const LOCAL: [[&str; 2]; 4] = [
    [A, "203.0.113.1:5000"],
    ["127.0.0.1:4000", "127.0.0.1:5000"],
    ["127.0.0.1:4000", "127.0.0.2:5000"],
    ["[::1]:4000", "[::1]:5000"],
];

#[test]
fn hosts_have_numbers_and_a_world_goes_to_any_thread() {
    fn goes_to_any_thread<T: Send + 'static>(_: &T) {}
    let ((world, a, b), (_, again, _)) = (pair(near()), pair(near()));
    assert_ne!(a.number(), b.number());
    assert_eq!(a.number(), again.number());
    goes_to_any_thread(&world);
}

fn is_unrecorded(world: &World) {
    assert!(world.log().entries().is_empty(), "{}", world.log());
}

#[test]
fn a_connection_on_one_host_passes_no_link() {
    for [from, to] in LOCAL {
        let (mut world, a, _) = pair(near());
        let listener = world.listen_on(a, end(to), 1).unwrap();
        let socket = world.connect(a, end(from), end(to)).unwrap();
        wait(&mut world, socket, SocketState::Connected);
        assert!(world.now() < MS, "{:?}", world.now());
        world.send(socket, b"said").unwrap();
        world.shutdown(socket).unwrap();
        pass(&mut world, SECOND);
        assert!(world.take_changed().contains(&listener));
        let accepted = world.accept(listener).unwrap();
        assert_eq!((accepted.local, accepted.remote), (end(to), end(from)));
        let mut heard = [0; 9];
        assert_eq!(world.recv(accepted.socket, &mut heard), Ok(Some(4)));
        assert_eq!(&heard[..4], b"said");
        assert_eq!(world.recv(accepted.socket, &mut heard), Ok(Some(0)));
        is_unrecorded(&world);
    }
}

#[test]
fn a_socket_may_connect_to_itself() {
    let (mut world, a, _) = pair(near());
    let socket = world.connect(a, end(A), end(A)).unwrap();
    wait(&mut world, socket, SocketState::Connected);
    let opening = world.opened(socket).unwrap().map(|(how, _)| how);
    assert_eq!(opening, Some(Opening::Simultaneous));
    world.send(socket, b"echo").unwrap();
    pass(&mut world, SECOND);
    assert_eq!(world.recv(socket, &mut [0; 9]), Ok(Some(4)));
    world.close(socket).unwrap();
    pass(&mut world, 100 * SECOND);
    assert!(world.connect(a, end(A), end(B)).is_ok());
}

#[test]
fn datagrams_on_one_host_pass_no_link() {
    for [from, to] in LOCAL {
        let (mut world, a, _) = pair(near());
        let sender = world.bind_udp(a, end(from)).unwrap();
        let receiver = world.bind_udp(a, end(to)).unwrap();
        let transmit = Transmit {
            destination: end(to),
            source: None,
            ecn: 1,
            payload: b"said",
        };
        world.send_to(sender, &transmit).unwrap();
        pass(&mut world, MS);
        let heard = world.recv_from(receiver).unwrap().unwrap();
        assert_eq!((heard.source, heard.destination), (end(from), end(to)));
        // Nobody is there any more, which a connected socket hears.
        world.close(receiver).unwrap();
        world.connect_udp(sender, end(to)).unwrap();
        world.send_to(sender, &transmit).unwrap();
        pass(&mut world, MS);
        let refused = Err(SocketError::Failed(Failure::Refused));
        assert_eq!(world.recv_from(sender), refused);
        is_unrecorded(&world);
    }
}

/// Binds nothing, and asks who the host is to such an end.
fn source(world: &World, host: HostId, to: &str) -> String {
    let source = world.source_address(host, end(to).ip());
    source.unwrap().to_string()
}

#[test]
fn nothing_leaves_from_the_loopback() {
    let (mut world, a, _) = pair(near());
    let socket = world.bind_udp(a, end("127.0.0.1:4000")).unwrap();
    let nowhere = Err(SocketError::NetworkUnreachable);
    assert_eq!(world.connect_udp(socket, end(B)), nowhere);
    let from = end("127.0.0.1:4001");
    let unreachable = world.connect(a, from, end(B));
    assert_eq!(unreachable, Err(SocketError::NetworkUnreachable));
    assert_eq!(source(&world, a, "127.0.0.7:1"), "127.0.0.1");
    assert_eq!(source(&world, a, B), "203.0.113.1");
    pass(&mut world, SECOND);
    is_unrecorded(&world);
}
