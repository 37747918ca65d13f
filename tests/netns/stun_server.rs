//! What clients of others find out about their NAT from `p2pconnect stun-server`.

use std::{
    io::{BufRead as _, BufReader},
    net::Ipv4Addr,
    process::{Child, Stdio},
};

use netns_lab::{Dependence, Engine, HostSpec, Lab, NatSpec};
use p2pconnect_tests::{net::SECOND, process::Process, program::p2pconnect};

use Dependence::{AddressAndPortDependent, AddressDependent, EndpointIndependent};

/// What speaks TCP, by the STUN messages of aioice.
const OVER_TCP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/programs/mapping_over_tcp.py");

/// What has a browser ask, for a connection by WebRTC.
const IN_A_BROWSER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/programs/webrtc.html");

/// Where Debian's own packages for Python are.
const PYTHON: &str = "/usr/bin/python3";

/// A host behind boxes, and a server with two addresses.
struct Asking {
    lab: Lab,
    server: Child,
}

impl Asking {
    fn behind(boxes: &[NatSpec]) -> Self {
        let lab = Lab::builder()
            .engine(Engine::Model)
            .host(HostSpec::new("server").second_ipv4(SECOND))
            .host(HostSpec::new("a").behind_all(boxes))
            .build()
            .unwrap();
        let listen = lab.host("server").ipv4().to_string();
        let mut command = lab.host("server").command(p2pconnect());
        command
            .args(["stun-server", "--listen", &listen, "--alternate"])
            .args([&SECOND.to_string(), "--user", "root"])
            .stdout(Stdio::piped());
        let mut server = command.spawn().unwrap();
        let lines = BufReader::new(server.stdout.take().unwrap()).lines();
        let lines: Vec<_> = lines.take(4).map(Result::unwrap).collect();
        let first = format!("stun: {listen}:3478 over UDP and TCP, other address {SECOND}:3479");
        assert_eq!(lines[0], first);
        Self { lab, server }
    }

    /// Runs a program beside the client, and returns what it says.
    fn says(&self, program: &str, arguments: &[&str]) -> String {
        let mut command = self.lab.host("a").command(program);
        let output = command.args(arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr)
    }

    /// Returns what coturn's client finds out by UDP.
    fn coturn(&self, what: &str) -> String {
        let server = self.server_address().to_string();
        self.says("turnutils_natdiscovery", &[what, &server])
    }

    fn server_address(&self) -> Ipv4Addr {
        self.lab.host("server").ipv4()
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        // The lab kills it anyway; this only reaps it.
        drop(self.server.kill());
        drop(self.server.wait());
    }
}

/// Asserts what clients find out behind a NAT that maps and filters like this.
fn assert_found(mapping: Dependence, filtering: Dependence) {
    let nat = NatSpec::random_port().mapping(mapping).filtering(filtering);
    let asking = Asking::behind(&[nat]);
    let words = |dependence| match dependence {
        EndpointIndependent => ("Endpoint Independent", "endpoint-independent"),
        AddressDependent => ("Address Dependent", "address-dependent"),
        AddressAndPortDependent => ("Address and Port Dependent", "address-and-port-dependent"),
    };
    let (of_coturn, of_ours) = words(mapping);
    // Of the two addresses that coturn's client compares last, one is the server's first: to it a
    // NAT with a port for each address looks like one with a port for each destination.
    if mapping != AddressDependent {
        let found = asking.coturn("-m");
        let expected = format!("NAT with {of_coturn} Mapping!");
        assert!(found.contains(&expected), "{found}");
    }
    let server = asking.server_address().to_string();
    let found = asking.says(PYTHON, &[OVER_TCP, &server, "3478"]);
    let expected = format!("mapping: {of_ours}\nCHANGE-REQUEST: 420 ");
    assert!(found.contains(&expected), "{found}");
    let found = asking.coturn("-f");
    let expected = format!("NAT with {} Filtering!", words(filtering).0);
    assert!(found.contains(&expected), "{found}");
    // The client of RFC 3489 tells filters apart behind NATs whose mapping is fixed.
    let kind = match (mapping, filtering) {
        (AddressDependent | AddressAndPortDependent, _) => "Dependent Mapping",
        (EndpointIndependent, EndpointIndependent) => "Independent Filter",
        (EndpointIndependent, AddressDependent) => "Address Dependent Filter",
        (EndpointIndependent, AddressAndPortDependent) => "Port Dependent Filter",
    };
    let found = asking.says("stun", &[&server]);
    let line = found.lines().find(|it| it.starts_with("Primary:"));
    assert!(line.is_some_and(|it| it.contains(kind)), "{found}");
}

#[test]
fn a_nat_that_lets_anyone_in_is_found() {
    netns_lab::test(|| assert_found(EndpointIndependent, EndpointIndependent));
}

#[test]
fn a_nat_that_lets_in_who_was_sent_to_is_found() {
    netns_lab::test(|| assert_found(EndpointIndependent, AddressDependent));
}

#[test]
fn a_nat_with_one_port_for_all_destinations_is_found() {
    netns_lab::test(|| assert_found(EndpointIndependent, AddressAndPortDependent));
}

#[test]
fn a_nat_with_a_port_for_each_address_is_found() {
    netns_lab::test(|| assert_found(AddressDependent, AddressDependent));
}

#[test]
fn a_nat_with_a_port_for_each_destination_is_found() {
    netns_lab::test(|| assert_found(AddressAndPortDependent, AddressAndPortDependent));
}

#[test]
fn a_host_without_a_nat_is_told_so() {
    netns_lab::test(|| {
        let asking = Asking::behind(&[]);
        let server = asking.server_address().to_string();
        let address = asking.lab.host("a").ipv4().to_string();
        let local = ["-m", "-L", &address, &server];
        let found = asking.says("turnutils_natdiscovery", &local);
        assert!(found.contains("No NAT!"), "{found}");
        let found = asking.says(PYTHON, &[OVER_TCP, &server, "3478"]);
        assert!(found.contains("mapping: no NAT"), "{found}");
        let found = asking.says("stun", &[&server]);
        assert!(found.contains("Primary: Open"), "{found}");
    });
}

#[test]
fn what_a_nat_forgets_is_asked_by_the_port_that_the_answer_goes_to() {
    netns_lab::test(|| {
        let asking = Asking::behind(&[NatSpec::port_preserving()]);
        let server = asking.server_address().to_string();
        let lifetime = ["-t", "-T", "1", &server];
        let found = asking.says("turnutils_natdiscovery", &lifetime);
        // The second answer comes to the port of the first socket.
        assert_eq!(found.matches("RFC 5780 response").count(), 2, "{found}");
    });
}

#[test]
fn a_browser_learns_its_candidate() {
    netns_lab::test(|| {
        let asking = Asking::behind(&[NatSpec::random_port()]);
        let profile = tempfile::tempdir().unwrap();
        let mut chromium = asking.lab.host("a").command("chromium");
        chromium
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
            ])
            .args(["--disable-background-networking", "--disable-dev-shm-usage"])
            .args(["--enable-logging=stderr", "--disable-sync"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(format!(
                "file://{IN_A_BROWSER}#{}:3478",
                asking.server_address()
            ));
        let external = asking.lab.host("a").external_ipv4();
        let reflexive = |line: &str| line.contains("typ srflx").then(|| line.to_owned());
        let line = Process::spawn(chromium).hear_until("candidate", reflexive);
        assert!(line.contains(&format!(" {external} ")), "{line}");
    });
}
