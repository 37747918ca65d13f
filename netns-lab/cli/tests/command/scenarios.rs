//! Scenarios by the command: shipped, in files, and pairs of presets.

use std::fs;

use netns_lab::scenario::shipped;

use crate::{netns_lab, refused, said, text};

#[test]
fn the_list_has_every_shipped_scenario_with_its_title() {
    let list = said(&["list"]);
    for (name, _) in shipped() {
        let line = list
            .lines()
            .find(|line| line.trim_start().starts_with(name));
        let title = line.unwrap().trim_start().strip_prefix(name).unwrap();
        assert!(title.trim().len() > 5, "{name}: {title:?}");
    }
    let hosts = said(&["list", "two-layers"]);
    assert!(hosts.contains("behind a.nat2: "), "{hosts}");
}

#[test]
fn every_file_of_the_corpus_is_shipped() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios");
    let mut files: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    files.sort();
    let names: Vec<_> = shipped().iter().map(|(name, _)| *name).collect();
    assert_eq!(files, names);
}

#[test]
fn a_scenario_plays_and_shows_its_packets() {
    let out = said(&["run", "crossing-syns"]);
    for words in [
        "crossing-syns: SYNs cross; virtual time, --seed ",
        "released: hold syn from",
        "connected, simultaneous-open, after ",
        "All that the scenario expects has come true.",
    ] {
        assert!(out.contains(words), "{words}:\n{out}");
    }
    assert_eq!(out, said(&["run", "crossing-syns"]));
}

#[test]
fn p2pconnect_dials_through_a_pair_of_presets_on_either_ground() {
    for ground in ["sim", "netns"] {
        let out = said(&["run", "openwrt,linux-router", "--ground", ground]);
        assert!(out.contains("connected, simultaneous-open"), "{out}");
    }
    let out = netns_lab(&["run", "pf,aws-nat-gateway"]);
    assert_eq!(out.status.code(), Some(1));
    let said = text(&out.stdout);
    assert!(said.contains("not connected: "), "{said}");
}

#[test]
fn what_is_wrong_with_a_file_is_said_with_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("mine.toml");
    let name = file.to_str().unwrap();
    fs::write(&file, "\nseed = \"x\"\n").unwrap();
    let error = refused(&["run", name]);
    assert!(error.contains(&format!("{name}:2:8: ")), "{error}");
    // Its hosts are for programs, and the usual punch needs others.
    fs::write(&file, "[hosts.a]\n").unwrap();
    for ground in ["sim", "netns"] {
        let error = refused(&["run", name, "--ground", ground]);
        assert!(error.contains("wants a place \"b\""), "{error}");
    }
    let error = refused(&["run", "no/such/file.toml"]);
    assert!(error.contains("cannot read no/such/file.toml"), "{error}");
    let error = refused(&["run", "crossing"]);
    assert!(error.contains("did you mean crossing-syns?"), "{error}");
}

#[test]
fn expectations_that_do_not_come_true_are_told() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("mine.toml");
    let (_, crossing) = shipped()
        .iter()
        .find(|(name, _)| *name == "crossing-syns")
        .unwrap();
    // Its last table is what it expects.
    fs::write(&file, format!("{crossing}\nwithin = \"1ms\"\n")).unwrap();
    let out = netns_lab(&["run", file.to_str().unwrap()]);
    let said = text(&out.stdout);
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.contains("Expected otherwise:"), "{said}");
}

#[test]
fn programs_run_on_the_hosts_of_a_scenario() {
    let out = said(&[
        "run",
        "two-layers",
        "--host",
        "a",
        "--",
        "echo",
        "{a}",
        "{server}",
    ]);
    assert_eq!(out, "192.168.2.2 203.0.113.1\n");
}
