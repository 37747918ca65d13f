//! `serve` on a kernel without IPv6.

use std::process::Stdio;

use p2pconnect_tests::program::p2pconnect;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    process::Command,
    time::timeout,
};

use crate::commands::LIMIT;

/// Runs a program to which the system refuses sockets of IPv6, as one that was started with
/// `ipv6.disable=1` does (seccomp(2), EAFNOSUPPORT).
const WITHOUT_IPV6: &str = r#"
import ctypes, os, platform, struct, sys

LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
NUMBER, FAMILY = 0, 16
ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | 97
socket = {"x86_64": 41, "aarch64": 198}[platform.machine()]
steps = [
    (LOAD, 0, 0, NUMBER),
    (EQUAL, 0, 3, socket),
    (LOAD, 0, 0, FAMILY),
    (EQUAL, 0, 1, 10),
    (RETURN, 0, 0, REFUSE),
    (RETURN, 0, 0, ALLOW),
]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))

class Program(ctypes.Structure):
    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_void_p)]

libc = ctypes.CDLL(None)
program = Program(len(steps), ctypes.addressof(code))
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(program), 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])
"#;

/// Returns the command `serve` with these options.
fn serve(keys: &tempfile::TempDir, options: &[&str]) -> Command {
    let mut command = Command::new("python3");
    command
        .args(["-c", WITHOUT_IPV6, &p2pconnect()])
        .args(["serve", "--user=root", "--key"])
        .arg(keys.path().join("key"))
        .args(options)
        .env("RUST_LOG", "off")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

#[tokio::test]
async fn a_coordinator_without_ipv6_serves_ipv4_and_says_so() {
    let keys = tempfile::tempdir().unwrap();
    for options in [
        ["--listen=0", "--stun=0"],
        ["--listen=127.0.0.1:0", "--stun=[::]:0"],
    ] {
        let mut child = serve(&keys, &options).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for wanted in ["coordinator: ", "stun: 0.0.0.0:"] {
            let line = timeout(LIMIT, lines.next_line()).await.unwrap().unwrap();
            let line = line.unwrap_or_default();
            assert!(line.starts_with(wanted), "{options:?}: {line}");
        }
        let mut errors = BufReader::new(child.stderr.take().unwrap()).lines();
        let noting = async {
            while let Some(line) = errors.next_line().await.unwrap() {
                if line.contains("no IPv6") && line.contains("0.0.0.0") {
                    return true;
                }
            }
            false
        };
        assert!(timeout(LIMIT, noting).await.unwrap(), "{options:?}");
        child.kill().await.unwrap();
    }
}

#[tokio::test]
async fn an_ipv6_address_to_listen_on_that_the_kernel_cannot_have_is_said_to_be_that() {
    let keys = tempfile::tempdir().unwrap();
    for options in [
        ["--listen=[::1]:0", "--stun=127.0.0.1:0"],
        ["--listen=127.0.0.1:0", "--stun=[::1]:0"],
    ] {
        let mut child = serve(&keys, &options).spawn().unwrap();
        let mut said = String::new();
        let mut errors = child.stderr.take().unwrap();
        timeout(LIMIT, errors.read_to_string(&mut said))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(child.wait().await.unwrap().code(), Some(2), "{said}");
        let told = "this machine has no IPv6";
        assert!(
            said.contains(told) && said.contains("name an IPv4 address"),
            "{said}"
        );
        assert!(!said.contains("note:"), "{said}");
    }
}
