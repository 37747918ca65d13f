//! A peer's machine, and the program on it: it dials when it is told to, accepts who dials it, and
//! talks.

use std::{io, pin::pin, sync::Arc, time::Duration};

use p2pconnect::{CoordinatorAddr, DialError, DialPolicy, Endpoint};
use tokio::{
    sync::{mpsc, oneshot},
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep, timeout},
};

use crate::{
    checks::{Broken, Checks, Program},
    ground::{Ground, host_name, key},
    schedule::Policy,
    talk::{Talk, talk},
};

/// How long after a deadline a dial may be over: timers are of a millisecond.
const SLACK: Duration = Duration::from_millis(5);

/// The pause before another attempt to begin, as a program that goes on trying would make it.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// How soon streams of this program count as dead.
const SILENCE: Duration = Duration::from_secs(5);

/// A peer's machine.
#[derive(Debug)]
pub(crate) struct Machine {
    ground: Ground,
    checks: Arc<Checks>,
    coordinator: CoordinatorAddr,
    seed: u64,
    peer: usize,
    lives: usize,
    policy: Policy,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    orders: mpsc::UnboundedSender<Order>,
    task: JoinHandle<()>,
}

/// A dial to be made.
#[derive(Debug)]
pub(crate) struct DialOrder {
    pub(crate) to: usize,
    pub(crate) limit: Duration,
    pub(crate) patience: Option<Duration>,
    /// Where it is told how it ended.
    pub(crate) ended: Option<oneshot::Sender<Ended>>,
}

/// How a dial has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// How long the dial took, without what was said.
    pub(crate) took: Duration,
    /// Whether what was said on the connection came to a good end, or why there was none.
    pub(crate) result: Result<io::Result<()>, DialError>,
}

#[derive(Debug)]
enum Order {
    Dial(DialOrder),
    Close,
}

impl Machine {
    /// Returns a machine that is off.
    pub(crate) fn new(
        ground: &Ground,
        checks: &Arc<Checks>,
        coordinator: CoordinatorAddr,
        seed: u64,
        peer: usize,
    ) -> Self {
        Self {
            ground: ground.clone(),
            checks: Arc::clone(checks),
            coordinator,
            seed,
            peer,
            lives: 0,
            policy: Policy::Nobody,
            running: None,
        }
    }

    /// Returns who may dial the program.
    pub(crate) const fn policy(&self) -> Policy {
        self.policy
    }

    /// Starts a new program.
    pub(crate) fn start(&mut self, policy: Policy) {
        let program = Program {
            peer: self.peer,
            life: self.lives,
        };
        self.lives += 1;
        self.policy = policy;
        self.checks.begins(program, policy);
        let (orders, ordered) = mpsc::unbounded_channel();
        let live = Live {
            program,
            checks: Arc::clone(&self.checks),
            policy,
            seed: self.seed,
        };
        let host = self
            .ground
            .programs
            .host(&host_name(self.peer), program.life as u64);
        let bound = live.clone().bind(host, self.coordinator.clone());
        let task = tokio::spawn(live.run(bound, ordered));
        self.running = Some(Running { orders, task });
    }

    /// Has the host lose its power.
    pub(crate) async fn crash(&mut self) {
        let host = self.ground.host(self.peer);
        let crashed = self.ground.programs.with(|world| world.crash(host));
        crashed.expect("the host is of this world");
        self.kill().await;
    }

    /// Ends the program without a word.
    pub(crate) async fn kill(&mut self) {
        if let Some(running) = self.running.take() {
            running.task.abort();
            drop(running.task.await);
        }
    }

    /// Has the program say goodbye and end, which takes a moment.
    pub(crate) async fn close(&mut self) {
        if let Some(running) = self.running.take() {
            drop(running.orders.send(Order::Close));
            drop(running.task.await);
        }
    }

    /// Has the program dial, if there is one.
    pub(crate) fn dial(&self, order: DialOrder) {
        if let Some(running) = &self.running {
            drop(running.orders.send(Order::Dial(order)));
        }
    }
}

/// A program.
#[derive(Debug, Clone)]
struct Live {
    program: Program,
    checks: Arc<Checks>,
    policy: Policy,
    seed: u64,
}

impl Live {
    fn dial_policy(&self) -> Option<DialPolicy> {
        match self.policy {
            Policy::Nobody => None,
            Policy::Anyone => Some(DialPolicy::Anyone),
            Policy::Only(_) => {
                let numbers = 0..self.checks.count();
                let admitted = numbers.filter(|peer| self.policy.admits(*peer));
                let ids = admitted.map(|peer| self.checks.id(peer));
                Some(DialPolicy::Only(ids.collect()))
            }
        }
    }

    /// Makes an endpoint, and goes on trying.
    async fn bind(self, host: p2pconnect::Host, coordinator: CoordinatorAddr) -> Endpoint {
        loop {
            let (checks, program) = (Arc::clone(&self.checks), self.program);
            let builder = Endpoint::builder()
                .host(host.clone())
                .coordinator(coordinator.clone())
                .secret_key(key(self.seed, Some(program.peer)))
                .stream_silence(SILENCE)
                .observer(move |status| checks.hear(program, &status));
            let builder = match self.dial_policy() {
                Some(policy) => builder.allow(policy),
                None => builder,
            };
            match builder.bind().await {
                Ok(endpoint) => return endpoint,
                Err(_) => sleep(RETRY_PAUSE).await,
            }
        }
    }

    async fn run(
        self,
        bound: impl Future<Output = Endpoint>,
        mut ordered: mpsc::UnboundedReceiver<Order>,
    ) {
        let mut bound = pin!(bound);
        let mut early = Vec::new();
        let endpoint = loop {
            tokio::select! {
                endpoint = &mut bound => break Arc::new(endpoint),
                order = ordered.recv() => match order {
                    Some(Order::Dial(order)) => early.push(order),
                    Some(Order::Close) | None => return,
                }
            }
        };
        let mut work = JoinSet::new();
        for order in early {
            work.spawn(self.clone().dial(Arc::clone(&endpoint), order));
        }
        let mut is_listening = self.policy != Policy::Nobody;
        loop {
            tokio::select! {
                order = ordered.recv() => match order {
                    Some(Order::Dial(order)) => {
                        work.spawn(self.clone().dial(Arc::clone(&endpoint), order));
                    }
                    Some(Order::Close) | None => break,
                },
                accepted = endpoint.accept(), if is_listening => match accepted {
                    Some(connection) => {
                        let live = self.clone();
                        live.checks.accepts(live.program, connection.peer_id());
                        work.spawn(async move {
                            let _busy = live.checks.busy(live.program.peer);
                            let said = Talk { own: live.program.peer, dial: None };
                            drop(talk(connection, said, &live.checks).await);
                        });
                    }
                    None => is_listening = false,
                },
                Some(_) = work.join_next(), if !work.is_empty() => {}
            }
        }
        work.shutdown().await;
        if let Some(endpoint) = Arc::into_inner(endpoint) {
            endpoint.close().await;
        }
    }

    async fn dial(self, endpoint: Arc<Endpoint>, order: DialOrder) {
        let _busy = self.checks.busy(self.program.peer);
        let DialOrder {
            to,
            limit,
            patience,
            ended,
        } = order;
        let dial = self.checks.dials(self.program.peer, to);
        let began = Instant::now();
        let dialling = endpoint.dial_within(self.checks.id(to), limit);
        let dialling = async {
            match patience {
                Some(patience) => timeout(patience, dialling).await.ok(),
                None => Some(dialling.await),
            }
        };
        let going_on = self.checks.goes_on(dial);
        let result = timeout(limit + SLACK, dialling).await;
        drop(going_on);
        let result = match result {
            Ok(Some(result)) => result,
            Ok(None) => return self.checks.tally(|it| it.dropped += 1),
            Err(_) => {
                let text = format!("dial {dial} of {:?} to {to} goes on", self.program);
                return self.checks.breaks(Broken::Deadline, text);
            }
        };
        let took = began.elapsed();
        drop(endpoint);
        let result = match result {
            Ok(connection) => {
                self.checks.tally(|it| it.connected += 1);
                if connection.peer_id() != self.checks.id(to) {
                    let text = format!("dial {dial} to {to} is with {}", connection.peer_id());
                    self.checks.breaks(Broken::Peer, text);
                }
                let said = Talk {
                    own: self.program.peer,
                    dial: Some(dial),
                };
                Ok(talk(connection, said, &self.checks).await)
            }
            Err(error) => {
                self.checks.tally(|it| it.failed += 1);
                Err(error)
            }
        };
        if let Some(ended) = ended {
            drop(ended.send(Ended { took, result }));
        }
    }
}
