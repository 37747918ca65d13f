//! What the tree promises about itself.
//!
//! - pure crates depend on nothing that has a socket, a clock or a runtime
//! - pure modules of other crates do not name such things
//! - files stay short enough to read, and say what they are for
//! - documents name commands, variables, tests and files that there are
//! - modules do not import each other in circles
//! - no function takes an anonymous tuple
//! - the product asks the host that it runs on, and not the operating system
//! - peers and coordinators know a link, and not what it runs over
//! - tasks have owners, and a picture
//! - imports and comments are set alike in all files

#![expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

mod documents;
mod imports;
mod parameters;
mod seam;
mod style;
mod tasks;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// Crates that must know no socket, clock, thread or async runtime.
const PURE_CRATES: [&str; 3] = ["p2pconnect-nat", "p2pconnect-proto", "p2pconnect-punch"];

/// What no pure crate may depend on, directly or through others.
const IMPURE: [&str; 7] = [
    "mio",
    "quinn",
    "quinn-proto",
    "rustls",
    "socket2",
    "tokio",
    "async-std",
];

/// Pure parts of crates that have sockets elsewhere.
const PURE_MODULES: [&str; 51] = [
    "crates/cli/src/memory/cgroups.rs",
    "crates/cli/src/words.rs",
    "crates/coordinator/src/admission.rs",
    "crates/coordinator/src/concealed.rs",
    "crates/coordinator/src/rate.rs",
    "crates/coordinator/src/registry",
    "crates/coordinator/src/registry.rs",
    "crates/coordinator/src/service/journal.rs",
    "crates/coordinator/src/service/slots.rs",
    "crates/coordinator/src/service/stun_servers.rs",
    "crates/coordinator/src/start.rs",
    "crates/host/src/udp/balances.rs",
    "crates/identity/src/issuer.rs",
    "crates/link/src/proxy/url.rs",
    "crates/link/src/proxy/variables.rs",
    "crates/p2pconnect/src/introduction/circumstances.rs",
    "crates/p2pconnect/src/coordinator/choice.rs",
    "crates/p2pconnect/src/coordinator/servers.rs",
    "crates/p2pconnect/src/nat/families.rs",
    "crates/p2pconnect/src/introduction/known_families.rs",
    "crates/p2pconnect/src/machine/port_mapping/upnp/description.rs",
    "crates/p2pconnect/src/machine/port_mapping/upnp/http.rs",
    "crates/p2pconnect/src/machine/port_mapping/upnp/soap.rs",
    "crates/p2pconnect/src/machine/port_mapping/upnp/url.rs",
    "crates/p2pconnect/src/machine/port_mapping/upnp/xml.rs",
    "crates/p2pconnect/src/introduction/remote_candidates.rs",
    "crates/p2pconnect/src/dial/rounds.rs",
    "crates/p2pconnect/src/introduction/shares.rs",
    "netns-lab/src/fabric",
    "netns-lab/src/fabric.rs",
    "netns-lab/src/link",
    "netns-lab/src/link.rs",
    "netns-lab/src/middlebox",
    "netns-lab/src/middlebox.rs",
    "netns-lab/src/model",
    "netns-lab/src/model.rs",
    "netns-lab/src/oracle",
    "netns-lab/src/oracle.rs",
    "netns-lab/src/packet",
    "netns-lab/src/packet.rs",
    "netns-lab/src/prefix.rs",
    "netns-lab/src/preset",
    "netns-lab/src/preset.rs",
    "netns-lab/src/record.rs",
    "netns-lab/src/report",
    "netns-lab/src/report.rs",
    "netns-lab/src/topology",
    "netns-lab/src/topology.rs",
    "netns-lab/src/tracked.rs",
    "netns-lab/src/virtual_time",
    "netns-lab/src/virtual_time.rs",
];

/// What pure code has no business with: it is given the time, and gives commands.
const IMPURE_WORDS: [&str; 7] = [
    "Instant::now",
    "SystemTime::now",
    "tokio::",
    "quinn::",
    "TcpStream",
    "UdpSocket",
    "std::thread",
];

/// Where the Rust files of the repository are.
const FOLDERS: [&str; 5] = ["proto", "crates", "fuzz", "netns-lab", "tests"];

/// Longer files have more than one subject.
const MAX_LINES: usize = 600;

/// The rooms of the library, in the order of a dial. Each imports only those behind it.
const FLOORS: [&str; 15] = [
    "builder",
    "endpoint",
    "board",
    "dial",
    "online",
    "introduction",
    "session",
    "nat",
    "stream",
    "coordinator",
    "machine",
    "status",
    "error",
    "metrics",
    "sync",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

#[test]
fn the_readme_has_the_oracles_table_of_pairs() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let table = p2pconnect_tests::kinds::table();
    let wanted = format!("<!-- pairs -->\n{table}<!-- /pairs -->");
    assert!(
        readme.contains(&wanted),
        "README.md should have this between its marks:\n{wanted}"
    );
}

#[test]
fn no_modules_import_each_other_in_a_circle() {
    let roots = [
        "crates/cli/src/lib.rs",
        "crates/coordinator/src/lib.rs",
        "crates/identity/src/lib.rs",
        "crates/p2pconnect/src/lib.rs",
        "crates/nat/src/lib.rs",
        "crates/punch/src/lib.rs",
        "crates/host/src/lib.rs",
        "crates/link/src/lib.rs",
        "crates/stun/src/lib.rs",
        "netns-lab/cli/src/bin/netns-lab/main.rs",
        "netns-lab/cli/src/lib.rs",
        "netns-lab/programs/src/lib.rs",
        "netns-lab/rig/src/lib.rs",
        "netns-lab/src/lib.rs",
        "proto/src/lib.rs",
        "tests/fuzz-targets/src/lib.rs",
        "tests/src/lib.rs",
    ];
    let circles: Vec<_> = roots
        .iter()
        .flat_map(|it| {
            let circles = imports::Crate::read(&root().join(it)).circles();
            circles
                .into_iter()
                .map(move |circle| format!("{it}, {circle}"))
        })
        .collect();
    assert!(circles.is_empty(), "{}", circles.join("\n"));
}

#[test]
fn no_room_of_the_library_imports_one_on_a_higher_floor() {
    let library = imports::Crate::read(&root().join("crates/p2pconnect/src/lib.rs"));
    let climbs = library.climbs(&FLOORS);
    assert!(climbs.is_empty(), "{}", climbs.join("\n"));
}

#[test]
fn pure_crates_depend_on_nothing_impure() {
    for name in PURE_CRATES {
        let crates = dependencies(name, &[]);
        assert!(
            crates.iter().any(|it| it == name) && crates.len() > 3,
            "{crates:?}"
        );
        for impure in IMPURE {
            assert!(
                crates.iter().all(|it| it != impure),
                "{name} depends on {impure}: {crates:?}"
            );
        }
    }
}

/// The lab is for `demo` alone.
#[test]
fn the_command_builds_without_the_lab() {
    let needs_lab = |options: &[&str]| {
        let crates = dependencies("p2pconnect-cli", options);
        assert!(crates.iter().any(|it| it == "p2pconnect"), "{crates:?}");
        crates.iter().any(|it| it == "netns-lab")
    };
    assert!(needs_lab(&[]));
    assert!(!needs_lab(&["--no-default-features"]));
}

/// The comparison with other punchers is a workspace that no check here builds, so nothing else
/// would say that its lock file is out of date.
#[test]
fn the_comparison_locks_what_these_crates_depend_on() {
    let lock = std::fs::read_to_string(root().join("netns-lab/versus/Cargo.lock")).unwrap();
    let locked = |name: &str| -> Vec<String> {
        let entry = lock.split("[[package]]").find(|entry| {
            let mut lines = entry.lines();
            lines.any(|line| line == format!("name = \"{name}\""))
        });
        let entry = entry.unwrap_or_else(|| panic!("{name} is not locked"));
        let (_, dependencies) = entry.split_once("dependencies = [").unwrap();
        let names = dependencies.split('"').skip(1).step_by(2);
        names
            .map(|name| name.split(' ').next().unwrap().to_owned())
            .collect()
    };
    for name in [
        "netns-lab",
        "p2pconnect",
        "p2pconnect-cli",
        "p2pconnect-coordinator",
        "p2pconnect-identity",
        "p2pconnect-link",
        "p2pconnect-nat",
        "p2pconnect-proto",
        "p2pconnect-punch",
        "p2pconnect-stun",
    ] {
        let locked = locked(name);
        // As the comparison asks for them.
        let features: &[&str] = match name {
            "netns-lab" => &["--no-default-features"],
            _ => &[],
        };
        let tree = dependencies(name, &[&["--depth", "1"], features].concat());
        for dependency in tree.iter().filter(|it| *it != name) {
            assert!(
                locked.contains(dependency),
                "netns-lab/versus/Cargo.lock knows nothing of {dependency} in {name}: run \
                 `cargo update --workspace` there"
            );
        }
    }
}

#[test]
fn pure_code_names_nothing_impure() {
    let modules = PURE_MODULES.iter().map(|module| root().join(module));
    let crates = ["proto/src", "crates/nat/src", "crates/punch/src"]
        .iter()
        .map(|source| root().join(source));
    for source in modules.chain(crates) {
        let files = rust_files(&source);
        assert!(!files.is_empty(), "{} is gone", source.display());
        let is_test = |file: &PathBuf| file.ends_with("tests.rs");
        for file in files.into_iter().filter(|file| !is_test(file)) {
            let text = std::fs::read_to_string(&file).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap();
            for word in IMPURE_WORDS {
                let named = code
                    .lines()
                    .find(|line| line.contains(word) && !line.trim_start().starts_with("//"));
                assert!(
                    named.is_none(),
                    "{}: {}",
                    file.display(),
                    named.unwrap_or_default()
                );
            }
        }
    }
}

/// A file that is included in two places is compiled twice, and neither place uses all of it. What
/// suites share belongs to a library.
#[test]
fn no_module_names_its_file() {
    let attribute = concat!("#[", "path");
    for folder in ["proto", "crates", "netns-lab", "tests"] {
        for file in rust_files(&root().join(folder)) {
            let text = std::fs::read_to_string(&file).unwrap();
            assert!(!text.contains(attribute), "{}", file.display());
        }
    }
}

#[test]
fn every_file_says_what_it_is_for() {
    let says = |file: &PathBuf| {
        let text = std::fs::read_to_string(file).unwrap();
        text.lines().any(|line| line.starts_with("//! "))
    };
    let mut files: Vec<_> = FOLDERS
        .iter()
        .flat_map(|it| rust_files(&root().join(it)))
        .collect();
    files.retain(|file| !says(file));
    assert!(
        files.is_empty(),
        "these begin with no sentence behind `//!`: {files:#?}"
    );
}

#[test]
fn files_are_short_enough_to_read() {
    for folder in FOLDERS {
        for file in rust_files(&root().join(folder)) {
            let lines = std::fs::read_to_string(&file).unwrap().lines().count();
            assert!(lines <= MAX_LINES, "{} has {lines} lines", file.display());
        }
    }
}

/// Lists what a crate needs when it is built, itself included.
fn dependencies(name: &str, options: &[&str]) -> Vec<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--locked", "--edges", "normal"])
        .args(["--prefix", "none", "--package", name, "--format", "{p}"])
        .args(options)
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let tree = String::from_utf8(output.stdout).unwrap();
    let names = tree.lines().filter_map(|line| line.split(' ').next());
    names.map(str::to_owned).collect()
}

/// Lists a file, or all Rust files below a folder that are not build products.
fn rust_files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let Ok(entries) = std::fs::read_dir(path) else {
        return Vec::new();
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().is_none_or(|name| name != "target") {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}
