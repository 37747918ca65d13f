//! `p2pconnect stun-server`: what it is told, and how it ends.

use std::{process::ExitStatus, time::Duration};

use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::UdpSocket,
    time::timeout,
};

use crate::commands::{LIMIT, Running, Shell, program};

/// A Binding request (RFC 8489 section 5).
const REQUEST: &[u8] = b"\x00\x01\x00\x00\x21\x12\xa4\x42abcdefghijkl";

/// Starts a server, and returns what it says first.
async fn serve(options: &[&str]) -> (Running, String) {
    let mut command = program();
    command.arg("stun-server").args(options);
    let mut running = Shell::spawn(command);
    let mut lines = BufReader::new(running.child.stdout.take().unwrap()).lines();
    let line = timeout(LIMIT, lines.next_line()).await.unwrap();
    (running, line.unwrap().unwrap())
}

async fn refused(options: &[&str]) -> (ExitStatus, String) {
    let mut command = program();
    command.arg("stun-server").args(options);
    Shell::spawn(command).end().await
}

#[tokio::test]
async fn it_ends_by_being_told_to_and_says_what_was_asked() {
    for signal in ["INT", "TERM", "HUP"] {
        let (serving, line) = serve(&["--listen=127.0.0.1:0", "--verbose"]).await;
        let address = line.strip_prefix("stun: ").unwrap();
        let address = address.strip_suffix(" over UDP and TCP").unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        for datagram in [&b"nothing that is asked"[..], REQUEST] {
            socket.send_to(datagram, address).await.unwrap();
        }
        let mut answer = [0; 100];
        let heard = timeout(LIMIT, socket.recv(&mut answer)).await;
        assert_eq!(heard.unwrap().unwrap(), 32);
        serving.signal(signal).await;
        let (status, said) = serving.end().await;
        assert_eq!(status.code(), Some(0), "{signal}: {said}");
        let told = "1 datagrams answered, 0 left out for coming too fast, 1 that are no requests";
        assert!(said.contains(told), "{said}");
    }
}

#[tokio::test]
async fn an_address_is_answered_as_often_as_the_operator_says() {
    let options = ["--listen=127.0.0.1:0", "--verbose", "--rate=1"];
    let (serving, line) = serve(&options).await;
    let address = line.split(' ').nth(1).unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for _ in 0..100 {
        socket.send_to(REQUEST, address).await.unwrap();
    }
    let mut answers = 0;
    // The ninth is answered a second later, and all that came before have been looked at then.
    while answers < 9 {
        socket.send_to(REQUEST, address).await.unwrap();
        let mut answer = [0; 100];
        let heard = timeout(Duration::from_millis(50), socket.recv(&mut answer)).await;
        answers += usize::from(heard.is_ok());
    }
    serving.signal("TERM").await;
    let (status, said) = serving.end().await;
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(said.contains("left out for coming too fast"), "{said}");
    assert!(!said.contains(", 0 left out"), "{said}");
}

/// As the tests are run by root, or by somebody who never was.
#[tokio::test]
async fn it_does_not_stay_root() {
    let (serving, _) = serve(&["--listen=127.0.0.1:0"]).await;
    let tasks = format!("/proc/{}/task", serving.child.id().unwrap());
    for task in std::fs::read_dir(tasks).unwrap() {
        let status = task.unwrap().path().join("status");
        // A thread may have ended meanwhile.
        let text = std::fs::read_to_string(status).unwrap_or_default();
        assert!(!text.contains("\nUid:\t0\t"), "{text}");
    }
}

#[tokio::test]
async fn what_cannot_be_served_is_said_with_a_reason() {
    let taken = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (options, told) in [
        (
            &["--listen=192.0.2.1"][..],
            "this machine has no such address",
        ),
        (&["--listen=224.0.0.1"], "is a multicast address"),
        (
            &["--listen", &taken],
            "STUN cannot listen on UDP 127.0.0.1:",
        ),
        (&["--alternate=127.0.0.2"], "--listen"),
        (
            &["--listen=0", "--alternate=127.0.0.2"],
            "goes with another address of this machine",
        ),
        (
            &["--listen=127.0.0.1:0", "--alternate=192.0.2.1"],
            "this machine has no such address",
        ),
        (&["--no-udp", "--no-tcp"], "cannot be used with"),
        (&["--listen=127.0.0.1:0", "--user="], "such as nobody"),
    ] {
        let (status, said) = refused(options).await;
        assert_eq!(status.code(), Some(2), "{options:?}: {said}");
        assert!(said.contains(told), "{options:?}: {said}");
    }
}
