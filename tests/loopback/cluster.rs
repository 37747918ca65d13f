//! Three `p2pconnect serve` that serve the same peers by way of three servers of NATS, any of which
//! is killed.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use p2pconnect::{
    CoordinatorAddr, DialError, DialPolicy, Endpoint, PeerId, SecretKey, Status, Topic, TopicEvent,
    Watch,
};
use p2pconnect_tests::{nats::NatsServer, serving::Serving};
use tempfile::TempDir;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::timeout,
};

use crate::world::assert_carries;

/// Far beyond what anything here takes.
const BOUND: Duration = Duration::from_secs(60);

/// After what time nobody notices any more that something was killed.
const NOTICED: Duration = Duration::from_secs(1);

/// How many dial at a time.
const DIALLERS: usize = 4;

/// How many dials that begin after that have to end before the next is killed.
const DIALS: usize = 60;

/// Three coordinators, and as many servers of NATS.
struct Cluster {
    nats: Vec<NatsServer>,
    serving: Vec<Serving>,
    _directory: TempDir,
}

impl Cluster {
    async fn start() -> Self {
        let nats = NatsServer::cluster(3).await;
        let urls: Vec<_> = nats.iter().map(NatsServer::url).collect();
        let directory = tempfile::tempdir().unwrap();
        let mut serving = Vec::new();
        for n in 0..3 {
            let key = directory.path().join(format!("{n}.pem"));
            let any = ([127, 0, 0, 1], 0).into();
            let mut command = Serving::command(any, any, &key);
            command
                .args(["--nats", &urls.join(","), "--metrics", "127.0.0.1:0"])
                .arg("--cluster-key")
                .arg(directory.path().join("cluster.pem"))
                // Everybody here is at one address, and dials as fast as it can.
                .env("P2PCONNECT_SERVE_LIMITS_DIALS_AT_ONCE", "1000000")
                .env(
                    "P2PCONNECT_SERVE_LIMITS_DIALS_AT_ONCE_PER_NETWORK",
                    "1000000",
                )
                .env(
                    "P2PCONNECT_SERVE_LIMITS_HANDSHAKE_BYTES_AT_ONCE_PER_NETWORK",
                    "1000000000",
                );
            serving.push(Serving::spawn(command, key).await);
        }
        Self {
            nats,
            serving,
            _directory: directory,
        }
    }

    fn address(&self, of: usize) -> CoordinatorAddr {
        self.serving[of].coordinator.clone()
    }

    async fn dialler(&self, at: usize) -> Endpoint {
        let builder = Endpoint::builder().coordinator(self.address(at));
        builder.bind().await.unwrap()
    }

    /// Returns a listener that has registered, and what it says from then on.
    async fn listener(
        &self,
        at: usize,
        key: SecretKey,
    ) -> (Endpoint, mpsc::UnboundedReceiver<Status>) {
        let (statuses, mut heard) = mpsc::unbounded_channel();
        let listener = Endpoint::builder()
            .coordinator(self.address(at))
            .secret_key(key)
            .allow(DialPolicy::Anyone)
            .observer(move |status| drop(statuses.send(status)));
        let listener = listener.bind().await.unwrap();
        let registering =
            async { while !matches!(heard.recv().await, Some(Status::Registered)) {} };
        timeout(BOUND, registering).await.expect("not registered");
        (listener, heard)
    }
}

/// Dials until the peer is known to the dialler's coordinator.
async fn is_found(dialler: &Endpoint, peer: PeerId) {
    let dialling = async { while dialler.dial(peer).await.is_err() {} };
    timeout(BOUND, dialling)
        .await
        .expect("the peer is not found");
}

/// Takes all streams, and ends each.
async fn take_all(listener: Endpoint) {
    while let Some(incoming) = listener.accept().await {
        drop(incoming);
    }
}

#[tokio::test]
async fn peers_of_different_coordinators_meet_and_one_that_moves_is_found() {
    let cluster = Cluster::start().await;
    let dialler = cluster.dialler(0).await;
    let key = SecretKey::generate().unwrap();
    let copy = || SecretKey::from_pem(&key.to_pem()).unwrap();
    for at in [1, 2, 0] {
        let (listener, _heard) = cluster.listener(at, copy()).await;
        let meeting = async {
            loop {
                let (dialled, accepted) = tokio::join!(
                    dialler.dial(key.peer_id()),
                    timeout(NOTICED, listener.accept())
                );
                if let (Ok(here), Ok(Some(there))) = (dialled, accepted) {
                    return (here, there);
                }
            }
        };
        let (mut here, mut there) = timeout(BOUND, meeting).await.expect("they do not meet");
        assert_carries(&mut here, &mut there, b"by way of two coordinators").await;
    }
}

/// A dial, and what came of it.
#[derive(Debug)]
struct Dialled {
    began: Instant,
    took: Duration,
    failed: Option<DialError>,
}

/// Diallers that dial one peer again and again, each as soon as its last dial has ended.
struct Dialling {
    ended: Arc<Mutex<Vec<Dialled>>>,
    count: watch::Receiver<usize>,
    _tasks: JoinSet<()>,
}

impl Dialling {
    async fn start(cluster: &Cluster, at: usize, peer: PeerId) -> Self {
        let ended = Arc::new(Mutex::new(Vec::new()));
        let (counting, count) = watch::channel(0);
        let counting = Arc::new(counting);
        let mut tasks = JoinSet::new();
        for _ in 0..DIALLERS {
            let dialler = cluster.dialler(at).await;
            is_found(&dialler, peer).await;
            let (ended, counting) = (Arc::clone(&ended), Arc::clone(&counting));
            tasks.spawn(async move {
                loop {
                    let began = Instant::now();
                    let failed = dialler.dial(peer).await.err();
                    let took = began.elapsed();
                    let dialled = Dialled {
                        began,
                        took,
                        failed,
                    };
                    ended.lock().unwrap().push(dialled);
                    counting.send_modify(|count| *count += 1);
                }
            });
        }
        Self {
            ended,
            count,
            _tasks: tasks,
        }
    }

    /// Waits until enough dials have ended that began a while after this moment, and asserts that
    /// none of these has failed, and that all others have come to an end.
    async fn go_on_after(&mut self, moment: Instant) {
        let late = moment + NOTICED;
        let enough = self.count.wait_for(|_| {
            let ended = self.ended.lock().unwrap();
            ended.iter().filter(|it| it.began > late).count() >= DIALS
        });
        timeout(BOUND, enough)
            .await
            .expect("nobody dials any more")
            .unwrap();
        for dialled in std::mem::take(&mut *self.ended.lock().unwrap()) {
            let is_late = dialled.began > late;
            assert!(!is_late || dialled.failed.is_none(), "{dialled:?}");
            if let Some(error) = &dialled.failed {
                assert!(
                    !error.to_string().is_empty() && dialled.took < BOUND,
                    "{dialled:?}"
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_server_of_nats_is_killed_a_dial_a_second_later_does_not_notice() {
    let mut cluster = Cluster::start().await;
    let (listener, _heard) = cluster.listener(1, SecretKey::generate().unwrap()).await;
    let peer = listener.peer_id();
    let _taking = tokio::spawn(take_all(listener));
    let mut dialling = Dialling::start(&cluster, 0, peer).await;
    for n in 0..cluster.nats.len() {
        dialling.go_on_after(Instant::now() - NOTICED).await;
        cluster.nats[n].kill();
        dialling.go_on_after(Instant::now()).await;
        cluster.nats[n].restart().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_death_of_a_coordinator_ends_nothing_at_the_others() {
    let mut cluster = Cluster::start().await;
    let (listener, _heard) = cluster.listener(1, SecretKey::generate().unwrap()).await;
    let peer = listener.peer_id();
    let _taking = tokio::spawn(take_all(listener));
    let mut dialling = Dialling::start(&cluster, 0, peer).await;
    cluster.serving[2].kill().await;
    dialling.go_on_after(Instant::now() - NOTICED).await;
}

#[tokio::test]
async fn a_peer_whose_coordinator_was_killed_is_not_online_at_the_others() {
    let mut cluster = Cluster::start().await;
    let (listener, _heard) = cluster.listener(1, SecretKey::generate().unwrap()).await;
    let dialler = cluster.dialler(0).await;
    is_found(&dialler, listener.peer_id()).await;
    cluster.serving[1].kill().await;
    let dialling = async {
        loop {
            if let Err(DialError::Unavailable { .. }) = dialler.dial(listener.peer_id()).await {
                return;
            }
        }
    };
    timeout(BOUND, dialling).await.expect("it is still there");
}

/// What somebody knows of a topic who watches it.
struct Watcher {
    endpoint: Endpoint,
    topic: Topic,
    watch: Watch,
}

impl Watcher {
    async fn finds(&self, peer: PeerId) -> bool {
        let found = self.endpoint.lookup(&self.topic).page().await.unwrap();
        found.contains(&peer)
    }

    /// Waits until it is told that a peer is there, or is not, or that it has to look.
    async fn knows(&mut self, peer: PeerId, is_there: bool) {
        let knowing = async {
            loop {
                let is_found = match self.watch.next().await.unwrap() {
                    TopicEvent::Joined(joined) if joined == peer => true,
                    TopicEvent::Left(left) if left == peer => false,
                    TopicEvent::Missed => self.finds(peer).await,
                    _ => continue,
                };
                if is_found == is_there {
                    return;
                }
            }
        };
        let knows = timeout(BOUND, knowing).await;
        knows.expect("nobody tells of what changes");
    }
}

#[tokio::test]
async fn all_keep_one_board_and_who_was_at_one_that_is_killed_is_gone() {
    let mut cluster = Cluster::start().await;
    let topic = Topic::with_secret("chess", b"secret");
    let endpoint = cluster.dialler(0).await;
    let watch = endpoint.watch(&topic).await.unwrap();
    let mut watcher = Watcher {
        endpoint,
        topic: topic.clone(),
        watch,
    };
    let [one, other] = [cluster.dialler(1).await, cluster.dialler(2).await];
    let announced = one.announce(&topic).await.unwrap();
    watcher.knows(one.peer_id(), true).await;
    drop(announced);
    watcher.knows(one.peer_id(), false).await;
    let mut announced = Vec::new();
    for member in [&one, &other] {
        announced.push(member.announce(&topic).await.unwrap());
        watcher.knows(member.peer_id(), true).await;
    }
    assert!(watcher.finds(one.peer_id()).await && watcher.finds(other.peer_id()).await);
    cluster.serving[1].kill().await;
    watcher.knows(one.peer_id(), false).await;
    assert!(watcher.finds(other.peer_id()).await);
}
