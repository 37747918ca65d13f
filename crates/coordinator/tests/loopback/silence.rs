//! A client that is gone without a word while another waits for it.

use std::{
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use p2pconnect_coordinator::RunningCoordinator;
use p2pconnect_identity::SecretKey;
use p2pconnect_proto::{PeerId, close, message::DialPolicy};
use tokio::{runtime, sync::oneshot, time::timeout};

use crate::{
    IPV4,
    client::{Client, bounded},
    config,
    path::Path,
    start,
};

/// A client whose process has stopped: its sockets are there, and nobody answers on them.
struct Stopped {
    id: PeerId,
    _end: mpsc::Sender<()>,
    _thread: JoinHandle<()>,
}

impl Stopped {
    /// Registers a client, and stops it when it has done something.
    async fn after<F>(
        server: Arc<RunningCoordinator>,
        doing: impl FnOnce(Client) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = Client>,
    {
        let (telling, told) = oneshot::channel();
        let (end, ended) = mpsc::channel();
        let thread = thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.unwrap();
            let client = runtime.block_on(async { doing(registered(&server).await).await });
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
    let stopped = Stopped::after(Arc::clone(&server), async |client| client).await;

    // This one reads nothing, which is no silence: QUIC answers.
    let there = dialler.dial(callee.id).await.unwrap();
    let gone = dialler.dial(stopped.id).await.unwrap();
    let silence = dialler.silent().await;
    assert_ne!(silence.session, there.session);
    assert_eq!(silence.session, gone.session);
    let for_long = Duration::from_millis(silence.silent_ms.into());
    assert!(for_long >= Duration::from_secs(1), "{for_long:?}");
}

#[tokio::test]
async fn a_dialler_hears_that_its_callee_is_gone_after_it_was_introduced() {
    let server = Arc::new(start(config(IPV4)));
    let dialler = Arc::new(Client::connect(&server).await);
    let (telling, told) = oneshot::channel();
    let callee = Stopped::after(Arc::clone(&server), async |callee: Client| {
        telling.send(callee.id).unwrap();
        callee.introduction().await;
        // An answer to what the coordinator asks.
        callee.register(DialPolicy::Anyone).await;
        callee
    });
    let dialling = async {
        let callee = told.await.unwrap();
        dialler.dial(callee).await.unwrap()
    };
    let (_callee, introduced) = tokio::join!(callee, dialling);
    let silence = dialler.silent().await;
    assert_eq!(silence.session, introduced.session);
}

#[tokio::test]
async fn a_callee_hears_that_its_dialler_is_gone() {
    let server = Arc::new(start(config(IPV4)));
    let callee = registered(&server).await;
    let id = callee.id;
    let _dialler = Stopped::after(Arc::clone(&server), async move |dialler: Client| {
        dialler.dial(id).await.unwrap();
        dialler
    })
    .await;
    let introduced = callee.introduction().await;
    let silence = callee.silent().await;
    assert_eq!(silence.session, introduced.session);
}

#[tokio::test]
async fn a_callee_hears_that_its_dialler_gives_up_as_it_has_heard_nothing() {
    let server = start(config(IPV4));
    let callee = registered(&server).await;
    let dialler = Client::connect(&server).await;
    dialler.dial(callee.id).await.unwrap();
    let introduced = callee.introduction().await;
    dialler.connection.close(close::TIMED_OUT.into(), &[]);
    let flight = callee.flight().await;
    assert_eq!(flight.session, introduced.session);
    assert!(flight.bytes.is_empty());
}

/// Has a callee that settles nothing be dialled over a path with this round trip, and asserts that
/// it is not called silent for as long as that, though a fifth of all packets is lost each way.
async fn is_heard(round_trip: Duration, for_long: Duration) {
    let server = start(config(IPV4));
    let path = Path::to(server.local_addr(), round_trip).await;
    let key = SecretKey::generate().unwrap();
    let callee = Client::connect_via(&key, &server, path.entrance).await;
    callee.register(DialPolicy::Anyone).await;
    path.lose();
    let dialler = Client::connect(&server).await;
    dialler.dial(callee.id).await.unwrap();
    let called_silent = timeout(for_long, dialler.silent()).await;
    assert!(called_silent.is_err(), "{round_trip:?}: {called_silent:?}");
}

#[tokio::test]
async fn who_is_there_is_not_called_silent_though_the_path_is_bad() {
    tokio::join!(
        is_heard(Duration::from_millis(40), Duration::from_secs(8)),
        is_heard(Duration::from_millis(2_400), Duration::from_secs(8)),
    );
}
