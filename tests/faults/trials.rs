//! Trials at the end of a run, before all is ended: of a network that is whole but for one thing,
//! users are promised more than that a dial connects.

use std::{ops::RangeInclusive, time::Duration};

use p2pconnect::DialError;
use rand::{RngExt as _, SeedableRng as _, seq::IndexedRandom as _};
use rand_chacha::ChaCha8Rng;
use tokio::time::sleep;

use crate::{
    checks::Broken,
    finale::{Due, PAUSE, RECOVERY},
    machine::Ended,
    play::{Play, RETRY_PAUSE},
    schedule::Link,
};

/// Which numbers of a seed the trials are drawn by: others than the schedule.
const STREAM: u64 = 1;

/// How long an endpoint that begins may take to find out and tell what its NAT is like.
const BEGINNING: Duration = Duration::from_secs(20);

/// How many ports others behind a peer's NAT take just before a dial: more than are expected.
const TAKEN: RangeInclusive<u32> = 100..=400;

/// How long before it that is.
const TAKING: Duration = Duration::from_millis(50);

/// For how long a coordinator hears nothing of a peer before it takes it for gone, apart from round
/// trips, and how much later that is noticed. An attempt may be over just before, and another one
/// begin.
const SILENCE: Duration = Duration::from_millis(2 * (1500 + 200));

/// In one of how many runs the STUN server ends: the trial takes as long as a whole schedule.
const LOST_STUN: u32 = 4;

/// How long it takes until a STUN server that has ended is given up: four attempts to connect.
const LOSS: Duration = Duration::from_secs(30);

/// How much longer a dial may take that begins anew since one of the sides has learnt something:
/// what is learnt, and another introduction.
const ANEW: Duration = Duration::from_millis(500);

/// How many round trips it takes until somebody who is dialled knows its next port: the word of the
/// coordinator, a connection to the STUN server and its answer. Each introduction takes them.
const ASKING_TAKES: u32 = 3;

impl Play {
    /// Makes each trial that the peers are right for.
    pub(crate) async fn try_out(&mut self) {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(STREAM);
        self.try_crossing(&mut rng).await;
        self.try_taken_ports(&mut rng).await;
        self.try_lost_stun(&mut rng).await;
        self.try_silence(&mut rng).await;
    }

    /// Draws two peers, of which the first one's dial of the other is as wanted, and whose boxes
    /// have the ports for it.
    fn draw_pair(
        &self,
        rng: &mut ChaCha8Rng,
        is_wanted: impl Fn([usize; 2]) -> bool,
    ) -> Option<[usize; 2]> {
        let peers = 0..self.machines.len();
        let pairs = peers
            .clone()
            .flat_map(|from| peers.clone().map(move |to| [from, to]));
        let pairs = pairs.filter(|pair| pair[0] != pair[1] && !self.lack_ports(*pair));
        let wanted = pairs.filter(|pair| is_wanted(*pair));
        wanted.collect::<Vec<_>>().choose(rng).copied()
    }

    /// Returns whether a dial has to connect, whatever others there are.
    fn connects(&self, pair: [usize; 2]) -> bool {
        self.due(pair, true) == Due::Connects
    }

    /// Has a peer dial one whose dial of it is under way.
    async fn try_crossing(&mut self, rng: &mut ChaCha8Rng) {
        if let Some([one, other]) = self.draw_pair(rng, |pair| self.connects(pair)) {
            let connected = self.ground.time_to_connect(one, other);
            let later = connected.mul_f64(rng.random());
            self.cross(other, one, later).await;
        }
    }

    /// Has others behind a NAT that counts its ports take some just before its peer is dialled,
    /// with the next ones predicted. Both peers begin anew before, so that they know their NATs.
    async fn try_taken_ports(&mut self, rng: &mut ChaCha8Rng) {
        let pair = self.draw_pair(rng, |pair| {
            let is_due = self.due(pair, false) == Due::Connects;
            is_due && self.needs_prediction(pair) && self.ground.counts_ports(pair[1])
        });
        let Some([from, to]) = pair else {
            return;
        };
        for peer in [from, to] {
            let policy = self.machines[peer].policy();
            self.machines[peer].close().await;
            self.machines[peer].start(policy);
        }
        self.pass(BEGINNING).await;
        self.ground.take_ports(to, rng.random_range(TAKEN));
        self.pass(TAKING).await;
        let ended = self.dial(from, to).await;
        let asked = self.ground.round_trip(to) * ASKING_TAKES * 2;
        let limit = self.ground.time_to_connect(from, to) * 5 + asked + ANEW;
        let is_met = |it: &Ended| matches!(it.result, Ok(Ok(()))) && it.took <= limit;
        if !ended.as_ref().is_some_and(is_met) {
            let text = format!("{from} dials {to}, whose ports are taken: {ended:?}");
            self.checks.breaks(Broken::Slow, text);
        }
        self.pass(PAUSE).await;
    }

    /// Has a peer dial another one whose NAT has begun anew after the STUN server had ended for
    /// good. The other addresses of the server tell where it is now, but with one of them alone
    /// nobody finds out whether others see the same port.
    async fn try_lost_stun(&mut self, rng: &mut ChaCha8Rng) {
        let pair = self.draw_pair(rng, |pair| {
            self.connects(pair) && pair.iter().all(|it| self.ground.is_seen_alike(*it))
        });
        let Some([from, to]) = pair.filter(|_| rng.random_ratio(1, LOST_STUN)) else {
            return;
        };
        self.server.stop_stun();
        self.pass(LOSS).await;
        self.ground.reboot(to, true, true);
        self.wire.note(&self.ground);
        self.pass(RECOVERY).await;
        let ended = self.dial(from, to).await;
        if !ended.is_some_and(|it| matches!(it.result, Ok(Ok(())))) {
            let text = format!("{from} dials {to} without a STUN server");
            self.checks.breaks(Broken::Reach, text);
        }
        while !self.server.start_stun() {
            sleep(RETRY_PAUSE).await;
        }
        self.pass(RECOVERY).await;
    }

    /// Has a peer dial another one that has lost its power.
    async fn try_silence(&mut self, rng: &mut ChaCha8Rng) {
        let Some([from, to]) = self.draw_pair(rng, |pair| self.connects(pair)) else {
            return;
        };
        let is_off = rng.random();
        if is_off {
            self.ground.set_up(Link::Inside(to), false);
        }
        self.machines[to].crash().await;
        let ended = self.dial(from, to).await;
        let limit = SILENCE + (self.ground.delay(from) + self.ground.delay(to)) * 6;
        let is_silent =
            |it: &Ended| matches!(it.result, Err(DialError::PeerSilent(_))) && it.took <= limit;
        if !ended.as_ref().is_some_and(is_silent) {
            let text = format!("{from} dials {to}, which has lost its power: {ended:?}");
            self.checks.breaks(Broken::Silence, text);
        }
        if is_off {
            self.ground.set_up(Link::Inside(to), true);
        }
    }
}
