//! When things happen: moments that are fixed at the start, and the delays between redials.

use std::time::{Duration, Instant};

use p2pconnect_proto::Role;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::{
    PunchConfig,
    pair::{Pair, Scope},
};

/// The longest round-trip time that is believed.
///
/// It comes from the coordinator; a wild value must not make a round last for hours. Two hops by
/// geostationary satellite take 1.2 s.
const MAX_RTT: Duration = Duration::from_secs(3);

/// The longest time that a configuration can ask for; keeps all sums within what `Instant` holds.
const MAX_CONFIGURED: Duration = Duration::from_secs(3600);

/// How many pairs of a stage start at the same moment.
///
/// Two interfaces with both families and every kind of candidate. One SYN each costs nothing, and
/// whoever has more pairs than that sends the rest a little later.
const BURST: u32 = 12;

/// The distance between pairs beyond the burst: about one SYN a packet time on a slow uplink.
const PACE: Duration = Duration::from_millis(5);

/// How many redials follow at once; the first half second at a round-trip time of 50 ms.
const QUICK_REDIALS: u32 = 10;

/// The longest pause before a quick redial, in microseconds.
///
/// Measured against NATs that answer RST: with a random pause below 10 ms 90 of 90 connected. The
/// pause must be random, or both sides redial in lockstep for ever, and short against the
/// round-trip time, or the SYNs hardly ever cross.
const QUICK_PAUSE_US: u64 = 10_000;

/// The bounds of the later pauses, in microseconds; 55 of 55 connected.
const SLOW_PAUSE_US: (u64, u64) = (5_000, 40_000);

/// How many redials follow ICMP without any pause.
///
/// After ICMP the own NAT keeps its entry open. The peer's SYN passes it from then on, and ruins
/// the pair for 120 s if it finds no socket in SYN-SENT: so the place is manned again at once.
/// Twenty times cover a start 1.5 s apart at a round-trip time of 80 ms.
const MANNED_REDIALS: u32 = 20;

/// The most that the last hedges wait for a peer that starts late.
///
/// The two starts lie 1.5 s apart at most; if the first port is still turned away then, lateness
/// is not the reason.
const MAX_LATENESS: Duration = Duration::from_millis(1600);

/// The stage of the last hedge between two peers with two punch ports each.
pub(crate) const LAST_STAGE: u32 = 3;

/// Answers that come sooner are this machine's own, not the network's.
pub(crate) const LOCAL_ANSWER: Duration = Duration::from_millis(1);

/// How long the first wait for a connection in the accept queue takes; doubled each time.
///
/// The driver accepts within a scheduler's slice; longer waits are for a handshake whose last
/// packet was lost, which the kernel repeats after 1 s.
const ACCEPT_WAIT: Duration = Duration::from_millis(50);

/// How many times as long as the controlling side the controlled one waits for a verification.
///
/// The controlling side may nominate at the last moment, and holds a connection from then on. If
/// the other side gave up before the nomination has come, that connection would be worth nothing.
/// TCP repeats a lost nomination after 1 s, 3 s and 7 s at the latest.
const NOMINATION_PATIENCE: u32 = 3;

/// The part of the SYNs of a round that may be sent besides to addresses inside networks, whose
/// owners answer the first as a rule.
const INSIDE: u32 = 2;

/// How often a wait is doubled: to 800 ms.
const MAX_DOUBLINGS: u32 = 4;

/// The moments and durations of one round.
#[derive(Debug, Clone)]
pub(crate) struct Timing {
    start: Instant,
    rtt: Duration,
    hedge: Duration,
    pub(crate) attempt_min: Duration,
    pub(crate) verify_timeout: Duration,
    pub(crate) verify_stagger: Duration,
    /// No new attempt from here on.
    pub(crate) dial_until: Instant,
    /// When this side only listens, on the pair that it keeps for that.
    pub(crate) listen_from: Instant,
    /// Too late for a peer behind a NAT with a varying mapping.
    pub(crate) hopeless_at: Instant,
    /// Too late for ports that were predicted.
    pub(crate) mispredicted_at: Instant,
    /// Too late where the reports leave no hope from the start.
    pub(crate) impossible_at: Instant,
    /// When the last attempt has had its time, whenever it began.
    pub(crate) silent_at: Instant,
    /// The end, whatever is still going on.
    pub(crate) ends_at: Instant,
}

impl Timing {
    pub(crate) fn new(
        config: &PunchConfig,
        role: Role,
        rtt_via_coordinator: Duration,
        start: Instant,
    ) -> Self {
        let rtt = rtt_via_coordinator.min(MAX_RTT);
        let at_least =
            |configured: Duration, rtts: u32| configured.min(MAX_CONFIGURED).max(rtt * rtts);
        let attempt_min = at_least(config.attempt_min, 4);
        let verify_timeout = match role {
            Role::Controlling => at_least(config.verify_timeout, 6),
            Role::Controlled => at_least(config.verify_timeout, 6) * NOMINATION_PATIENCE,
        };
        let dial_until = start + at_least(config.round_timeout, 6);
        Self {
            start,
            rtt,
            hedge: config.hedge.min(MAX_CONFIGURED).max(rtt * 3 / 2),
            listen_from: start + attempt_min,
            attempt_min,
            verify_timeout,
            verify_stagger: at_least(config.verify_stagger, 2),
            dial_until,
            hopeless_at: start + at_least(config.hopeless_after, 6),
            mispredicted_at: start + at_least(config.mispredicted_after, 6),
            impossible_at: start + at_least(config.impossible_after, 4),
            silent_at: dial_until + attempt_min,
            ends_at: dial_until + attempt_min + verify_timeout,
        }
    }

    /// Returns when the pair at `place` of a stage starts.
    ///
    /// The stages are one hedge apart on both sides alike, so that their SYNs cross again.
    pub(crate) fn start_of(&self, stage: u32, place: u32) -> Instant {
        self.start + self.hedge * stage + PACE * place.saturating_sub(BURST - 1)
    }
}

impl Timing {
    /// Returns how much later than planned the peer starts, at least.
    ///
    /// An attempt of the first in its stage was turned away after it had `lived` for a round trip,
    /// so half of that ago the peer's NAT had not seen the peer's own SYN.
    pub(crate) fn lateness(&self, stage: u32, turned_away: Instant, lived: Duration) -> Duration {
        let there = turned_away - lived / 2;
        let planned = self.start_of(stage, 0);
        there.saturating_duration_since(planned).min(MAX_LATENESS)
    }
}

/// Returns how long a hedge waits for a peer that seems to start late, at most.
///
/// A peer that was not told of one of our ports never answers there, however late it is: the first
/// hedge waits for 0.1 s only, and each further one four times as long.
pub(crate) fn patience(stage: u32) -> Duration {
    MAX_LATENESS / 4_u32.pow(LAST_STAGE.saturating_sub(stage))
}

/// What an attempt died of, as far as the next one is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// A RST: the own NAT has forgotten the attempt.
    Reset,
    /// ICMP: the own NAT still holds the attempt's entry.
    Icmp,
    /// Something on this machine, for the n-th time in a row.
    Local(u32),
}

/// Chooses the pauses between redials and counts the SYNs, in each scope by itself.
#[derive(Debug)]
pub(crate) struct Redialler {
    inside: Share,
    outside: Share,
}

impl Redialler {
    pub(crate) fn new(seed: [u8; 32], config: &PunchConfig) -> Self {
        let share = |syns, stream| {
            let mut rng = ChaCha8Rng::from_seed(seed);
            rng.set_stream(stream);
            Share {
                rng,
                left: syns,
                total: syns,
                guesses_left: config.max_guess_syns,
            }
        };
        Self {
            inside: share(config.max_syns / INSIDE, 2),
            outside: share(config.max_syns, 0),
        }
    }

    /// Sees to it that so many guesses can be made once, wherever they lead.
    pub(crate) fn allow_guesses(&mut self, count: u32) {
        for share in [&mut self.inside, &mut self.outside] {
            share.guesses_left = share.guesses_left.max(count);
        }
    }

    /// Returns what counts for attempts to addresses of a scope.
    pub(crate) const fn toward(&mut self, scope: Scope) -> &mut Share {
        match scope {
            Scope::Inside => &mut self.inside,
            Scope::Outside => &mut self.outside,
        }
    }
}

/// The attempts of one scope.
#[derive(Debug)]
pub(crate) struct Share {
    rng: ChaCha8Rng,
    left: u32,
    total: u32,
    guesses_left: u32,
}

impl Share {
    pub(crate) const fn is_exhausted(&self, is_guess: bool) -> bool {
        if is_guess {
            self.guesses_left == 0
        } else {
            self.left == 0
        }
    }

    pub(crate) const fn count_syn(&mut self, is_guess: bool) {
        let left = if is_guess {
            &mut self.guesses_left
        } else {
            &mut self.left
        };
        *left = left.saturating_sub(1);
    }

    /// Returns a random delay for the start of a hedge.
    ///
    /// A start that is late in just the wrong way fails on each pair alike; so each gets another.
    /// Half a round trip still lets SYNs cross that were to start together.
    pub(crate) fn jitter(&mut self, timing: &Timing, stage: u32) -> Duration {
        if stage == 0 {
            return Duration::ZERO;
        }
        self.up_to(u64::try_from((timing.rtt / 2).as_micros()).unwrap_or(u64::MAX))
    }

    /// Returns how long to wait before a pair is dialled again.
    pub(crate) fn pause(&mut self, cause: Cause, pair: &Pair, remaining: Duration) -> Duration {
        let pause = match cause {
            Cause::Reset if pair.attempts <= QUICK_REDIALS => self.up_to(QUICK_PAUSE_US),
            Cause::Icmp if pair.attempts <= MANNED_REDIALS => Duration::ZERO,
            Cause::Reset | Cause::Icmp => self.slow(),
            Cause::Local(times) => doubled(ACCEPT_WAIT, times) + self.up_to(QUICK_PAUSE_US),
        };
        if pair.is_guess {
            return pause;
        }
        pause.max(self.thrift(remaining))
    }

    /// Returns how long to wait for a connection in the accept queue, for the n-th time in a row.
    pub(crate) fn accept_wait(&mut self, times: u32) -> Duration {
        doubled(ACCEPT_WAIT, times) + self.up_to(QUICK_PAUSE_US)
    }

    /// Spreads the second half of the SYNs over the time that is left.
    fn thrift(&mut self, remaining: Duration) -> Duration {
        if self.left == 0 || self.left > self.total / 2 {
            return Duration::ZERO;
        }
        let share = remaining / self.left;
        share / 2 + self.up_to(u64::try_from(share.as_micros()).unwrap_or(u64::MAX))
    }

    fn slow(&mut self) -> Duration {
        let (least, most) = SLOW_PAUSE_US;
        Duration::from_micros(self.rng.random_range(least..most))
    }

    fn up_to(&mut self, most_us: u64) -> Duration {
        Duration::from_micros(self.rng.random_range(0..=most_us))
    }
}

fn doubled(wait: Duration, times: u32) -> Duration {
    wait * 2_u32.pow(times.min(MAX_DOUBLINGS))
}
