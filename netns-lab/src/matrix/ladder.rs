//! Runs of cells, packet by packet.

use super::{Ground, GroundError, Kind, MatrixError, Setup, ShownRun, cell::chains, dial::Dial};
use crate::report::{Cell, Ladder};

/// Repeats the runs that are to be shown, which comes to the same, and tells their cells of the
/// ladders.
pub(super) fn of_runs(
    setup: Setup<'_>,
    shown: &[ShownRun],
    cells: &mut [Cell],
) -> Result<Vec<Ladder>, MatrixError> {
    let options = setup.options;
    // Between real kernels no run is like another.
    if options.ground != Ground::VirtualTime {
        return Ok(Vec::new());
    }
    let mut ladders = Vec::new();
    for run in shown.iter().take(options.max_ladders) {
        let kinds = [run.dialler, run.listener].map(|it| &options.kinds[it]);
        let ladder = of_run(setup, kinds, run.seed);
        let ladder = ladder.map_err(|source| MatrixError::Run {
            dialler: kinds[0].name.clone(),
            listener: kinds[1].name.clone(),
            source,
        })?;
        if let Some(cell) = cells.get_mut(run.dialler * options.kinds.len() + run.listener) {
            cell.ladder = Some(ladders.len());
        }
        ladders.push(ladder);
    }
    Ok(ladders)
}

/// The columns are the dialler, its boxes outwards, the core, the listener's boxes
/// inwards, the listener. What is said to the server is left out.
fn of_run(setup: Setup<'_>, kinds: [&Kind; 2], seed: u64) -> Result<Ladder, GroundError> {
    let dial = Dial {
        setup,
        chains: chains(kinds),
        seed,
    };
    let (_, log) = dial.in_virtual_time(true)?;
    let hosts = Dial::hosts();
    let topology = setup.options.path.topology(&hosts, dial.chains);
    let places = topology.ladder_places(&[&hosts.dialler, &hosts.listener]);
    let [dialler, listener] = kinds.map(|kind| kind.name.as_str());
    let title = format!("{dialler} dials {listener}, seed {seed}");
    Ok(Ladder::from_log(&title, &places, &log))
}
