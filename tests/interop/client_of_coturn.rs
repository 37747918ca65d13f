//! `p2pconnect stun-server` asked by coturn's client.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

use p2pconnect_tests::program::p2pconnect;

/// The server as a process, which ends with this value.
struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Starts a server with these options, and returns what it says of its addresses.
fn serve(options: &[&str], lines: usize) -> (Serving, Vec<String>) {
    let mut command = Command::new(p2pconnect());
    command
        .args(["stun-server", "--user", "root"])
        .args(options);
    command.env("RUST_LOG", "off").stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let said = BufReader::new(child.stdout.take().unwrap()).lines();
    let said = said.take(lines).map(Result::unwrap).collect();
    (Serving(child), said)
}

/// Returns the port of an address that the server has named.
fn port(line: &str) -> String {
    let address = line.split(' ').nth(1).unwrap();
    address.rsplit_once(':').unwrap().1.to_owned()
}

fn ask(ip: &str, port: &str) -> String {
    let mut client = Command::new("turnutils_stunclient");
    let output = client.args(["-p", port, ip]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn both_families_are_answered_at_all_addresses_by_one_that_is_asked() {
    let (_serving, said) = serve(&["--listen=[::]:0", "--no-tcp"], 1);
    let port = port(&said[0]);
    for (ip, seen) in [("127.0.0.1", "127.0.0.1:"), ("::1", "::1:")] {
        // Versions differ in whether they put brackets around an address of IPv6.
        let heard = ask(ip, &port).replace(['[', ']'], "");
        assert!(
            heard.contains(&format!("UDP reflexive addr: {seen}")),
            "{heard}"
        );
        assert!(!heard.contains("RFC 5780"), "{heard}");
    }
}

#[test]
fn a_server_with_two_addresses_names_the_other_one() {
    for [ip, other] in [["127.0.0.1", "127.0.0.2"], ["127.0.0.2", "127.0.0.1"]] {
        let options = [
            &format!("--listen={ip}:0"),
            "--alternate",
            &format!("{other}:0"),
        ];
        let (_serving, said) = serve(&options, 4);
        for line in &said {
            let (_, named) = line.split_once("other address ").unwrap();
            let heard = ask(line.split([' ', ':']).nth(2).unwrap(), &port(line));
            assert!(heard.contains(&format!("Other addr: : {named}")), "{heard}");
        }
    }
}
