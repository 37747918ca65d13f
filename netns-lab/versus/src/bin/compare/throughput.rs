//! How fast a stream is, through NATs and over a bare wire.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result};
use netns_lab::{LinkSpec, NatSpec, contender};

use crate::{
    projects::Project,
    punching,
    run::{self, InLab, Outcome},
    wire::Wire,
};

/// What is to be run.
pub(crate) struct Plan {
    pub(crate) projects: Vec<&'static Project>,
    /// How often everybody has a turn.
    pub(crate) rounds: u32,
    /// How long each turn is.
    pub(crate) seconds: u32,
}

/// Where throughput is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Course {
    /// A veth between two namespaces, with a core for each side.
    Wire,
    /// Through two NATs, without delay.
    Lab,
    /// The same with 80 ms there and back.
    Delayed,
}

impl Course {
    pub(crate) const ALL: [Self; 3] = [Self::Wire, Self::Lab, Self::Delayed];

    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Wire => "plain veth, a core a side",
            Self::Lab => "two NATs of the lab",
            Self::Delayed => "the same, 80 ms",
        }
    }
}

/// The outcomes of each course, of each project, in the order of the plan.
pub(crate) type Measured = Vec<Vec<Vec<Outcome>>>;

/// Runs all of it, one after another.
pub(crate) fn run(plan: &Plan, keys: &Path) -> Result<Measured> {
    let mut measured = vec![vec![Vec::new(); plan.projects.len()]; Course::ALL.len()];
    for round in 0..plan.rounds {
        eprintln!("throughput: round {} of {}", round + 1, plan.rounds);
        for (course, measured) in Course::ALL.into_iter().zip(&mut measured) {
            for (project, outcomes) in plan.projects.iter().zip(measured) {
                // Who did not come through in one round would not in the next.
                let is_hopeless = outcomes.iter().any(Result::is_err);
                if !is_hopeless && (course == Course::Wire || project.passes_nats) {
                    let outcome = plan.turn(course, project, keys).with_context(|| {
                        format!("throughput of {}, {}", project.name, course.title())
                    })?;
                    outcomes.push(outcome);
                }
            }
        }
    }
    Ok(measured)
}

impl Plan {
    fn turn(&self, course: Course, project: &Project, keys: &Path) -> Result<Outcome> {
        let mut path = contender::Path::default();
        match course {
            Course::Wire => return run::run(&Wire::new()?, project, self.seconds, keys),
            Course::Lab => path.peer = LinkSpec::delay(Duration::ZERO),
            Course::Delayed => {}
        }
        let nats = [NatSpec::port_preserving(); 2];
        let lab = punching::lab(0, path, nats)?;
        let outcome = run::run(&InLab(&lab), project, self.seconds, keys)?;
        lab.close()?;
        Ok(outcome)
    }
}
