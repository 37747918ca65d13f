//! Every project between every pair of NATs.

use std::{path::Path, sync::Mutex};

use anyhow::{Context as _, Result};
use netns_lab::{HostSpec, Lab, NatSpec, contender};

use crate::{
    projects::Project,
    rows::Row,
    run::{self, InLab, Outcome},
};

/// How many attempts pass between two words on how far it is.
const PROGRESS: usize = 25;

/// What is to be run.
pub(crate) struct Plan {
    pub(crate) rows: Vec<&'static Row>,
    pub(crate) projects: Vec<&'static Project>,
    /// Of each row, each way round.
    pub(crate) runs: u32,
    /// At the same time.
    pub(crate) labs: usize,
}

/// The outcomes of each row, of each project, in the order of the plan.
pub(crate) type Cells = Vec<Vec<Vec<Outcome>>>;

#[derive(Debug, Clone, Copy)]
struct Attempt {
    row: usize,
    project: usize,
    run: u32,
    turned: bool,
}

/// Runs all of it.
pub(crate) fn run(plan: &Plan, keys: &Path) -> Result<Cells> {
    let attempts = plan.attempts();
    let queue = Mutex::new(attempts.iter().enumerate());
    let cells = vec![vec![Vec::new(); plan.projects.len()]; plan.rows.len()];
    let cells = Mutex::new(cells);
    let work = || -> Result<()> {
        loop {
            let next = queue.lock().expect("nobody panics with the queue").next();
            let Some((number, attempt)) = next else {
                return Ok(());
            };
            if number % PROGRESS == 0 {
                eprintln!("{number} of {} attempts", attempts.len());
            }
            let outcome = plan.run(*attempt, keys).with_context(|| {
                let name = plan.rows[attempt.row].name();
                format!("{} between {name}", plan.projects[attempt.project].name)
            })?;
            let mut cells = cells.lock().expect("nobody panics with the cells");
            cells[attempt.row][attempt.project].push(outcome);
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..plan.labs).map(|_| scope.spawn(work)).collect();
        let joined = workers.into_iter().map(std::thread::ScopedJoinHandle::join);
        joined
            .map(|result| result.expect("a worker returns its errors"))
            .collect::<Result<()>>()
    })?;
    Ok(cells.into_inner().expect("nobody panics with the cells"))
}

impl Plan {
    /// Returns the attempts, the projects in turns: what else the machine does is shared by all.
    fn attempts(&self) -> Vec<Attempt> {
        let mut attempts = Vec::new();
        for run in 0..self.runs {
            for row in 0..self.rows.len() {
                for turned in [false, true] {
                    attempts.extend((0..self.projects.len()).map(|project| Attempt {
                        row,
                        project,
                        run,
                        turned,
                    }));
                }
            }
        }
        attempts
    }

    fn run(&self, attempt: Attempt, keys: &Path) -> Result<Outcome> {
        let Row(mut dialler, mut listener) = *self.rows[attempt.row];
        if attempt.turned {
            std::mem::swap(&mut dialler, &mut listener);
        }
        let path = contender::Path::default();
        let lab = lab(attempt.run.into(), path, [dialler.nat, listener.nat])?;
        let outcome = run::run(&InLab(&lab), self.projects[attempt.project], 0, keys)?;
        lab.close()?;
        Ok(outcome)
    }
}

/// Returns a lab with a server, a dialler and a listener.
pub(crate) fn lab(
    seed: u64,
    path: contender::Path,
    [dialler, listener]: [NatSpec; 2],
) -> Result<Lab> {
    let peer = |name, nat| HostSpec::new(name).behind(nat).link(path.peer);
    Ok(Lab::builder()
        .seed(seed)
        .record(false)
        .host(HostSpec::new("server").link(path.server))
        .host(peer("dialler", dialler))
        .host(peer("listener", listener))
        .build()?)
}
