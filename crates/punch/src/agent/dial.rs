//! Attempts to connect: when they are made and what follows when they fail.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::{
    Action, CheckId, ConnectFailure, How, PairOutcome, PunchAgent, Purpose, VerifyFailure,
    pair::{CheckState, DialledBy, Ending, PairId},
    schedule::{Cause, LOCAL_ANSWER},
};

/// The most failures in a row that come from this machine itself.
///
/// With doubled pauses they span the whole round; something that is in the way for longer stays.
const MAX_LOCAL_FAILURES: u32 = 12;

/// The most connections on a pair that may break before they are verified.
///
/// A handshake that crosses with a reset breaks once; more often it is somebody else's service.
const MAX_BROKEN: u32 = 3;

/// An answer that takes longer came to a repeated SYN, and does not tell when.
///
/// The kernel repeats a SYN for the first time after 1 s.
const MAX_ANSWER: Duration = Duration::from_secs(1);

impl PunchAgent {
    pub(super) fn dial_what_is_due(&mut self) {
        if self.latest >= self.timing.dial_until {
            return;
        }
        while let Some((due, id)) = self.next_pair() {
            if due > self.latest {
                break;
            }
            let pair = self.checklist.pair(id);
            let share = self.redialler.toward(pair.scope);
            if let CheckState::InProgress { check, .. } = pair.state() {
                self.actions.push_back(Action::Close { check });
                self.end(id, Ending::Passive);
            } else if share.is_exhausted(pair.is_guess) {
                self.end(id, Ending::Exhausted);
            } else {
                self.dial(id);
            }
        }
    }

    /// Returns when the next attempt is due.
    pub(super) fn next_dial(&self) -> Option<Instant> {
        if self.latest >= self.timing.dial_until {
            return None;
        }
        let (due, _) = self.next_pair()?;
        (due < self.timing.dial_until).then_some(due)
    }

    /// Returns the pair to dial next, or to leave to the peer, and when, as things stand.
    fn next_pair(&self) -> Option<(Instant, PairId)> {
        self.checklist.agenda().next(|remote| {
            self.connections
                .promising_until(self.checklist.scope(remote))
        })
    }

    fn dial(&mut self, id: PairId) {
        let pair = self.checklist.pair(id);
        let share = self.redialler.toward(pair.scope);
        share.count_syn(pair.is_guess);
        let check = self.new_check();
        let since = self.latest;
        self.checklist
            .set_state(id, CheckState::InProgress { check, since });
        let pair = self.checklist.pair_mut(id);
        self.stats.redials += u32::from(pair.sent() > 0);
        self.stats.attempts += 1;
        pair.attempts += 1;
        let (local, remote) = (pair.pair.local, pair.pair.remote);
        let purpose = match pair.attempts {
            _ if pair.is_guess => Purpose::Guess,
            1 => Purpose::First,
            _ => Purpose::Again,
        };
        tracing::trace!(%check, %local, %remote, attempt = pair.attempts, "connect");
        self.actions.push_back(Action::Connect {
            check,
            local,
            remote,
            purpose,
        });
    }

    pub(super) fn handle_connect_failed(&mut self, check: CheckId, failure: ConnectFailure) {
        let Some((id, since)) = self.checklist.in_progress(check) else {
            self.stats.ignored += 1;
            return;
        };
        let lived = self.latest.saturating_duration_since(since);
        tracing::trace!(%check, ?failure, ?lived, "connect failed");
        let pair = self.checklist.pair_mut(id);
        pair.last = Some(PairOutcome::Failed(failure));
        if failure == ConnectFailure::Withheld {
            pair.withheld += 1;
            self.stats.attempts -= 1;
            self.stats.redials -= u32::from(pair.sent() > 0);
        }
        if self.connections.holds_pair(id) {
            self.checklist.set_state(id, CheckState::Open);
            return;
        }
        match failure {
            ConnectFailure::Refused | ConnectFailure::Reset | ConnectFailure::TimedOut => {
                self.note_lateness(id, failure, lived);
                self.redial(id, Cause::Reset);
            }
            ConnectFailure::NetworkUnreachable if lived < LOCAL_ANSWER => {
                self.end(id, Ending::NoRoute);
            }
            // The network's word, not our routing table's: some NATs turn strangers away so.
            ConnectFailure::HostUnreachable | ConnectFailure::NetworkUnreachable => {
                let local = lived < LOCAL_ANSWER;
                self.note_lateness(id, failure, lived);
                self.redial(id, if local { Cause::Reset } else { Cause::Icmp });
            }
            ConnectFailure::AddressNotAvailable => self.await_accept(id),
            ConnectFailure::AddressInUse
            | ConnectFailure::NoLocalAddress
            | ConnectFailure::NotPermitted
            | ConnectFailure::NoResources
            | ConnectFailure::Withheld
            | ConnectFailure::Other => {
                self.retry_locally(id);
            }
        }
    }

    /// Learns from ICMP for an early SYN that the peer has not started yet.
    ///
    /// The hedges wait for it then, since ICMP can leave them spoilt. After a RST they need not:
    /// the NAT has forgotten them, and whichever crosses first counts.
    fn note_lateness(&mut self, id: PairId, failure: ConnectFailure, lived: Duration) {
        let early = match failure {
            ConnectFailure::HostUnreachable | ConnectFailure::NetworkUnreachable => {
                lived < MAX_ANSWER
            }
            ConnectFailure::Refused
            | ConnectFailure::Reset
            | ConnectFailure::TimedOut
            | ConnectFailure::AddressInUse
            | ConnectFailure::AddressNotAvailable
            | ConnectFailure::NoLocalAddress
            | ConnectFailure::NotPermitted
            | ConnectFailure::NoResources
            | ConnectFailure::Withheld
            | ConnectFailure::Other => false,
        };
        if early {
            let stage = self.checklist.pair(id).stage;
            let lateness = self.timing.lateness(stage, self.latest, lived);
            self.checklist.note_lateness(id, lateness);
        }
    }

    /// Dials again after the network has ended an attempt.
    fn redial(&mut self, id: PairId, cause: Cause) {
        let remaining = self.remaining();
        let pair = self.checklist.pair_mut(id);
        pair.local_failures = 0;
        let left_to_peer = match pair.dialled_by {
            DialledBy::Both => false,
            DialledBy::PeerAfter(_) => self.latest >= self.timing.listen_from,
            DialledBy::Peer => true,
        };
        if left_to_peer {
            return self.end(id, Ending::Passive);
        }
        if !pair.has_attempts_left() {
            return self.end(id, Ending::Exhausted);
        }
        let share = self.redialler.toward(pair.scope);
        let pause = share.pause(cause, pair, remaining);
        let due = self.latest + pause;
        self.checklist.set_state(id, CheckState::Waiting { due });
    }

    /// Gives the listener time to hand out the connection that the kernel says exists.
    fn await_accept(&mut self, id: PairId) {
        let Some(times) = self.count_local_failure(id) else {
            return;
        };
        let scope = self.checklist.pair(id).scope;
        let until = self.latest + self.redialler.toward(scope).accept_wait(times);
        self.checklist
            .set_state(id, CheckState::AwaitingAccept { until });
    }

    /// Goes on with a pair whose connection there is no room for. Of guesses enough are open then.
    pub(super) fn retry_later(&mut self, id: PairId) {
        if self.checklist.pair(id).is_guess {
            self.end(id, Ending::Exhausted);
        } else {
            self.retry_locally(id);
        }
    }

    /// Tries again when this machine may have more room.
    fn retry_locally(&mut self, id: PairId) {
        let Some(times) = self.count_local_failure(id) else {
            return;
        };
        let remaining = self.remaining();
        let pair = self.checklist.pair_mut(id);
        let share = self.redialler.toward(pair.scope);
        let pause = share.pause(Cause::Local(times), pair, remaining);
        let due = self.latest + pause;
        self.checklist.set_state(id, CheckState::Waiting { due });
    }

    /// Returns how many failures in a row came before this one, unless it is one too many.
    fn count_local_failure(&mut self, id: PairId) -> Option<u32> {
        let pair = self.checklist.pair_mut(id);
        let before = pair.local_failures;
        pair.local_failures += 1;
        if before >= MAX_LOCAL_FAILURES || !pair.has_attempts_left() {
            self.end(id, Ending::Exhausted);
            return None;
        }
        Some(before)
    }

    fn end(&mut self, id: PairId, ending: Ending) {
        tracing::trace!(pair = id.0, ?ending, "pair ended");
        self.checklist.set_state(id, CheckState::Ended(ending));
    }

    fn remaining(&self) -> Duration {
        self.timing
            .dial_until
            .saturating_duration_since(self.latest)
    }

    /// Notes that an attempt has ended by opening.
    pub(super) fn mark_done(&mut self, id: PairId) {
        self.checklist.set_state(id, CheckState::Open);
    }

    /// Notes that there is an open connection on the pair. An attempt under way stays: only its
    /// answer ends it.
    pub(super) fn mark_open(&mut self, id: PairId) {
        match self.checklist.pair(id).state() {
            CheckState::Waiting { .. } | CheckState::AwaitingAccept { .. } => {
                self.checklist.set_state(id, CheckState::Open);
            }
            CheckState::InProgress { .. } | CheckState::Open | CheckState::Ended(_) => {}
        }
    }

    /// Goes on with a pair whose open connection turned out not to be the one.
    pub(super) fn mark_not_the_peer(&mut self, id: PairId, how: How, failure: VerifyFailure) {
        if failure == VerifyFailure::WrongIdentity {
            return self.abandon_impostor(self.checklist.pair(id).pair.remote);
        }
        let pair = self.checklist.pair_mut(id);
        pair.last = Some(PairOutcome::NotThePeer(failure));
        pair.broken += 1;
        let again = match failure {
            // A listener that lets in all guesses has no room for them, nor for another one.
            VerifyFailure::Closed | VerifyFailure::TimedOut
                if pair.is_guess && how == How::Connected =>
            {
                false
            }
            VerifyFailure::Closed | VerifyFailure::TimedOut => pair.broken < MAX_BROKEN,
            VerifyFailure::Stranger | VerifyFailure::WrongIdentity => false,
        };
        match pair.state() {
            CheckState::Open if self.connections.holds_pair(id) => {}
            CheckState::Open if again => self.redial(id, Cause::Reset),
            CheckState::Open => self.end(id, Ending::Exhausted),
            CheckState::Waiting { .. }
            | CheckState::InProgress { .. }
            | CheckState::AwaitingAccept { .. }
            | CheckState::Ended(_) => {}
        }
    }

    /// Gives up every pair with an address at which somebody answers in the peer's name.
    fn abandon_impostor(&mut self, remote: SocketAddr) {
        let with_remote = |id: &PairId| self.checklist.pair(*id).pair.remote == remote;
        let pairs: Vec<_> = self.checklist.ids().filter(with_remote).collect();
        for id in pairs {
            if let CheckState::InProgress { check, .. } = self.checklist.pair(id).state() {
                self.actions.push_back(Action::Close { check });
            }
            let pair = self.checklist.pair_mut(id);
            pair.last = Some(PairOutcome::NotThePeer(VerifyFailure::WrongIdentity));
            self.end(id, Ending::Impostor);
        }
    }
}
