//! The dials of a cell, each in a network of its own.

use std::path::{Path, PathBuf};

use p2pconnect_nat::NatSpec;

use super::{Ground, GroundError, Setup};
use crate::{
    Lab, LabBuilder,
    contender::{Punch, PunchOutcome},
    record::EventLog,
    virtual_time::World,
};

/// One dial, or several in a lab that is good for them.
#[derive(Clone, Copy)]
pub(super) struct Dial<'a> {
    pub(super) setup: Setup<'a>,
    pub(super) chains: [&'a [NatSpec]; 2],
    pub(super) seed: u64,
}

impl Dial<'_> {
    /// Returns the hosts, which are the columns of ladders.
    pub(super) fn hosts() -> Punch {
        Punch::between("dialler", "listener")
    }

    /// Dials on the ground of the options, as often as one lab is good for and at most so often,
    /// and leaves a capture file if there is to be one.
    pub(super) fn run(
        self,
        most: u32,
        capture: Option<PathBuf>,
    ) -> Result<Vec<PunchOutcome>, GroundError> {
        match self.setup.options.ground {
            Ground::VirtualTime => {
                let (outcome, log) = self.in_virtual_time(capture.is_some())?;
                capture.map_or(Ok(()), |file| write(&log, &file))?;
                Ok(vec![outcome])
            }
            Ground::Namespaces => self.in_namespaces(most, capture),
        }
    }

    /// Dials in virtual time; the log is empty unless it is kept.
    pub(super) fn in_virtual_time(
        self,
        keeps_log: bool,
    ) -> Result<(PunchOutcome, EventLog), GroundError> {
        let Setup { options, contender } = self.setup;
        let hosts = Self::hosts();
        let mut world = World::build(&options.path.topology(&hosts, self.chains), self.seed)?;
        if !keeps_log {
            world.stop_log();
        }
        contender
            .dial_in_world(world, &hosts, self.seed)
            .map_err(GroundError::Contender)
    }

    fn in_namespaces(
        self,
        most: u32,
        capture: Option<PathBuf>,
    ) -> Result<Vec<PunchOutcome>, GroundError> {
        let Setup { options, contender } = self.setup;
        let hosts = Self::hosts();
        let lab = Lab::builder()
            .topology(options.path.topology(&hosts, self.chains))
            .seed(self.seed)
            .engine(options.engine)
            .record(false);
        let lab = capture.into_iter().fold(lab, LabBuilder::capture).build()?;
        let dials = contender.dials_in_a_lab(self.chains).clamp(1, most);
        let outcomes = contender.dial_in_lab(&lab, &hosts, dials);
        let outcomes = outcomes.map_err(GroundError::Contender)?;
        lab.close()?;
        if outcomes.is_empty() {
            let told = format!("{} has told no outcome", contender.name());
            return Err(GroundError::Contender(told.into()));
        }
        Ok(outcomes)
    }
}

fn write(log: &EventLog, file: &Path) -> Result<(), GroundError> {
    log.write_pcapng(file).map_err(|source| {
        let file = file.to_owned();
        GroundError::Capture { file, source }
    })
}
