//! Streams whose path dies.

use std::{
    io::Write as _,
    net::{SocketAddr, TcpListener, TcpStream},
    time::Instant,
};

use netns_lab::{NatSpec, test};
use p2pconnect_tests::{
    net::Net,
    process::{Finished, PATIENCE, Process, run},
};

const NAT: [NatSpec; 1] = [NatSpec::port_preserving()];

/// How long nothing may come, for all streams here.
const SILENCE: [&str; 2] = ["--stream-timeout", "3s"];

/// Drops all TCP that comes to a host, without a word to anybody. What it has sent, such as its
/// first answer, still arrives.
const CUT: &str = "add table ip cut
    add chain ip cut in { type filter hook input priority 0; }
    add rule ip cut in meta l4proto tcp drop";

fn cut_off(net: &Net, host: &str) {
    run(net.lab.host(host).command("nft").arg(CUT));
}

/// Starts a dial that holds its stream open.
fn dial(net: &Net, options: &[&str]) -> Process {
    let peer = net.id("b");
    let options = [&["dial", "--json", &peer][..], options].concat();
    let mut dial = Process::spawn(net.command("a", &options));
    dial.wait_for("established");
    dial
}

/// Has a peer listen, dials it, cuts it off once the stream is there, and goes on with the dial.
fn with_a_peer_that_vanishes(listen: fn(&Net) -> Process, then: fn(Process)) {
    test(|| {
        let net = Net::new(&NAT, &NAT);
        let mut listener = listen(&net);
        let dial = dial(&net, &SILENCE);
        listener.wait_for("established");
        cut_off(&net, "b");
        then(dial);
        net.finish();
    });
}

/// The reason says who has been silent and for how long, and has no number of the system's.
fn assert_is_told(reason: &str) {
    assert!(reason.contains("nothing has come"), "{reason}");
    assert!(reason.contains("for 3 s"), "{reason}");
    assert!(!reason.contains("os error"), "{reason}");
}

fn assert_has_noticed(ended: &Finished) {
    assert_eq!(ended.code(), 1, "{:#?}", ended.stderr);
    assert_is_told(&ended.reason());
}

#[test]
fn a_stream_with_data_under_way_ends_in_time() {
    with_a_peer_that_vanishes(
        |net| net.listen("b"),
        |mut dial| {
            dial.give(b"nobody acknowledges this");
            assert_has_noticed(&dial.finish());
        },
    );
}

#[test]
fn an_idle_stream_ends_in_time() {
    with_a_peer_that_vanishes(
        |net| net.listen("b"),
        |mut dial| {
            let failed = dial.wait_for("failed");
            assert_eq!(failed["status"], 1, "{failed}");
            assert_is_told(failed["reason"].as_str().unwrap());
        },
    );
}

#[test]
fn bytes_that_the_kernel_has_taken_are_not_said_to_have_arrived() {
    with_a_peer_that_vanishes(
        |net| {
            let mut listener = net.listen_with("b", &["--allow-any", "--once"]);
            // It has nothing to say, so that the dialler has all of it before the path is cut.
            drop(listener.stdin.take());
            listener
        },
        |mut dial| {
            dial.give(&[7; 10_000]);
            assert_has_noticed(&dial.finish());
        },
    );
}

/// The path is cut when the peer has said all that it has to say, so that reading finds nothing
/// out.
#[test]
fn a_path_that_dies_after_the_peers_end_is_noticed() {
    test(|| {
        for under_way in [&b""[..], b"nobody acknowledges this"] {
            let net = Net::new(&NAT, &NAT);
            let mut listener = net.listen_with("b", &["--allow-any", "--once"]);
            drop(listener.stdin.take());
            let mut dial = dial(&net, &SILENCE);
            dial.wait_for("peer-ended");
            cut_off(&net, "b");
            dial.stdin.as_mut().unwrap().write_all(under_way).unwrap();
            let failed = dial.wait_for("failed");
            assert_eq!(failed["status"], 1, "{failed}");
            assert_is_told(failed["reason"].as_str().unwrap());
            net.finish();
        }
    });
}

/// Has a peer carry a stream to a service on another machine, which vanishes, does this with it and
/// with the dial, and looks what becomes of the listener. The dialler goes on.
fn with_a_service_that_vanishes(then: fn(&mut Process, &TcpStream)) {
    with_a_service_that_vanishes_after(|_, _| {}, then);
}

/// The same, where something else is done before.
fn with_a_service_that_vanishes_after(
    before: fn(&Net, &mut Process),
    then: fn(&mut Process, &TcpStream),
) {
    test(|| {
        let net = Net::new(&NAT, &NAT);
        let at = SocketAddr::from((net.external("server"), 7));
        let service = net.lab.host("server").run(|| TcpListener::bind(at));
        let target = at.to_string();
        let options = ["--allow-any", "--once", "--forward", &target];
        let mut listener = net.listen_with("b", &[&options[..], &SILENCE].concat());
        let mut dial = dial(&net, &[]);
        listener.wait_for("established");
        let (stream, _) = service.unwrap().unwrap().accept().unwrap();
        before(&net, &mut dial);
        cut_off(&net, "server");
        then(&mut dial, &stream);
        // Its place is free then.
        let failed = listener.wait_for("stream-failed");
        assert_is_told(failed["reason"].as_str().unwrap());
        let ended = listener.finish();
        assert_eq!(ended.code(), 1, "{failed}");
        net.finish();
    });
}

#[test]
fn a_service_that_vanishes_ends_an_idle_stream() {
    with_a_service_that_vanishes(|_, _| {});
}

#[test]
fn a_service_that_vanishes_ends_a_stream_with_data_under_way() {
    with_a_service_that_vanishes(|dial, _| {
        let stdin = dial.stdin.as_mut().unwrap();
        stdin.write_all(b"nobody acknowledges this").unwrap();
    });
}

/// The end of what a service says still arrives, and it takes what it is sent, until it is gone.
#[test]
fn a_service_that_vanishes_after_its_end_ends_a_stream() {
    with_a_service_that_vanishes(|dial, stream| {
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let stdin = dial.stdin.as_mut().unwrap();
        stdin.write_all(b"nobody acknowledges this").unwrap();
    });
}

/// It has said before that it takes no more for now, as a service that is busy does.
#[test]
fn a_service_that_takes_no_more_and_vanishes_ends_a_stream() {
    with_a_service_that_vanishes_after(
        |net, dial| {
            let mut stdin = dial.stdin.take().unwrap();
            // Somebody who dials on ends with the dial.
            std::thread::spawn(move || while stdin.write_all(&[7; 65_536]).is_ok() {});
            let deadline = Instant::now() + PATIENCE;
            while !asks_whether_there_is_room(net, "b") {
                assert!(Instant::now() < deadline, "it takes everything");
                std::thread::yield_now();
            }
        },
        |_, _| {},
    );
}

/// Tells whether a host has a connection whose other side has closed its window, for so long that
/// this is asked once in more than four seconds by now (timer 4 of proc_net_tcp, and when it is
/// due). It has been closed for twice as long then as anybody here may be silent.
fn asks_whether_there_is_room(net: &Net, host: &str) -> bool {
    let table = || std::fs::read_to_string("/proc/thread-self/net/tcp").unwrap();
    let table = net.lab.host(host).run(table).unwrap();
    let timers = table
        .lines()
        .filter_map(|line| line.split_whitespace().nth(5));
    let mut due = timers.filter_map(|timer| timer.strip_prefix("04:"));
    // In hundredths of a second.
    due.any(|due| u64::from_str_radix(due, 16).is_ok_and(|due| due > 400))
}
