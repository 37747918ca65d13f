//! Programs on hosts.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::{Command, Stdio},
};

use super::{netns_lab, said, text};

const PAIR: &str = "openwrt,public";

#[test]
fn a_program_finds_addresses_in_its_words_and_in_its_environment() {
    let script = "echo $NETNS_LAB_B {a} {a.external} {b.ipv6} ${HOME:+home}";
    let told = said(&["run", PAIR, "--host", "a", "--", "sh", "-c", script]);
    assert_eq!(
        told,
        "203.0.113.2 192.168.1.2 203.0.113.1 2001:db8:2::2 home\n"
    );
}

#[test]
fn the_exit_status_is_that_of_the_program() {
    let status = |words: &[&str]| {
        let mut all = vec!["run", PAIR, "--host", "a", "--"];
        all.extend(words);
        netns_lab(&all).status.code()
    };
    assert_eq!(status(&["sh", "-c", "exit 42"]), Some(42));
    assert_eq!(status(&["sh", "-c", "kill -TERM $$"]), Some(128 + 15));
    assert_eq!(status(&["no-such-program"]), Some(127));
    assert_eq!(status(&["/"]), Some(126));
}

#[test]
fn a_server_in_the_background_listens_before_the_client_begins() {
    let server = "exec perl -MIO::Socket::INET -e '\
        $server = IO::Socket::INET->new(LocalAddr => \"{server}\", LocalPort => 9, Listen => 1);\
        $peer = $server->accept;\
        print $peer $peer->peerhost, \"\\n\"'";
    let client = "exec bash -c 'exec 3<>/dev/tcp/{server}/9; cat <&3'";
    let output = netns_lab(&["run", PAIR, "--on", "server", server, "--on", "a", client]);
    let (told, error) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(told, "203.0.113.1\n", "{error}");
}

#[test]
fn a_shell_reads_what_it_is_to_do() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_netns-lab"))
        .args(["shell", PAIR, "a"])
        .env("SHELL", "/bin/sh")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut input, b"echo on $NETNS_LAB_HOST\nexit 3\n").unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    assert_eq!(text(&output.stdout), "on a\n");
    assert_eq!(output.status.code(), Some(3));
    let told = text(&output.stderr);
    assert!(
        told.contains("nsenter") && told.contains("seen as 203.0.113.1"),
        "{told}"
    );
}

#[test]
fn ping_works_and_what_a_box_does_not_carry_is_said() {
    let ping = |options: &[&str]| {
        let words = ["run", PAIR, "--host", "a", "--", "ping", "-c1"];
        netns_lab(&[&words, options, &["{b}"]].concat())
    };
    let output = ping(&["-W5"]);
    let (told, error) = (text(&output.stdout), text(&output.stderr));
    assert!(told.contains(" 1 received"), "{told}{error}");
    assert!(!error.contains("dropped"), "{error}");
    // Longer than a packet: two fragments.
    let error = ping(&["-W0.3", "-s1500"]).stderr;
    let said = "netns-lab: a.nat dropped 2 packets (fragment, not carried by the model); with \
                --engine netfilter, it would carry them";
    assert!(text(&error).contains(said), "{}", text(&error));
}

/// Through three processes on the way.
#[test]
fn signals_go_to_the_program() {
    let script = "trap 'echo caught; exit 9' TERM; echo ready; while :; do sleep 0.01; done";
    let mut child = Command::new(env!("CARGO_BIN_EXE_netns-lab"))
        .args(["run", PAIR, "--host", "a", "--", "sh", "-c", script])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    let id = child.id().to_string();
    let killed = Command::new("kill").args(["-TERM", &id]).status().unwrap();
    assert!(killed.success());
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "caught\n");
    assert_eq!(child.wait().unwrap().code(), Some(9));
}

#[test]
fn a_matrix_between_real_kernels_has_a_capture_of_each_run() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    let words = [
        "matrix",
        "--ground",
        "netns",
        "--kinds",
        "public,openwrt",
        "--pcap",
        path,
    ];
    said(&words);
    let mut names: Vec<_> = std::fs::read_dir(directory.path().join("namespaces"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let expected = [
        "openwrt--openwrt--0.pcapng",
        "openwrt--public--0.pcapng",
        "public--openwrt--0.pcapng",
        "public--public--0.pcapng",
    ];
    assert_eq!(names, expected);
}

#[test]
fn a_matrix_warns_where_its_times_are_those_of_a_busy_machine() {
    let warned = |labs: &[&str]| {
        let words = ["matrix", "--ground", "both", "--kinds", "public"];
        let output = netns_lab(&[&words[..], labs].concat());
        assert!(output.status.success(), "{output:?}");
        text(&output.stderr)
            .matches("the times are too long")
            .count()
    };
    assert_eq!(warned(&["--labs", "1000"]), 1, "of the real kernels alone");
    assert_eq!(warned(&[]), 0);
}
