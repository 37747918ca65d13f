//! Fault schedules: the product in virtual time while networks fail, hosts crash, NATs restart and
//! addresses change.
//!
//! A schedule is drawn from a seed. What must never happen is checked at every step, and at the
//! end, with the network whole again, all must work and nothing be left. A schedule that breaks an
//! invariant is made as small as possible, and printed as text to be pasted into `regressions.rs`.
//!
//! `P2PCONNECT_SCHEDULES=100000` plays so many schedules instead of 2,000, from the seed
//! `P2PCONNECT_SCHEDULE_SEED` on.

#![expect(
    clippy::print_stdout,
    reason = "schedules that fail, and what was played, are what this suite is read for"
)]

mod checks;
mod draw;
mod finale;
mod ground;
mod machine;
mod play;
mod regressions;
mod schedule;
mod server;
mod shrink;
mod talk;
mod trials;
mod wire;

use std::{
    env,
    fmt::Write as _,
    ops::Range,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use crate::{
    checks::Tally,
    draw::draw,
    play::{Outcome, play},
    schedule::Schedule,
    shrink::shrink,
};

/// How many schedules are played unless set otherwise.
const SCHEDULES: u64 = 2_000;

/// How many schedules that fail end the test; others are as likely to fail for the same reasons.
const MAX_FAILURES: usize = 5;

/// How many of them are made small.
const MAX_SHRUNK: usize = 2;

fn number(name: &str, otherwise: u64) -> u64 {
    let set = env::var(name).ok();
    set.map_or(otherwise, |it| it.parse().expect("it is a number"))
}

/// Plays schedules on all cores until enough have failed. Returns those that have, and what was
/// played.
fn play_all(seeds: Range<u64>) -> (Vec<u64>, Tally) {
    let next = AtomicU64::new(seeds.start);
    let found = Mutex::new((Vec::new(), Tally::default()));
    let lock = || found.lock().unwrap_or_else(PoisonError::into_inner);
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || lock().0.len() >= MAX_FAILURES {
                        return;
                    }
                    let outcome = play(&draw(seed), false);
                    let mut found = lock();
                    found.1.add(outcome.tally);
                    if !outcome.violations.is_empty() {
                        println!("seed {seed} fails");
                        found.0.push(seed);
                    }
                }
            });
        }
    });
    found.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Says what a schedule breaks, if it breaks anything, and what is left of it when it is made as
/// small as possible.
fn told(schedule: &Schedule) -> Option<String> {
    let broken = play(schedule, false).violations.first()?.what;
    let least = shrink(schedule, broken);
    let Outcome {
        violations, log, ..
    } = play(&least, true);
    let mut text = format!("seed {} breaks\n", schedule.seed);
    for violation in violations {
        let _infallible = writeln!(text, "- {violation}");
    }
    let _infallible = write!(text, "{least}");
    if let Ok(folder) = env::var("P2PCONNECT_SCHEDULE_LOGS") {
        let file = format!("{folder}/{}.log", schedule.seed);
        std::fs::write(file, log).expect("there is such a folder");
    }
    Some(text)
}

#[test]
fn no_schedule_breaks_anything() {
    let first = number("P2PCONNECT_SCHEDULE_SEED", 0);
    let count = number("P2PCONNECT_SCHEDULES", SCHEDULES);
    let (failed, tally) = play_all(first..first + count);
    println!("{count} schedules from seed {first} on: {tally:?}");
    for seed in failed.iter().take(MAX_SHRUNK) {
        if let Some(text) = told(&draw(*seed)) {
            println!("{text}\n");
        }
    }
    assert!(failed.is_empty(), "seeds {failed:?}");
}

#[test]
fn what_broke_something_once_does_not_any_more() {
    for schedule in regressions::all() {
        if let Some(text) = told(&schedule) {
            panic!("{text}");
        }
    }
}

/// A schedule that cannot be played again the same way is of no use.
#[test]
fn the_same_schedule_is_the_same_run() {
    for seed in 0..20 {
        let schedule = draw(seed);
        let [one, other] = [(); 2].map(|()| play(&schedule, true));
        assert!(!one.log.is_empty());
        assert_eq!(one.tally, other.tally, "seed {seed}");
        for (one, other) in one.log.lines().zip(other.log.lines()) {
            assert_eq!(one, other, "seed {seed}");
        }
    }
}
