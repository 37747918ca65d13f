//! What documents name is there: the commands that they tell people to type, the tests that they
//! call as witnesses, and source files.
//!
//! Two suites type what can be typed as it stands: `netns-lab/cli/tests/command/documented.rs` what
//! is said of the lab, and `tests/netns/readme.rs` README's ssh and demo. The rest is built or
//! takes minutes; here it is looked up.

use std::{fs, path::PathBuf, process::Command};

use netns_lab_rig::documents::{in_blocks, in_spans};
use p2pconnect_tests::program::p2pconnect;

use crate::{FOLDERS, root, rust_files};

/// What a line to be typed begins with.
const PROGRAMS: [&str; 7] = [
    "cargo",
    "fuzz/run",
    "netns-lab",
    "netns-lab/versus/run",
    "p2pconnect",
    "run",
    "tests/run",
];

/// Returns files that belong to the repository, by path, with what is in them.
fn listed(patterns: &[&str]) -> Vec<(String, String)> {
    let output = Command::new("git")
        .arg("ls-files")
        .args(patterns)
        .current_dir(root())
        .output()
        .unwrap();
    let paths = String::from_utf8(output.stdout).unwrap();
    paths
        .lines()
        .map(|path| (path.to_owned(), read(path)))
        .collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// Returns what is in the Rust files below a folder, or in one file.
fn sources(path: &str) -> Vec<(PathBuf, String)> {
    let files = rust_files(&root().join(path)).into_iter();
    files
        .map(|file| (file.clone(), fs::read_to_string(file).unwrap()))
        .collect()
}

#[test]
fn every_command_that_a_document_names_is_one() {
    let mut seen = 0;
    // A list of changes speaks of what was.
    for (path, text) in listed(&["*.md", ":!CHANGELOG.md"]) {
        let blocks = in_blocks(&text, &PROGRAMS);
        let blocks = blocks.into_iter().map(|it| it.command);
        for command in blocks.chain(in_spans(&text, &PROGRAMS)) {
            if let Err(fault) = check(&command) {
                panic!("{path} has `{command}`: {fault}");
            }
            seen += 1;
        }
    }
    // A search that finds nothing would pass.
    assert!(seen > 40, "{seen}");
}

#[test]
fn every_file_that_a_document_names_is_there() {
    let files: Vec<String> = listed(&["*.rs"])
        .into_iter()
        .map(|(path, _)| path)
        .collect();
    let mut seen = 0;
    for (path, text) in listed(&["*.md", ":!CHANGELOG.md"]) {
        let spans = text.split('`').skip(1).step_by(2);
        for named in spans.filter(|it| it.ends_with(".rs") && !it.contains([' ', '*'])) {
            let is_it = |file: &String| format!("/{file}").ends_with(&format!("/{named}"));
            assert!(files.iter().any(is_it), "{path} names `{named}`");
            seen += 1;
        }
    }
    assert!(seen > 20, "{seen}");
}

#[test]
fn every_path_that_a_document_names_is_there() {
    let mut seen = 0;
    for (path, text) in listed(&["*.md", ":!CHANGELOG.md"]) {
        for named in text.split('`').skip(1).step_by(2) {
            let is_path = !named.contains([' ', '*', '\n', '(']);
            let folder = named.split_once('/').filter(|_| is_path).map(|it| it.0);
            if folder.is_some_and(|it| it == ".ci" || FOLDERS.contains(&it)) {
                let beside = PathBuf::from(&path).with_file_name(named);
                let is_there = root().join(named).exists() || root().join(beside).exists();
                assert!(is_there, "{path} names {named}");
                seen += 1;
            }
        }
    }
    assert!(seen > 20, "{seen}");
}

fn check(command: &str) -> Result<(), String> {
    let mut words: Vec<_> = command.split_whitespace().collect();
    while let Some((variable, _)) = words[0].split_once('=') {
        if !some_source_has(&format!("\"{variable}\"")) {
            return Err(format!("nothing reads {variable}"));
        }
        words.remove(0);
    }
    let (ours, others) = match words.iter().position(|word| *word == "--") {
        Some(at) => (&words[..at], &words[at + 1..]),
        None => (&words[..], &[][..]),
    };
    match words[0] {
        "cargo" => cargo(ours, others),
        "tests/run" => cargo(ours, others),
        "fuzz/run" => {
            let mut targets = words.iter().skip(2);
            targets.try_for_each(|target| exists(&format!("fuzz/corpus/{target}")))
        }
        "netns-lab" => the_lab_tries(command),
        "p2pconnect" => takes(&words[1..]),
        "run" | "netns-lab/versus/run" => options_are_in(&words[1..], "netns-lab/versus/src"),
        _ => Ok(()),
    }
}

/// Looks up what cargo is told to build, and what the program is told that it then runs.
fn cargo(words: &[&str], others: &[&str]) -> Result<(), String> {
    let after = |option: &str| words.iter().skip_while(|it| **it != option).nth(1).copied();
    let folder = match after("-p") {
        Some(package) => folder_of(package)?,
        None => "tests".to_owned(),
    };
    if let Some(path) = after("--path") {
        exists(&format!("{path}/Cargo.toml"))?;
    }
    if let Some(name) = after("--bench") {
        let file = one_of(&[
            &format!("tests/benches/{name}.rs"),
            &format!("tests/benches/{name}/main.rs"),
        ])?;
        options_are_in(others, &file)?;
    }
    if let Some(name) = after("--example") {
        one_of(&[
            &format!("netns-lab/examples/{name}.rs"),
            &format!("crates/p2pconnect/examples/{name}.rs"),
        ])?;
    }
    if let Some(name) = after("--test") {
        let suites = match &*folder {
            "tests" => folder,
            _ => format!("{folder}/tests"),
        };
        one_of(&[
            &format!("{suites}/{name}/main.rs"),
            &format!("{suites}/{name}.rs"),
        ])?;
        let filter = words.iter().skip_while(|it| **it != name).nth(1);
        if let Some(filter) = filter.filter(|it| !it.starts_with('-')) {
            some_test_has(&format!("{suites}/{name}"), filter)?;
        }
    }
    match (after("--bin"), others) {
        (Some("netns-lab"), _) => the_lab_tries(&format!("netns-lab {}", others.join(" "))),
        (Some("p2pconnect"), _) => takes(others),
        (Some(other), _) => Err(format!("there is no program {other}")),
        (None, _) => Ok(()),
    }
}

/// Returns where a package is.
fn folder_of(package: &str) -> Result<String, String> {
    let line = format!("name = \"{package}\"");
    let manifests = listed(&["*Cargo.toml"]).into_iter();
    let found = manifests.filter(|(_, text)| text.contains(&line));
    let mut folders = found.filter_map(|(path, _)| Some(path.strip_suffix("/Cargo.toml")?.into()));
    let folder = folders.next();
    folder.ok_or_else(|| format!("there is no package {package}"))
}

/// What is said of the lab is tried in its own suite, if the lab's own documents say it.
fn the_lab_tries(command: &str) -> Result<(), String> {
    let readme = read("netns-lab/README.md");
    let tried = in_blocks(&readme, &["netns-lab"]);
    let tried = tried.into_iter().map(|it| it.command);
    let mut tried = tried.chain(in_spans(&readme, &["netns-lab"]));
    let known = tried.any(|it| it.starts_with(command));
    known
        .then_some(())
        .ok_or_else(|| "netns-lab/README.md does not have it, so it is not tried".into())
}

/// Asks the program itself whether it has the subcommand and the options.
fn takes(words: &[&str]) -> Result<(), String> {
    let depth = usize::from(words.first().is_some_and(|it| !it.starts_with('-')));
    let mut told = help(&words[..depth]);
    if depth > 0 && told.as_ref().is_some_and(|it| it.contains("\nCommands:")) {
        told = help(&words[..words.len().min(depth + 1)]);
    }
    let help = told.ok_or_else(|| format!("there is no subcommand {}", words.join(" ")))?;
    let options = words.iter().filter(|it| it.starts_with('-'));
    let unknown = options.copied().find(|it| !help.contains(it));
    unknown.map_or(Ok(()), |it| Err(format!("it has no option {it}")))
}

/// Returns the help on a subcommand, or on one of its own, if there is one.
fn help(subcommands: &[&str]) -> Option<String> {
    let output = Command::new(p2pconnect())
        .args(subcommands)
        .arg("--help")
        .output()
        .unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    output.status.success().then_some(told)
}

/// Looks for options in a program that names them after its fields, or reads a number.
fn options_are_in(words: &[&str], path: &str) -> Result<(), String> {
    let sources = sources(path);
    for option in words.iter().filter_map(|it| it.strip_prefix("--")) {
        let field = format!(" {}:", option.replace('-', "_"));
        if option != "help" && !sources.iter().any(|(_, text)| text.contains(&field)) {
            return Err(format!("it has no option --{option}"));
        }
    }
    Ok(())
}

fn some_test_has(path: &str, filter: &str) -> Result<(), String> {
    let sources = sources(path);
    let named = sources.iter().any(|(file, text)| {
        let module = file.file_stem().is_some_and(|it| it == filter);
        module || text.contains(&format!("fn {filter}"))
    });
    named
        .then_some(())
        .ok_or_else(|| format!("no test has {filter} in its name"))
}

fn some_source_has(text: &str) -> bool {
    let mut sources = FOLDERS.iter().flat_map(|it| sources(it));
    sources.any(|(_, source)| source.contains(text))
}

fn exists(path: &str) -> Result<(), String> {
    let there = root().join(path).exists();
    there
        .then_some(())
        .ok_or_else(|| format!("there is no {path}"))
}

fn one_of(paths: &[&str]) -> Result<String, String> {
    let there = paths.iter().find(|path| exists(path).is_ok());
    let there = there.map(|path| (*path).to_owned());
    there.ok_or_else(|| format!("there is none of {paths:?}"))
}

/// Each claim about safety has its witness, by name.
#[test]
fn the_tests_that_the_claims_about_safety_name_are_there() {
    let text = read("SECURITY.md");
    let names = text.split('`').skip(1).step_by(2);
    let is_name =
        |it: &&str| it.contains('_') && it.chars().all(|it| it == '_' || it.is_alphanumeric());
    let names: Vec<_> = names
        .filter(is_name)
        .filter(|it| it.to_lowercase() == **it)
        .collect();
    assert!(names.len() > 20, "{names:?}");
    let folders = ["crates", "netns-lab", "proto", "tests"];
    let sources: Vec<_> = folders.into_iter().flat_map(sources).collect();
    for name in names {
        let line = format!("fn {name}(");
        assert!(
            sources.iter().any(|(_, text)| text.contains(&line)),
            "SECURITY.md names {name}, and there is no such test"
        );
    }
}
