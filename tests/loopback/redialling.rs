//! Further dials to the same peer.

use p2pconnect::{Connection, Endpoint};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::world::World;

/// More than there are pairs of punch ports.
const TIMES: usize = 20;

/// Has `first` end its direction before `second` does, and both close.
async fn close(mut first: Connection, mut second: Connection) {
    first.write_all(b"done").await.unwrap();
    first.shutdown().await.unwrap();
    let mut heard = Vec::new();
    second.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, b"done");
    second.shutdown().await.unwrap();
    assert_eq!(first.read(&mut [0]).await.unwrap(), 0);
}

async fn redial(dialler: &Endpoint, listener: &Endpoint, dialler_closes: bool) {
    for _ in 0..TIMES {
        let (here, there) = World::connect(dialler, listener).await;
        // Whoever closes first keeps the pair of addresses in TIME-WAIT.
        if dialler_closes {
            close(here, there).await;
        } else {
            close(there, here).await;
        }
    }
}

#[tokio::test]
async fn after_the_dialler_has_closed() {
    let world = World::start();
    let (listener, dialler) = tokio::join!(world.listener(), world.dialler());
    redial(&dialler, &listener, true).await;
}

#[tokio::test]
async fn after_the_listener_has_closed() {
    let world = World::start();
    let (listener, dialler) = tokio::join!(world.listener(), world.dialler());
    redial(&dialler, &listener, false).await;
}
