//! Dials that connect, and what their streams carry.

use std::{io, sync::Arc, time::Duration};

use p2pconnect::{Connection, DialError, DialPolicy, How, SecretKey, Status};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::mpsc,
    task::JoinSet,
    time::timeout,
};

use crate::world::{World, alone, assert_carries};

#[tokio::test]
async fn two_endpoints_find_and_know_each_other() {
    let world = World::start();
    let (listener, dialler) = tokio::join!(world.listener(), world.dialler());
    let (dialled, accepted) = World::connect(&dialler, &listener).await;

    assert_eq!(dialled.peer_id(), listener.peer_id());
    assert_eq!(accepted.peer_id(), dialler.peer_id());
    let (here, there) = (dialled.path(), accepted.path());
    assert_eq!((here.local, here.remote), (there.remote, there.local));
    match here.how {
        How::SimultaneousOpen => assert_eq!(there.how, How::SimultaneousOpen),
        How::Connected => assert_eq!(there.how, How::Accepted),
        How::Accepted => assert_eq!(there.how, How::Connected),
    }
    assert!(here.times.introduced <= here.times.tcp);
    assert!(here.times.tcp <= here.times.established);

    for (endpoint, path, introduced) in [(&dialler, here, 1), (&listener, there, 0)] {
        let metrics = endpoint.metrics();
        assert_eq!(metrics.introduced, introduced);
        assert_eq!((metrics.established, metrics.failed), (1, 0));
        assert_eq!(metrics.attempts, u64::from(path.attempts));
        assert!(path.attempts > 0 && path.redials < path.attempts);
        assert!(metrics.tcp_time <= metrics.established_time);
    }
}

#[tokio::test]
async fn each_direction_ends_by_itself() {
    let world = World::start();
    let (listener, dialler) = tokio::join!(world.listener(), world.dialler());
    let (mut dialled, mut accepted) = World::connect(&dialler, &listener).await;

    let message: Vec<u8> = (0..3_000_000_u32).map(|i| i.to_le_bytes()[0]).collect();
    assert_carries(&mut dialled, &mut accepted, &message).await;
    assert_carries(&mut accepted, &mut dialled, &message[..1_000_000]).await;
}

#[tokio::test]
async fn a_cut_stream_is_not_taken_for_a_whole_one() {
    let world = World::start();
    let (listener, dialler) = tokio::join!(world.listener(), world.dialler());
    let (mut dialled, mut accepted) = World::connect(&dialler, &listener).await;

    dialled.write_all(b"half a mess").await.unwrap();
    dialled.flush().await.unwrap();
    drop(dialled);
    let error = accepted.read_to_end(&mut Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn a_connection_outlives_its_endpoints() {
    let world = World::start();
    let (listener, dialler) = tokio::join!(world.listener(), world.dialler());
    let (mut dialled, mut accepted) = World::connect(&dialler, &listener).await;
    tokio::join!(listener.close(), dialler.close());
    drop(world);
    assert_carries(&mut dialled, &mut accepted, b"still here").await;
}

#[tokio::test]
async fn several_peers_are_served_at_once() {
    let world = World::start();
    let listener = world.listener().await;
    let mut dialled = Vec::new();
    let mut accepted = Vec::new();
    for _ in 0..4 {
        let dialler = world.dialler().await;
        let (here, there) = World::connect(&dialler, &listener).await;
        dialled.push(here);
        accepted.push(there);
    }
    for (here, there) in dialled.iter_mut().zip(&mut accepted) {
        let message = here.path().local.to_string();
        assert_carries(here, there, message.as_bytes()).await;
    }
}

#[test]
fn the_observer_hears_what_happens_in_order() {
    alone(async || {
        let world = World::start();
        let listener = world.listener().await;
        let (sender, mut statuses) = mpsc::unbounded_channel();
        let dialler = world
            .builder()
            .observer(move |status| drop(sender.send(status)))
            .bind()
            .await
            .unwrap();
        let mut heard = Vec::new();
        let is_mapped = |status: &&Status| matches!(status, Status::Mapped { .. });
        // Who dials before its mappings are known may need another introduction.
        while heard.iter().filter(is_mapped).count() < 2 {
            let status = timeout(Duration::from_secs(20), statuses.recv()).await;
            heard.push(status.unwrap().unwrap());
        }
        World::connect(&dialler, &listener).await;
        heard.extend(std::iter::from_fn(|| statuses.try_recv().ok()));
        let names: Vec<_> = heard
            .iter()
            // What is found out about the NAT may be told before or after.
            .filter(|status| !matches!(status, Status::NatFound { .. }))
            .map(|status| match status {
                Status::Mapped { .. } => "mapped",
                Status::Introduced { .. } => "introduced",
                Status::Punching { .. } => "punching",
                _ => "other",
            })
            .collect();
        assert_eq!(names, ["mapped", "mapped", "introduced", "punching"]);
    });
}

#[tokio::test]
async fn an_endpoint_finds_its_way_back_to_a_restarted_coordinator() {
    let mut world = World::start();
    let (sender, mut statuses) = mpsc::unbounded_channel();
    let listener = world
        .builder()
        .allow(DialPolicy::Anyone)
        .observer(move |status| drop(sender.send(status)))
        .bind()
        .await
        .unwrap();
    world.restart_coordinator().await;
    let back = async {
        let mut lost = false;
        while let Some(status) = statuses.recv().await {
            lost |= matches!(status, Status::CoordinatorLost { .. });
            if lost && status == Status::Registered {
                return;
            }
        }
        panic!("the endpoint has ended");
    };
    timeout(Duration::from_secs(20), back).await.unwrap();
    let dialler = world.dialler().await;
    World::connect(&dialler, &listener).await;
}

#[tokio::test]
async fn a_dial_outlasts_a_coordinator_that_is_started_anew() {
    let mut world = World::start();
    let dialler = world.dialler().await;
    let nobody = SecretKey::generate().unwrap().peer_id();
    let dialling = dialler.dial(nobody);
    let (dialled, ()) = tokio::join!(dialling, world.restart_coordinator());
    // The new one has been asked. Nobody may have told our mapping by then, which is said instead.
    let error = dialled.unwrap_err();
    assert!(
        matches!(
            error,
            DialError::Unavailable { .. } | DialError::Stun { .. }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_coordinator_that_comes_back_may_name_another_stun_server() {
    let mut world = World::start();
    let other = World::start();
    let (sender, mut statuses) = mpsc::unbounded_channel();
    let _dialler = world
        .builder()
        .observer(move |status| drop(sender.send(status)))
        .bind()
        .await
        .unwrap();
    world.stun = other.stun;
    world.restart_coordinator().await;
    let asked = async {
        while let Some(status) = statuses.recv().await {
            if matches!(status, Status::Mapped { server, .. } if server == other.stun) {
                return;
            }
        }
        panic!("the endpoint has ended");
    };
    timeout(Duration::from_secs(20), asked).await.unwrap();
}

#[tokio::test]
async fn many_peers_in_a_row_find_the_listener_free() {
    let world = World::start();
    let listener = world.listener().await;
    // More than a coordinator lets a callee be busy with at a time.
    for _ in 0..12 {
        let dialler = world.dialler().await;
        World::connect(&dialler, &listener).await;
    }
}

#[tokio::test]
async fn the_same_two_endpoints_connect_again_and_again() {
    let world = World::start();
    let (listener, dialler) = tokio::join!(world.listener(), world.dialler());
    for _ in 0..6 {
        let (mut here, mut there) = World::connect(&dialler, &listener).await;
        assert_carries(&mut here, &mut there, b"once more").await;
        assert_carries(&mut there, &mut here, b"and back").await;
    }
}

#[tokio::test]
async fn dials_of_the_same_peer_at_once_use_a_pair_each() {
    let world = World::start();
    let (listener, dialler) = tokio::join!(world.listener(), world.dialler());
    let (dialler, peer) = (Arc::new(dialler), listener.peer_id());
    let mut dialling = JoinSet::new();
    for _ in 0..12 {
        let dialler = Arc::clone(&dialler);
        dialling.spawn(async move { dialler.dial(peer).await.unwrap() });
    }
    let mut dialled = dialling.join_all().await;
    for _ in 0..dialled.len() {
        let mut accepted = listener.accept().await.unwrap();
        let far = accepted.path();
        let is_other_end =
            |it: &&mut Connection| (it.path().local, it.path().remote) == (far.remote, far.local);
        let mut ends = dialled.iter_mut().filter(is_other_end);
        let (here, another) = (ends.next().unwrap(), ends.next());
        assert!(another.is_none());
        assert_carries(here, &mut accepted, b"at once").await;
    }
}

#[tokio::test]
async fn many_streams_between_the_same_two_endpoints_live_side_by_side() {
    let world = World::start();
    let (one, other) = tokio::join!(world.listener(), world.listener());
    let mut streams = Vec::new();
    for _ in 0..7 {
        streams.push(World::connect(&one, &other).await);
        streams.push(World::connect(&other, &one).await);
    }
    for (here, there) in &mut streams {
        assert_carries(here, there, b"side by side").await;
        assert_carries(there, here, b"both ways").await;
    }
}

#[tokio::test]
async fn a_reader_may_pause_for_longer_than_a_dead_path_would_last() {
    const SILENCE: Duration = Duration::from_secs(3);

    let world = World::start();
    let dialler = world
        .builder()
        .stream_silence(SILENCE)
        .bind()
        .await
        .unwrap();
    let listener = world.listener().await;
    let (mut here, mut there) = World::connect(&dialler, &listener).await;
    let sent = vec![7; 16 << 20];
    let writing = async {
        here.write_all(&sent).await?;
        here.shutdown().await
    };
    tokio::pin!(writing);
    // Nobody reads: all buffers fill up, and the peer's kernel says that it takes no more.
    let paused = timeout(SILENCE + Duration::from_secs(2), &mut writing).await;
    assert!(paused.is_err(), "{paused:?}");
    let mut read = Vec::new();
    let (written, got) = tokio::join!(writing, there.read_to_end(&mut read));
    written.unwrap();
    assert_eq!(got.unwrap(), sent.len());
}
