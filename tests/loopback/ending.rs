//! How streams end, and what either side knows of it.

use std::{future::poll_fn, io, task::Context, time::Duration};

use p2pconnect::{Connection, Refused};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use crate::world::World;

const LIMIT: Duration = Duration::from_secs(20);

/// More than fits into the buffers of TCP's first moments, and less than the kernel takes in all.
const MUCH: usize = 200_000;

async fn connected(world: &World) -> (Connection, Connection) {
    let (dialler, listener) = tokio::join!(world.dialler(), world.listener());
    World::connect(&dialler, &listener).await
}

async fn read_all(connection: &mut Connection) -> usize {
    let mut all = Vec::new();
    connection.read_to_end(&mut all).await.unwrap();
    all.len()
}

async fn finish(connection: Connection) -> io::Result<()> {
    timeout(LIMIT, connection.finish()).await.unwrap()
}

#[tokio::test]
async fn a_stream_is_finished_when_the_other_side_has_handed_it_over() {
    let world = World::start();
    let (mut here, mut there) = connected(&world).await;
    here.write_all(&[7; MUCH]).await.unwrap();
    let finishing = tokio::spawn(finish(here));
    there.shutdown().await.unwrap();
    assert_eq!(read_all(&mut there).await, MUCH);
    // The dialler knows that the peer has ended, and that its kernel has everything.
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!finishing.is_finished(), "nothing has been handed over yet");
    finish(there).await.unwrap();
    finishing.await.unwrap().unwrap();
}

#[tokio::test]
async fn whoever_has_read_all_and_drops_the_connection_has_it() {
    let world = World::start();
    let (here, mut there) = connected(&world).await;
    let finishing = tokio::spawn(finish(here));
    there.write_all(b"answer").await.unwrap();
    there.shutdown().await.unwrap();
    assert_eq!(read_all(&mut there).await, 0);
    drop(there);
    // The dialler has not read it.
    let error = finishing.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");

    let (mut here, mut there) = connected(&world).await;
    here.shutdown().await.unwrap();
    there.write_all(b"answer").await.unwrap();
    there.shutdown().await.unwrap();
    assert_eq!(read_all(&mut there).await, 0);
    drop(there);
    assert_eq!(read_all(&mut here).await, 6);
    finish(here).await.unwrap();
}

#[tokio::test]
async fn a_side_that_breaks_off_at_the_very_end_is_not_taken_for_one_that_has_everything() {
    for leaving in [
        |there: Connection| there.abort(),
        // It has read a part, and the rest is in its process already.
        |there: Connection| drop(there),
    ] {
        let world = World::start();
        let (mut here, mut there) = connected(&world).await;
        here.write_all(b"in two parts").await.unwrap();
        here.shutdown().await.unwrap();
        there.shutdown().await.unwrap();
        assert_eq!(here.read(&mut [0]).await.unwrap(), 0);
        there.read_exact(&mut [0; 6]).await.unwrap();
        leaving(there);
        let error = finish(here).await.unwrap_err();
        assert_ne!(error.kind(), io::ErrorKind::NotConnected, "no words for it");
    }
}

#[tokio::test]
async fn who_has_nothing_to_write_can_tell_that_the_peer_is_gone() {
    let broken = |here: &mut Connection, cx: &mut Context<'_>| here.poll_broken(cx);
    let world = World::start();
    let (mut here, mut there) = connected(&world).await;
    let error = poll_fn(|cx| broken(&mut here, cx)).await;
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "reading tells");
    there.shutdown().await.unwrap();
    assert_eq!(here.read(&mut [0]).await.unwrap(), 0);
    let looking = poll_fn(|cx| broken(&mut here, cx));
    let looked = timeout(Duration::from_millis(100), looking).await;
    assert!(looked.is_err(), "it reads on: {looked:?}");
    drop(there);
    let error = timeout(LIMIT, poll_fn(|cx| broken(&mut here, cx))).await;
    assert_eq!(error.unwrap().kind(), io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn what_is_not_read_is_not_said_to_be_handed_over() {
    let world = World::start();
    let (here, mut there) = connected(&world).await;
    there.write_all(b"unread").await.unwrap();
    let (here, there) = tokio::join!(finish(here), finish(there));
    assert_eq!(here.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    assert!(there.is_err(), "the peer has not handed it over");
}

#[tokio::test]
async fn the_wait_for_an_application_that_says_nothing_has_a_bound() {
    let world = World::start();
    let silence = Duration::from_secs(3);
    let dialler = world.builder().stream_silence(silence).bind();
    let (dialler, listener) = tokio::join!(dialler, world.listener());
    let (mut here, mut there) = World::connect(&dialler.unwrap(), &listener).await;
    there.shutdown().await.unwrap();
    here.write_all(b"kept").await.unwrap();
    let error = finish(here).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
    assert!(error.to_string().contains("handed it over"), "{error}");
    // Which takes nothing from the peer.
    assert_eq!(read_all(&mut there).await, 4);
}

#[tokio::test]
async fn a_refusal_comes_with_its_reason() {
    let world = World::start();
    let (mut here, there) = connected(&world).await;
    // It is on its way while the dialler says more than the peer reads.
    let refusing = tokio::spawn(there.refuse("not today\n\u{1b}[2J"));
    let error = here.read(&mut [0]).await.unwrap_err();
    let refused = Refused::of(&error).unwrap();
    assert_eq!(refused.reason(), "not today\n\u{1b}[2J");
    assert!(!refused.to_string().contains('\u{1b}'), "{refused}");
    assert!(!refused.to_string().contains('\n'), "{refused}");
    let error = here.write_all(b"all the same").await.unwrap_err();
    assert!(Refused::of(&error).is_some(), "{error}");
    drop(here);
    timeout(LIMIT, refusing).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_refusal_reaches_a_dialler_that_has_much_to_say() {
    let world = World::start();
    let (here, there) = connected(&world).await;
    let (mut from_peer, mut to_peer) = tokio::io::split(here);
    let talking = tokio::spawn(async move { while to_peer.write_all(&[7; 4096]).await.is_ok() {} });
    let refusing = tokio::spawn(there.refuse("no"));
    let error = from_peer.read(&mut [0]).await.unwrap_err();
    assert_eq!(Refused::of(&error).unwrap().reason(), "no");
    drop(from_peer);
    timeout(LIMIT, talking).await.unwrap().unwrap();
    timeout(LIMIT, refusing).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn only_a_stream_that_was_dialled_and_not_accepted_can_be_refused() {
    let world = World::start();
    let (here, mut there) = connected(&world).await;
    there.write_all(b"welcome").await.unwrap();
    for side in [here, there] {
        let error = side.refuse("too late").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
