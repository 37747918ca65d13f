//! `serve` under a service manager: what it is told, the sockets that it passes, and its units.

use std::{
    fs,
    net::{SocketAddr, TcpListener, UdpSocket},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Command as StdCommand, Stdio},
};

use p2pconnect::{DialPolicy, Endpoint};
use p2pconnect_tests::{program::p2pconnect, serving::Serving};
use tokio::{net::UnixDatagram, process::Command, time::timeout};

use crate::{commands::LIMIT, world::World};

const LOOPBACK: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

async fn heard(manager: &UnixDatagram) -> String {
    let mut state = [0; 256];
    let length = timeout(LIMIT, manager.recv(&mut state)).await.unwrap();
    String::from_utf8(state[..length.unwrap()].to_vec()).unwrap()
}

#[tokio::test]
async fn a_service_manager_hears_of_start_reload_life_and_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    let key = directory.path().join("key.pem");
    let mut command = Serving::command(LOOPBACK, LOOPBACK, &key);
    command
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "20000");
    let mut serving = Serving::spawn(command, key).await;
    let next = async |wanted: &str| {
        loop {
            let told = heard(&manager).await;
            if told.starts_with(wanted) {
                return told;
            }
            assert_eq!(told, "WATCHDOG=1", "before {wanted}");
        }
    };
    next("READY=1").await;
    serving.signal("HUP").await;
    let told = next("RELOADING=1").await;
    assert!(told.contains("\nMONOTONIC_USEC="), "{told}");
    next("READY=1").await;
    next("WATCHDOG=1").await;
    serving.signal("TERM").await;
    next("STOPPING=1").await;
    let status = timeout(LIMIT, serving.child.wait()).await.unwrap();
    assert_eq!(status.unwrap().code(), Some(0));
}

/// Returns the command of a server that gets these two as the first files of a service manager.
fn activated(udp: &UdpSocket, tcp: &TcpListener, key: &Path) -> Command {
    let [listen, stun] = [udp.local_addr(), tcp.local_addr()].map(Result::unwrap);
    let served = Serving::command(listen, stun, key);
    let mut command = Command::new("sh");
    // A child has no other way to files of these numbers that is safe.
    let renumbered = "exec 3<&0 4<&2 </dev/null 2>/dev/null; LISTEN_PID=$$ exec \"$@\"";
    command
        .args(["-c", renumbered, "sh"])
        .arg(served.as_std().get_program())
        .args(served.as_std().get_args())
        .env("RUST_LOG", "off")
        .env("LISTEN_FDS", "2")
        .stdin(OwnedFd::from(udp.try_clone().unwrap()))
        .stderr(OwnedFd::from(tcp.try_clone().unwrap()))
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    command
}

#[tokio::test]
async fn sockets_that_are_passed_are_served_on_also_by_the_next_process() {
    let directory = tempfile::tempdir().unwrap();
    let key = directory.path().join("key.pem");
    // These stay open, so nobody could bind them anew.
    let udp = UdpSocket::bind(LOOPBACK).unwrap();
    let tcp = TcpListener::bind(LOOPBACK).unwrap();
    for _ in 0..2 {
        let serving = Serving::spawn(activated(&udp, &tcp, &key), key.clone()).await;
        assert_eq!(serving.coordinator.port, udp.local_addr().unwrap().port());
        let builder = || Endpoint::builder().coordinator(serving.coordinator.clone());
        let listener = builder().allow(DialPolicy::Anyone).bind();
        let (listener, dialler) = tokio::join!(listener, builder().bind());
        World::connect(&dialler.unwrap(), &listener.unwrap()).await;
    }
}

#[tokio::test]
async fn sockets_for_another_process_are_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let key = directory.path().join("key.pem");
    let mut command = Serving::command(LOOPBACK, LOOPBACK, &key);
    command.env("LISTEN_PID", "1").env("LISTEN_FDS", "2");
    Serving::spawn(command, key).await;
}

/// Returns the units, whose program is the one under test.
fn units(directory: &Path) -> Vec<PathBuf> {
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/systemd");
    let units = fs::read_dir(units).unwrap().map(|it| it.unwrap().path());
    let copied = units.map(|unit| {
        let text = fs::read_to_string(&unit).unwrap();
        let text = text.replace("/usr/bin/p2pconnect", &p2pconnect());
        let copy = directory.join(unit.file_name().unwrap());
        fs::write(&copy, text).unwrap();
        copy
    });
    copied.collect()
}

#[test]
fn systemd_understands_the_units() {
    let directory = tempfile::tempdir().unwrap();
    let units = units(directory.path());
    assert!(units.len() >= 3, "{units:?}");
    for unit in &units {
        for line in fs::read_to_string(unit).unwrap().lines() {
            let is_known = line.is_empty() || line.starts_with(['#', '[']) || line.contains('=');
            assert!(is_known, "{}: {line}", unit.display());
        }
    }
    let mut verify = StdCommand::new("systemd-analyze");
    // Where it is not there, the lines above are all that is looked at.
    let Ok(verified) = verify.arg("verify").args(&units).output() else {
        return;
    };
    let told = String::from_utf8_lossy(&verified.stderr);
    let own = told.lines().filter(|it| it.contains("p2pconnect"));
    let own: Vec<_> = own.collect();
    assert!(own.is_empty(), "{own:#?}");
}

#[test]
fn no_unit_leaves_anything_to_whoever_breaks_in() {
    let directory = tempfile::tempdir().unwrap();
    let services = units(directory.path()).into_iter();
    let services = services.filter(|it| it.extension().is_some_and(|it| it == "service"));
    let mut names = Vec::new();
    for service in services {
        let text = fs::read_to_string(&service).unwrap();
        for line in [
            "DynamicUser=yes",
            "ProtectSystem=strict",
            "CapabilityBoundingSet=",
            "NoNewPrivileges=yes",
            "MemoryDenyWriteExecute=yes",
            "SystemCallFilter=@system-service",
        ] {
            let has_it = text.lines().any(|it| it == line);
            assert!(has_it, "{line} in {}", service.display());
        }
        names.push(service.file_name().unwrap().to_owned());
    }
    let serve = "p2pconnect-serve.service";
    assert!(names.iter().any(|it| it == serve), "{names:?}");
}
