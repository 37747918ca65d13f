//! Capture files, as a program reads them that is not ours.

use std::path::Path;
use std::process::Command;

use super::{said, text};

/// Returns a line for each packet: interface, flags of TCP, comment.
fn tshark(file: &Path) -> Vec<String> {
    let output = Command::new("tshark")
        .arg("-r")
        .arg(file)
        .args(["-T", "fields", "-E", "separator=|"])
        .args([
            "-e",
            "frame.interface_name",
            "-e",
            "tcp.flags.str",
            "-e",
            "frame.comment",
        ])
        .output()
        .expect("tests/run installs tshark");
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).lines().map(str::to_owned).collect()
}

fn has(lines: &[String], parts: [&str; 3]) -> bool {
    lines.iter().any(|line| {
        let fields: Vec<_> = line.split('|').collect();
        fields.len() == 3
            && fields
                .iter()
                .zip(parts)
                .all(|(field, part)| field.contains(part))
    })
}

#[test]
fn tshark_shows_what_the_boxes_did_in_virtual_time() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    said(&["explain", "openwrt", "linux-router", "--pcap", path]);
    let file = directory.path().join("explain.pcapng");
    let lines = tshark(&file);
    let at_box = "dialler nat 1 (to dialler)";
    assert!(
        has(&lines, [at_box, "S·", "MAP 192.168.1.2:"]),
        "{lines:#?}"
    );
    let again = std::fs::read(&file).unwrap();
    said(&["explain", "openwrt", "linux-router", "--pcap", path]);
    assert_eq!(again, std::fs::read(&file).unwrap());
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
