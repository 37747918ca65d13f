//! What README tells people to type for ssh and tar through two NATs, typed on three hosts.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use netns_lab::{Host, HostSpec, Lab, LinkSpec, NatSpec};
use netns_lab_rig::{
    documents::{Documented, in_blocks},
    openssh::{self, Keys, Server, login},
};
use p2pconnect_tests::{
    net::{PEER_LINK, SERVER_LINK},
    process::{Process, run},
    program::p2pconnect,
};
use tempfile::TempDir;

const README: &str = include_str!("../../README.md");

/// The values of README's example, in place of which a reader has their own.
const SERVER: &str = "198.51.100.1";
const SERVER_ID: &str = "4xzv...zq";
const LAPTOP_ID: &str = "laptopid...";
const HOME_ID: &str = "homeid...";

/// Three machines as the example has them: their users' directories, and programs on their path.
struct Machines {
    lab: Lab,
    directory: TempDir,
    /// What stands in README, and what stands for it here.
    values: Vec<(&'static str, String)>,
}

impl Machines {
    fn new() -> Self {
        let peer = |name| {
            let host = HostSpec::new(name).link(LinkSpec::delay(PEER_LINK));
            host.behind(NatSpec::port_preserving())
        };
        let lab = Lab::builder()
            .host(HostSpec::new("server").link(LinkSpec::delay(SERVER_LINK)))
            .host(peer("laptop"))
            .host(peer("home"))
            .build()
            .unwrap();
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("bin")).unwrap();
        symlink(p2pconnect(), directory.path().join("bin/p2pconnect")).unwrap();
        let values = vec![
            (SERVER, lab.host("server").ipv4().to_string()),
            // An ordinary user cannot have sshd on port 22.
            ("localhost:22", format!("localhost:{}", openssh::PORT)),
            ("me@home", format!("{}@home", login().name)),
            ("User me", format!("User {}", login().name)),
        ];
        let machines = Self {
            lab,
            directory,
            values,
        };
        for host in ["server", "laptop", "home"] {
            fs::create_dir(machines.home(host)).unwrap();
        }
        machines
    }

    fn home(&self, host: &str) -> PathBuf {
        self.directory.path().join(host)
    }

    fn host(&self, name: &str) -> &Host {
        self.lab.host(name)
    }

    /// Returns a text of README with the values of these machines.
    fn with_values(&self, text: &str) -> String {
        let replace = |text: String, (from, to): &(&str, String)| text.replace(from, to);
        self.values.iter().fold(text.to_owned(), replace)
    }

    /// Returns what types these commands into a new shell on a host.
    fn shell(&self, host: &str, commands: &[&Documented]) -> Command {
        let commands: Vec<_> = commands.iter().map(|it| it.command.as_str()).collect();
        // What runs on takes the place of the shell, so that ending it ends all.
        let runs_on = ["p2pconnect serve", "p2pconnect listen"];
        let typed = runs_on.iter().fold(commands.join("\n"), |typed, program| {
            typed.replace(program, &format!("exec {program}"))
        });
        let mut command = self.host(host).command("sh");
        let path = std::env::var("PATH").unwrap();
        let own = self.directory.path().join("bin");
        command
            .arg("-c")
            .arg(format!("cd\n{}", self.with_values(&typed)))
            .env("PATH", format!("{}:{path}", own.display()))
            .env("HOME", self.home(host))
            .env_remove("XDG_CONFIG_HOME")
            .env("RUST_LOG", "error");
        command
    }

    /// Types commands and returns the last line that they print.
    fn type_in(&self, host: &str, commands: &[&Documented]) -> String {
        let output = self.shell(host, commands).output().unwrap();
        let (told, error) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{commands:?}: {told}\n{error}");
        told.lines().last().unwrap_or_default().to_owned()
    }

    /// Makes `ssh` on every machine one that has these keys and, if given, this file of settings.
    fn have_ssh(&self, keys: &Keys, settings: Option<&Path>) {
        let mut options = keys.options();
        if let Some(settings) = settings {
            let none = options.iter_mut().find(|it| *it == "none").unwrap();
            *none = settings.display().to_string();
        }
        let script = format!(
            "#!/bin/sh\nexec /usr/bin/ssh {} \"$@\"\n",
            options.join(" ")
        );
        let path = self.directory.path().join("bin/ssh");
        fs::write(&path, script).unwrap();
        let mut command = Command::new("chmod");
        run(command.arg("+x").arg(path));
    }
}

#[test]
fn ssh_through_two_nats_works_as_the_readme_says() {
    netns_lab::test(|| {
        let (_, section) = README.split_once("\n## ssh through two NATs").unwrap();
        let (section, _) = section.split_once("\n## ").unwrap();
        let all = in_blocks(section, &["p2pconnect"]);
        let all: Vec<_> = all.iter().collect();
        let [serve, coordinator, id, _, _, listen, ssh, receive, send] = all[..] else {
            panic!("the example has changed, and this test has to: {all:#?}");
        };
        let mut machines = Machines::new();

        let mut command = machines.shell("server", &[serve]);
        let mut server = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
        let mut line = || lines.next().unwrap().unwrap();
        let said = line();
        let shown = machines.with_values(&serve.output[0]);
        let (before, after) = shown.split_once(SERVER_ID).unwrap();
        let server_id = said
            .strip_prefix(before)
            .and_then(|it| it.strip_suffix(after));
        let server_id = server_id.unwrap_or_else(|| panic!("not {shown}: {said}"));
        assert_eq!(line(), machines.with_values(&serve.output[1]));
        machines.values.push((SERVER_ID, server_id.to_owned()));

        for (host, name) in [("laptop", LAPTOP_ID), ("home", HOME_ID)] {
            let id = machines.type_in(host, &[coordinator, id]);
            machines.values.push((name, id));
        }
        let keys = Keys::new();
        let _sshd = Server::start(&keys, machines.host("home"));
        let mut listener = Process::spawn(machines.shell("home", &[coordinator, listen]));
        let ready = "can be dialled now";
        listener.hear_until(ready, |line| line.contains(ready).then_some(()));

        let mut remote = ssh.clone();
        remote.command.push_str(" 'echo $((6 * 7))'");
        machines.have_ssh(&keys, None);
        assert_eq!(machines.type_in("laptop", &[coordinator, &remote]), "42");

        let (_, settings) = section.split_once("```\nHost ").unwrap();
        let (settings, _) = settings.split_once("```").unwrap();
        let path = machines.directory.path().join("settings");
        fs::write(&path, machines.with_values(&format!("Host {settings}"))).unwrap();
        machines.have_ssh(&keys, Some(&path));
        remote.command = "ssh home 'echo $((6 * 7))'".into();
        assert_eq!(machines.type_in("laptop", &[&remote]), "42");
        drop(listener);

        fs::create_dir(machines.home("laptop").join("photos")).unwrap();
        fs::write(machines.home("laptop").join("photos/one"), "a photo").unwrap();
        let mut receiving = Process::spawn(machines.shell("home", &[coordinator, receive]));
        receiving.hear_until(ready, |line| line.contains(ready).then_some(()));
        machines.type_in("laptop", &[coordinator, send]);
        assert_eq!(receiving.finish().code(), 0);
        let photo = fs::read_to_string(machines.home("home").join("photos/one"));
        assert_eq!(photo.unwrap(), "a photo");
        server.kill().unwrap();
        server.wait().unwrap();
    });
}

#[test]
fn the_demo_carries_all_bytes_both_ways() {
    let commands = in_blocks(README, &["cargo"]);
    let ours = "cargo run --release --locked --bin p2pconnect -- ";
    let words = commands.iter().find_map(|it| it.command.strip_prefix(ours));
    let mut command = Command::new(p2pconnect());
    let demo = Process::spawn({
        command.args(words.unwrap().split(' '));
        command
    });
    let demo = demo.finish();
    let told = text(&demo.stdout);
    assert_eq!(demo.code(), 0, "{told}: {:#?}", demo.stderr);
    assert!(demo.stderr.is_empty(), "{:#?}", demo.stderr);
    let sums = |word: &str| -> Vec<_> {
        let lines = told
            .lines()
            .filter_map(|line| line.trim().strip_prefix(word));
        lines.map(|it| it.trim().to_owned()).collect()
    };
    let (sent, received) = (sums("sent "), sums("received "));
    assert_eq!((sent.len(), &sent), (2, &received), "{told}");
}

#[test]
fn a_capture_of_the_demo_takes_about_as_much_as_the_help_says() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("demo.pcapng");
    let mut command = Command::new(p2pconnect());
    command.args(["demo", "--size=4", "--pcap"]).arg(&file);
    let demo = Process::spawn(command).finish();
    assert_eq!(demo.code(), 0, "{:#?}", demo.stderr);
    // 2 MB for each MiB.
    let bytes = fs::metadata(&file).unwrap().len();
    assert!((6_000_000..12_000_000).contains(&bytes), "{bytes}");
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
