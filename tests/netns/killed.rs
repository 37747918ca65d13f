//! Sides that are killed while they connect.

use std::{
    process::ChildStdin,
    thread::{scope, sleep},
    time::{Duration, Instant},
};

use netns_lab::{NatSpec, test};
use p2pconnect_tests::{
    net::{Boxes, Net},
    process::{Finished, Process},
};
use tempfile::TempDir;

/// When a side is killed, in milliseconds from the moment at which both are told of each other. On
/// a machine that has nothing else to do, SYNs cross until 80, and the callee's answer on the
/// connection is there after 160.
const MOMENTS: [u64; 9] = [0, 20, 40, 60, 80, 100, 120, 140, 160];

/// How long a stream may take to break when the peer's system resets it, on a machine that is busy.
/// A dial that has to find out that the peer answers on no connection takes longer.
const RESET: Duration = Duration::from_secs(3);

/// What is said of a peer that the coordinator hears no more.
const SILENT: &str = "has heard nothing of it for";

/// What is said of a connection on which the peer's system answers, as the peer is gone, and the
/// peer has not.
const BROKEN: &str = "broke as it was made";

/// A pair of peers with keys of their own, one of many in a lab.
struct Pair<'a> {
    net: &'a Net,
    keys: TempDir,
}

impl<'a> Pair<'a> {
    fn new(net: &'a Net) -> Self {
        let keys = tempfile::tempdir().unwrap();
        Self { net, keys }
    }

    fn start(&self, host: &str, key: &str, arguments: &[&str]) -> Process {
        let mut command = self.net.command(host, arguments);
        command.env("P2PCONNECT_KEY", self.keys.path().join(key));
        Process::spawn(command)
    }

    /// Starts a listener that takes one stream; returns its peer id too.
    fn listen(&self) -> (Process, String) {
        let id = self.start("b", "listener", &["id"]).finish().stdout;
        let id = String::from_utf8(id).unwrap().trim_end().to_owned();
        let mut listener = self.start("b", "listener", &["listen", "--json", "--allow-any"]);
        listener.wait_for("registered");
        (listener, id)
    }

    /// Starts a dial whose stdin stays open.
    fn dial(&self, key: &str, peer: &str) -> (Process, Option<ChildStdin>) {
        let mut dial = self.start("a", key, &["dial", "--json", peer]);
        let stdin = dial.stdin.take();
        (dial, stdin)
    }
}

/// Kills a process a while after it, or its peer, has begun to punch.
fn kill(process: &mut Process, moment: u64) {
    sleep(Duration::from_millis(moment));
    process.kill();
}

fn kill_listener(net: &Net, moment: u64) {
    let pair = Pair::new(net);
    let (mut listener, id) = pair.listen();
    let (mut dial, _stdin) = pair.dial("dialler", &id);
    dial.wait_for("punching");
    kill(&mut listener, moment);
    let killed = Instant::now();
    let dialled = dial.finish();
    assert_tells_why(&dialled, moment, killed.elapsed());
}

fn assert_tells_why(dialled: &Finished, moment: u64, took: Duration) {
    let (code, reason) = (dialled.code(), dialled.reason());
    // There was a connection before the listener was killed, at the latest moments: with the peer's
    // answer a stream, or else an attempt that has failed.
    if reason.contains(BROKEN) || (dialled.event("established").is_some() && code == 1) {
        let expected = if reason.contains(BROKEN) { 5 } else { 1 };
        assert_eq!(code, expected, "{moment}: {:#?}", dialled.stderr);
        assert!(
            code == 5 || reason.contains("went away"),
            "{moment}: {reason}"
        );
        assert!(took < RESET, "{moment}: {took:?}");
        return;
    }
    assert_eq!(code, 3, "{moment}: {:#?}", dialled.stderr);
    assert!(reason.contains(SILENT), "{moment}: {reason}");
    // The attempts end after 1.2 s where the peer's system resets them, and another introduction is
    // asked for; the coordinator knows after 1.6 s. Who is not told of that asks for more.
    let introductions = dialled.stderr.iter();
    let introductions = introductions.filter(|it| it.contains("\"introduced\""));
    assert!(
        introductions.count() <= 2,
        "{moment}: {:#?}",
        dialled.stderr
    );
}

fn kill_dialler(net: &Net, moment: u64) {
    let pair = Pair::new(net);
    let (mut listener, id) = pair.listen();
    let (mut dial, _stdin) = pair.dial("dialler", &id);
    dial.wait_for("punching");
    kill(&mut dial, moment);
    let ended = |line: &str| {
        let is_end = line.contains("\"punch-failed\"") || line.contains("\"established\"");
        is_end.then(|| line.to_owned())
    };
    let end = listener.hear_until("end of the first dial", ended);
    if end.contains("\"established\"") {
        assert_eq!(listener.finish().code(), 1, "{moment}");
        return;
    }
    let is_over = end.contains(SILENT) || end.contains(BROKEN);
    assert!(is_over, "{moment}: {end}");
    let (mut second, _stdin) = pair.dial("second", &id);
    second.wait_for("established");
}

/// Kills one of each of so many pairs, each at another moment.
fn at_all_moments(boxes: Boxes<'_>, kill: fn(&Net, u64)) {
    let net = Net::new(boxes, boxes);
    scope(|scope| {
        for moment in MOMENTS {
            let net = &net;
            scope.spawn(move || kill(net, moment));
        }
    });
    net.finish();
}

#[test]
fn a_listener_that_is_killed_while_it_is_dialled_is_silent_through_nats() {
    test(|| at_all_moments(&[NatSpec::port_preserving()], kill_listener));
}

#[test]
fn a_listener_that_is_killed_while_it_is_dialled_is_silent_between_public_hosts() {
    test(|| at_all_moments(&[], kill_listener));
}

#[test]
fn a_dialler_that_is_killed_leaves_its_place_to_the_next_through_nats() {
    test(|| at_all_moments(&[NatSpec::port_preserving()], kill_dialler));
}

#[test]
fn a_dialler_that_is_killed_leaves_its_place_to_the_next_between_public_hosts() {
    test(|| at_all_moments(&[], kill_dialler));
}
