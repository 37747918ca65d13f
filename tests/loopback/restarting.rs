//! A coordinator that dies without a word and comes back.

use std::time::Duration;

use p2pconnect::{DialPolicy, Endpoint, Status};
use p2pconnect_tests::serving::Serving;
use tokio::{sync::mpsc, time::timeout};

use crate::world::{World, assert_carries};

/// Less than a request that nobody answers and the reconnection after it take, and much less than QUIC's
/// idle timeout.
const LIMIT: Duration = Duration::from_secs(6);

#[tokio::test]
async fn a_coordinator_that_was_killed_has_its_listeners_back_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let mut serving = Serving::start(directory.path()).await;
    let (statuses, mut heard) = mpsc::unbounded_channel();
    let listener = Endpoint::builder()
        .coordinator(serving.coordinator.clone())
        .allow(DialPolicy::Anyone)
        .observer(move |status| drop(statuses.send(status)))
        .bind()
        .await
        .unwrap();
    registered(&mut heard).await;
    serving.kill().await;
    serving.restart().await;
    registered(&mut heard).await;

    let dialler = Endpoint::builder().coordinator(serving.coordinator.clone());
    let dialler = dialler.bind().await.unwrap();
    let (mut here, mut there) = World::connect(&dialler, &listener).await;
    assert_carries(&mut here, &mut there, b"after the coordinator's death").await;
}

async fn registered(heard: &mut mpsc::UnboundedReceiver<Status>) {
    let registering = async { while !matches!(heard.recv().await, Some(Status::Registered)) {} };
    timeout(LIMIT, registering).await.expect("not registered");
}
