//! Dials of one pair close together, by processes that have the same key: what an editor, or git
//! over ssh, does. Where ports are guessed or predicted, each dial is in the way of the others.
//!
//! `TOGETHER_ROUNDS=100` makes each test run so many rounds instead of one, and say how many
//! failed. `TOGETHER_DIALS=12` makes it so many dials at the same moment.

use std::{io::Write as _, thread::sleep, time::Duration};

use netns_lab::{NatSpec, TestRun};
use p2pconnect_tests::{
    blocks::{BLOCKS, nat},
    kinds::COUNTS,
    net::Net,
    process::{Finished, Process},
};

/// How long a round may take: a dial gives up after 15 s, and the last one begins 5 s after the
/// first.
const ROUND_LIMIT: Duration = Duration::from_secs(60);

/// What filters, and has the same port for everybody.
const FILTERS: NatSpec = NatSpec::port_preserving();

/// Another port of all for each destination.
const RANDOM: NatSpec = NatSpec::random_per_destination();

/// Another port of 400 for each destination.
const OF_400: NatSpec = nat(BLOCKS[1]);

/// The next port for each destination.
const NEXT: NatSpec = COUNTS.boxes[0];

/// How close the dials are to each other.
#[derive(Debug, Clone, Copy)]
enum Dials {
    /// So many begin at the same moment.
    AtOnce(u32),
    /// Another one begins so long after the first, whose stream is open and goes on afterwards.
    After(Duration),
}

const TWO: Dials = Dials::AtOnce(2);
const TWELVE: Dials = Dials::AtOnce(12);
const FOUR: Dials = Dials::AtOnce(4);
/// After 1 to 5 s; the rounds go through these.
const LATER: Dials = Dials::After(Duration::from_secs(1));

/// At moments at which the SYN of the second one is under way as the listener closes the holes that
/// it has opened for the first one, 3 s after that was over; or is just there, or comes a little
/// later.
const AS_HOLES_CLOSE: [Dials; 3] = [
    Dials::After(Duration::from_millis(2840)),
    Dials::After(Duration::from_millis(2865)),
    Dials::After(Duration::from_millis(2890)),
];

impl Dials {
    /// Returns how close the dials of a round are to each other.
    fn of_round(self, round: u32, rounds: u32) -> Self {
        match self {
            Self::AtOnce(count) => Self::AtOnce(asked("TOGETHER_DIALS").unwrap_or(count)),
            Self::After(least) => Self::After(least + least * 4 * round / rounds),
        }
    }

    /// Dials, lets each dial send a message, and returns what became of them.
    fn run(self, dial: impl Fn() -> Process) -> Vec<Finished> {
        match self {
            Self::AtOnce(count) => {
                let mut dials: Vec<_> = (0..count).map(|_| dial()).collect();
                for (n, dial) in dials.iter_mut().enumerate() {
                    dial.give(message(n).as_bytes());
                }
                dials.into_iter().map(Process::finish).collect()
            }
            Self::After(delay) => {
                let mut first = dial();
                first.wait_for("established");
                let message_0 = message(0);
                let (before, after) = message_0.split_at(3);
                let mut stdin = first.stdin.as_ref().unwrap();
                stdin.write_all(before.as_bytes()).unwrap();
                sleep(delay);
                let mut second = dial();
                second.give(message(1).as_bytes());
                let second = second.finish();
                first.give(after.as_bytes());
                vec![first.finish(), second]
            }
        }
    }
}

fn message(n: usize) -> String {
    format!("stream {n}")
}

/// Makes such dials from behind one NAT to a peer behind another, in a lab of their own, and
/// returns what those say that did not get their message back.
fn missed(dials: Dials, from: NatSpec, to: NatSpec) -> Vec<String> {
    let net = Net::new(&[from], &[to]);
    let peer = net.id("b");
    // Makes the key that all dials share.
    net.id("a");
    let _listener = net.listen("b");
    let ended = dials.run(|| Process::spawn(net.command("a", &["dial", "--json", &peer])));
    net.finish();
    let missed = ended.iter().enumerate().filter(|(n, it)| {
        let is_whole = it.stdout == message(*n).as_bytes();
        it.code() != 0 || !is_whole
    });
    missed
        .map(|(n, it)| format!("dial {n}, status {}: {:#?}", it.code(), it.stderr))
        .collect()
}

/// Returns a number that is asked for.
fn asked(variable: &str) -> Option<u32> {
    std::env::var(variable).ok()?.parse().ok()
}

/// How often dials are to be made.
fn rounds() -> u32 {
    asked("TOGETHER_ROUNDS").unwrap_or(1)
}

/// Returns a run of a test that may take that long.
fn run_of_rounds() -> TestRun {
    TestRun::new().limit(ROUND_LIMIT * rounds())
}

/// Asserts that all dials of all rounds connect.
fn all_connect(dials: Dials, from: NatSpec, to: NatSpec) {
    let rounds = rounds();
    let failed: Vec<_> = (0..rounds)
        .filter_map(|round| {
            let dials = dials.of_round(round, rounds);
            let missed = missed(dials, from, to).join("\n");
            (!missed.is_empty()).then(|| format!("round {round}, {dials:?}: {missed}"))
        })
        .collect();
    let (count, all) = (failed.len(), failed.join("\n"));
    assert_eq!(count, 0, "of {rounds} rounds failed:\n{all}");
}

/// How often a burst of dials meets the same listener.
const BURSTS: u32 = 6;

/// Dials in bursts one peer that goes on listening, and by itself in the end: the holes that were
/// opened for those before are still in its NAT, and lead to sockets that are closed.
fn burst_after_burst(dials: Dials, from: NatSpec, to: NatSpec) {
    TestRun::new().limit(ROUND_LIMIT * 2).run(|| {
        let net = Net::new(&[from], &[to]);
        let peer = net.id("b");
        // Makes the key that all dials share.
        net.id("a");
        let _listener = net.listen("b");
        let dial = || Process::spawn(net.command("a", &["dial", "--json", &peer]));
        let bursts = (0..BURSTS).map(|_| dials).chain([Dials::AtOnce(1)]);
        for (burst, dials) in bursts.enumerate() {
            for (n, it) in dials.run(dial).iter().enumerate() {
                let said = &it.stderr;
                assert_eq!(it.code(), 0, "burst {burst}, dial {n}: {said:#?}");
            }
        }
        net.finish();
    });
}

#[test]
fn bursts_from_behind_random_ports_do_not_meet_closed_holes() {
    burst_after_burst(FOUR, RANDOM, FILTERS);
}

/// Makes the second dial at each of these moments, each in a lab of its own.
#[test]
fn holes_are_not_closed_while_a_peer_comes_through_them() {
    run_of_rounds().run(|| {
        for dials in AS_HOLES_CLOSE {
            all_connect(dials, OF_400, FILTERS);
        }
    });
}

macro_rules! together {
    ($run:expr => $($name:ident: $dials:ident, $from:ident, $to:ident;)*) => {
        $(#[test]
        fn $name() {
            $run.run(|| all_connect($dials, $from, $to));
        })*
    };
}

together! { run_of_rounds() =>
    two_from_behind_random_ports: TWO, RANDOM, FILTERS;
    two_to_a_peer_behind_random_ports: TWO, FILTERS, RANDOM;
    two_from_behind_a_block: TWO, OF_400, FILTERS;
    two_to_a_peer_behind_a_block: TWO, FILTERS, OF_400;
    two_from_behind_next_ports: TWO, NEXT, FILTERS;
    two_to_a_peer_behind_next_ports: TWO, FILTERS, NEXT;
    later_from_behind_random_ports: LATER, RANDOM, FILTERS;
    later_to_a_peer_behind_random_ports: LATER, FILTERS, RANDOM;
    later_from_behind_a_block: LATER, OF_400, FILTERS;
    later_to_a_peer_behind_a_block: LATER, FILTERS, OF_400;
    later_from_behind_next_ports: LATER, NEXT, FILTERS;
    later_to_a_peer_behind_next_ports: LATER, FILTERS, NEXT;
    two_between_blocks: TWO, OF_400, OF_400;
    two_from_next_ports_to_next_ports: TWO, NEXT, NEXT;
    two_from_next_ports_to_a_block: TWO, NEXT, OF_400;
    two_from_a_block_to_next_ports: TWO, OF_400, NEXT;
    later_between_blocks: LATER, OF_400, OF_400;
    later_from_next_ports_to_next_ports: LATER, NEXT, NEXT;
}

// A dozen programs that guess keep both cores of a small machine busy.
together! { run_of_rounds().alone() =>
    twelve_from_behind_random_ports: TWELVE, RANDOM, FILTERS;
    twelve_to_a_peer_behind_random_ports: TWELVE, FILTERS, RANDOM;
    twelve_from_behind_a_block: TWELVE, OF_400, FILTERS;
    twelve_to_a_peer_behind_a_block: TWELVE, FILTERS, OF_400;
    twelve_from_behind_next_ports: TWELVE, NEXT, FILTERS;
    twelve_to_a_peer_behind_next_ports: TWELVE, FILTERS, NEXT;
    twelve_between_blocks: TWELVE, OF_400, OF_400;
    twelve_from_next_ports_to_next_ports: TWELVE, NEXT, NEXT;
    twelve_from_next_ports_to_a_block: TWELVE, NEXT, OF_400;
    twelve_from_a_block_to_next_ports: TWELVE, OF_400, NEXT;
}
