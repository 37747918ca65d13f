//! A server that has run out of open files. Alone in its process, because it takes them all.

#![expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

use std::{
    fs::File,
    net::{Ipv4Addr, SocketAddr},
    process::Command,
    time::Duration,
};

use p2pconnect_host::{Host, Sharing};
use p2pconnect_stun::{HeldMapping, MappingConfig, StunServer, StunServerConfig};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

/// Above anything that loopback needs on a loaded machine.
const LONG: Duration = Duration::from_secs(20);

/// Three times the pause after a failed accept.
const SEVERAL_ATTEMPTS: Duration = Duration::from_millis(300);

/// Few enough to be used up quickly, enough for a runtime and some sockets.
const OPEN_FILES: &str = "--nofile=200";

fn any_port() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

fn lower_the_limit() {
    let status = Command::new("prlimit")
        .args(["--pid", &std::process::id().to_string(), OPEN_FILES])
        .status()
        .unwrap();
    assert!(status.success());
}

fn take_all_files() -> Vec<File> {
    std::iter::from_fn(|| File::open("/dev/null").ok()).collect()
}

#[tokio::test]
async fn a_shortage_delays_new_connections_and_nothing_else() {
    lower_the_limit();
    let server = StunServer::bind(&[any_port()], StunServerConfig::default())
        .unwrap()
        .spawn();
    let address = server.local_addrs()[0];
    let mut config = MappingConfig::default();
    config.request_timeout = SEVERAL_ATTEMPTS / 2;
    let held = HeldMapping::open(any_port(), address, config)
        .await
        .unwrap();
    let newcomer = Host::default().tcp_socket(any_port(), Sharing::Shared);
    let newcomer = newcomer.unwrap();
    let files = take_all_files();

    held.refresh();
    let mut newcomer = newcomer.connect(address).await.unwrap();
    let request = b"\x00\x01\x00\x00\x21\x12\xa4\x42abcdefghijkl";
    newcomer.write_all(request).await.unwrap();
    let mut response = [0; 32];
    let answered = timeout(SEVERAL_ATTEMPTS, newcomer.read_exact(&mut response)).await;
    assert!(answered.is_err(), "it cannot be accepted yet");
    assert_eq!(server.connections(), 1);
    assert_eq!(held.state().lost, None);

    drop(files);
    let answered = timeout(LONG, newcomer.read_exact(&mut response)).await;
    answered.unwrap().unwrap();
    assert_eq!(response[..2], [0x01, 0x01]);
    assert_eq!(held.state().reconnects, 0);
}
