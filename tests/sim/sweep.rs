//! Runs of many seeds on all cores.

use std::{
    env,
    ops::Range,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use crate::scenario::Scenario;

/// Returns how many times as much as usual is run.
pub(crate) fn rounds() -> u32 {
    number("P2PCONNECT_SIM_ROUNDS").map_or(1, |it| u32::try_from(it).expect("there is time for it"))
}

/// Returns so many seeds for each round, or the one that is asked for.
pub(crate) fn seeds(count: u64) -> Range<u64> {
    let wanted = number("P2PCONNECT_SIM_SEED");
    wanted.map_or_else(|| 0..count * u64::from(rounds()), |seed| seed..seed + 1)
}

fn number(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{name} is a number")))
}

/// Runs each scenario with each seed; returns the times of each, in order.
pub(crate) fn sweep(
    scenarios: &[Scenario],
    count: u64,
    vary: impl Fn(Scenario, u64) -> Scenario + Sync,
) -> Vec<Vec<Duration>> {
    let seeds = seeds(count);
    println!("seeds {seeds:?} of each of {} scenarios", scenarios.len());
    in_parallel(scenarios, |scenario| {
        let times = seeds.clone().map(|seed| vary(*scenario, seed).check(seed));
        let mut times: Vec<_> = times.collect();
        times.sort();
        times
    })
}

/// Does the work for all items on all cores; returns what came of it in order.
pub(crate) fn in_parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some((index, item)) = {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    items.get(index).map(|item| (index, item))
                } {
                    let result = work(item);
                    done.lock().expect("no holder panics").push((index, result));
                }
            });
        }
    });
    let mut done = done.into_inner().expect("no holder panics");
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}
