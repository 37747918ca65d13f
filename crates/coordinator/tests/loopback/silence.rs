//! A callee that is gone without a word.

use std::{
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use p2pconnect_coordinator::RunningCoordinator;
use p2pconnect_proto::{PeerId, message::DialPolicy};
use tokio::{runtime, sync::oneshot};

use crate::{
    IPV4,
    client::{Client, bounded},
    config, start,
};

/// A callee whose process has stopped: its sockets are there, and nobody answers on them.
struct Stopped {
    id: PeerId,
    _end: mpsc::Sender<()>,
    _thread: JoinHandle<()>,
}

impl Stopped {
    async fn start(server: Arc<RunningCoordinator>) -> Self {
        let (telling, told) = oneshot::channel();
        let (end, ended) = mpsc::channel();
        let thread = thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.unwrap();
            let client = runtime.block_on(registered(&server));
            telling.send(client.id).unwrap();
            // Nobody runs the client's tasks any more. The other end is only ever dropped.
            assert!(ended.recv().is_err());
        });
        Self {
            id: bounded(told).await.unwrap(),
            _end: end,
            _thread: thread,
        }
    }
}

async fn registered(server: &RunningCoordinator) -> Client {
    let client = Client::connect(server).await;
    client.register(DialPolicy::Anyone).await;
    client
}

#[tokio::test]
async fn a_dialler_hears_that_its_callee_is_silent() {
    let server = Arc::new(start(config(IPV4)));
    let dialler = Client::connect(&server).await;
    let callee = registered(&server).await;
    let stopped = Stopped::start(Arc::clone(&server)).await;

    // This one reads nothing, which is no silence: QUIC answers.
    let there = dialler.dial(callee.id).await.unwrap();
    let gone = dialler.dial(stopped.id).await.unwrap();
    let silence = dialler.silent().await;
    assert_ne!(silence.session, there.session);
    assert_eq!(silence.session, gone.session);
    let for_long = Duration::from_millis(silence.silent_ms.into());
    assert!(for_long >= Duration::from_secs(1), "{for_long:?}");
}
