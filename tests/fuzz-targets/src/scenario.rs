//! A scenario file of the lab.

use std::time::Duration;

use netns_lab::scenario::{self, Ground, Play, Scenario};

use crate::says_why;

/// The longest scenario that is run, in time that passes in it, and with how many dials.
const LONGEST: Duration = Duration::from_secs(60);
const MOST_DIALS: usize = 4;

/// The longest piece of a scenario that an error repeats, in characters.
const MAX_REPEATED: usize = 60;

/// Takes an input for a scenario of the lab.
///
/// What is wrong with it is at the place that the error names, and moves with it. A short one is
/// also run, in virtual time, and comes to an end.
pub fn scenario(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else {
        return;
    };
    let read = Scenario::parse(text);
    if let Err(error) = &read {
        says_why(error, input);
        let line = text.split('\n').nth(error.line - 1).unwrap();
        let from = line.char_indices().map(|(at, _)| at).nth(error.column - 1);
        assert!(line[from.unwrap_or(line.len())..].starts_with(&error.text));
        assert!(error.text.chars().count() <= MAX_REPEATED);
    }
    // A mark of the byte order may only come first.
    if !text.starts_with('\u{FEFF}') {
        let moved = Scenario::parse(&format!("# one more line\n{text}"));
        match (&read, moved) {
            (Ok(scenario), moved) => assert_eq!(moved.as_ref(), Ok(scenario)),
            (Err(error), Err(moved)) => {
                assert_eq!(error.message, moved.message);
                assert!(moved.line == error.line + 1 || (moved.line, moved.column) == (1, 1));
            }
            (Err(error), Ok(_)) => panic!("a comment makes {error} right"),
        }
    }
    if let Ok(scenario) = read {
        run(&scenario);
    }
}

fn run(scenario: &Scenario) {
    let Play::Dials(dials) = scenario.play() else {
        return;
    };
    if scenario.limit() > LONGEST || dials.len() > MOST_DIALS {
        return;
    }
    match scenario::run(scenario, Ground::VirtualTime, scenario.seed(), None) {
        Ok(run) => {
            assert_eq!(run.dials.len(), dials.len());
            assert!(run.unmet.iter().all(|it| !it.is_empty()));
            assert!(run.after.is_none_or(|after| after <= LONGEST));
        }
        Err(why) => says_why(&why, &[]),
    }
}
