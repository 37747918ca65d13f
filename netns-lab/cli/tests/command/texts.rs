//! What needs no namespaces: help, lists, explanations, the matrix in virtual time.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use super::{netns_lab, refused, said, text};

#[test]
fn every_subcommand_has_help_with_an_example() {
    let help = said(&["--help"]);
    for subcommand in ["demo", "list", "run", "shell", "matrix", "explain"] {
        assert!(
            help.contains(&format!("netns-lab {subcommand}")),
            "{subcommand}"
        );
        let help = said(&[subcommand, "--help"]);
        assert!(help.contains("Example"), "{subcommand}");
    }
}

#[test]
fn the_list_has_every_preset_with_its_behaviour() {
    let list = said(&["list"]);
    for preset in netns_lab::preset::all() {
        assert!(list.contains(preset.name) && list.contains(preset.title));
    }
    let expected = "  openwrt                 OpenWrt with its default firewall\n                            \
                    mapping EI, filtering APD, keeps ports, overloads, answers RST\n";
    assert!(list.contains(expected), "{list}");
}

#[test]
fn the_hosts_of_a_pair_are_listed_with_their_boxes() {
    let expected = "public,docker+openwrt\n\n  a: public\n  b\n    \
        behind b.nat: mapping EI, filtering APD, keeps ports, overloads, answers RST\n    \
        behind b.nat2: mapping EI, filtering APD, keeps ports, overloads, answers RST\n  \
        server: public\n";
    assert_eq!(said(&["list", "public,docker+openwrt"]), expected);
}

#[test]
fn a_number_that_is_none_is_told_what_there_may_be() {
    for (arguments, told) in [
        (["matrix", "--runs", "x"], "from 1 to 4294967295"),
        (["matrix", "--labs", "0"], "from 1 to"),
        (["demo", "--seed", "-"], "from 0 to"),
    ] {
        let error = refused(&arguments);
        let told = format!("write a whole number {told}");
        assert!(error.contains(&told), "{error}");
    }
}

#[test]
fn names_that_are_unknown_are_answered_with_near_ones() {
    let error = refused(&["explain", "opnwrt", "public"]);
    assert_eq!(
        error,
        "netns-lab: there is no preset \"opnwrt\"; did you mean openwrt?\n"
    );
    let error = refused(&["run", "public,public", "--host", "serv", "--", "true"]);
    assert_eq!(
        error,
        "netns-lab: there is no host \"serv\" in public,public; did you mean server?\n"
    );
    let error = refused(&["shell", "public,public", "z"]);
    assert!(error.contains("only a, b, server"), "{error}");
    let error = refused(&["list", "crossing"]);
    assert!(
        error.ends_with("; did you mean crossing-syns?\n"),
        "{error}"
    );
    assert!(refused(&["list", "nowhere"]).contains("no scenario"));
    assert!(refused(&["matrix", "--kinds", "nowhere"]).contains("no preset"));
    assert!(refused(&["matrix", "--runs", "0"]).contains("--runs"));
}

#[test]
fn presets_that_netfilter_can_be_are_named_where_people_choose() {
    let can = |text: &str| {
        let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let (_, names) = flat.split_once("netfilter can be ").unwrap();
        let names = names.split_once("; ").map_or(names, |(names, _)| names);
        names.split(", ").map(str::to_owned).collect::<Vec<_>>()
    };
    let netfilter = netns_lab::Engine::Netfilter;
    let is_possible = |preset: &&netns_lab::preset::Preset| {
        let specs = preset.specs();
        specs.iter().all(|nat| netfilter.check("a", nat).is_ok())
    };
    let possible = netns_lab::preset::all().iter().filter(is_possible);
    let possible: Vec<_> = possible.map(|preset| preset.name).collect();
    assert!(possible.contains(&"openwrt") && !possible.contains(&"cgnat-rfc6888"));
    for subcommand in ["run", "shell", "matrix"] {
        assert_eq!(
            can(&said(&[subcommand, "--help"])),
            possible,
            "{subcommand}"
        );
    }
    let pair = "cgnat-rfc6888,public";
    for words in [
        &[
            "run",
            pair,
            "--engine",
            "netfilter",
            "--host",
            "a",
            "--",
            "true",
        ][..],
        &["run", pair, "--engine", "netfilter", "--ground", "netns"],
        &["shell", pair, "a", "--engine", "netfilter"],
    ] {
        assert_eq!(can(&refused(words)), possible, "{words:?}");
    }
}

#[test]
fn an_explanation_has_the_reason_and_a_run_and_repeats() {
    let words = [
        "explain",
        "openwrt",
        "linux-router",
        "--seed",
        "5",
        "--ladder",
    ];
    let first = said(&words);
    assert_eq!(first, said(&words));
    for part in [
        "certain, by simultaneous open, if a dials first",
        "virtual time, --seed 5: Connected after",
        "SYN :",
    ] {
        assert!(first.contains(part), "{part}: {first}");
    }
}

#[test]
fn an_explanation_begins_with_the_verdict_and_fits_on_a_screen() {
    let pair = ["explain", "openwrt", "aws-nat-gateway"];
    let told = said(&pair);
    let first = told.lines().next().unwrap();
    assert!(
        first.starts_with("openwrt with aws-nat-gateway: by luck in 99.8 %:"),
        "{first}"
    );
    assert!(told.lines().count() < 15, "{told}");
    assert!(told.contains("Connected after"), "{told}");
    let long = said(&[&pair[..], &["--ladder"]].concat());
    let lines = long.lines().count();
    assert!(lines > 100 && long.contains("SYN :"), "{long}");
    let (_, rest) = told.split_once("--ladder shows its packets, in ").unwrap();
    let promised: usize = rest.split(' ').next().unwrap().parse().unwrap();
    assert_eq!(lines + 1, told.lines().count() + promised);
}

#[test]
fn a_demo_in_virtual_time_tells_what_the_boxes_do() {
    let told = said(&["demo", "--ground", "sim"]);
    assert!(told.contains("dialler.nat   SYN 192.168.1.2:"), "{told}");
    assert!(told.contains("by simultaneous-open."), "{told}");
}

#[test]
fn a_matrix_writes_its_reports_and_judges_by_the_oracle() {
    let directory = tempfile::tempdir().unwrap();
    let [page, json] = ["page.html", "cells.json"].map(|name| directory.path().join(name));
    let mut words = vec!["matrix", "--kinds", "public,linux-router", "--seed", "9"];
    words.extend(["--report", page.to_str().unwrap(), "--ladders"]);
    words.extend(["--json", json.to_str().unwrap()]);
    let output = netns_lab(&words);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).contains("--seed 9 runs it again"));
    let progress = text(&output.stderr);
    assert!(
        progress.contains("virtual time: 4 of 4 pairs"),
        "{progress}"
    );
    assert!(!progress.contains('\r'), "{progress}");
    assert!(fs::read_to_string(&page).unwrap().contains("<svg"));
    let cells = fs::read_to_string(&json).unwrap();
    let cells: serde_json::Value = serde_json::from_str(&cells).unwrap();
    let cells = cells["series"][0]["cells"].as_array().unwrap();
    assert_eq!(cells.len(), 4);
    for cell in cells {
        assert_eq!(cell["successes"], 1, "{cell}");
        assert_eq!(cell["contradicts_oracle"], false);
    }
}

#[test]
fn the_exit_status_of_a_matrix_says_whether_the_oracle_is_contradicted() {
    let output = netns_lab(&["matrix", "--kinds", "cisco-asa,iphone-hotspot,linux-router"]);
    let told = text(&output.stdout);
    let contradictions = told.contains("pairs did otherwise than the oracle");
    assert_eq!(
        output.status.code(),
        Some(i32::from(contradictions)),
        "{told}"
    );
    assert!(told.contains("Work list"), "{told}");
}

#[test]
fn nobody_has_to_read_to_the_end() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_netns-lab"))
        .args(["explain", "mobile-carrier", "mobile-carrier"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    drop(output);
    let output = child.wait_with_output().unwrap();
    assert_eq!(text(&output.stderr), "");
}
