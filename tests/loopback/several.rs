//! Several coordinators, as processes that are ended, killed and tried from outside.

use std::{net::SocketAddr, path::Path, process::Output, time::Duration};

use p2pconnect::{CoordinatorAddr, DialPolicy, Endpoint, Status};
use p2pconnect_tests::serving::Serving;
use serde_json::Value;
use tokio::{sync::mpsc, time::timeout};

use crate::{
    commands::{LIMIT, program},
    world::{World, assert_carries},
};

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// How soon the peers of a dead coordinator have to be on another.
const MOVED: Duration = Duration::from_secs(3);

async fn start(directory: &Path, name: &str, settings: &[(&str, &str)]) -> Serving {
    let key = directory.join(format!("{name}.pem"));
    let mut command = Serving::command(ANY, ANY, &key);
    command.envs(settings.iter().copied());
    Serving::spawn(command, key).await
}

/// Returns an endpoint that others may dial, and what it says.
async fn endpoint(
    coordinators: &[&CoordinatorAddr],
) -> (Endpoint, mpsc::UnboundedReceiver<Status>) {
    let (statuses, heard) = mpsc::unbounded_channel();
    let builder = Endpoint::builder()
        .allow(DialPolicy::Anyone)
        .observer(move |status| drop(statuses.send(status)));
    let known = coordinators.iter().map(|it| (*it).clone());
    (builder.coordinators(known).bind().await.unwrap(), heard)
}

async fn carries(dialler: &Endpoint, listener: &Endpoint) {
    let (mut here, mut there) = World::connect(dialler, listener).await;
    assert_carries(&mut here, &mut there, b"by whichever").await;
}

#[tokio::test]
async fn peers_of_a_coordinator_that_is_killed_meet_at_another_one() {
    let directory = tempfile::tempdir().unwrap();
    let mut one = start(directory.path(), "one", &[]).await;
    let mut other = start(directory.path(), "other", &[]).await;
    let both = [&one.coordinator, &other.coordinator];
    let ((listener, mut heard), (dialler, _)) = (endpoint(&both).await, endpoint(&both).await);
    carries(&dialler, &listener).await;
    // Each of them in turn, so that the preferred one is among them.
    one.kill().await;
    timeout(MOVED, carries(&dialler, &listener)).await.unwrap();
    one.restart().await;
    // By one alone that knows nothing of the other.
    let (newcomer, _) = endpoint(&[&one.coordinator]).await;
    let meeting = async { while newcomer.dial(listener.peer_id()).await.is_err() {} };
    timeout(LIMIT, meeting).await.unwrap();
    timeout(LIMIT, listener.accept()).await.unwrap();
    other.kill().await;
    timeout(LIMIT, carries(&newcomer, &listener)).await.unwrap();
    while let Ok(status) = heard.try_recv() {
        let is_lost = matches!(status, Status::CoordinatorLost { .. });
        assert!(!is_lost, "there was another one all the time: {status:?}");
    }
}

#[tokio::test]
async fn no_dial_fails_while_a_coordinator_ends_that_names_another_one() {
    let directory = tempfile::tempdir().unwrap();
    let other = start(directory.path(), "other", &[]).await;
    let place = other.coordinator.to_string();
    let settings = [
        ("P2PCONNECT_SERVE_MOVE_TO", place.as_str()),
        ("P2PCONNECT_SERVE_DRAIN", "2s"),
    ];
    let mut one = start(directory.path(), "one", &settings).await;
    let ((listener, _), (dialler, _)) = (
        endpoint(&[&one.coordinator]).await,
        endpoint(&[&one.coordinator]).await,
    );
    carries(&dialler, &listener).await;
    one.signal("TERM").await;
    let mut dials = 0;
    while one.child.try_wait().unwrap().is_none() {
        carries(&dialler, &listener).await;
        dials += 1;
    }
    assert!(dials > 1, "{dials}");
    assert_eq!(one.child.wait().await.unwrap().code(), Some(0));
    // They are at the other one by now, whose address none of them was told by its user.
    for _ in 0..3 {
        carries(&dialler, &listener).await;
    }
}

#[tokio::test]
async fn a_second_signal_ends_a_coordinator_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let other = start(directory.path(), "other", &[]).await;
    let place = other.coordinator.to_string();
    let settings = [
        ("P2PCONNECT_SERVE_MOVE_TO", place.as_str()),
        ("P2PCONNECT_SERVE_DRAIN", "1h"),
    ];
    for second in ["TERM", "INT"] {
        let mut one = start(directory.path(), second, &settings).await;
        let (_listener, _) = endpoint(&[&one.coordinator]).await;
        one.signal("TERM").await;
        one.signal(second).await;
        let ended = timeout(LIMIT, one.child.wait()).await.unwrap();
        assert_eq!(ended.unwrap().code(), Some(0), "{second}");
    }
}

/// Tries a coordinator, and returns the status and what is said.
async fn probed(arguments: &[&str]) -> (Option<i32>, Output) {
    let mut command = program();
    command.arg("probe").args(arguments);
    let output = timeout(LIMIT, command.output()).await.unwrap().unwrap();
    (output.status.code(), output)
}

#[tokio::test]
async fn a_coordinator_is_tried_from_outside() {
    let directory = tempfile::tempdir().unwrap();
    let mut serving = start(directory.path(), "one", &[]).await;
    let at = serving.coordinator.to_string();
    let (status, output) = probed(&[&at, "--json"]).await;
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (status, &told["ok"]),
        (Some(0), &Value::Bool(true)),
        "{output:?}"
    );
    assert_eq!(told["coordinator"], at);
    assert_eq!(told["way"], "QUIC");
    for time in [
        "lookup_ms",
        "connect_ms",
        "welcome_ms",
        "register_ms",
        "introduce_ms",
        "apart_ms",
    ] {
        let time = told[time].as_f64().unwrap();
        assert!((0.0..5_000.0).contains(&time), "{told}");
    }
    let (status, output) = probed(&[&at]).await;
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(status == Some(0) && told.contains("introduce"), "{told}");

    serving.kill().await;
    let (status, output) = probed(&[&at, "--json", "--timeout", "300ms"]).await;
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (status, &told["ok"]),
        (Some(6), &Value::Bool(false)),
        "{output:?}"
    );
    assert_eq!(told["step"], "connect");
    let (status, output) = probed(&[&at, "--timeout", "300ms"]).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(status == Some(6) && said.contains("connect"), "{said}");
}

#[tokio::test]
async fn a_coordinator_changes_its_key_and_keeps_its_peers() {
    let directory = tempfile::tempdir().unwrap();
    let mut serving = start(directory.path(), "former", &[]).await;
    let former = serving.coordinator.clone();
    let (listener, mut heard) = endpoint(&[&former]).await;
    let at = SocketAddr::new(former.host.parse().unwrap(), former.port);
    let key = directory.path().join("new.pem");
    let command = |settings: Option<&Path>| {
        let mut command = Serving::command(at, ANY, &key);
        command.envs(settings.map(|it| ("P2PCONNECT_SERVE_FORMER_KEY", it)));
        command
    };
    serving.kill().await;
    let both = command(Some(&directory.path().join("former.pem")));
    let mut serving = Serving::spawn(both, key.clone()).await;
    let new = serving.coordinator.clone();
    assert_ne!(new.id, former.id);
    let told = async {
        loop {
            if let Some(Status::CoordinatorKeyChanged {
                former,
                coordinator,
            }) = heard.recv().await
            {
                return (former, coordinator);
            }
        }
    };
    assert_eq!(
        timeout(LIMIT, told).await.unwrap(),
        (former.id, new.clone())
    );
    for known in [&former, &new] {
        let (dialler, _) = endpoint(&[known]).await;
        carries(&dialler, &listener).await;
    }

    // The listener goes on with the new one, and says no more of it.
    serving.kill().await;
    let _serving = Serving::spawn(command(None), key.clone()).await;
    let (dialler, _) = endpoint(&[&new]).await;
    let meeting = async { while dialler.dial(listener.peer_id()).await.is_err() {} };
    timeout(LIMIT, meeting).await.unwrap();
    while let Ok(status) = heard.try_recv() {
        let is_told = matches!(status, Status::CoordinatorKeyChanged { .. });
        assert!(!is_told, "{status:?}");
    }
}
