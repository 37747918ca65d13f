//! The end of a run: with the network whole again, all must be as if nothing had happened, and
//! leave nothing behind.

use std::time::Duration;

use netns_lab::{
    Dependence,
    oracle::{Endpoint, How, Outcome, Outside, punchable},
};
use p2pconnect::DialError;
use tokio::{
    sync::oneshot,
    time::{sleep, timeout},
};

use crate::{
    checks::Broken,
    machine::{DialOrder, Ended},
    play::Play,
};

/// How long it may take until what was out of order works again: a NAT's mapping is refreshed every
/// 15 s, and looked for again after up to 15 s more.
pub(crate) const RECOVERY: Duration = Duration::from_secs(60);

/// The pause between two dials, in which holes of the first one are closed.
pub(crate) const PAUSE: Duration = Duration::from_secs(5);

/// How much later than the other one's a peer's dial begins that crosses it.
const LATER_MS: [u64; 5] = [0, 1, 20, 80, 300];

/// The limit of a dial, as without one.
const DIAL_LIMIT: Duration = Duration::from_secs(15);

/// How long a dial may take that has to connect. The slowest ones wait for one or two repetitions
/// of a SYN; what has missed its cue goes on when something has timed out, 3 s later or more.
const SOON: Duration = Duration::from_secs(3);

/// How long after a dial what is said may take.
const TALK_LIMIT: Duration = Duration::from_secs(10);

/// How long a coordinator may take to notice that a client is gone without a word.
const FORGETTING: Duration = Duration::from_secs(40);

/// How long tasks may take to end that nobody waits for.
const ENDING: Duration = Duration::from_secs(10);

/// What has to come of a dial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    Connects,
    /// The policy does not let it.
    Refused,
    /// It takes luck, or ports that are taken: a NAT keeps what it has for a host at its former
    /// address.
    Open,
}

impl Play {
    /// Has all peers dial each other, and both of each two at about the same moment.
    pub(crate) async fn meet(&mut self) {
        self.whole = self.checks.now();
        self.pass(RECOVERY).await;
        for one in 0..self.machines.len() {
            for other in one + 1..self.machines.len() {
                self.dial_alone(one, other).await;
                let later = LATER_MS[(self.seed as usize + one + other) % LATER_MS.len()];
                self.cross(one, other, Duration::from_millis(later)).await;
            }
        }
    }

    /// Has a peer dial another one, which takes one introduction where nothing is to be learnt of
    /// their NATs meanwhile.
    async fn dial_alone(&mut self, from: usize, to: usize) {
        let before = self.checks.introductions(from, to);
        let ended = self.dial(from, to).await;
        let count = self.checks.introductions(from, to) - before;
        let is_plain = self.ground.is_seen_alike(from) && self.ground.is_seen_alike(to);
        let due = self.judge([from, to], ended, false);
        if due == Due::Connects && is_plain && count > 1 {
            let text = format!("{from} dials {to} with {count} introductions");
            self.checks.breaks(Broken::Rounds, text);
        }
        self.pass(PAUSE).await;
    }

    /// Has two dial each other, one of them so much later. If its dial is under way when the other
    /// one's connection comes, that is the connection of both.
    pub(crate) async fn cross(&mut self, one: usize, other: usize, later: Duration) {
        let before = self.checks.beside(one, other);
        let crossing = async {
            sleep(later).await;
            self.dial(one, other).await
        };
        let (theirs, ended) = tokio::join!(self.dial(other, one), crossing);
        let is_due = self.judge([other, one], theirs, true) == Due::Connects;
        let is_due = self.judge([one, other], ended, true) == Due::Connects && is_due;
        // Who has to find out the next port first asks later.
        let is_plain = self.ground.is_seen_alike(one);
        if is_due && is_plain && self.checks.beside(one, other) > before {
            let text = format!("{one} accepts a stream of {other}, which it dials {later:?} later");
            self.checks.breaks(Broken::Glare, text);
        }
        self.pass(PAUSE).await;
    }

    pub(crate) async fn dial(&self, from: usize, to: usize) -> Option<Ended> {
        let (ended, end) = oneshot::channel();
        self.machines[from].dial(DialOrder {
            to,
            limit: DIAL_LIMIT,
            patience: None,
            ended: Some(ended),
        });
        timeout(DIAL_LIMIT + TALK_LIMIT, end).await.ok()?.ok()
    }

    /// Returns whether somebody has to know the next port of a box beforehand, and that is not
    /// certain. The oracle knows no other users of a box, and a dial of a peer's own at the same
    /// moment takes ports too. What was found out while packets came out of order on the way to the
    /// box goes on to be believed.
    fn may_mispredict(&self, peers: [usize; 2], crosses: bool) -> bool {
        let is_uncertain = crosses || peers.iter().any(|peer| self.reordered.contains(peer));
        is_uncertain && self.needs_prediction(peers)
    }

    /// Returns whether somebody has to know the next port of a box beforehand.
    pub(crate) fn needs_prediction(&self, peers: [usize; 2]) -> bool {
        let [one, other] = peers.map(|peer| Outside::of(self.ground.boxes(peer)));
        let predicts = |of: &Outside, by: &Outside| {
            let counts = matches!(of.endpoint, Endpoint::Sequential(_));
            counts && by.filtering == Dependence::AddressAndPortDependent
        };
        predicts(&one, &other) || predicts(&other, &one)
    }

    /// Returns whether boxes have not the ports that two peers need: any at all or, where a port is
    /// predicted or guessed, one that they would have kept.
    pub(crate) fn lack_ports(&self, peers: [usize; 2]) -> bool {
        let is_full = |it: &usize| self.wire.was_full(*it, self.whole);
        let is_crowded = |it: &usize| self.wire.is_crowded(*it);
        let all_are_seen = peers.iter().all(|it| self.ground.is_seen_alike(*it));
        peers.iter().any(is_full) || !all_are_seen && peers.iter().any(is_crowded)
    }

    /// Checks that what had to come of a dial did, and returns what that was.
    fn judge(&mut self, [from, to]: [usize; 2], ended: Option<Ended>, crosses: bool) -> Due {
        self.look();
        let due = match self.due([from, to], crosses) {
            Due::Connects if self.lack_ports([from, to]) => Due::Open,
            due => due,
        };
        let is_met = ended.as_ref().is_some_and(|ended| match due {
            Due::Connects => matches!(ended.result, Ok(Ok(()))),
            Due::Refused => matches!(ended.result, Err(DialError::Unavailable { .. })),
            Due::Open => true,
        });
        if !is_met {
            let text = format!("{from} dials {to}, which is {due:?}: {ended:?}");
            self.checks.breaks(Broken::Reach, text);
        }
        if let (Due::Connects, Some(Ended { took, .. })) = (due, ended) {
            if took > SOON {
                let text = format!("{from} dials {to} for {took:?}");
                self.checks.breaks(Broken::Slow, text);
            }
            self.checks.tally(|it| {
                it.met += 1;
                it.slowest = it.slowest.max(took);
            });
        }
        due
    }

    /// Returns what has to come of a dial.
    pub(crate) fn due(&self, [from, to]: [usize; 2], crosses: bool) -> Due {
        if !self.machines[to].policy().admits(from) {
            return Due::Refused;
        }
        let [own, other] = [from, to].map(|peer| self.ground.boxes(peer));
        match punchable(own, other).outcome {
            Outcome::Certain {
                how: How::Filling, ..
            } => Due::Open,
            Outcome::Certain { .. } if self.may_mispredict([from, to], crosses) => Due::Open,
            Outcome::Certain { .. } => Due::Connects,
            Outcome::Chance { .. } | Outcome::Impossible { .. } => Due::Open,
        }
    }

    /// Ends everything, and checks that nothing is left.
    pub(crate) async fn leave(&mut self) {
        for peer in 0..self.machines.len() {
            let busy = self.checks.busy_of(peer);
            if busy > 0 {
                let text = format!("{busy} dials or streams of {peer} go on");
                self.checks.breaks(Broken::Rest, text);
            }
        }
        for (number, machine) in self.machines.iter_mut().enumerate() {
            match number % 2 {
                0 => machine.close().await,
                _ => machine.kill().await,
            }
        }
        self.pass(FORGETTING).await;
        if let Some(coordinator) = self.server.coordinator() {
            let left = [
                ("peers", coordinator.registered()),
                ("connections", coordinator.connections()),
                ("entries of introductions", coordinator.introductions()),
            ];
            for (what, count) in left.iter().filter(|(_, count)| *count > 0) {
                let text = format!("the coordinator has {count} {what}");
                self.checks.breaks(Broken::Rest, text);
            }
        }
        self.server.stop(false);
        self.pass(ENDING).await;
        let tasks = self.tasks();
        if tasks > 0 {
            self.checks
                .breaks(Broken::Rest, format!("{tasks} tasks go on"));
        }
        let hosts = (0..self.machines.len()).map(|peer| self.ground.host(peer));
        for host in hosts.chain([self.ground.server()]) {
            let sockets = self.ground.programs.open_sockets(host);
            if sockets > 0 {
                let text = format!("{sockets} sockets are open on {host:?}");
                self.checks.breaks(Broken::Rest, text);
            }
        }
    }
}
