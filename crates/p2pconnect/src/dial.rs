//! A dial, round by round: ask for an introduction, try to make a connection of it, wait for the
//! next.

mod alone;
mod asking;
mod rounds;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use p2pconnect_host::{clock, shortage};
use p2pconnect_proto::{Opening, PeerId};
use p2pconnect_punch::{OtherIntroductions, PunchReport, Verdict, is_contended};
use tokio::{
    sync::{mpsc, watch},
    time::{sleep, timeout, timeout_at},
};

use self::{
    alone::{Alone, alone},
    asking::{Arrangement, RemoteNat},
    rounds::pause_for_room,
};
use crate::{
    Connection, DialError, Status,
    coordinator::lines::Lines,
    introduction::{attempt::UnconfirmedAttempt, shared::Inner},
    machine::{port_mapping::ForwardedPort, task::AbortOnDrop},
    nat::{mappings::Failure, port_sets::PortSetLease},
    session::{Lost, SessionError, SynGate},
    stream::{Established, Steps, Successor},
    sync::Watcher,
};

/// For how long other dials of a key wait until the peer has answered on the connection of one,
/// which takes it a round trip.
const ALONE_LIMIT: Duration = Duration::from_millis(1500);

/// A dial that goes on, until there is a connection or nothing left to try.
pub(crate) struct Dial {
    inner: Arc<Inner>,
    lines: watch::Receiver<Lines>,
    peer: PeerId,
    began: Instant,
    deadline: Instant,
    counts: Counts,
    /// Whether it has been told that the coordinator refuses the dial for now.
    is_refusal_told: bool,
    /// What the rounds have found.
    found: Option<DialError>,
    /// While it exists, other dials of this key wait.
    alone: Alone,
    /// Once there is one.
    lease: Option<Arc<PortSetLease>>,
    /// The introductions whose connections were used and have come to nothing, by this side's
    /// opening.
    used: Vec<Opening>,
}

/// How many rounds there have been, and how they have ended.
#[derive(Debug, Default)]
struct Counts {
    rounds: u32,
    /// The peer had no room.
    turned_away: u32,
    /// The introduction was stale.
    stale: u32,
    /// The agent found no path.
    failed: u32,
    /// The most that may fail like that.
    most: u32,
    /// What has been tried in all rounds that are over.
    tried: OtherIntroductions,
}

impl Counts {
    /// Counts what a round has tried that is over: what its report tells, if there is one.
    fn note(&mut self, round: &Round, error: Option<&DialError>) {
        let report = error.and_then(DialError::report);
        let begun = round.syn_gate.attempts();
        self.tried.introductions += 1;
        self.tried.attempts += report.map_or(begun, PunchReport::attempts);
    }

    /// Has a report tell of what has been tried beside it.
    fn complete(&self, report: &mut PunchReport) {
        report.others = OtherIntroductions {
            introductions: self.tried.introductions.saturating_sub(1),
            attempts: self.tried.attempts.saturating_sub(report.attempts()),
        };
    }
}

/// What is known of a round.
struct Round {
    /// When there was an introduction, counted from the beginning of the dial.
    introduced: Duration,
    /// Whether the two are known to each other in different families.
    are_apart: bool,
    remote: Option<RemoteNat>,
    /// Whether there was too little time for it.
    is_short: bool,
    /// What the router forwarded when it began.
    forwarded: Vec<ForwardedPort>,
    /// What counts its attempts.
    syn_gate: SynGate,
}

/// A round that no connection has come of, and why.
struct FailedRound {
    round: Round,
    error: Option<DialError>,
    /// Whether there was one, which has come to nothing.
    was_used: bool,
}

/// A connection of a dial.
struct ConnectedRound {
    established: Established,
    /// If the peer has not answered on it yet.
    following: Option<Following>,
}

/// What it takes to go on should a connection prove to be another one than the peer's.
struct Following {
    round: Round,
    unconfirmed: UnconfirmedAttempt,
    confirmation: Watcher<bool>,
}

impl Dial {
    pub(crate) fn new(
        inner: Arc<Inner>,
        lines: watch::Receiver<Lines>,
        peer: PeerId,
        deadline: Instant,
    ) -> Self {
        Self {
            inner,
            lines,
            peer,
            began: clock::now(),
            deadline,
            counts: Counts::default(),
            is_refusal_told: false,
            found: None,
            alone: Alone::default(),
            lease: None,
            used: Vec::new(),
        }
    }

    /// Dials until there is a connection.
    ///
    /// The dial goes on behind that until the peer has answered on it, as it may prove to be
    /// another one.
    pub(crate) async fn connect(mut self) -> Result<Connection, DialError> {
        let ConnectedRound {
            established,
            following,
        } = self.connect_after(None).await?;
        let mut connection = Connection::new(self.peer, established);
        let Some(following) = following else {
            return Ok(connection);
        };
        // Nothing waits for whoever does not use the connection.
        let (successors, next) = mpsc::channel(rounds::MAX_INTRODUCTIONS as usize);
        let following = self.follow(following, successors, connection.confirmation());
        let successor = Successor::new(next, AbortOnDrop::spawn(following));
        connection.expect(successor);
        Ok(connection)
    }

    /// Waits until the peer has answered on a connection. Makes another one if it turns out that
    /// the peer has got nothing of what was sent.
    async fn follow(
        mut self,
        mut following: Following,
        successors: mpsc::Sender<Result<Established, DialError>>,
        confirmed: watch::Sender<bool>,
    ) {
        loop {
            let Some(error) = self.loses(&mut following.unconfirmed.lost).await else {
                if *following.confirmation.borrow() {
                    confirmed.send_replace(true);
                }
                // What else may have become of it, the connection tells.
                return;
            };
            if !self.may_come_back() {
                return;
            }
            tracing::debug!("a connection was not the peer's; the dial goes on");
            let failed = self.give_up(following.round, following.unconfirmed, error);
            let failed = failed.await;
            let connected = self.connect_after(Some(failed)).await;
            let (successor, next) = match connected {
                Ok(connected) => (Ok(connected.established), connected.following),
                Err(error) => (Err(error), None),
            };
            let is_answered = successor.is_ok() && next.is_none();
            if successors.send(successor).await.is_err() {
                return;
            }
            if is_answered {
                confirmed.send_replace(true);
            }
            match next {
                Some(next) => following = next,
                None => return,
            }
        }
    }

    /// Gives up the introduction of a round whose connection was used and has come to nothing.
    async fn give_up(
        &mut self,
        round: Round,
        unconfirmed: UnconfirmedAttempt,
        mut error: SessionError,
    ) -> FailedRound {
        let UnconfirmedAttempt {
            opening,
            pending,
            circumstances,
            ..
        } = unconfirmed;
        self.used.push(opening);
        if let SessionError::NoPath(report) | SessionError::PeerLeft(report) = &mut error {
            circumstances.explain(report, self.inner.behaviour.bans());
        }
        pending.give_up(self.deadline).await;
        FailedRound {
            round,
            error: Some(error.into()),
            was_used: true,
        }
    }

    /// Waits until a connection has come to nothing, or is the one. Other dials of this key wait
    /// for a while meanwhile.
    async fn loses(&mut self, lost: &mut Lost) -> Option<SessionError> {
        match timeout(ALONE_LIMIT, &mut *lost).await {
            Ok(lost) => lost.ok(),
            Err(_) => {
                self.alone = Alone::default();
                lost.await.ok()
            }
        }
    }

    /// Makes a connection, after a round that has failed if there has been any.
    async fn connect_after(
        &mut self,
        failed: Option<FailedRound>,
    ) -> Result<ConnectedRound, DialError> {
        let connected = self.connect_in_rounds(failed).await;
        connected.map_err(|error| {
            let error = error.or_shortage(shortage::since(self.began));
            let mut error = explained(error, self.inner.mappings.failure());
            if let Some(report) = error.report_mut() {
                self.counts.complete(report);
            }
            error
        })
    }

    async fn connect_in_rounds(
        &mut self,
        mut failed: Option<FailedRound>,
    ) -> Result<ConnectedRound, DialError> {
        let lease = match &self.lease {
            Some(lease) => Arc::clone(lease),
            None => Arc::new(self.take_lease().await?),
        };
        self.lease = Some(Arc::clone(&lease));
        let _reserved = self.inner.behaviour.reserve();
        while self.may_begin_round(failed.take()).await? {
            self.counts.rounds += 1;
            let forwarded = self.inner.port_mappings.known();
            if !self.is_prepared_in_time().await {
                break;
            }
            let arranged = match self.ask(&lease).await {
                Ok(arranged) => arranged,
                Err(error) => return Err(rounds::telling(self.found.take(), error)),
            };
            let round = Round {
                introduced: clock::since(self.began),
                are_apart: arranged.are_apart(),
                remote: arranged.remote_nat(),
                is_short: rounds::is_short(self.time_left()),
                forwarded,
                syn_gate: SynGate::new(Arc::clone(&self.inner.behaviour.recent_tuples)),
            };
            self.inner.metrics.introduced(round.introduced);
            match self.carry_out(arranged, &lease, round).await {
                Ok(connected) => return Ok(connected),
                Err(last) => failed = Some(last),
            }
        }
        Err(self.found.take().unwrap_or(DialError::TimedOut))
    }

    /// Waits until another round may begin after one that has failed, if there is to be one.
    async fn may_begin_round(&mut self, failed: Option<FailedRound>) -> Result<bool, DialError> {
        if let Some(failed) = failed
            && !self.goes_on(failed).await?
        {
            return Ok(false);
        }
        // A stream may outlive its endpoint, which makes no other one then.
        let is_over = self.counts.rounds > 0 && !self.may_come_back();
        let introduced = self.counts.rounds - self.counts.turned_away;
        Ok(!is_over && introduced < rounds::MAX_INTRODUCTIONS)
    }

    /// Leases a port set for a connection to the peer; opens further punch ports if need be.
    async fn take_lease(&self) -> Result<PortSetLease, DialError> {
        let Inner {
            port_sets, opener, ..
        } = &*self.inner;
        port_sets.take(self.peer, self.deadline, opener).await
    }

    fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(clock::now())
    }

    /// Prepares for an introduction, and returns whether there was time for it.
    async fn is_prepared_in_time(&self) -> bool {
        let preparing = self.inner.prepare_round(self.counts.rounds);
        timeout_at(self.deadline.into(), preparing).await.is_ok()
    }

    /// Connects as the coordinator has arranged it.
    async fn carry_out(
        &self,
        arranged: Arrangement,
        lease: &Arc<PortSetLease>,
        round: Round,
    ) -> Result<ConnectedRound, FailedRound> {
        let result = match arranged {
            Arrangement::Attempt(attempt) => {
                let syn_gate = round.syn_gate.clone();
                let punching =
                    self.inner
                        .punch_unless_stale(*attempt, lease, syn_gate, self.deadline);
                match punching.await {
                    Ok((punched, it)) => Ok((punched, Arc::clone(lease), it)),
                    Err(error) => Err(Some(error)),
                }
            }
            Arrangement::Crossed(crossed) => match crossed.outcome(self.deadline).await {
                Ok((punched, theirs)) => Ok((punched, Arc::new(theirs), None)),
                Err(error) => Err(error),
            },
        };
        let (punched, lease, unconfirmed) = match result {
            Ok(connected) => connected,
            Err(error) => {
                return Err(FailedRound {
                    round,
                    error,
                    was_used: false,
                });
            }
        };
        let steps = Steps {
            began: self.began,
            introduced: round.introduced,
            usable: clock::now(),
            rounds: self.counts.rounds,
        };
        let confirmation = punched.stream_path.confirmation();
        Ok(ConnectedRound {
            established: Established {
                punched,
                steps,
                lease,
            },
            following: unconfirmed.map(|unconfirmed| Following {
                round,
                unconfirmed,
                confirmation,
            }),
        })
    }

    /// Takes note of how a round has ended, and waits until the next one may begin. Tells whether
    /// there is to be one.
    ///
    /// An error is what ends the dial at once.
    async fn goes_on(&mut self, failed: FailedRound) -> Result<bool, DialError> {
        let FailedRound {
            round,
            error,
            was_used,
        } = failed;
        self.counts.note(&round, error.as_ref());
        let mut pause = round.remote.map_or(Duration::ZERO, |it| it.recovery);
        self.alone = Alone::default();
        match error {
            // It was waited for what the next introduction needs.
            Some(left @ DialError::PeerLeft) => {
                self.found = self.found.take().or(Some(left));
                pause = rounds::pause_after_leaving(
                    self.counts.stale,
                    self.inner.host.random_fraction(),
                );
                self.counts.stale += 1;
            }
            Some(DialError::PeerBusy) => {
                self.found = Some(DialError::PeerBusy);
                if self.counts.turned_away == 0 {
                    let peer = self.peer;
                    self.inner.observer.tell(Status::PeerBusy { peer });
                }
                pause = pause_for_room(self.counts.turned_away, self.inner.host.random_fraction());
                self.counts.turned_away += 1;
            }
            // What was proven impossible may be possible by what the router forwards by now.
            Some(error)
                if rounds::is_final(
                    &error,
                    round.are_apart && self.inner.mappings.is_settled(),
                ) && (!was_used || rounds::is_somebody_else(&error))
                    && self.inner.port_mappings.known() == round.forwarded =>
            {
                return Err(error);
            }
            // It was asked for since the peer was busy, which says more.
            Some(_) if round.is_short && self.found.is_some() => return Ok(false),
            error => {
                pause += rounds::spread(
                    error.as_ref(),
                    self.counts.failed,
                    self.inner.host.random_fraction(),
                );
                self.counts.most = self.counts.most.max(rounds::most(error.as_ref()));
                let is_cut_off = self.time_left().is_zero();
                self.found = rounds::kept(self.found.take(), error, is_cut_off);
                self.counts.failed += 1;
                if self.counts.failed >= self.counts.most {
                    return Ok(false);
                }
            }
        }
        Ok(self.waits_for_next(pause, round.remote).await)
    }

    /// Waits until another introduction is worth asking for, if there is time for one: so long, and
    /// until no other dial of this key goes on and the peer has recovered from that, where dials
    /// are in each other's way.
    async fn waits_for_next(&mut self, pause: Duration, remote: Option<RemoteNat>) -> bool {
        let wait = rounds::wait_for_next(self.found.as_ref(), pause, self.time_left());
        let Some(wait) = wait else {
            return false;
        };
        sleep(wait).await;
        let own = self.inner.behaviour.report();
        let in_the_way = remote.filter(|remote| is_contended([&own, &remote.report]));
        if let Some(remote) = in_the_way {
            let latest = self.deadline.checked_sub(rounds::LAST_ROUND);
            let latest = latest.unwrap_or(self.deadline);
            self.alone = alone(&self.inner.host, &self.inner.key, latest).await;
            if self.alone.has_waited {
                sleep(remote.recovery).await;
            }
        }
        true
    }
}

impl From<SessionError> for DialError {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::NoPath(report) if report.verdict == Verdict::WrongIdentity => {
                Self::WrongIdentity(report)
            }
            SessionError::NoPath(report) => Self::NoDirectPath(report),
            SessionError::Broken(error) => Self::Broken(error),
            SessionError::PeerLeft(_) => Self::PeerLeft,
            SessionError::PeerBusy => Self::PeerBusy,
            SessionError::PeerSilent(silence) => Self::PeerSilent(silence),
            SessionError::PeerUnheard(time) => Self::PeerUnheard(time),
        }
    }
}

/// Names the STUN server that tells no mapping, if none does and that may be why a dial failed.
///
/// A peer in the same network, a public one or one whose router forwards ports is reached without,
/// so that nothing is given up for the lack of a mapping. That a peer is not online is the
/// coordinator's word, which may come before or after it is certain that no server answers: it is
/// told either way.
fn explained(error: DialError, failure: Option<Failure>) -> DialError {
    let Some(Failure {
        server,
        error: reason,
    }) = failure
    else {
        return error;
    };
    let report = match error {
        DialError::NoDirectPath(report) => Some(report),
        DialError::PeerLeft => None,
        error => return error,
    };
    DialError::Stun {
        server,
        reason,
        report,
    }
}
