//! Dials between real kernels, and the matrix of them.

use std::time::Duration;

use netns_lab::{
    Lab, LinkSpec, NatSpec,
    contender::{Contender as _, Path, PunchOutcome},
    matrix::{self, Ground, Kind, Options},
};
use netns_lab_cli::P2pconnect;

use crate::hosts;

const MS: Duration = Duration::from_millis(1);

fn dial(chains: [&[NatSpec]; 2], path: Path) -> PunchOutcome {
    let topology = path.topology(&hosts(), chains);
    let lab = Lab::builder().topology(topology).record(false);
    let lab = lab.build().unwrap();
    P2pconnect.dial_in_lab(&lab, &hosts(), 1).unwrap().remove(0)
}

fn punch(dialler: &[NatSpec], listener: &[NatSpec]) -> PunchOutcome {
    dial([dialler, listener], Path::default())
}

#[test]
fn a_punch_takes_no_less_than_the_path() {
    netns_lab::test(|| {
        let established = punch(&[], &[]).established.unwrap();
        assert!(established.after >= 122 * MS, "{established:?}");
    });
}

/// However late one of them starts: the SYN that comes too early is dropped, and the later one
/// meets a socket in SYN-SENT.
#[test]
fn two_silent_nats_let_through_nothing_but_crossing_syns() {
    netns_lab::test(|| {
        let home = [NatSpec::port_preserving()];
        let established = punch(&home, &home).established.unwrap();
        assert_eq!(established.how, "simultaneous-open");
    });
}

#[test]
fn a_symmetric_nat_reaches_a_public_host_and_is_reached_from_it() {
    netns_lab::test(|| {
        let symmetric = [NatSpec::random_per_destination()];
        let inwards = punch(&[], &symmetric).established.unwrap();
        assert_eq!(inwards.how, "accepted");
        let outwards = punch(&symmetric, &[]).established.unwrap();
        assert_eq!(outwards.how, "connected");
    });
}

#[test]
fn a_server_out_of_reach_is_a_failure_with_its_reason() {
    netns_lab::test(|| {
        let path = Path {
            server: LinkSpec::delay(MS).loss(1.0),
            ..Path::default()
        };
        let failure = dial([&[], &[]], path).failure.unwrap();
        assert!(failure.contains("coordinator"), "{failure}");
    });
}

#[test]
fn a_matrix_side_by_side_has_every_cell_and_hides_no_failure() {
    netns_lab::test(|| {
        let kind = |name: &str, chain: &[NatSpec]| Kind {
            name: name.into(),
            title: name.into(),
            chain: chain.to_vec(),
        };
        let options = Options {
            kinds: vec![
                kind("public", &[]),
                kind("home", &[NatSpec::port_preserving()]),
                kind("symmetric", &[NatSpec::random_per_destination()]),
            ],
            ground: Ground::Namespaces,
            ..Options::default()
        };
        let mut done = 0;
        let matrix = matrix::run(&options, &P2pconnect, |_| done += 1).unwrap();
        assert_eq!((done, matrix.series.cells.len()), (9, 9));
        for cell in &matrix.series.cells {
            let pair = (cell.dialler, cell.listener);
            // Two random ports at once are out of reach; one is found in all but a few of a
            // million runs, since a second batch follows the first.
            if pair == (2, 2) {
                assert_eq!(cell.successes, 0, "{cell:?}");
                assert!(cell.failure.is_some());
            } else {
                assert_eq!(cell.successes, 1, "{cell:?}");
            }
        }
    });
}
