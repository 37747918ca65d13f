//! Runs of cells, packet by packet.

use super::{Ground, Kind, MatrixError, Options, ShownRun};
use crate::puncher;
use crate::report::{Cell, ColumnKind, Ladder, LadderPlace};

/// Repeats the runs that are to be shown, which comes to the same, and tells
/// their cells of the ladders.
pub(super) fn of_runs(
    options: &Options,
    shown: &[ShownRun],
    cells: &mut [Cell],
) -> Result<Vec<Ladder>, MatrixError> {
    // Between real kernels no run is like another.
    if options.ground != Ground::VirtualTime {
        return Ok(Vec::new());
    }
    let mut ladders = Vec::new();
    for run in shown.iter().take(options.max_ladders) {
        let kinds = [run.dialler, run.listener].map(|it| &options.kinds[it]);
        let ladder = of_run(options, kinds, run.seed);
        let ladder = ladder.map_err(|source| MatrixError::Run {
            dialler: kinds[0].name.clone(),
            listener: kinds[1].name.clone(),
            source: source.into(),
        })?;
        if let Some(cell) = cells.get_mut(run.dialler * options.kinds.len() + run.listener) {
            cell.ladder = Some(ladders.len());
        }
        ladders.push(ladder);
    }
    Ok(ladders)
}

fn of_run(
    options: &Options,
    kinds: [&Kind; 2],
    seed: u64,
) -> Result<Ladder, puncher::VirtualTimeError> {
    let chains = kinds.map(|kind| kind.chain.as_slice());
    let (_, log) = puncher::virtual_time_with_log(chains, options.path, seed)?;
    let [dialler, listener] = kinds.map(|kind| kind.name.as_str());
    let title = format!("{dialler} dials {listener}, seed {seed}");
    Ok(Ladder::from_log(
        &title,
        &places(chains.map(<[_]>::len)),
        &log,
    ))
}

/// The columns: the dialler, its boxes outwards, the core, the listener's boxes
/// inwards, the listener. What is said to the server is left out.
fn places([dialler_boxes, listener_boxes]: [usize; 2]) -> Vec<LadderPlace> {
    let core = dialler_boxes + 1;
    let place = |name: String, kind, above| LadderPlace { name, kind, above };
    let mut places = vec![place("dialler".into(), ColumnKind::Host, Some(1))];
    for number in 1..=dialler_boxes {
        let name = format!("dialler nat {number}");
        places.push(place(name, ColumnKind::Nat, Some(number + 1)));
    }
    places.push(place("core".into(), ColumnKind::Core, None));
    for number in (1..=listener_boxes).rev() {
        let name = format!("listener nat {number}");
        places.push(place(name, ColumnKind::Nat, Some(places.len() - 1)));
    }
    let above = core + listener_boxes;
    places.push(place("listener".into(), ColumnKind::Host, Some(above)));
    places
}
