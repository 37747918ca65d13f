//! Every file of the corpus runs and meets its own expectations.

use std::{fs, path::Path};

use netns_lab::scenario::{Play, Scenario};

use crate::run;

/// All files, with their names.
pub(super) fn corpus() -> Vec<(String, String)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
    let mut files: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "toml"))
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read_to_string(&path).unwrap())
        })
        .collect();
    files.sort();
    files
}

#[test]
fn every_scenario_comes_out_as_it_says() {
    let corpus = corpus();
    assert!(corpus.len() >= 14, "{}", corpus.len());
    let mut unmet = Vec::new();
    for (name, text) in corpus {
        let scenario = Scenario::parse(&text).unwrap_or_else(|error| panic!("{name}:{error}"));
        let run = run(&scenario, scenario.seed());
        assert!(!run.ladder.steps.is_empty(), "{name}");
        if !run.unmet.is_empty() {
            let (how, after, dials) = (&run.how, run.after, &run.dials);
            unmet.push(format!(
                "{name}: {:?} {how:?} {after:?} {dials:?}\n{}",
                run.unmet, run.log
            ));
        }
    }
    assert!(unmet.is_empty(), "{}", unmet.join("\n\n"));
}

#[test]
fn a_seed_decides_a_run_to_the_byte() {
    for (name, text) in corpus() {
        let scenario = Scenario::parse(&text).unwrap();
        let (first, second) = (run(&scenario, 7), run(&scenario, 7));
        assert_eq!(first.log.to_string(), second.log.to_string(), "{name}");
        assert_eq!(first.outcome, second.outcome, "{name}");
        // What a contender encrypts differs, since TLS draws keys of its own.
        if matches!(scenario.play(), Play::Dials(_)) {
            assert_eq!(first, second, "{name}");
        }
    }
}

#[test]
fn expectations_can_fail() {
    for (name, text) in corpus() {
        let (right, wrong) = if text.contains("result = \"failed\"") {
            ("result = \"failed\"", "result = \"connected\"")
        } else {
            ("result = \"connected\"", "leaks = 7")
        };
        let text = if text.contains("leaks = 0") {
            text.replace("leaks = 0", "leaks = 7")
        } else {
            text.replace(right, wrong)
        };
        let scenario = Scenario::parse(&text).unwrap();
        let run = run(&scenario, scenario.seed());
        assert_eq!(run.unmet.len(), 1, "{name}: {:?}", run.unmet);
    }
}
