//! One dial: what is varied, how it is run, and what is expected of it.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex},
    time::Duration,
};

use netns_lab::{
    Gate, LinkSpec,
    virtual_time::{Uplink, World},
};
use p2pconnect::{Connection, DialPolicy, PunchReport, Status};
use p2pconnect_tests::{kinds::Kind, virtual_ground::VirtualGround};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{Instant, sleep, timeout},
};

use crate::expected;

/// A peer's system calls take a moment, and not always the same.
const JITTER: Duration = Duration::from_micros(200);

/// What a side allows itself: on plain pairs, and where ports are guessed.
const MAX_SYNS: u32 = 200 + 1280;

/// Peers have learnt all about their NATs long before they dial.
const SETTLING: Duration = Duration::from_secs(20);

/// How long both sides go on after a dial: what was under way has come by then, and a second
/// connection would have.
const AFTERWARDS: Duration = Duration::from_secs(20);

const SERVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 100);

/// What each side says over the connection that it believes in.
const WORDS: [&[u8]; 2] = [b"from the dialler", b"from the listener"];

/// What is varied.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) controlling: Kind,
    pub(crate) controlled: Kind,
    /// How much later the controlled side hears of its introduction; negative if it is the first.
    pub(crate) skew_us: i64,
    /// From host to host.
    pub(crate) one_way: Duration,
    /// From a host to its router.
    pub(crate) last_mile: Duration,
    /// How many times as long the way by the server is.
    pub(crate) detour: u32,
    /// The probability that a packet is lost between the two hosts.
    pub(crate) loss: f64,
}

/// What one side came to.
#[derive(Debug)]
struct Side {
    /// What it heard over its connection, or why it has none.
    heard: Result<Vec<u8>, Option<Box<PunchReport>>>,
    attempts: u32,
    redials: u32,
}

/// What came of a dial.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The dialler first.
    sides: [Side; 2],
    /// From the dial until it was over.
    took: Duration,
    /// Whether the listener got a connection more than the one that was dialled.
    again: bool,
}

impl Scenario {
    /// On time, with 80 ms there and back as in the namespaces, and 1 ms to a router at home.
    pub(crate) const fn of(controlling: Kind, controlled: Kind) -> Self {
        Self {
            controlling,
            controlled,
            skew_us: 0,
            one_way: Duration::from_millis(40),
            last_mile: Duration::from_millis(1),
            detour: 1,
            loss: 0.0,
        }
    }

    fn world(self, seed: u64) -> World {
        let mut world = World::new(seed);
        world.stop_log();
        let server = LinkSpec::delay(self.one_way / 2 * (self.detour - 1));
        world
            .add_host("server", &[SERVER.into()], Uplink::core(server))
            .expect("the address is free");
        self.add_peer(&mut world, "a", 1, self.controlling);
        self.add_peer(&mut world, "b", 2, self.controlled);
        world
    }

    /// Adds a peer behind its boxes, from the core inwards.
    fn add_peer(self, world: &mut World, name: &str, number: u8, kind: Kind) {
        let inside = if kind.boxes.is_empty() {
            Duration::ZERO
        } else {
            self.last_mile
        };
        // Each way has two of these links.
        let access = LinkSpec::delay((self.one_way / 2).saturating_sub(inside))
            .jitter(JITTER)
            .loss(1.0 - (1.0 - self.loss).sqrt());
        let mut uplink = Uplink::core(access);
        let mut address = IpAddr::from([203, 0, 113, number]);
        for (layer, spec) in (1..=u8::MAX).zip(kind.boxes).rev() {
            let external = spec.translates().then_some(address);
            if spec.translates() {
                address = IpAddr::from([10, number, layer, 2]);
            }
            let id = world.add_nat(
                &format!("{name}.nat{layer}"),
                *spec,
                external.as_slice(),
                uplink,
            );
            uplink = Uplink::behind(id.expect("the box is well-formed"));
        }
        if !kind.boxes.is_empty() {
            uplink = uplink.link(LinkSpec::delay(self.last_mile).jitter(JITTER));
        }
        world
            .add_host(name, &[address], uplink)
            .expect("the address is free");
    }

    /// Holds up what the server says to the side that is to be late from now on, so that its
    /// introduction comes late.
    fn skew(self, ground: &VirtualGround) {
        let late = if self.skew_us < 0 { "a" } else { "b" };
        let by = Duration::from_micros(self.skew_us.unsigned_abs());
        let hold = format!("any from server to {late}");
        // A server of a dial answers no SYN of its peers any more.
        let never = "syn from a to b at server";
        let [hold, never] = [&hold, never].map(|it| it.parse().expect("it describes packets"));
        let gate = Gate::new(hold, never).limit(by);
        let added = ground.programs.with(|world| world.add_gate(&gate));
        added.expect("the hosts are there");
    }

    pub(crate) fn run(self, seed: u64) -> Outcome {
        VirtualGround::run_in(self.world(seed), "server", seed, async |ground| {
            let failed = Arc::new(Mutex::new(None));
            let failing = Arc::clone(&failed);
            let listener = ground.endpoint("b").allow(DialPolicy::Anyone);
            let listener = listener.observer(move |status| {
                if let Status::PunchFailed { report, .. } = status {
                    *failing.lock().expect("no holder panics") = report;
                }
            });
            let binding = async { tokio::join!(listener.bind(), ground.endpoint("a").bind()) };
            let (listener, dialler) = binding.await;
            let listener = listener.expect("the server is there");
            let dialler = dialler.expect("the server is there");
            let peer = listener.peer_id();
            sleep(SETTLING).await;
            if self.skew_us != 0 {
                self.skew(&ground);
            }
            let accepting = tokio::spawn(async move {
                let mut side = None;
                while let Ok(Some(connection)) = timeout(AFTERWARDS, listener.accept()).await {
                    let again = side.is_some();
                    side = Some((talk(connection, WORDS[1]).await, again));
                }
                side
            });
            let began = Instant::now();
            let dialled = dialler.dial(peer).await;
            let took = began.elapsed();
            let dialling = match dialled {
                Ok(connection) => talk(connection, WORDS[0]).await,
                Err(error) => Side::failed(error.report().cloned().map(Box::new)),
            };
            let accepted = accepting.await.expect("no task panics");
            let again = accepted.as_ref().is_some_and(|(_, again)| *again);
            let accepted = accepted.map(|(side, _)| side);
            let failed = failed.lock().expect("no holder panics").take();
            Outcome {
                sides: [dialling, accepted.unwrap_or_else(|| Side::failed(failed))],
                took,
                again,
            }
        })
    }

    /// Compares a run with the oracle; returns how long the dial took.
    pub(crate) fn check(self, seed: u64) -> Duration {
        let outcome = self.run(seed);
        let again = || format!("{}\n{outcome:#?}", self.again(seed));
        let views = [
            expected::verdict(self.controlling, self.controlled),
            expected::verdict(self.controlled, self.controlling),
        ];
        assert!(!outcome.again, "two connections: {}", again());
        for (number, (side, expected)) in outcome.sides.iter().zip(views).enumerate() {
            assert!(side.attempts <= MAX_SYNS, "{}", again());
            match (&side.heard, expected) {
                (Ok(heard), None) => assert_eq!(heard, WORDS[1 - number], "{}", again()),
                (Err(Some(report)), Some(verdict)) => {
                    assert_eq!(report.verdict, verdict, "{}", again());
                    let text = report.to_string();
                    let why = "address-and-port-dependent mapping";
                    assert!(text.contains(why), "{text}");
                }
                (Ok(_), Some(_)) | (Err(_), _) => panic!("expected {expected:?}: {}", again()),
            }
        }
        outcome.took
    }

    /// Returns how many attempts both sides had to repeat.
    pub(crate) fn redials(self, seed: u64) -> u32 {
        let outcome = self.run(seed);
        let connected = outcome.sides.iter().all(|side| side.heard.is_ok());
        assert!(connected, "{}", self.again(seed));
        outcome.sides.iter().map(|side| side.redials).sum()
    }

    /// Says how to run it again.
    fn again(self, seed: u64) -> String {
        format!("P2PCONNECT_SIM_SEED={seed} {self:?}")
    }
}

impl Side {
    fn failed(report: Option<Box<PunchReport>>) -> Self {
        let pairs = report.iter().flat_map(|report| &report.pairs);
        Self {
            attempts: pairs.map(|pair| pair.attempts).sum(),
            redials: 0,
            heard: Err(report),
        }
    }
}

/// Says something over a connection, and listens to all that the other side says.
async fn talk(mut connection: Connection, words: &[u8]) -> Side {
    let path = connection.path();
    let mut heard = Vec::new();
    let talked = async {
        connection.write_all(words).await?;
        connection.shutdown().await?;
        connection.read_to_end(&mut heard).await
    };
    // What has broken is seen by what was heard.
    drop(talked.await);
    Side {
        heard: Ok(heard),
        attempts: path.attempts,
        redials: path.redials,
    }
}
