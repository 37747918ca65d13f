//! Data, windows and the ends of TCP connections, as Linux has them.

use std::time::Duration;

use netns_lab::{
    LinkSpec,
    model::{Directions, NatSpec},
    virtual_time::{
        Failure, HostId, KeepAlive, Opening, SocketError, SocketId, SocketState, TcpOptions,
        Uplink, World,
    },
};

use crate::{
    boxes::Loses,
    stage::{A, B, MS, SECOND, end, is, near, pair, pass, times, wait},
};

/// Connects `a` to `b`, which has a listener then.
fn connected(world: &mut World, a: HostId, b: HostId) -> (SocketId, SocketId) {
    connected_with(world, a, b, TcpOptions::default())
}

fn connected_with(
    world: &mut World,
    a: HostId,
    b: HostId,
    options: TcpOptions,
) -> (SocketId, SocketId) {
    let listener = world.listen(b, end(B).port()).unwrap();
    world.set_options(listener, options).unwrap();
    let socket = world.connect_with(a, end(A), end(B), options).unwrap();
    pass(world, SECOND);
    (socket, world.accept(listener).unwrap().socket)
}

/// Lets so much go from one socket to the other, and returns how long it takes.
fn transfer(world: &mut World, from: SocketId, to: SocketId, bytes: usize) -> Duration {
    let start = world.now();
    let chunk: Vec<u8> = (0..65_521_u32).map(|n| (n % 251) as u8).collect();
    let (mut sent, mut received) = (0, 0);
    let mut buffer = vec![0; 65_536];
    let whole = world.run_until(start + 3600 * SECOND, |world| {
        while sent < bytes {
            let at = sent % chunk.len();
            let most = chunk.len().min(at + bytes - sent);
            match world.send(from, &chunk[at..most]).unwrap() {
                0 => break,
                count => sent += count,
            }
        }
        while let Ok(Some(count @ 1..)) = world.recv(to, &mut buffer) {
            for byte in &buffer[..count] {
                assert_eq!(*byte, chunk[received % chunk.len()], "at {received}");
                received += 1;
            }
        }
        received == bytes
    });
    assert!(whole, "{received} of {bytes}");
    world.now() - start
}

#[test]
fn megabytes_take_as_long_as_the_windows_say() {
    let (mut world, a, b) = pair(near());
    let (at_a, at_b) = connected(&mut world, a, b);
    let took = transfer(&mut world, at_a, at_b, 8 << 20);
    // 256 KiB wait to be acknowledged at most, for 80 ms.
    assert!((2 * SECOND..4 * SECOND).contains(&took), "{took:?}");
    let back = transfer(&mut world, at_b, at_a, 1 << 20);
    assert!(back < SECOND, "{back:?}");
}

#[test]
fn a_slow_link_is_filled_and_not_flooded() {
    let link = near().rate(8_000_000, 64_000);
    let (mut world, a, b) = pair(link);
    let (at_a, at_b) = connected(&mut world, a, b);
    let took = transfer(&mut world, at_a, at_b, 4 << 20);
    // At least 4.2 s for so much at the rate of the link.
    assert!((4 * SECOND..9 * SECOND).contains(&took), "{took:?}");
}

#[test]
fn a_lost_segment_is_sent_again_after_a_round_trip() {
    let mut world = World::new(1);
    let core = Uplink::core(near());
    // Behind SYN and ACK, the third of ten segments.
    let lossy = Loses {
        numbers: vec![5],
        seen: 0,
    };
    let lossy = world
        .add_middlebox("lossy", Box::new(lossy), &[], core)
        .unwrap();
    let a = world
        .add_host("a", &[end(A).ip()], Uplink::behind(lossy))
        .unwrap();
    let b = world.add_host("b", &[end(B).ip()], core).unwrap();
    let (at_a, at_b) = connected(&mut world, a, b);
    let took = transfer(&mut world, at_a, at_b, 10 * 1460);
    assert_eq!(took, 120 * MS);
    assert!(world.info(at_b).unwrap().has_come_out_of_order);
    assert!(!world.info(at_a).unwrap().has_come_out_of_order);
}

#[test]
fn whoever_does_not_read_stops_the_other() {
    let (mut world, a, b) = pair(near());
    let (at_a, at_b) = connected(&mut world, a, b);
    let mut sent = 0;
    world.run_until(10 * SECOND, |world| {
        sent += world.send(at_a, &[7; 10_000]).unwrap();
        false
    });
    // What waits to be read at one end, and to be acknowledged at the other.
    assert_eq!(sent, (512 + 256) * 1024);
    assert_eq!(world.info(at_a).unwrap().outstanding, 256 * 1024);
    let questions = times(&world, "a", "sent").len();
    pass(&mut world, 300 * SECOND);
    let asked = times(&world, "a", "sent").len() - questions;
    assert!((3..12).contains(&asked), "{asked}");
    assert!(is(&world, at_a, SocketState::Connected));
    assert_eq!(world.info(at_a).unwrap().unanswered_for, None);
    let mut received = 0;
    let mut buffer = [0; 50_000];
    world.run_until(world.now() + 10 * SECOND, |world| {
        while let Ok(Some(count @ 1..)) = world.recv(at_b, &mut buffer) {
            received += count;
        }
        received == sent
    });
    assert_eq!(received, sent);
}

#[test]
fn peeking_takes_nothing() {
    let (mut world, a, b) = pair(near());
    let (at_a, at_b) = connected(&mut world, a, b);
    let mut buffer = [0; 3];
    assert_eq!(world.peek(at_b, &mut buffer), Ok(None));
    world.send(at_a, b"hello").unwrap();
    world.shutdown(at_a).unwrap();
    pass(&mut world, SECOND);
    for _ in 0..2 {
        assert_eq!(world.peek(at_b, &mut buffer), Ok(Some(3)));
        assert_eq!(&buffer, b"hel");
    }
    assert_eq!(world.recv(at_b, &mut [0; 9]), Ok(Some(5)));
    assert_eq!(world.peek(at_b, &mut buffer), Ok(Some(0)));
}

#[test]
fn what_is_not_acknowledged_is_counted_and_given_up_after_15_minutes() {
    let (mut world, a, b) = pair(near());
    let (at_a, _at_b) = connected(&mut world, a, b);
    assert_eq!(world.info(at_a).unwrap().outstanding, 0);
    world.set_link_up("b", false);
    let start = world.now();
    world.send(at_a, b"12345").unwrap();
    world.shutdown(at_a).unwrap();
    let info = world.info(at_a).unwrap();
    assert_eq!((info.outstanding, info.unanswered_for), (6, None));
    pass(&mut world, 5 * SECOND);
    let silent = world.info(at_a).unwrap().unanswered_for.unwrap();
    // Since the SYN-ACK.
    assert_eq!(silent, world.now() - 80 * MS);
    let limit = start + 2000 * SECOND;
    let failed = |world: &mut World| is(world, at_a, SocketState::Failed(Failure::TimedOut));
    assert!(world.run_until(limit, failed));
    let took = world.now() - start;
    assert!((924 * SECOND..1050 * SECOND).contains(&took), "{took:?}");
}

#[test]
fn keep_alives_end_a_connection_that_nobody_answers() {
    let keep_alive = KeepAlive {
        idle: 15 * SECOND,
        interval: 10 * SECOND,
        questions: 3,
    };
    let options = TcpOptions {
        keep_alive: Some(keep_alive),
        ..TcpOptions::default()
    };
    let (mut world, a, b) = pair(near());
    let (at_a, at_b) = connected_with(&mut world, a, b, options);
    let sent = times(&world, "a", "sent").len();
    pass(&mut world, 600 * SECOND);
    for socket in [at_a, at_b] {
        assert!(is(&world, socket, SocketState::Connected));
        assert_eq!(world.info(socket).unwrap().unanswered_for, None);
    }
    let asked = times(&world, "a", "sent").len() - sent;
    assert!((39..90).contains(&asked), "{asked}");
    world.set_link_up("b", false);
    let start = world.now();
    pass(&mut world, 30 * SECOND);
    let silent = world.info(at_a).unwrap().unanswered_for;
    assert!(silent.is_some_and(|time| time >= 30 * SECOND), "{silent:?}");
    wait(&mut world, at_a, SocketState::Failed(Failure::TimedOut));
    let took = world.now() - start;
    assert!((30 * SECOND..46 * SECOND).contains(&took), "{took:?}");
}

#[test]
fn a_connection_may_send_small_segments_and_offer_a_small_window() {
    let options = TcpOptions {
        largest_segment: Some(1024),
        window: Some(20_000),
        ..TcpOptions::default()
    };
    let (mut world, a, b) = pair(near());
    let listener = world.listen(b, 5000).unwrap();
    let at_a = world.connect_with(a, end(A), end(B), options).unwrap();
    pass(&mut world, SECOND);
    let at_b = world.accept(listener).unwrap().socket;
    for socket in [at_a, at_b] {
        let info = world.info(socket).unwrap();
        assert_eq!((info.largest_segment, info.is_scaled), (1024, true));
    }
    transfer(&mut world, at_b, at_a, 100_000);
    assert_eq!(times(&world, "a", "len 1460"), [0; 0]);
    // Nobody reads: not more than the window is sent.
    world.send(at_b, &[0; 100_000]).unwrap();
    pass(&mut world, 5 * SECOND);
    let mut buffer = [0; 100_000];
    assert_eq!(world.peek(at_a, &mut buffer), Ok(Some(20_000)));
}

#[test]
fn a_crossing_syn_that_has_lost_its_scale_is_seen() {
    let mut world = World::new(1);
    let core = Uplink::core(near());
    let spec = NatSpec::firewall().strip_window_scale(Directions::Inbound);
    let firewall = world.add_nat("firewall", spec, &[], core).unwrap();
    let a = world
        .add_host("a", &[end(A).ip()], Uplink::behind(firewall))
        .unwrap();
    let b = world.add_host("b", &[end(B).ip()], core).unwrap();
    let at_a = world.connect(a, end(A), end(B)).unwrap();
    let at_b = world.connect(b, end(B), end(A)).unwrap();
    pass(&mut world, SECOND);
    let opening = |socket| world.opened(socket).unwrap().map(|(how, _)| how);
    assert_eq!(opening(at_a), Some(Opening::Simultaneous));
    assert!(!world.info(at_a).unwrap().is_scaled);
    assert!(world.info(at_b).unwrap().is_scaled);
}

#[test]
fn data_for_whoever_has_closed_is_reset() {
    let (mut world, a, b) = pair(near());
    let (at_a, at_b) = connected(&mut world, a, b);
    world.close(at_a).unwrap();
    pass(&mut world, SECOND);
    assert_eq!(world.recv(at_b, &mut [0]), Ok(Some(0)));
    world.send(at_b, b"too late").unwrap();
    wait(&mut world, at_b, SocketState::Failed(Failure::Reset));
    let error = world.send(at_b, b"x");
    assert_eq!(error, Err(SocketError::Failed(Failure::Reset)));
}

#[test]
fn unread_data_makes_closing_a_reset() {
    let (mut world, a, b) = pair(near());
    let (at_a, at_b) = connected(&mut world, a, b);
    world.send(at_a, b"nobody reads it").unwrap();
    pass(&mut world, SECOND);
    world.close(at_b).unwrap();
    wait(&mut world, at_a, SocketState::Failed(Failure::Reset));
}

#[test]
fn a_closed_connection_forgets_an_end_that_never_closes() {
    let (mut world, a, b) = pair(near());
    let (at_a, _at_b) = connected(&mut world, a, b);
    world.close(at_a).unwrap();
    let taken = Err(SocketError::AddressNotAvailable);
    pass(&mut world, 59 * SECOND);
    assert_eq!(world.connect(a, end(A), end(B)), taken);
    pass(&mut world, 2 * SECOND);
    assert!(world.connect(a, end(A), end(B)).is_ok());
}

#[test]
fn ends_that_close_at_the_same_moment_send_one_fin_each() {
    let (mut world, a, b) = pair(near());
    let (at_a, at_b) = connected(&mut world, a, b);
    world.close(at_a).unwrap();
    world.close(at_b).unwrap();
    pass(&mut world, 61 * SECOND);
    let log = world.log().to_string();
    let fins = |from| {
        let lines = log.lines().filter(|line| line.contains(from));
        lines.filter(|line| line.contains(" F. ")).count()
    };
    assert_eq!([fins(" a -> core "), fins(" b -> core ")], [2, 2], "{log}");
    assert!(world.connect(a, end(A), end(B)).is_ok());
}

#[test]
fn a_syn_begins_anew_what_is_in_time_wait() {
    let (mut world, a, b) = pair(near());
    let listener = world.listen(b, 5000).unwrap();
    let at_a = world.connect(a, end(A), end(B)).unwrap();
    pass(&mut world, SECOND);
    let at_b = world.accept(listener).unwrap().socket;
    world.shutdown(at_b).unwrap();
    pass(&mut world, SECOND);
    world.close(at_a).unwrap();
    pass(&mut world, SECOND);
    world.take_changed();
    // `b` closed first, and waits.
    let taken = Err(SocketError::AddressNotAvailable);
    assert_eq!(world.connect(b, end(B), end(A)), taken);
    let again = world.connect(a, end(A), end(B)).unwrap();
    wait(&mut world, again, SocketState::Connected);
    assert!(is(&world, at_b, SocketState::Closed));
    assert!(world.take_changed().contains(&at_b));
    pass(&mut world, SECOND);
    assert!(world.accept(listener).is_some());
}

#[test]
fn an_end_that_knows_nothing_any_more_gets_through_to_the_listener() {
    let (mut world, a, b) = pair(near());
    let (stale, _gone) = connected(&mut world, a, b);
    let listener = world.listen(a, end(A).port()).unwrap();
    world.crash(b).unwrap();
    let start = world.now();
    // The SYN meets the old connection, which is challenged and reset; the next SYN
    // follows at once.
    let again = world.connect(b, end(B), end(A)).unwrap();
    wait(&mut world, again, SocketState::Connected);
    assert_eq!(world.now() - start, 162 * MS);
    assert!(is(&world, stale, SocketState::Failed(Failure::Reset)));
    pass(&mut world, SECOND);
    assert_eq!(world.accept(listener).unwrap().remote, end(B));
}

#[test]
fn the_path_tells_how_long_packets_may_be() {
    let mut world = World::new(1);
    let core = Uplink::core(near());
    let a = world.add_host("a", &[end(A).ip()], core).unwrap();
    let short = Uplink::core(near().mtu(1000));
    let b = world.add_host("b", &[end(B).ip()], short).unwrap();
    let (at_a, at_b) = connected(&mut world, a, b);
    let took = transfer(&mut world, at_a, at_b, 100_000);
    assert!(took < SECOND, "{took:?}");
    assert_eq!(world.info(at_a).unwrap().largest_segment, 960);
}

#[test]
fn a_path_that_drops_long_packets_without_a_word_carries_short_ones() {
    for (largest_segment, is_through) in [(None, false), (Some(1024), true)] {
        let (mut world, a, b) = pair(LinkSpec::delay(20 * MS).silent_mtu(1400));
        let options = TcpOptions {
            largest_segment,
            ..TcpOptions::default()
        };
        let (at_a, at_b) = connected_with(&mut world, a, b, options);
        world.send(at_a, &[1; 5000]).unwrap();
        pass(&mut world, 10 * SECOND);
        assert_eq!(world.info(at_a).unwrap().outstanding == 0, is_through);
        let came = world.recv(at_b, &mut [0; 5000]).unwrap();
        assert_eq!(came, is_through.then_some(5000));
    }
}
