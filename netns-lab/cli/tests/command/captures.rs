//! Capture files, as a program reads them that is not ours.

use std::{path::Path, process::Command};

use super::{said, text};

/// Returns a line for each packet: interface, flags of TCP, comment, time, length.
fn tshark(file: &Path) -> Vec<String> {
    let output = Command::new("tshark")
        .arg("-r")
        .arg(file)
        .args(["-T", "fields", "-E", "separator=|"])
        .args(["-e", "frame.interface_name", "-e", "tcp.flags.str"])
        .args(["-e", "frame.comment", "-e", "frame.time_epoch"])
        .args(["-e", "frame.len"])
        .output()
        .expect("tests/run installs tshark");
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).lines().map(str::to_owned).collect()
}

fn has(lines: &[String], parts: [&str; 3]) -> bool {
    lines.iter().any(|line| {
        let fields: Vec<_> = line.split('|').collect();
        let mut pairs = fields.iter().zip(parts);
        fields.len() == 5 && pairs.all(|(field, part)| field.contains(part))
    })
}

#[test]
fn tshark_shows_what_the_boxes_did_in_virtual_time() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    said(&["explain", "openwrt", "linux-router", "--pcap", path]);
    let file = directory.path().join("explain.pcapng");
    let lines = tshark(&file);
    let at_box = "dialler.nat (to dialler)";
    assert!(
        has(&lines, [at_box, "S·", "MAP 192.168.1.2:"]),
        "{lines:#?}"
    );
    let tcpdump = Command::new("tcpdump").arg("-nr").arg(&file).output();
    let tcpdump = tcpdump.expect("tests/run installs tcpdump");
    assert_eq!(text(&tcpdump.stdout).lines().count(), lines.len());
    said(&["explain", "openwrt", "linux-router", "--pcap", path]);
    // But for what is encrypted, since TLS draws keys of its own.
    assert_eq!(lines, tshark(&file));
}

#[test]
fn tshark_shows_what_the_boxes_did_between_real_kernels() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    said(&["demo", "--pcap", path]);
    let lines = tshark(&directory.path().join("demo.pcapng"));
    let at_box = "dialler.nat (to dialler)";
    assert!(
        has(&lines, [at_box, "S·", "MAP 192.168.1.2:"]),
        "{lines:#?}"
    );
}

/// Returns the interface of each packet, and how much was written of it.
fn lengths(file: &Path) -> Vec<(String, usize)> {
    let output = Command::new("tshark")
        .arg("-r")
        .arg(file)
        .args(["-T", "fields", "-E", "separator=|"])
        .args(["-e", "frame.interface_name", "-e", "frame.cap_len"])
        .output()
        .expect("tests/run installs tshark");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let lines = text(&output.stdout);
    let fields = lines.lines().map(|line| line.split_once('|').unwrap());
    fields
        .map(|(name, length)| (name.to_owned(), length.parse().unwrap()))
        .collect()
}

#[test]
fn a_capture_holds_no_more_than_was_asked_for() {
    let programs = ["--on", "server", "python3 -m http.server 8000"];
    let client = ["--on", "a", "curl -s -o /dev/null http://{server}:8000/"];
    for run in [&[][..], &[programs, client].concat()] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_str().unwrap();
        let part = ["--pcap", path, "--snap", "60", "--pcap-at", "a"];
        said(&[&["run", "openwrt,public"], run, &part].concat());
        let file = std::fs::read_dir(directory.path()).unwrap().next().unwrap();
        let packets = lengths(&file.unwrap().path());
        assert!(!packets.is_empty());
        for (interface, length) in packets {
            assert!(interface.starts_with("a (to "), "{interface}");
            // Before the packet, four bytes tell its family.
            assert!(length <= 4 + 60, "{length}");
        }
    }
}

#[test]
fn a_capture_of_nowhere_is_refused() {
    let arguments = [
        "run",
        "openwrt,public",
        "--pcap",
        ".",
        "--pcap-at",
        "nowhere",
    ];
    let refused = super::netns_lab(&arguments);
    assert!(!refused.status.success());
    let why = text(&refused.stderr);
    assert!(why.contains("nowhere") && why.contains("core"), "{why}");
}
