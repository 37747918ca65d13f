//! A coordinator that is known by its name, and name servers that do not answer.

use std::{
    fs,
    net::{Ipv4Addr, UdpSocket},
    path::Path,
    process::Command,
};

use netns_lab::{NatSpec, test as in_namespaces};
use p2pconnect_tests::{net::Net, process::Process, program::p2pconnect};

const NAME: &str = "coordinator.test";

/// An address that nobody in the lab has.
const NOBODY: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 250);

/// Answers every question for an IPv4 address with this one, and others with none (RFC 1035).
fn answer_names(socket: &UdpSocket, address: Ipv4Addr) {
    let mut question = [0; 512];
    while let Ok((length, from)) = socket.recv_from(&mut question) {
        // A header of 12 bytes, the name, which ends with a zero, the type and the class.
        let Some(end) = question[12..length].iter().position(|byte| *byte == 0) else {
            continue;
        };
        let asked = &question[..12 + end + 5];
        let is_for_ipv4 = asked.ends_with(&[0, 1, 0, 1]);
        let mut answer = asked.to_vec();
        // A response, recursion available, one question, and no other records.
        answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, u8::from(is_for_ipv4), 0, 0, 0, 0]);
        if is_for_ipv4 {
            // The name of the question, type A, class IN, a minute, four bytes.
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
            answer.extend(address.octets());
        }
        socket.send_to(&answer, from).unwrap();
    }
}

/// Returns `p2pconnect` on a host whose resolver asks a dead name server first, and then the lab's.
fn with_name_servers(net: &Net, host: &str, folder: &Path, arguments: &[&str]) -> Command {
    let server = net.lab.host("server").ipv4();
    let settings = folder.join("resolv.conf");
    fs::write(
        &settings,
        format!("nameserver {NOBODY}\nnameserver {server}\n"),
    )
    .unwrap();
    let script = "mount --bind \"$1\" /etc/resolv.conf && shift && exec \"$@\"";
    let mut command = net.lab.host(host).command("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]);
    command.arg(settings).arg(p2pconnect()).args(arguments);
    command
        .env("P2PCONNECT_KEY", folder.join("key.pem"))
        .env("P2PCONNECT_COORDINATOR", named(net))
        .env("RUST_LOG", "error");
    command
}

/// Returns the coordinator's address with a name in it.
fn named(net: &Net) -> String {
    let (id, _) = net.coordinator.split_once('@').unwrap();
    format!("{id}@{NAME}:4433")
}

#[test]
fn a_first_name_server_that_is_dead_does_not_end_a_dial() {
    in_namespaces(|| {
        let nat = [NatSpec::port_preserving()];
        let net = Net::new(&nat, &nat);
        let server = net.lab.host("server");
        let address = server.ipv4();
        let socket = server.run(|| UdpSocket::bind((address, 53)).unwrap());
        let socket = socket.unwrap();
        std::thread::spawn(move || answer_names(&socket, address));
        let peer = net.id("b");
        let _listener = net.listen("b");

        let folder = tempfile::tempdir().unwrap();
        let arguments = ["dial", "--json", &peer];
        let mut dial = Process::spawn(with_name_servers(&net, "a", folder.path(), &arguments));
        dial.give(b"found in the end");
        let dialled = dial.finish();
        assert_eq!(dialled.code(), 0, "{:#?}", dialled.stderr);
        assert_eq!(dialled.stdout, b"found in the end");
        net.finish();
    });
}

#[test]
fn a_dial_that_ends_during_the_look_up_blames_the_name_servers() {
    in_namespaces(|| {
        let nat = [NatSpec::port_preserving()];
        let net = Net::new(&nat, &nat);
        let peer = net.id("b");
        let folder = tempfile::tempdir().unwrap();
        let arguments = ["dial", "--json", "--timeout", "1s", &peer];
        let dial = Process::spawn(with_name_servers(&net, "a", folder.path(), &arguments));
        let dialled = dial.finish();
        assert_eq!(dialled.code(), 6, "{:#?}", dialled.stderr);
        let reason = dialled.reason();
        assert!(reason.contains(NAME), "{reason}");
        assert!(reason.contains("no name server has answered"), "{reason}");
        net.finish();
    });
}
