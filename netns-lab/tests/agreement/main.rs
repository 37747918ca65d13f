//! The same scripts on boxes of netfilter and of the model, and on hosts of kernels and of virtual
//! time: all must see the same.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]
#![expect(clippy::print_stdout, reason = "what was seen explains a failure")]

mod exceptions;
mod ground;
mod kernel;
mod scripts;
mod specs;
mod virtual_time;

use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use ground::{Ground, Sight};
use kernel::Kernel;
use netns_lab::{Engine, NatSpec};
use scripts::Script;
use virtual_time::Virtual;

/// Labs of one test at a time; two tests run at once on two processors.
const AT_ONCE: usize = 8;

fn on(mut ground: impl Ground, script: &Script) -> Sight {
    let mut sight = Sight::default();
    (script.run)(&mut ground, &mut sight);
    let log = ground.finish();
    sight.read(&log);
    sight
}

/// Runs a script on all grounds, and returns what differs.
fn compare(script: &Script, nat: NatSpec) -> Result<(), String> {
    let topology = (script.topology)(nat);
    let netfilter = on(Kernel::build(&topology, Engine::Netfilter), script);
    let model = on(Kernel::build(&topology, Engine::Model), script);
    let world = on(Virtual::build(&topology), script);
    let exceptions = exceptions::of(script.name, &nat);
    let missing = exceptions.iter().find(|it| !it.shows(&netfilter, &model));
    let problem = match missing {
        Some(exception) => format!("not so any more: {}", exception.why),
        None if model != world => "the model differs on the two grounds".into(),
        None if exceptions.is_empty() && netfilter != model => "netfilter differs".into(),
        None => return Ok(()),
    };
    Err(format!(
        "{}, {}:\n {problem}\n netfilter:\n{netfilter} model:\n{model} virtual time:\n{world}",
        script.name,
        specs::describe(&nat)
    ))
}

fn check(names: &[&str]) {
    let scripts = scripts::ALL.iter().filter(|s| names.contains(&s.name));
    let jobs: Vec<_> = scripts
        .flat_map(|script| {
            specs::for_script(script.name)
                .into_iter()
                .map(move |nat| (script, nat))
        })
        .collect();
    assert!(jobs.len() >= names.len());
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(vec![]));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((script, nat)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(differs) = compare(script, *nat) {
                        failed.lock().unwrap().push(differs);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    for differs in &failed {
        println!("{differs}");
    }
    assert!(
        failed.is_empty(),
        "{} of {} differ",
        failed.len(),
        jobs.len()
    );
    println!("{} cases agree", jobs.len());
}

#[test]
fn mapping_and_port_assignment() {
    netns_lab::test(|| check(&["destinations"]));
}

#[test]
fn filtering() {
    netns_lab::test(|| check(&["strangers"]));
}

#[test]
fn answers_to_unsolicited_syns() {
    netns_lab::test(|| check(&["unsolicited"]));
}

#[test]
fn simultaneous_opens() {
    netns_lab::test(|| check(&["crossing", "a first", "a first, answered"]));
}

#[test]
fn second_attempts() {
    netns_lab::test(|| check(&["refused, then redialled", "closed, then redialled"]));
}

#[test]
fn ends_of_connections() {
    netns_lab::test(|| check(&["end of both", "reset from inside", "reset from outside"]));
}

#[test]
fn reboots() {
    netns_lab::test(|| check(&["reboot, inside speaks", "reboot, outside speaks"]));
}

#[test]
fn echoes() {
    netns_lab::test(|| check(&["echo"]));
}

#[test]
fn neighbours_behind_one_box() {
    netns_lab::test(|| check(&["hairpin", "same port"]));
}
