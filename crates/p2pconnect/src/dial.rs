//! A dial, round by round: ask for an introduction, try to make a connection of it, wait for the next.

mod asking;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use p2pconnect_proto::PeerId;
use p2pconnect_punch::{Verdict, is_contended};
use p2pconnect_stun::shortage;
use tokio::{
    sync::watch,
    time::{sleep, timeout_at},
};

use self::asking::{Met, RemoteNat};
use crate::{
    Connection, DialError, Status,
    alone::{Alone, alone},
    chance::random_fraction,
    connection::connection,
    coordination::Coordination,
    endpoint::Inner,
    mappings::Failure,
    more_ports::Place,
    port_mapping::ForwardedPort,
    rounds::{self, pause_after, pause_for_room},
    session::{Punched, SessionError},
};

/// A dial that goes on, until there is a connection or nothing left to try.
pub(crate) struct Dial {
    inner: Arc<Inner>,
    coordination: watch::Receiver<Option<Arc<Coordination>>>,
    peer: PeerId,
    began: Instant,
    deadline: Instant,
    counts: Counts,
    /// What the rounds have found.
    found: Option<DialError>,
    /// While it exists, other dials of this key wait.
    alone: Alone,
}

/// How many rounds there have been, and how they have ended.
#[derive(Debug, Default)]
struct Counts {
    rounds: u32,
    /// The peer had no room.
    turned_away: u32,
    /// One side had told of its NAT what does not hold.
    outdated: u32,
    /// There was no way.
    failed: u32,
    /// So many may fail like that.
    most: u32,
}

/// What was known when a round began.
struct Round {
    /// When there was an introduction, counted from the beginning of the dial.
    introduced: Duration,
    /// Whether the two are known to each other in different families.
    are_apart: bool,
    remote: Option<RemoteNat>,
    /// Whether there was too little time for it.
    is_short: bool,
    forwarded: Vec<ForwardedPort>,
}

/// A round that no connection has come of: why, and how long to wait before the next one.
struct Failed {
    error: Option<DialError>,
    pause: Duration,
}

impl Dial {
    pub(crate) fn new(
        inner: Arc<Inner>,
        coordination: watch::Receiver<Option<Arc<Coordination>>>,
        peer: PeerId,
        deadline: Instant,
    ) -> Self {
        Self {
            inner,
            coordination,
            peer,
            began: Instant::now(),
            deadline,
            counts: Counts::default(),
            found: None,
            alone: Alone::default(),
        }
    }

    /// Dials until there is a connection.
    pub(crate) async fn connect(mut self) -> Result<Connection, DialError> {
        let result = self.connect_in_rounds().await;
        result.map_err(|error| {
            let error = error.or_shortage(shortage::since(self.began));
            explained(error, self.inner.mappings.failure())
        })
    }

    async fn connect_in_rounds(&mut self) -> Result<Connection, DialError> {
        let place = self.inner.place(self.peer, self.deadline).await?;
        let _reserved = self.inner.behaviour.reserve();
        while self.counts.rounds - self.counts.turned_away < rounds::MAX_INTRODUCTIONS {
            self.counts.rounds += 1;
            let forwarded = self.inner.port_mappings.known();
            if !self.looks_in_time().await {
                break;
            }
            let met = match self.ask(&place).await {
                Ok(met) => met,
                Err(error) => return Err(rounds::telling(self.found.take(), error)),
            };
            let round = Round {
                introduced: self.began.elapsed(),
                are_apart: met.are_apart(),
                remote: met.remote_nat(),
                is_short: rounds::is_short(self.time_left()),
                forwarded,
            };
            self.inner.metrics.introduced(round.introduced);
            let failed = match self.meet(met, &place).await {
                Ok((punched, theirs)) => {
                    let place = theirs.unwrap_or(place);
                    let since = (self.began, round.introduced);
                    let rounds = self.counts.rounds;
                    return Ok(connection(punched, self.peer, place, since, rounds));
                }
                Err(failed) => failed,
            };
            if !self.goes_on(&round, failed).await? {
                break;
            }
        }
        Err(self.found.take().unwrap_or(DialError::TimedOut))
    }

    fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Sees where this machine and its NAT are, and returns whether there was time for it.
    async fn looks_in_time(&self) -> bool {
        let looking = self.inner.look(self.counts.rounds);
        timeout_at(self.deadline.into(), looking).await.is_ok()
    }

    /// Connects as the coordinator has arranged it; returns the place too if the connection is the
    /// peer's dial's.
    async fn meet(&self, met: Met, place: &Place) -> Result<(Punched, Option<Place>), Failed> {
        match met {
            Met::Introduced(meeting) => {
                let pause = pause_after(&meeting.introduction);
                let punching = self
                    .inner
                    .punch_unless_outdated(*meeting, place, self.deadline);
                match punching.await {
                    Ok(punched) => Ok((punched, None)),
                    Err(error) => Err(Failed {
                        error: Some(error),
                        pause,
                    }),
                }
            }
            Met::Crossed(crossed) => match crossed.outcome(self.deadline).await {
                Ok((punched, theirs)) => Ok((punched, Some(theirs))),
                Err(error) => Err(Failed {
                    error,
                    pause: Duration::ZERO,
                }),
            },
        }
    }

    /// Takes note of how a round has ended, and waits until the next one may begin. Tells whether there is to be one.
    ///
    /// An error is what ends the dial at once.
    async fn goes_on(&mut self, round: &Round, failed: Failed) -> Result<bool, DialError> {
        let Failed { error, mut pause } = failed;
        self.alone = Alone::default();
        match error {
            // It was waited for what the next introduction needs.
            Some(left @ DialError::PeerLeft) => {
                self.found = self.found.take().or(Some(left));
                pause = rounds::pause_after_leaving(self.counts.outdated, random_fraction());
                self.counts.outdated += 1;
            }
            Some(DialError::PeerBusy) => {
                self.found = Some(DialError::PeerBusy);
                if self.counts.turned_away == 0 {
                    let peer = self.peer;
                    self.inner.observer.tell(Status::PeerBusy { peer });
                }
                pause = pause_for_room(self.counts.turned_away, random_fraction());
                self.counts.turned_away += 1;
            }
            // What was proven impossible may be possible by what the router forwards by now.
            Some(error)
                if rounds::is_final(
                    &error,
                    round.are_apart && self.inner.mappings.is_settled(),
                ) && self.inner.port_mappings.known() == round.forwarded =>
            {
                return Err(error);
            }
            // It was asked for since the peer was busy, which says more.
            Some(_) if round.is_short && self.found.is_some() => return Ok(false),
            error => {
                pause += rounds::spread(error.as_ref(), self.counts.failed, random_fraction());
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

    /// Waits until another introduction is worth asking for, if there is time for one: so long, and until no other
    /// dial of this key goes on and the peer has recovered from that, where dials are in each other's way.
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
            self.alone = alone(&self.inner.key, latest).await;
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
        }
    }
}

/// Names the STUN server that tells no mapping, if none does and that may be why a dial failed.
///
/// A peer in the same network, a public one or one whose router forwards ports is reached without,
/// so that nothing is given up for the lack of a mapping. A peer that cannot learn its own is not
/// online.
fn explained(error: DialError, failure: Option<Failure>) -> DialError {
    let Some(Failure {
        server,
        error: source,
    }) = failure
    else {
        return error;
    };
    let report = match error {
        DialError::NoDirectPath(report) => Some(report),
        DialError::Unavailable { .. } | DialError::PeerLeft => None,
        error => return error,
    };
    DialError::Stun {
        server,
        source,
        report,
    }
}
