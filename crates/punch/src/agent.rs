//! The punch agent: what has happened goes in, what to do comes out.

use std::{
    collections::{BTreeSet, VecDeque},
    net::SocketAddr,
    time::Instant,
};

use p2pconnect_proto::{NatReport, Role};

use crate::{
    Action, CheckId, Event, How, Input, Introduced, Opened, PairReport, PunchConfig, VerifyFailure,
    checklist::Checklist,
    nomination::{Connection, Connections, Source, Verification},
    pair::DialledBy,
    plan::{Plan, Strategy},
    schedule::{Redialler, Timing},
};

mod dial;
mod finish;

/// What an agent has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// How many attempts to connect were made, but for those that were withheld.
    pub attempts: u32,
    /// How many of them repeated an earlier one on the same pair.
    pub redials: u32,
    /// How many inbound connections were taken in.
    pub accepted: u32,
    /// How many inputs came too late or made no sense, and were ignored.
    pub ignored: u32,
}

/// Makes one connection to one peer.
///
/// Its outcome is exactly one [`Event`], by a moment that is fixed at the start. After it, inputs
/// that were already under way do no harm.
#[derive(Debug)]
pub struct PunchAgent {
    role: Role,
    state: State,
    timing: Timing,
    checklist: Checklist,
    redialler: Redialler,
    connections: Connections,
    strategy: Strategy,
    opens_holes: bool,
    doors: BTreeSet<SocketAddr>,
    may_be_reached: bool,
    /// What is told if there is no pair.
    unrouted: Vec<PairReport>,
    families_apart: bool,
    local_nat: NatReport,
    remote_nat: NatReport,
    /// The latest moment heard of: time never goes back, even if a driver's calls do.
    latest: Instant,
    next_check: u32,
    actions: VecDeque<Action>,
    event: Option<Event>,
    stats: Stats,
}

/// How far the agent has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Punching,
    Established { check: CheckId },
    Failed,
}

impl PunchAgent {
    /// Starts at `now`, the common start moment, with randomness from `seed`.
    #[must_use]
    pub fn new(config: PunchConfig, introduced: Introduced, seed: [u8; 32], now: Instant) -> Self {
        let mut timing = Timing::new(
            &config,
            introduced.role,
            introduced.rtt_via_coordinator,
            now,
        );
        let plan = Plan::new(&introduced, config.max_guesses, seed, config.hole_seed);
        timing.mispredicted_at += plan.lasts_longer;
        let mut redialler = Redialler::new(seed, &config);
        redialler.allow_guesses(plan.guesses());
        let mut agent = Self {
            role: introduced.role,
            state: State::Punching,
            checklist: Checklist::form(&introduced, &plan, &timing, &mut redialler),
            redialler,
            connections: Connections::new(
                introduced.role,
                timing.verify_stagger,
                timing.verify_timeout,
            ),
            timing,
            strategy: plan.strategy,
            opens_holes: plan.opens_holes,
            doors: plan.doors(),
            may_be_reached: introduced.may_be_reached,
            unrouted: finish::unrouted_pairs(&introduced),
            families_apart: introduced.families_apart,
            local_nat: introduced.local_nat,
            remote_nat: introduced.remote_nat,
            latest: now,
            next_check: 0,
            actions: VecDeque::new(),
            event: None,
            stats: Stats::default(),
        };
        agent.drive();
        agent
    }

    /// Takes in a connection that came to one of our listeners; `None` means: close it.
    ///
    /// `local` is the connection's own local address, not the listener's wildcard address.
    pub fn handle_accepted(
        &mut self,
        local: SocketAddr,
        remote: SocketAddr,
        now: Instant,
    ) -> Option<CheckId> {
        self.advance(now);
        let known = self.checklist.knows(remote.ip());
        let source = if known { Source::Peer } else { Source::Unknown };
        let punching = match self.state {
            State::Punching => true,
            State::Established { .. } | State::Failed => false,
        };
        // Late strangers must not put off the end.
        let in_time = known || self.latest < self.timing.dial_until;
        let scope = self.checklist.scope(remote.ip());
        if !punching || !in_time || !self.connections.has_room(source, scope) {
            self.stats.ignored += 1;
            return None;
        }
        self.stats.accepted += 1;
        let check = self.new_check();
        let (pair, pair_id) = self.checklist.of_accepted(local, remote);
        tracing::debug!(%check, ?pair, known, "connection accepted");
        if let Some(id) = pair_id {
            self.mark_open(id);
        }
        self.connections.insert(
            check,
            Connection {
                pair,
                scope,
                pair_id,
                how: How::Accepted,
                source,
                verification: Verification::Queued,
            },
        );
        self.drive();
        Some(check)
    }

    /// Takes in the answer to an action.
    pub fn handle_input(&mut self, input: Input, now: Instant) {
        self.advance(now);
        match input {
            Input::Connected { check, opened } => self.handle_connected(check, opened),
            Input::ConnectFailed { check, failure } => self.handle_connect_failed(check, failure),
            Input::Used { check } => self.connections.use_early(check),
            Input::Verified { check } => self.handle_verified(check),
            Input::VerifyFailed { check, failure } => self.handle_verify_failed(check, failure),
            Input::LocalNat(report) => self.local_nat = report,
        }
        self.drive();
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.advance(now);
        self.drive();
    }

    /// Returns the next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Returns the next result.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.event.take()
    }

    /// Returns when `handle_timeout` wants to be called.
    ///
    /// It is later than the `now` of the last call, and `None` once the outcome is known.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Punching => Some(self.next_wake()),
            State::Established { .. } | State::Failed => None,
        }
    }

    /// Ends the attempt: closes everything and reports what happened so far.
    ///
    /// Does nothing once the outcome is known.
    pub fn give_up(&mut self, now: Instant) {
        self.advance(now);
        match self.state {
            State::Punching => self.fail(),
            State::Established { .. } | State::Failed => {}
        }
    }

    /// Tells whether its outcome is known.
    #[must_use]
    pub const fn has_ended(&self) -> bool {
        !matches!(self.state, State::Punching)
    }

    /// Returns how many connections it guesses on, if it does.
    #[must_use]
    pub fn guesses(&self) -> u32 {
        let guesses = self.checklist.iter().filter(|pair| pair.is_guess).count();
        u32::try_from(guesses).unwrap_or(u32::MAX)
    }

    /// Returns how many of the peer's addresses it connects to, guessed ones included.
    #[must_use]
    pub fn targets(&self) -> usize {
        let dialled = self.checklist.iter();
        let dialled = dialled.filter(|pair| pair.dialled_by != DialledBy::Peer);
        dialled
            .map(|pair| pair.pair.remote)
            .collect::<BTreeSet<_>>()
            .len()
    }

    /// Tells whether it opens holes from one port, for a peer whose ports are guessed or predicted:
    /// those that lead to no candidate, or to a predicted one. Another agent for the same peer
    /// opens some of them too.
    #[must_use]
    pub const fn opens_holes(&self) -> bool {
        self.opens_holes
    }

    /// Returns local addresses at which its driver accepts connections, beside the punch ports:
    /// ones that no other agent uses, and to which the peer connects from ports that nobody knows.
    #[must_use]
    pub const fn doors(&self) -> &BTreeSet<SocketAddr> {
        &self.doors
    }

    /// Tells whether it connects from all ports of a range, each from a local port that no other
    /// agent uses.
    #[must_use]
    pub const fn fills_range(&self) -> bool {
        matches!(self.strategy, Strategy::Fill)
    }

    /// Returns what the agent has done so far.
    #[must_use]
    pub const fn stats(&self) -> Stats {
        self.stats
    }

    fn advance(&mut self, now: Instant) {
        self.latest = self.latest.max(now);
    }

    const fn new_check(&mut self) -> CheckId {
        let check = CheckId(self.next_check);
        self.next_check += 1;
        check
    }

    /// Does everything that is due.
    fn drive(&mut self) {
        match self.state {
            State::Punching => {}
            State::Established { .. } | State::Failed => return,
        }
        for check in self.connections.overdue(self.latest) {
            self.end_verification(check, VerifyFailure::TimedOut);
        }
        while let Some(check) = self.connections.begin(self.latest) {
            tracing::debug!(%check, "verification begins");
            self.actions.push_back(Action::Verify { check });
        }
        self.dial_what_is_due();
        if self.is_over() {
            self.fail();
        }
    }

    fn next_wake(&self) -> Instant {
        let connections = self.connections.next_wake();
        let end = Some(self.next_review());
        [connections, self.next_dial(), end]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(self.timing.ends_at)
    }

    fn handle_connected(&mut self, check: CheckId, opened: Opened) {
        let Some((id, _)) = self.checklist.in_progress(check) else {
            self.handle_late_connection(check);
            return;
        };
        let is_guess = self.checklist.pair(id).is_guess;
        let source = if is_guess {
            Source::Guess
        } else {
            Source::Peer
        };
        let scope = self.checklist.pair(id).scope;
        if !self.connections.has_room(source, scope) {
            self.actions.push_back(Action::Close { check });
            self.retry_later(id);
            return;
        }
        let how = match opened {
            Opened::Simultaneously => How::SimultaneousOpen,
            Opened::Actively => How::Connected,
        };
        let pair = self.checklist.pair(id).pair;
        tracing::debug!(%check, ?pair, %how, "connection open");
        self.connections.insert(
            check,
            Connection {
                pair,
                scope,
                pair_id: Some(id),
                how,
                source,
                verification: Verification::Queued,
            },
        );
        self.mark_done(id);
    }

    /// Closes a connection that was abandoned while it was being made.
    fn handle_late_connection(&mut self, check: CheckId) {
        self.stats.ignored += 1;
        let winner = match self.state {
            State::Established { check: winner } => winner == check,
            State::Punching | State::Failed => false,
        };
        if !winner && !self.connections.contains(check) {
            self.actions.push_back(Action::Close { check });
        }
    }

    fn handle_verified(&mut self, check: CheckId) {
        match self.connections.take_verifying(check) {
            Some(connection) => self.establish(check, &connection),
            None => self.stats.ignored += 1,
        }
    }

    fn handle_verify_failed(&mut self, check: CheckId, failure: VerifyFailure) {
        self.end_verification(check, failure);
    }
}
