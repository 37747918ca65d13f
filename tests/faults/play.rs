//! Plays a schedule: makes its world, does what it says when it says so, and makes it whole again.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    panic::{self, AssertUnwindSafe},
    sync::{Arc, Once},
    time::Duration,
};

use netns_lab::virtual_time::World;
use netns_lab_programs::{Programs, virtual_runtime};
use tokio::{
    runtime::Handle,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    checks::{Broken, Checks, Tally, Violation},
    ground::{Ground, key, topology},
    machine::{DialOrder, Machine},
    schedule::{Link, Schedule, Trouble, What},
    server::Server,
    wire::Wire,
};

/// How often what there is is counted.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// The pause before something is started again whose ports were not free yet.
pub(crate) const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// The most sockets that the programs of a peer's host have: those of guesses, which have a limit,
/// and some hundred more.
const MAX_SOCKETS: usize = 4_000;

/// What a run has come to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcome {
    pub(crate) violations: Vec<Violation>,
    pub(crate) tally: Tally,
    /// What crossed the links, for whoever wants to see it.
    pub(crate) log: String,
}

/// A run that goes on.
pub(crate) struct Play {
    pub(crate) ground: Ground,
    pub(crate) checks: Arc<Checks>,
    pub(crate) server: Server,
    pub(crate) machines: Vec<Machine>,
    pub(crate) wire: Wire,
    pub(crate) seed: u64,
    /// The peers whose packets came out of order at their box for a while, in the time of the
    /// program that runs there.
    pub(crate) reordered: BTreeSet<usize>,
    /// Since when the network is whole again.
    pub(crate) whole: Duration,
    wants_log: bool,
    began: Instant,
    /// What is still to do, in order.
    agenda: BTreeMap<(Duration, usize), Act>,
    /// How many steps have each thing out of order.
    out_of_order: BTreeMap<Thing, usize>,
    /// The addresses that hosts get when they have moved.
    moving: BTreeMap<usize, IpAddr>,
    /// How many tasks there are when nothing runs.
    idle_tasks: usize,
}

/// Something to do.
#[derive(Debug, Clone, Copy)]
enum Act {
    Begin(What),
    End(What),
}

/// What may be out of order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Thing {
    Machine(usize),
    Address(usize),
    /// The link above a place is down.
    Down(String),
    /// It does something to what it carries.
    Troubled(String),
    Server,
    Stun,
}

/// Plays a schedule in a runtime of its own.
pub(crate) fn play(schedule: &Schedule, wants_log: bool) -> Outcome {
    catch_panics();
    let played = panic::catch_unwind(AssertUnwindSafe(|| {
        virtual_runtime(schedule.seed).block_on(async {
            let world = World::build(&topology(schedule), schedule.seed);
            let programs = Programs::new(world.expect("the topology is good"), schedule.seed);
            let going_on = programs.clone();
            let going_on = tokio::spawn(async move { going_on.run().await });
            let outcome = Play::new(schedule, programs, wants_log).run().await;
            going_on.abort();
            outcome
        })
    }));
    let mut outcome = played.unwrap_or_default();
    for text in PANICS.take().into_iter().flatten() {
        outcome.violations.push(Violation::of_panic(text));
    }
    outcome
}

thread_local! {
    /// What has panicked on this thread, if it plays a schedule.
    static PANICS: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Has panics on this thread noted instead of printed: most are of tasks whose owners do not look.
fn catch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let printing = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let is_noted = PANICS.with_borrow_mut(|panics| {
                let noted = panics.as_mut().map(|panics| panics.push(info.to_string()));
                noted.is_some()
            });
            if !is_noted {
                printing(info);
            }
        }));
    });
    PANICS.set(Some(Vec::new()));
}

impl Play {
    fn new(schedule: &Schedule, programs: Programs, wants_log: bool) -> Self {
        let seed = schedule.seed;
        let ground = Ground::new(schedule, programs);
        let ids = (0..ground.peers()).map(|peer| key(seed, Some(peer)).peer_id());
        let checks = Arc::new(Checks::new(ids.collect()));
        let server = Server::new(&ground, seed);
        let machine = |peer| Machine::new(&ground, &checks, server.address(), seed, peer);
        let machines = (0..ground.peers()).map(machine).collect();
        let steps = schedule.steps.iter().enumerate();
        let agenda = steps.map(|(number, step)| {
            let at = Duration::from_micros(step.at_us);
            ((at, number), Act::Begin(step.what))
        });
        let mut play = Self {
            wire: Wire::new(&ground),
            seed,
            reordered: BTreeSet::new(),
            whole: Duration::ZERO,
            wants_log,
            agenda: agenda.collect(),
            ground,
            checks,
            server,
            machines,
            began: Instant::now(),
            out_of_order: BTreeMap::new(),
            moving: BTreeMap::new(),
            idle_tasks: Handle::current().metrics().num_alive_tasks(),
        };
        play.server.start();
        for (machine, peer) in play.machines.iter_mut().zip(&schedule.peers) {
            machine.start(peer.policy);
        }
        play
    }

    async fn run(mut self) -> Outcome {
        while let Some(((at, number), act)) = self.agenda.pop_first() {
            self.pass_until(self.began + at).await;
            match act {
                Act::Begin(what) => {
                    self.begin(what).await;
                    if let Some(lasts) = what.lasts() {
                        self.agenda.insert((at + lasts, number), Act::End(what));
                    }
                }
                Act::End(what) => self.end(what).await,
            }
        }
        assert!(self.out_of_order.is_empty(), "{:?}", self.out_of_order);
        self.meet().await;
        self.try_out().await;
        self.leave().await;
        let wants_log = self.wants_log;
        let log = |world: &mut World| wants_log.then(|| world.log().to_string());
        let log = self.ground.programs.with(log);
        let (violations, tally) = self.checks.take();
        Outcome {
            violations,
            tally,
            log: log.unwrap_or_default(),
        }
    }

    /// Lets time pass, and counts what there is meanwhile.
    pub(crate) async fn pass(&mut self, time: Duration) {
        self.pass_until(Instant::now() + time).await;
    }

    async fn pass_until(&mut self, until: Instant) {
        loop {
            let next = Instant::now() + LOOK_INTERVAL;
            sleep_until(until.min(next)).await;
            self.look();
            if next >= until {
                return;
            }
        }
    }

    /// Checks that nobody has gone where it must not, and that there is not too much of anything.
    pub(crate) fn look(&mut self) {
        let (programs, wire) = (&self.ground.programs, &mut self.wire);
        programs.with(|world| wire.check(world.log().entries(), &self.checks));
        for peer in 0..self.machines.len() {
            let sockets = self.ground.programs.open_sockets(self.ground.host(peer));
            if sockets > MAX_SOCKETS {
                let text = format!("{peer} has {sockets} sockets");
                self.checks.breaks(Broken::Limit, text);
            }
        }
        if let Some(coordinator) = self.server.coordinator() {
            let registered = coordinator.registered();
            if registered > self.machines.len() {
                let text = format!("{registered} peers are registered");
                self.checks.breaks(Broken::Limit, text);
            }
        }
    }

    /// Returns how many tasks there are beside those that are always there.
    pub(crate) fn tasks(&self) -> usize {
        let alive = Handle::current().metrics().num_alive_tasks();
        alive.saturating_sub(self.idle_tasks)
    }
}

/// What a step does.
impl Play {
    async fn begin(&mut self, what: What) {
        if let Some(thing) = self.thing(what) {
            let is_trouble = matches!(thing, Thing::Troubled(_));
            let count = self.out_of_order.entry(thing).or_default();
            *count += 1;
            // What is gone already cannot go, and a link has one trouble at a time, the last one.
            if *count > 1 && !is_trouble {
                return;
            }
        }
        match what {
            What::Dial {
                from,
                to,
                limit_ms,
                patience_ms,
            } => self.machines[from].dial(DialOrder {
                to,
                limit: Duration::from_millis(limit_ms),
                patience: patience_ms.map(Duration::from_millis),
                ended: None,
            }),
            What::Crash { peer, .. } => self.machines[peer].crash().await,
            What::Exit {
                peer,
                is_polite: true,
                ..
            } => self.machines[peer].close().await,
            What::Exit {
                peer,
                is_polite: false,
                ..
            } => self.machines[peer].kill().await,
            What::Move { peer, .. } => {
                self.moving.insert(peer, self.ground.take_address(peer));
            }
            What::Reboot {
                peer,
                is_outermost,
                moves,
            } => {
                self.ground.reboot(peer, is_outermost, moves);
                self.wire.note(&self.ground);
            }
            What::Cut { link, .. } => self.ground.set_up(link, false),
            What::Trouble { link, trouble, .. } => {
                if let (Link::Inside(peer), Trouble::Reordering(_)) = (link, trouble) {
                    self.reordered.insert(peer);
                }
                self.ground.set_trouble(link, Some(trouble));
            }
            What::ServerRestart { is_polite, .. } => self.server.stop(is_polite),
            What::StunRestart { .. } => self.server.stop_stun(),
            What::Calendar { ahead_s } => {
                let server = self.ground.server();
                self.ground.programs.set_calendar(server, ahead_s);
            }
        }
    }

    /// Returns what a step has out of order while it takes.
    fn thing(&self, what: What) -> Option<Thing> {
        Some(match what {
            What::Crash { peer, .. } | What::Exit { peer, .. } => Thing::Machine(peer),
            What::Move { peer, .. } => Thing::Address(peer),
            What::Cut { link, .. } => Thing::Down(self.ground.below(link)),
            What::Trouble { link, .. } => Thing::Troubled(self.ground.below(link)),
            What::ServerRestart { .. } => Thing::Server,
            What::StunRestart { .. } => Thing::Stun,
            What::Dial { .. } | What::Reboot { .. } | What::Calendar { .. } => return None,
        })
    }

    async fn end(&mut self, what: What) {
        if let Some(thing) = self.thing(what) {
            let count = self.out_of_order.entry(thing.clone()).or_default();
            *count -= 1;
            if *count > 0 {
                return;
            }
            self.out_of_order.remove(&thing);
        }
        match what {
            What::Crash { peer, back, .. } | What::Exit { peer, back, .. } => {
                self.machines[peer].start(back);
                let inside = Thing::Troubled(self.ground.below(Link::Inside(peer)));
                if !self.out_of_order.contains_key(&inside) {
                    self.reordered.remove(&peer);
                }
            }
            What::Move { peer, .. } => {
                if let Some(address) = self.moving.remove(&peer) {
                    self.ground.give_address(peer, address);
                }
                self.wire.note(&self.ground);
            }
            What::Cut { link, .. } => self.ground.set_up(link, true),
            What::Trouble { link, .. } => self.ground.set_trouble(link, None),
            What::ServerRestart { .. } => {
                while !self.server.start() {
                    sleep(RETRY_PAUSE).await;
                }
            }
            What::StunRestart { .. } => {
                while !self.server.start_stun() {
                    sleep(RETRY_PAUSE).await;
                }
            }
            What::Dial { .. } | What::Reboot { .. } | What::Calendar { .. } => {}
        }
    }
}

impl What {
    /// Returns how long it takes, if it has an end that something happens at.
    const fn lasts(self) -> Option<Duration> {
        let ms = match self {
            Self::Crash { down_ms, .. }
            | Self::Exit { down_ms, .. }
            | Self::ServerRestart { down_ms, .. }
            | Self::StunRestart { down_ms } => down_ms,
            Self::Move { gap_ms, .. } => gap_ms,
            Self::Cut { for_ms, .. } | Self::Trouble { for_ms, .. } => for_ms,
            Self::Dial { .. } | Self::Reboot { .. } | Self::Calendar { .. } => return None,
        };
        Some(Duration::from_millis(ms))
    }
}
