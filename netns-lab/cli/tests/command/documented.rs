//! What README, the reference of scenarios and the help texts tell people to type works.

use std::{
    path::Path,
    process::{Command, Output, Stdio},
    sync::Mutex,
};

use netns_lab_rig::documents::{Documented, in_blocks, in_help, in_spans};

use super::{said, text};

const README: &str = include_str!("../../../README.md");
const SCENARIOS: &str = include_str!("../../../SCENARIOS.md");

const SUBCOMMANDS: [&str; 6] = ["demo", "list", "run", "shell", "matrix", "explain"];

/// What the documents of a laboratory tell people to start.
const PROGRAMS: [&str; 2] = ["netns-lab", "cargo"];

/// How many commands run at a time: they wait for round trips, mostly.
const SIDE_BY_SIDE: usize = 4;

fn documented() -> Vec<Documented> {
    let spans = [README, SCENARIOS].map(|document| in_spans(document, &PROGRAMS));
    let helps = SUBCOMMANDS.map(|name| said(&[name, "--help"]));
    let helps = helps.into_iter().chain([said(&["--help"])]);
    let examples = helps.flat_map(|help| in_help(&help, "netns-lab"));
    let unseen = spans.into_iter().flatten().chain(examples);
    let mut all = in_blocks(README, &PROGRAMS);
    all.extend(in_blocks(SCENARIOS, &PROGRAMS));
    for command in unseen {
        if all.iter().all(|known| known.command != command) {
            let output = Vec::new();
            all.push(Documented { command, output });
        }
    }
    // What is given with more options elsewhere is tried there.
    let commands: Vec<_> = all.iter().map(|it| format!("{} --", it.command)).collect();
    let mut prefixes = commands.iter();
    all.retain(|_| {
        let prefix = prefixes.next().unwrap();
        !commands
            .iter()
            .any(|it| it != prefix && it.starts_with(prefix))
    });
    all
}

#[test]
fn every_command_of_the_documents_works() {
    let all = documented();
    let (lab, cargo): (Vec<_>, Vec<_>) = all
        .into_iter()
        .partition(|it| it.command.starts_with("netns-lab"));
    // A document that shows nothing, or nothing that is found, would pass.
    assert!(lab.len() >= 15 && cargo.len() >= 3, "{lab:#?} {cargo:#?}");
    for it in &cargo {
        assert_names_a_target(&it.command);
    }
    let failures = Mutex::new(Vec::new());
    let left = Mutex::new(lab.into_iter());
    std::thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                while let Some(it) = next(&left) {
                    if let Err(failure) = check(&it, &run(&it.command)) {
                        failures.lock().unwrap().push(failure);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

fn next(left: &Mutex<impl Iterator<Item = Documented>>) -> Option<Documented> {
    left.lock().unwrap().next()
}

/// Types a command in an empty directory with one scenario of the reader's own.
fn run(command: &str) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let example = in_toml(SCENARIOS);
    std::fs::write(directory.path().join("my-lab.toml"), example).unwrap();
    let own = Path::new(env!("CARGO_BIN_EXE_netns-lab")).parent().unwrap();
    let path = std::env::var("PATH").unwrap();
    Command::new("sh")
        .args(["-c", command])
        .current_dir(directory.path())
        .env("PATH", format!("{}:{path}", own.display()))
        .env("SHELL", "/bin/sh")
        // A shell ends at once then.
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Compares what a command did with what the document says of it.
fn check(it: &Documented, output: &Output) -> Result<(), String> {
    let (told, error) = (text(&output.stdout), text(&output.stderr));
    let everything = without_digits(&format!("{told}\n{error}"));
    let report = |what: &str| Err(format!("{}: {what}\n{told}\n{error}", it.command));
    // Where the document shows that a program complains, it has to.
    let complains = it
        .output
        .first()
        .is_some_and(|line| line.starts_with("curl: "));
    if output.status.success() == complains {
        return report(&output.status.to_string());
    }
    let parts = it.output.join(" ").replace("[...]", "...");
    for part in parts.split("...") {
        let part = without_digits(part);
        if !everything.contains(&part) {
            return report(&format!("does not say {part:?}"));
        }
    }
    Ok(())
}

/// Returns a text in which times, ports and line ends make no difference.
fn without_digits(text: &str) -> String {
    let mut plain = String::new();
    for word in text.split_whitespace() {
        let mut digits = false;
        for letter in word.chars() {
            if !letter.is_ascii_digit() {
                plain.push(letter);
            } else if !digits {
                plain.push('#');
            }
            digits = letter.is_ascii_digit();
        }
        plain.push(' ');
    }
    plain.trim_end().to_owned()
}

/// Returns the first scenario of the reference.
fn in_toml(markdown: &str) -> &str {
    let (_, rest) = markdown.split_once("```toml\n").unwrap();
    rest.split_once("```").unwrap().0
}

/// What cargo is told to build or to install is there: building it anew would take minutes, and the
/// checks build each target anyway.
fn assert_names_a_target(command: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let after = |option: &str| {
        let mut words = command
            .split_whitespace()
            .skip_while(|word| *word != option);
        words.nth(1)
    };
    let manifest = after("--path").map(|path| root.join("..").join(path).join("Cargo.toml"));
    let example = after("--example").map(|name| root.join("examples").join(format!("{name}.rs")));
    let target = manifest
        .or(example)
        .unwrap_or_else(|| panic!("{command}: builds what?"));
    assert!(
        target.exists(),
        "{command}: there is no {}",
        target.display()
    );
    if let Some(package) = after("-p") {
        assert_eq!(package, "netns-lab", "{command}");
    }
}
