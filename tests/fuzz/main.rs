//! What fuzzing has found, and what it begins with, on any toolchain: each file of the corpora goes
//! to its target.

#![expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

use std::{
    collections::BTreeSet,
    fs,
    panic::catch_unwind,
    path::{Path, PathBuf},
};

use p2pconnect_fuzz_targets::{TARGETS, punch_agent};
use proptest::prelude::*;

/// Inputs are there to be read by whoever asks what a target takes.
const MAX_BYTES: usize = 16 * 1024 + 1;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

fn files_of(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// Returns the names of what is in a folder, without their ends.
fn names(folder: &Path) -> BTreeSet<String> {
    let stem = |path: PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
    files_of(folder).into_iter().map(stem).collect()
}

#[test]
fn every_input_of_the_corpora_passes_its_target() {
    let mut failed = Vec::new();
    for (name, target) in TARGETS {
        let mut files = files_of(&fuzz().join("corpus").join(name));
        assert!(!files.is_empty(), "{name} has no corpus");
        if name == "scenario" {
            files.extend(files_of(&fuzz().join("../netns-lab/scenarios")));
        }
        for path in files {
            let input = fs::read(&path).unwrap();
            assert!(input.len() <= MAX_BYTES, "{} is large", path.display());
            if catch_unwind(|| target(&input)).is_err() {
                failed.push(path);
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn every_target_has_a_binary_and_a_corpus_and_nothing_else_has() {
    let targets = TARGETS.map(|(name, _)| name.to_owned()).into();
    assert_eq!(names(&fuzz().join("corpus")), targets);
    assert_eq!(names(&fuzz().join("src/bin")), targets);
}

proptest! {
    #[test]
    fn nothing_a_driver_says_breaks_the_agent(
        script in proptest::collection::vec(any::<u8>(), 0..1500),
    ) {
        punch_agent(&script);
    }
}
