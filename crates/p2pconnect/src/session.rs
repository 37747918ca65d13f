//! Runs one punch agent on real sockets.

pub(crate) mod closed_holes;
mod connecting;
mod decision;
pub(crate) mod guess_budget;
mod handover;
pub(crate) mod holes;
pub(crate) mod inbound;
mod outcome;
pub(crate) mod path_faults;
mod seats;
pub(crate) mod syn_budget;
mod syn_gate;
mod tasks;
pub(crate) mod verify;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use p2pconnect_host::{Host, clock};
use p2pconnect_proto::{CandidateKind, NatReport};
use p2pconnect_punch::{
    Action, CandidatePair, CheckId, ConnectFailure, Event, How, Input, Opened, PunchAgent,
    PunchReport, Purpose, Verdict, VerifyFailure,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::AbortHandle,
    time::sleep_until,
};

use crate::{
    machine::four_tuple::FourTuple,
    session::{
        guess_budget::GuessReservation,
        holes::{FILLED, Holes, LINGERING, Lingering},
        inbound::{Arrival, Dialled, Inbox, Patience},
        path_faults::PathFaults,
        syn_budget::{Account, PaidSyn, TargetNetwork, network_of},
        tasks::{Connected, Done, Tasks},
        verify::{Open, Origin, UnconfirmedEvent, Verified, Verifier},
    },
    stream::{
        coordinated_handshake::Withdrawn,
        opened_path::{OpenedPath, UsablePath},
    },
    sync::{Watched, Watcher},
};
pub(crate) use decision::Decision;
pub(crate) use handover::Handover;
pub(crate) use outcome::{Handed, Lost, SessionError};
pub(crate) use syn_gate::SynGate;

/// The most events of unconfirmed connections that wait for the session.
const MAX_UNCONFIRMED: usize = 4;

/// What connections tell of the peer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Signs {
    /// The peer is there.
    is_heard: bool,
    /// It may have taken one that is used, and what was sent on it.
    may_have_taken: bool,
}

/// One introduction being turned into a connection.
pub(crate) struct Session {
    agent: PunchAgent,
    verifier: Verifier,
    inbox: Inbox,
    kinds: BTreeMap<SocketAddr, CandidateKind>,
    shared: SharedAddresses,
    translated: BTreeSet<IpAddr>,
    handover: Handover,
    checks: BTreeMap<CheckId, Check>,
    tasks: Tasks<CheckId>,
    unconfirmed: (mpsc::Sender<Unconfirmed>, mpsc::Receiver<Unconfirmed>),
    syn_gate: SynGate,
    /// The sockets reserved for the agent's guesses, until it has ended.
    reservation: Option<GuessReservation>,
    holes: Arc<Holes>,
    lingering: Arc<Lingering>,
    /// Whether the holes that it has left open are closed.
    over: Watched<bool>,
    began: Instant,
    /// Whether nothing has come from the peer until the time was over.
    is_peer_unheard: bool,
    account: Account,
}

/// What becomes of a connection before the peer has answered on it.
type Unconfirmed = (CheckId, UnconfirmedEvent);

/// Addresses of the peer's that are not predicted, and that connections of its other sessions may
/// come from all the same.
#[derive(Debug, Default)]
pub(crate) struct SharedAddresses {
    pub(crate) addresses: BTreeSet<SocketAddr>,
    /// How long the peer takes to say whose a connection is.
    pub(crate) patience: Duration,
}

/// What the driver holds for a check, in the order in which a check goes through these.
enum Check {
    Connecting {
        task: AbortHandle,
        local: SocketAddr,
        remote: SocketAddr,
        since: Instant,
        is_hole: bool,
    },
    Open {
        open: Open,
        path: OpenedPath,
    },
    Verifying {
        task: AbortHandle,
        path: OpenedPath,
    },
    Verified {
        verified: Verified,
        path: OpenedPath,
    },
}

impl Session {
    pub(crate) fn new(
        agent: PunchAgent,
        verifier: Verifier,
        handover: Handover,
        inbox: Inbox,
        holes: Arc<Holes>,
    ) -> Self {
        Self {
            agent,
            verifier,
            inbox,
            kinds: BTreeMap::new(),
            shared: SharedAddresses::default(),
            translated: BTreeSet::new(),
            handover,
            checks: BTreeMap::new(),
            tasks: Tasks::default(),
            unconfirmed: mpsc::channel(MAX_UNCONFIRMED),
            syn_gate: SynGate::default(),
            reservation: None,
            holes,
            lingering: Arc::default(),
            over: Watched::new(false),
            began: clock::now(),
            is_peer_unheard: false,
            account: Account::default(),
        }
    }

    /// Pays for what is sent, and keeps the sockets that are reserved for guesses.
    pub(crate) fn spending(mut self, account: Account, reservation: GuessReservation) -> Self {
        self.account = account;
        self.reservation = Some(reservation);
        self
    }

    /// Leaves its holes where they stay open for the next session.
    pub(crate) fn leaving_open(mut self, lingering: Arc<Lingering>) -> Self {
        self.lingering = lingering;
        self
    }

    /// Counts the connections that the session begins, and lets others hold it.
    pub(crate) fn gated(mut self, syn_gate: SynGate) -> Self {
        self.syn_gate = syn_gate;
        self
    }

    /// Tells what the addresses are that the peer named, from which of them connections of its
    /// other sessions may come although they are not predicted, and which lead through a NAT64.
    pub(crate) fn naming(
        mut self,
        kinds: BTreeMap<SocketAddr, CandidateKind>,
        shared: SharedAddresses,
        translated: BTreeSet<IpAddr>,
    ) -> Self {
        self.kinds = kinds;
        self.shared = shared;
        self.translated = translated;
        self
    }

    /// Runs until there is a connection that the peer has answered on, or the agent gives up, at
    /// the latest at `deadline`.
    ///
    /// The connection is handed out as soon as it can be used, which may be earlier. What becomes
    /// known of the own NAT meanwhile is told to the agent.
    ///
    /// Cancel safety: dropping the future resets every connection that was not handed out.
    pub(crate) async fn run(
        mut self,
        deadline: Instant,
        mut local_nat: Watcher<NatReport>,
        handed: oneshot::Sender<Result<Handed, SessionError>>,
    ) {
        self.handover.to(handed);
        self.inbox.open_doors(self.holes.host(), self.agent.doors());
        while !self.handover.is_abandoned() {
            while let Some(action) = self.agent.poll_action() {
                self.perform(action);
            }
            match self.agent.poll_event() {
                Some(Event::Established { check, .. }) => {
                    let winner = match self.checks.remove(&check) {
                        Some(Check::Verified { verified, path }) => {
                            Some((verified, UsablePath::new(path, self.agent.stats())))
                        }
                        _ => None,
                    };
                    self.leave_holes_open();
                    return self.handover.finish(winner).await;
                }
                Some(Event::Failed(report)) => {
                    let error = self.explained(report);
                    // The next round takes as many ports as these, and they lead nowhere.
                    if !self.agent.fills_range() {
                        self.leave_holes_open();
                    }
                    return self.handover.fail(error, self.signs());
                }
                None => self.wait(deadline, &mut local_nat).await,
            }
        }
    }

    /// Returns why there is no connection, by what has been heard of the peer beside the attempts.
    /// Somebody else's word that the peer gives up is none of the peer's.
    fn explained(&self, mut report: Box<PunchReport>) -> SessionError {
        if self.handover.handshake().is_with_another() {
            report.verdict = Verdict::WrongIdentity;
            return SessionError::NoPath(report);
        }
        match self.withdrawn() {
            Some(Withdrawn::Begun) => SessionError::PeerLeft(report),
            Some(Withdrawn::Untouched) => SessionError::PeerBusy,
            Some(Withdrawn::Silent(silence)) => SessionError::PeerSilent(silence),
            None if self.is_peer_unheard => SessionError::PeerUnheard(clock::since(self.began)),
            None => SessionError::NoPath(report),
        }
    }

    /// Tells whether, and how, the peer has given up.
    fn withdrawn(&self) -> Option<Withdrawn> {
        self.handover.withdrawn(self.signs())
    }

    fn signs(&self) -> Signs {
        Signs {
            is_heard: self.verifier.hears_peer(),
            may_have_taken: self.verifier.may_be_taken(),
        }
    }

    /// Leaves the holes open that the agent has not closed before its end.
    fn leave_holes_open(&mut self) {
        let tasks = self.tasks.take_connecting();
        let limit = if self.agent.fills_range() {
            FILLED
        } else {
            LINGERING
        };
        let kept = self.reservation.take().map(GuessReservation::left_open);
        self.lingering.hold(tasks, limit, self.over.clone(), kept);
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Connect {
                check,
                local,
                remote,
                purpose,
            } => self.connect(check, FourTuple { local, remote }, purpose),
            Action::Verify { check } => self.verify(check),
            Action::Close { check } => match self.checks.remove(&check) {
                // The next session with this peer wants the same.
                Some(Check::Connecting { is_hole: true, .. }) if self.agent.has_ended() => {}
                Some(Check::Connecting { task, .. } | Check::Verifying { task, .. }) => {
                    task.abort();
                }
                // Dropping an open stream resets it.
                Some(Check::Open { .. } | Check::Verified { .. }) | None => {}
            },
        }
    }

    fn connect(&mut self, check: CheckId, four_tuple: FourTuple, purpose: Purpose) {
        let FourTuple { local, remote } = four_tuple;
        if self.syn_gate.is_held() {
            return;
        }
        let network = self.network_of(remote.ip());
        let may_be_hole = self.handover.is_controlled() || self.agent.opens_holes();
        let is_hole = (self.may_be_shared(remote) && may_be_hole)
            // A session of another introduction that expected more of this address, as less was
            // known then.
            || self.holes.is_open(&four_tuple);
        let task = if is_hole {
            let account = self.account.clone();
            let pay = move || account.pay(network, purpose);
            let connecting =
                self.holes
                    .connect(four_tuple, pay, self.verifier.faults(), self.over.clone());
            let claim = self.inbox.claim(remote, self.patience(remote));
            connecting.map(|connecting| {
                self.tasks.connect(check, async move {
                    match connecting.await {
                        Ok((stream, opened)) => claim.take(stream, opened).await,
                        Err(failure) => Err(failure),
                    }
                })
            })
        } else {
            self.account.pay(network, purpose).map(|paid| {
                let (faults, host) = (self.verifier.faults(), self.holes.host().clone());
                let connecting = connect(four_tuple, paid, faults, host);
                self.tasks.connect(check, connecting)
            })
        };
        let Some(task) = task else {
            let withheld = async { Err(ConnectFailure::Withheld) };
            self.tasks.connect(check, withheld);
            return;
        };
        let is_over_ipv4 = remote.is_ipv4() || self.translated.contains(&remote.ip());
        self.syn_gate.begins(four_tuple, is_over_ipv4);
        let connecting = Check::Connecting {
            task,
            local,
            remote,
            since: clock::now(),
            is_hole,
        };
        self.checks.insert(check, connecting);
    }

    /// Returns how long the peer is waited for to say whose a connection is.
    fn patience(&self, remote: SocketAddr) -> Patience {
        if !self.handover.is_controlled() {
            return Patience::WhileShared;
        }
        if self.is_predicted(remote) {
            Patience::Always
        } else {
            Patience::Briefly(self.shared.patience)
        }
    }

    /// Tells whether the peer's port may turn out to be another one's: of its other sessions with
    /// this endpoint, if there are any.
    fn may_be_shared(&self, remote: SocketAddr) -> bool {
        self.is_predicted(remote) || self.shared.addresses.contains(&remote)
    }

    fn is_predicted(&self, remote: SocketAddr) -> bool {
        let kind = self.kinds.get(&remote);
        kind.is_none_or(|kind| *kind == CandidateKind::Predicted)
    }

    fn network_of(&self, remote: IpAddr) -> TargetNetwork {
        network_of(remote, self.translated.contains(&remote))
    }

    fn verify(&mut self, check: CheckId) {
        let Some(Check::Open { open, path }) = self.checks.remove(&check) else {
            return;
        };
        let verifier = self.verifier.clone();
        let (sender, mut events) = mpsc::channel(1);
        let unconfirmed = self.unconfirmed.0.clone();
        let task = self.tasks.verify(check, async move {
            let telling = async {
                while let Some(event) = events.recv().await {
                    // The session that would hear it runs this.
                    drop(unconfirmed.send((check, event)).await);
                }
            };
            let (verified, ()) = tokio::join!(verifier.verify(open, sender), telling);
            verified
        });
        self.checks.insert(check, Check::Verifying { task, path });
    }

    /// Waits for the next thing to happen and tells the agent.
    async fn wait(&mut self, deadline: Instant, local_nat: &mut Watcher<NatReport>) {
        let signs = self.signs();
        let wake_at = self
            .agent
            .poll_timeout()
            .map_or(deadline, |at| at.min(deadline));
        tokio::select! {
            // What can be used is used before its answer is looked at.
            biased;
            Some((check, event)) = self.unconfirmed.1.recv() => {
                if let Some(Check::Verifying { path, .. }) = self.checks.get(&check) {
                    let path = *path;
                    match event {
                        UnconfirmedEvent::Usable(half) => {
                            let path = UsablePath::new(path, self.agent.stats());
                            self.handover.use_unconfirmed(half, path).await;
                            self.agent.handle_input(Input::Used { check }, clock::now());
                        }
                        UnconfirmedEvent::Heard => self.handover.hear(&path.pair),
                    }
                }
            }
            joined = self.tasks.next() => match joined {
                Ok(Done::Connect(check, connected)) => self.take_connected(check, connected),
                Ok(Done::Verify(check, verified)) => self.take_verified(check, verified),
                // Only a task that the agent had closed is cancelled.
                Err(error) => tracing::trace!(%error, "check ended without a result"),
            },
            Some(arrival) = self.inbox.next() => self.take_arrival(arrival),
            () = local_nat.changed() => {
                let report = *local_nat.borrow_and_update();
                self.agent.handle_input(Input::LocalNat(report), clock::now());
            }
            () = self.handover.abandoned(signs) => {
                if self.withdrawn().is_some() {
                    self.agent.give_up(clock::now());
                }
            }
            () = sleep_until(wake_at.into()) => {
                let now = clock::now();
                if now >= deadline {
                    let is_heard = self.signs().is_heard || self.handover.handshake().is_heard();
                    self.is_peer_unheard = !is_heard;
                    self.agent.give_up(now);
                } else {
                    self.agent.handle_timeout(now);
                }
            }
        }
    }

    fn take_arrival(&mut self, arrival: Arrival) {
        let now = clock::now();
        let Arrival {
            stream,
            local,
            remote,
            opening_read,
            opened,
            at_door,
        } = arrival;
        if let Some(check) = self.agent.handle_accepted(local, remote, now) {
            let origin = match self.inbox.names(remote.ip()) {
                true if at_door => Origin::Door,
                true => Origin::Accepted,
                false => Origin::Stranger,
            };
            let kind = self.kinds.get(&remote).copied();
            let path = OpenedPath {
                pair: CandidatePair {
                    local,
                    remote,
                    kind: kind.unwrap_or(CandidateKind::PeerReflexive),
                },
                how: opened.map_or(How::Accepted, how_of),
                at: now,
            };
            let open = Open {
                stream,
                opening_read,
                origin,
                took: Duration::ZERO,
            };
            self.checks.insert(check, Check::Open { open, path });
        }
    }

    fn take_connected(&mut self, check: CheckId, connected: Connected) {
        let now = clock::now();
        let previous = self.checks.remove(&check);
        let input = match (connected, previous) {
            (
                Ok(Dialled {
                    stream,
                    opened,
                    opening_read,
                }),
                Some(Check::Connecting {
                    local,
                    remote,
                    since,
                    ..
                }),
            ) => {
                let how = how_of(opened);
                let kind = self.kinds.get(&remote).copied();
                let path = OpenedPath {
                    pair: CandidatePair {
                        // The agent may have left the port to the system.
                        local: stream.local_addr().unwrap_or(local),
                        remote,
                        kind: kind.unwrap_or(CandidateKind::Predicted),
                    },
                    how,
                    at: now,
                };
                let open = Open {
                    stream,
                    opening_read,
                    origin: Origin::Dialled,
                    took: now - since,
                };
                self.checks.insert(check, Check::Open { open, path });
                Input::Connected { check, opened }
            }
            // The agent closed the check while its result was on the way here.
            (Ok(_), _) => return,
            (Err(failure), _) => Input::ConnectFailed { check, failure },
        };
        self.agent.handle_input(input, now);
    }

    fn take_verified(&mut self, check: CheckId, verified: Result<Verified, VerifyFailure>) {
        let input = match (verified, self.checks.remove(&check)) {
            (Ok(verified), Some(Check::Verifying { path, .. })) => {
                self.account.prove(self.network_of(path.pair.remote.ip()));
                self.checks
                    .insert(check, Check::Verified { verified, path });
                Input::Verified { check }
            }
            // The agent closed the check while its result was on the way here.
            (Ok(_), _) => return,
            (Err(failure), previous) => {
                if let Some(Check::Verifying { path, .. }) = previous {
                    self.handover.refute(&path.pair);
                }
                Input::VerifyFailed { check, failure }
            }
        };
        self.agent.handle_input(input, clock::now());
    }
}

const fn how_of(opened: Opened) -> How {
    match opened {
        Opened::Simultaneously => How::SimultaneousOpen,
        Opened::Actively => How::Connected,
    }
}

/// Connects. The SYN leaves at once and not when the future is first polled: where a NAT gives out
/// ports in sequence, the order of the SYNs decides which gets which.
fn connect(
    four_tuple: FourTuple,
    paid: PaidSyn,
    faults: Arc<PathFaults>,
    host: Host,
) -> impl Future<Output = Connected> + use<> {
    let mut connecting = Box::pin(async move {
        let never = std::future::pending();
        connecting::connect(&host, four_tuple, paid, &faults, never).await
    });
    let mut nobody = Context::from_waker(Waker::noop());
    let ready = match connecting.as_mut().poll(&mut nobody) {
        Poll::Ready(result) => Some(result),
        Poll::Pending => None,
    };
    async move {
        let result = match ready {
            Some(result) => result,
            None => connecting.await,
        };
        result.map(|(stream, opened)| Dialled {
            stream,
            opened,
            opening_read: false,
        })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests;
