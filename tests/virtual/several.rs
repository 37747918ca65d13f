//! Endpoints that know several coordinators: one dies, or ends politely, and nobody notices.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use netns_lab::{HostSpec, LinkSpec, NatSpec, Topology, virtual_time::World};
use p2pconnect::{Builder, CoordinatorAddr, DialError, DialPolicy, Endpoint, PeerId, SecretKey};
use p2pconnect_coordinator::{Control, Drain};
use p2pconnect_tests::virtual_ground::{VirtualGround, rendezvous_of};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::oneshot,
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep},
};

/// Longer than it takes until all connections to coordinators count as lasting.
const SETTLING: Duration = Duration::from_secs(20);

/// How far the coordinators are, one way.
const NEAR: Duration = Duration::from_millis(1);
const FAR: Duration = Duration::from_millis(15);

/// Two coordinators that do not know each other, and two peers behind NATs.
struct Scene {
    ground: VirtualGround,
    near: Served,
    far: Served,
}

/// A coordinator that can be ended.
struct Served {
    at: CoordinatorAddr,
    control: Control,
    end: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Served {
    fn start(ground: &VirtualGround, host: &str) -> Self {
        Self::start_in(None, ground, host)
    }

    fn start_in(cluster: Option<&str>, ground: &VirtualGround, host: &str) -> Self {
        let key = ground.key(host);
        let serving = rendezvous_of(ground.programs.host(host, 0), key, cluster);
        let (rendezvous, at) = serving.unwrap();
        let control = rendezvous.coordinator.control();
        let (end, ended) = oneshot::channel();
        let run = rendezvous.run(async move {
            if ended.await.is_err() {
                pending().await
            }
        });
        Self {
            at,
            control,
            end: Some(end),
            task: tokio::spawn(run),
        }
    }

    /// Ends it as `serve` does on SIGTERM.
    async fn drain(&mut self, to: &[&CoordinatorAddr], limit: Duration) {
        let mut drain = Drain::within(limit);
        drain.to = to.iter().map(|it| (*it).clone()).collect();
        self.control.drain(drain).await;
        if let Some(end) = self.end.take() {
            end.send(()).unwrap();
        }
        (&mut self.task).await.unwrap();
    }
}

impl Scene {
    fn run<F: Future<Output = ()>>(seed: u64, body: impl FnOnce(Self) -> F) {
        Self::run_in(None, seed, body);
    }

    fn run_in<F: Future<Output = ()>>(
        cluster: Option<&str>,
        seed: u64,
        body: impl FnOnce(Self) -> F,
    ) {
        let boxes = [NatSpec::port_preserving()];
        let peer = |name| {
            let link = LinkSpec::delay(Duration::from_millis(20));
            HostSpec::new(name).link(link).behind_all(&boxes)
        };
        let server = |name, delay| HostSpec::new(name).link(LinkSpec::delay(delay));
        let topology = Topology::new()
            .host(server("unused", FAR))
            .host(server("near", NEAR))
            .host(server("far", FAR))
            .host(peer("a"))
            .host(peer("b"));
        let world = World::build(&topology, seed).unwrap();
        VirtualGround::run_in(world, "unused", seed, async |ground| {
            let [near, far] = ["near", "far"].map(|host| Served::start_in(cluster, &ground, host));
            body(Self { ground, near, far }).await;
        });
    }

    /// Returns an endpoint to be that knows these.
    fn endpoint(&self, host: &str, coordinators: &[&Served]) -> Builder {
        let key = SecretKey::from_pem(&self.ground.key(host).to_pem()).unwrap();
        let builder = Endpoint::builder()
            .host(self.ground.programs.host(host, 1))
            .secret_key(key);
        let known = coordinators.iter().map(|it| it.at.clone());
        builder.coordinators(known)
    }

    /// Returns a peer that sends back whatever it gets, as long as the tasks are not dropped.
    async fn echo(&self, coordinators: &[&Served]) -> (PeerId, JoinSet<()>) {
        let builder = self.endpoint("b", coordinators).allow(DialPolicy::Anyone);
        let listener = builder.bind().await.unwrap();
        let id = listener.peer_id();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            while let Some(mut connection) = listener.accept().await {
                let mut message = Vec::new();
                connection.read_to_end(&mut message).await.unwrap();
                connection.write_all(&message).await.unwrap();
                connection.shutdown().await.unwrap();
            }
        });
        (id, tasks)
    }
}

/// Dials, has something sent back, and returns how long that took.
async fn dial(dialler: &Endpoint, peer: PeerId) -> Duration {
    let began = Instant::now();
    let mut connection = dialler.dial(peer).await.unwrap();
    connection.write_all(b"said").await.unwrap();
    connection.shutdown().await.unwrap();
    let mut heard = Vec::new();
    connection.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, b"said");
    began.elapsed()
}

/// What a dial by way of a coordinator takes: to it and back, the SYNs one way, and two round trips
/// for what is said.
const fn physics(coordinator: Duration) -> Duration {
    let (way, peers) = (20 + coordinator.as_millis() as u64, 40);
    Duration::from_millis(2 * way + peers + 3 * 40)
}

const SLACK: Duration = Duration::from_millis(60);

#[test]
fn the_nearest_is_asked_and_its_death_costs_a_dial_nothing_a_second_later() {
    for seed in 0..10 {
        Scene::run(seed, async |scene| {
            let Scene { near, far, .. } = &scene;
            // Whichever is named first.
            let (peer, _echo) = scene.echo(&[far, near]).await;
            let dialler = scene.endpoint("a", &[near, far]).bind().await.unwrap();
            sleep(SETTLING).await;
            let took = dial(&dialler, peer).await;
            assert!(took < physics(NEAR) + SLACK, "seed {seed}: {took:?}");
            near.task.abort();
            sleep(Duration::from_secs(1)).await;
            let took = dial(&dialler, peer).await;
            assert!(took < physics(FAR) + SLACK, "seed {seed}: {took:?}");
        });
    }
}

/// The peer is registered at both, so those meet it who know either.
#[test]
fn a_peer_is_met_through_whichever_coordinator_both_know() {
    Scene::run(1, async |scene| {
        let Scene { near, far, .. } = &scene;
        let (peer, _echo) = scene.echo(&[near, far]).await;
        sleep(SETTLING).await;
        for known in [near, far] {
            let dialler = scene.endpoint("a", &[known]).bind().await.unwrap();
            dial(&dialler, peer).await;
            dialler.close().await;
        }
    });
    Scene::run(2, async |scene| {
        let Scene { near, far, .. } = &scene;
        // The nearer one does not know the peer, the other one does.
        let (peer, _echo) = scene.echo(&[far]).await;
        let dialler = scene.endpoint("a", &[near, far]).bind().await.unwrap();
        dial(&dialler, peer).await;
    });
}

/// These say that they are one service, and are none: what one of them knows tells which has been
/// told.
#[test]
fn of_a_cluster_one_has_the_registration_and_the_other_is_in_reserve() {
    for seed in 0..5 {
        Scene::run_in(Some("one service"), seed, async |scene| {
            let Scene { near, far, .. } = &scene;
            let (peer, _echo) = scene.echo(&[far, near]).await;
            sleep(SETTLING).await;
            let dialler = scene.endpoint("a", &[far]).bind().await.unwrap();
            let refused = dialler.dial(peer).await.unwrap_err();
            let is_unknown = matches!(refused, DialError::Unavailable { .. });
            assert!(is_unknown, "seed {seed}: {refused}");
            near.task.abort();
            sleep(Duration::from_secs(1)).await;
            dial(&dialler, peer).await;
        });
    }
}

#[test]
fn a_coordinator_ends_under_dials_of_which_none_fails() {
    for seed in 0..5 {
        Scene::run(seed, async |scene| {
            let (peer, _echo) = scene.echo(&[&scene.near]).await;
            let dialler = scene.endpoint("a", &[&scene.near]).bind().await.unwrap();
            sleep(SETTLING).await;
            let (mut near, far) = (scene.near, scene.far.at.clone());
            let mut draining = tokio::spawn(async move {
                near.drain(&[&far], Duration::from_secs(30)).await;
                near
            });
            let mut dials = 0;
            while !draining.is_finished() {
                dial(&dialler, peer).await;
                dials += 1;
            }
            // As long as those stay who have moved, and no longer.
            assert!((10..40).contains(&dials), "seed {seed}: {dials}");
            (&mut draining).await.unwrap();
            for _ in 0..5 {
                let took = dial(&dialler, peer).await;
                assert!(took < physics(FAR) + SLACK, "seed {seed}: {took:?}");
            }
        });
    }
}

#[test]
fn both_coordinators_are_upgraded_in_turn_under_dials_of_which_none_fails() {
    for seed in 0..3 {
        Scene::run(seed, async |scene| {
            let both = [&scene.near, &scene.far];
            let (peer, _echo) = scene.echo(&both).await;
            let dialler = scene.endpoint("a", &both).bind().await.unwrap();
            sleep(SETTLING).await;
            let Scene {
                ground,
                mut near,
                mut far,
            } = scene;
            let is_over = Arc::new(AtomicBool::new(false));
            let seen = Arc::clone(&is_over);
            let dialling = tokio::spawn(async move {
                let mut dials = 0;
                while !seen.load(Ordering::Relaxed) {
                    dial(&dialler, peer).await;
                    dials += 1;
                }
                dials
            });
            for _ in 0..2 {
                near.drain(&[&far.at], Duration::from_secs(30)).await;
                near = Served::start(&ground, "near");
                sleep(SETTLING).await;
                far.drain(&[&near.at], Duration::from_secs(30)).await;
                far = Served::start(&ground, "far");
                sleep(SETTLING).await;
            }
            is_over.store(true, Ordering::Relaxed);
            let dials = dialling.await.unwrap();
            assert!(dials > 200, "seed {seed}: {dials}");
        });
    }
}
