//! Programs that are not ours run in a lab: OpenSSH, which opens TCP connections as any program
//! does and says in its own words how they fare, and `ping`, which everybody tries first.
//!
//! A missing program is a failed test; `tests/run` installs it.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod ping;

use std::time::Duration;

use netns_lab::{HostSpec, Lab, LinkSpec, NatSpec, UnsolicitedSyn};
use netns_lab_rig::openssh::{Keys, Server};

/// A public host, one behind `nat`, and 24 ms between them.
fn lab(nat: NatSpec) -> Lab {
    let link = LinkSpec::delay(Duration::from_millis(6));
    Lab::builder()
        .host(HostSpec::new("public").link(link))
        .host(HostSpec::new("other").link(link))
        .host(HostSpec::new("home").behind(nat).link(link))
        .build()
        .unwrap()
}

#[test]
fn ssh_runs_a_command_on_another_public_host() {
    netns_lab::test(|| {
        let lab = lab(NatSpec::port_preserving());
        let (keys, public, other) = (Keys::new(), lab.host("public"), lab.host("other"));
        let _server = Server::start(&keys, public);
        // The remote shell computes it: an echo of the command would not do.
        let output = keys.ssh(other, public.ipv4()).arg("echo $((6 * 7))");
        assert_eq!(output.succeed(), b"42\n");
    });
}

#[test]
fn sshd_sees_the_address_of_the_nat() {
    netns_lab::test(|| {
        let lab = lab(NatSpec::port_preserving());
        let (keys, public, home) = (Keys::new(), lab.host("public"), lab.host("home"));
        let _server = Server::start(&keys, public);
        let output = keys
            .ssh(home, public.ipv4())
            .arg("echo ${SSH_CONNECTION%% *}");
        let seen = String::from_utf8(output.succeed()).unwrap();
        assert_ne!(home.ipv4(), home.external_ipv4());
        assert_eq!(seen.trim(), home.external_ipv4().to_string());
    });
}

#[test]
fn ssh_moves_real_bytes_through_a_nat() {
    netns_lab::test(|| {
        let lab = lab(NatSpec::random_per_destination());
        let (keys, public, home) = (Keys::new(), lab.host("public"), lab.host("home"));
        let _server = Server::start(&keys, public);
        // 4 MiB that no compression or shortcut could get right by chance.
        let sent: Vec<u8> = (0..1_048_576_u32)
            .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
            .collect();
        let received = keys.ssh(home, public.ipv4()).arg("cat").feed(sent.clone());
        assert!(
            received == sent,
            "{} of {} bytes",
            received.len(),
            sent.len()
        );
    });
}

/// What `ssh` prints when it dials a host behind `nat`, on which sshd runs.
fn dial_home(nat: NatSpec) -> String {
    let lab = lab(nat);
    let (keys, home, public) = (Keys::new(), lab.host("home"), lab.host("public"));
    let _server = Server::start(&keys, home);
    let ssh = keys.ssh(public, home.external_ipv4()).arg("echo reached");
    ssh.fail()
}

#[test]
fn ssh_into_a_nat_that_answers_is_refused() {
    netns_lab::test(|| {
        let said = dial_home(NatSpec::port_preserving().answering(UnsolicitedSyn::Rst));
        assert!(said.contains("Connection refused"), "{said}");
    });
}

#[test]
fn ssh_into_a_silent_nat_times_out() {
    netns_lab::test(|| {
        let said = dial_home(NatSpec::port_preserving());
        assert!(said.contains("Connection timed out"), "{said}");
    });
}

#[test]
fn sshd_is_gone_with_its_lab() {
    netns_lab::test(|| {
        let lab = lab(NatSpec::port_preserving());
        let (keys, public) = (Keys::new(), lab.host("public"));
        let mut server = Server::start(&keys, public);
        drop(lab);
        // It would go on for ever, and this test with it.
        server.wait_for_end_of_log();
    });
}
