use std::{
    collections::BTreeSet,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use p2pconnect_identity::SecretKey;
use p2pconnect_proto::{
    Candidate, PeerId,
    message::{DialRequest, Introduction, Refusal},
};
use p2pconnect_punch::{Introduced, PunchAgent, PunchConfig, Verdict};
use tokio::{
    sync::{Mutex, mpsc, oneshot, watch},
    time::{sleep, timeout_at},
};

use crate::{
    Builder, Connection, CoordinatorError, DialError, Metrics, Path, PathTimes, Status,
    coordination::{Answer, Coordination},
    crossing::{Answered, Answering, Crossed, Crossings},
    gather,
    inbound::Inbound,
    mappings::{Failure, Mappings},
    metrics::Recorder,
    more_ports::{Place, Places},
    nat64::Nat64,
    port_mapping::PortMappings,
    punch_ports::PunchPorts,
    relayed::Relayed,
    session::{Punched, Session, SessionError},
    status::Observer,
    task::AbortOnDrop,
    turns::Turns,
    verify::Verifier,
};

/// How long [`Endpoint::dial`] tries. Three rounds of four seconds fit, which is more than any
/// path that works has been seen to need.
const DIAL_LIMIT: Duration = Duration::from_secs(15);

/// The longest that a dial may be told to try; its rounds are over long before.
const MAX_DIAL_LIMIT: Duration = Duration::from_secs(3600);

/// How many introductions one dial asks for. Each round starts at a newly measured moment.
const MAX_ROUNDS: u32 = 3;

/// A new round is not worth asking for when less than this is left.
const ROUND_MINIMUM: Duration = Duration::from_secs(1);

/// How long at least to wait before a coordinator that is asked too much is asked again; up to
/// twice as long at random. A few introductions end in this time.
const BUSY_PAUSE: Duration = Duration::from_millis(100);

/// A peer: it can dial others by their ids, and be dialled if it was built with a policy.
///
/// Dropping the endpoint ends its registration and its mappings. Connections made live on.
#[derive(Debug)]
pub struct Endpoint {
    inner: Arc<Inner>,
    coordination: watch::Receiver<Option<Arc<Coordination>>>,
    incoming: Option<Mutex<mpsc::Receiver<Connection>>>,
    tasks: Vec<AbortOnDrop>,
}

/// What the tasks of an endpoint share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) key: SecretKey,
    pub(crate) observer: Observer,
    pub(crate) ports: PunchPorts,
    pub(crate) mappings: Mappings,
    pub(crate) port_mappings: PortMappings,
    pub(crate) inbound: Arc<Inbound>,
    pub(crate) punch: PunchConfig,
    pub(crate) metrics: Recorder,
    pub(crate) nat64: Nat64,
    pub(crate) crossings: Arc<Crossings>,
    pub(crate) turns: Turns,
    pub(crate) places: Places,
}

impl Endpoint {
    /// Starts to build an endpoint.
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(crate) const fn new(
        inner: Arc<Inner>,
        coordination: watch::Receiver<Option<Arc<Coordination>>>,
        incoming: Option<Mutex<mpsc::Receiver<Connection>>>,
        tasks: Vec<AbortOnDrop>,
    ) -> Self {
        Self {
            inner,
            coordination,
            incoming,
            tasks,
        }
    }

    /// Returns this endpoint's own id.
    #[must_use]
    pub fn peer_id(&self) -> PeerId {
        self.inner.key.peer_id()
    }

    /// Returns what this endpoint has done since it was bound.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.inner.metrics.read()
    }

    /// Makes a direct connection to a peer, within 15 seconds.
    ///
    /// If the peer dials this endpoint at the same moment, one connection results: both dials
    /// return it, and neither side's [`accept`](Self::accept) does.
    ///
    /// There may be other connections to the same peer. From the fifth on they take two punch ports
    /// more for every four, and a moment to learn the mappings of these.
    ///
    /// # Errors
    ///
    /// [`DialError`], which tells whose matter it is. [`DialError::NoDirectPath`] comes with the
    /// evidence.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future abandons the attempt on this side; the peer's ends by itself.
    pub async fn dial(&self, peer: PeerId) -> Result<Connection, DialError> {
        self.dial_within(peer, DIAL_LIMIT).await
    }

    /// Makes a direct connection to a peer, within the time given, and within an hour.
    ///
    /// # Errors
    ///
    /// As [`dial`](Self::dial).
    ///
    /// # Cancel safety
    ///
    /// As [`dial`](Self::dial).
    pub async fn dial_within(
        &self,
        peer: PeerId,
        limit: Duration,
    ) -> Result<Connection, DialError> {
        tokio::select! {
            biased;
            result = self.dial_in_rounds(peer, limit) => result,
            Failure { server, error } = self.inner.mappings.hopeless() => {
                Err(DialError::Stun { server, source: error })
            }
        }
    }

    async fn dial_in_rounds(&self, peer: PeerId, limit: Duration) -> Result<Connection, DialError> {
        let began = Instant::now();
        let deadline = began + limit.min(MAX_DIAL_LIMIT);
        let place = self.inner.place(peer, deadline).await?;
        let mut found = None;
        for round in 1..=MAX_ROUNDS {
            let forwarded = self.inner.port_mappings.known();
            let met = match self.ask(peer, &place, deadline).await {
                Ok(met) => met,
                // What a round has found says more than a coordinator that is silent afterwards.
                Err(error @ (DialError::TimedOut | DialError::Coordinator(_))) => {
                    return Err(found.unwrap_or(error));
                }
                Err(error) => return Err(error),
            };
            let introduced = began.elapsed();
            self.inner.metrics.introduced(introduced);
            let since = (began, introduced);
            let result = match met {
                Met::Introduced(meeting) => {
                    match self.inner.punch(*meeting, &place, deadline).await {
                        Ok(punched) => return Ok(connection(punched, peer, place, since, round)),
                        Err(error) => Err(Some(error)),
                    }
                }
                Met::Crossed(crossed) => crossed.outcome(deadline).await,
            };
            match result {
                Ok((punched, place)) => {
                    return Ok(connection(punched, peer, place, since, round));
                }
                // What was proven impossible may be possible by what the router forwards by now.
                Err(Some(error))
                    if is_final(&error) && self.inner.port_mappings.known() == forwarded =>
                {
                    return Err(error);
                }
                Err(error) => found = error.or(found),
            }
            if deadline.saturating_duration_since(Instant::now()) < ROUND_MINIMUM {
                break;
            }
        }
        Err(found.unwrap_or(DialError::TimedOut))
    }

    /// Waits for the next peer that dials this endpoint, and returns the connection.
    ///
    /// Returns `None` if nobody can dial this endpoint any more: it was built without a policy, or
    /// another endpoint has registered with the same key.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no connection is lost.
    pub async fn accept(&self) -> Option<Connection> {
        self.incoming.as_ref()?.lock().await.recv().await
    }

    /// Says goodbye to the coordinator, which otherwise notices the absence only after a while, and
    /// to a router that forwards ports. Takes half a second at most.
    pub async fn close(self) {
        let Self {
            inner,
            coordination,
            tasks,
            ..
        } = self;
        // Nobody is to reconnect what is closed here.
        drop(tasks);
        let coordination = coordination.borrow().clone();
        let goodbye = async {
            if let Some(coordination) = coordination {
                coordination.close().await;
            }
        };
        tokio::join!(goodbye, inner.port_mappings.release());
    }

    /// Asks for an introduction, again and again while the coordinator is told to do too much at
    /// a time.
    async fn ask(&self, peer: PeerId, place: &Place, deadline: Instant) -> Result<Met, DialError> {
        let (relayed, hello) = Relayed::dialling(&self.inner.key, peer).await?;
        loop {
            let outstanding = self.inner.crossings.asking(peer);
            let asking = timeout_at(deadline.into(), self.ask_once(peer, place, hello.clone()));
            let (coordination, answer) = asking.await.map_err(|_| DialError::TimedOut)??;
            match answer {
                Ok(Answer::Introduced(introduction)) if introduction.peer == peer => {
                    let meeting = Meeting {
                        introduction,
                        coordination,
                        relayed,
                    };
                    return Ok(Met::Introduced(Box::new(meeting)));
                }
                Ok(Answer::Introduced(_)) => return Err(CoordinatorError::Answer.into()),
                Ok(Answer::Crossed(session)) => match outstanding.crossed(session) {
                    Some(crossed) => return Ok(Met::Crossed(crossed)),
                    // It was over before we dialled, and its connection is another one.
                    None => continue,
                },
                Err(Refusal::NotOnline) => return Err(DialError::NotOnline),
                Err(Refusal::NotAllowed) => return Err(DialError::NotAllowed),
                Err(refusal) => {
                    drop(outstanding);
                    let pause = BUSY_PAUSE.mul_f64(1.0 + random_fraction());
                    if refusal != Refusal::TooMany || Instant::now() + pause >= deadline {
                        return Err(CoordinatorError::Refused(refusal).into());
                    }
                    sleep(pause).await;
                }
            }
        }
    }

    /// Asks once; returns whom, and what they said.
    async fn ask_once(
        &self,
        peer: PeerId,
        place: &Place,
        handshake: Vec<u8>,
    ) -> Result<(Arc<Coordination>, Result<Answer, Refusal>), CoordinatorError> {
        let mut coordination = self.coordination.clone();
        let line = coordination.wait_for(Option::is_some).await;
        // Only another endpoint with the same key ends the task that keeps the line.
        let line = line
            .ok()
            .and_then(|line| line.clone())
            .ok_or(CoordinatorError::Replaced)?;
        let (candidates, claims) = place
            .reached_at()
            .unwrap_or_else(|| (self.inner.candidates(), self.inner.mappings.claims()));
        let request = DialRequest {
            callee: peer,
            candidates,
            nat: *self.inner.mappings.nat().borrow(),
            claims,
            handshake,
        };
        let answer = line.dial(request).await?;
        Ok((line, answer))
    }
}

impl Inner {
    /// Returns where this endpoint may be reached, as far as is known now.
    pub(crate) fn candidates(&self) -> Vec<Candidate> {
        gather::candidates(
            &self.ports,
            &self.mappings.known(),
            &self.port_mappings.known(),
        )
    }

    /// Connects to a peer that dials this endpoint.
    pub(crate) async fn answer(
        &self,
        mut introduction: Introduction,
        coordination: &Arc<Coordination>,
        accepting: mpsc::Sender<Connection>,
        mut answering: Answering,
    ) {
        let (began, peer) = (Instant::now(), introduction.peer);
        let place = self.places.answer(peer);
        let hello = std::mem::take(&mut introduction.handshake);
        let punching = async {
            let relayed = Relayed::called(&self.key, peer, hello)?;
            let meeting = Meeting {
                introduction,
                coordination: Arc::clone(coordination),
                relayed,
            };
            self.punch(meeting, &place, began + DIAL_LIMIT).await
        };
        let result = tokio::select! {
            result = punching => Some(result),
            () = answering.abandoned() => None,
        };
        let hand_over = async {
            match result {
                Some(Ok(punched)) => answering.ended(Ok(Answered {
                    punched,
                    peer,
                    place,
                    began,
                    accepting,
                })),
                Some(Err(error)) => {
                    let reason = error.to_string();
                    self.observer.tell(Status::PunchFailed { peer, reason });
                    answering.ended(Err(error));
                }
                None => {}
            }
        };
        // This leaves first, so that a dial back is not taken for one that crosses what is over.
        let (settled, ()) = tokio::join!(coordination.settle(peer), hand_over);
        if let Err(error) = settled {
            tracing::debug!(%error, "the coordinator was not told that a dial is over");
        }
    }

    /// Turns an introduction into a connection.
    async fn punch(
        &self,
        meeting: Meeting,
        place: &Place,
        deadline: Instant,
    ) -> Result<Punched, DialError> {
        let Meeting {
            introduction,
            coordination,
            mut relayed,
        } = meeting;
        let Introduction {
            session,
            peer,
            role,
            mut candidates,
            nat,
            relayed_rtt_us,
            handshake: _,
        } = introduction;
        self.nat64.translate(&mut candidates);
        let started = Instant::now();
        let relayed_rtt = Duration::from_micros(relayed_rtt_us.into());
        let flights = coordination.expect_flights(session);
        relayed.connect(session, coordination, flights);
        let remotes: BTreeSet<_> = candidates.iter().map(|it| it.address).collect();
        let kinds = candidates.iter().map(|it| (it.address, it.kind)).collect();
        let inbox = self.inbound.expect(session, remotes);
        self.observer.tell(Status::Introduced { peer, role });
        self.observer.tell(Status::Punching {
            peer,
            candidates: candidates.len(),
            relayed_rtt,
        });

        let local_nat = *self.mappings.nat().borrow();
        let mut bases = gather::bases(place.ports().unwrap_or(&self.ports), &candidates).await;
        // Until this introduction is over.
        let _begun = self.turns.take(
            (self.key.peer_id(), peer, role),
            [&local_nat, &nat],
            &mut bases,
            &mut candidates,
        );
        let introduced = Introduced {
            role,
            bases,
            remote_candidates: candidates,
            relayed_rtt,
            local_nat,
            remote_nat: nat,
        };
        let agent = PunchAgent::new(self.punch.clone(), introduced, random_seed(), started);
        // The callee's flight leaves when the dialler is told, and takes half the way there and
        // back.
        let due = started + relayed_rtt / 2;
        let verifier = Verifier::new(&self.key, (peer, role), session, (&relayed, due))?;
        let local_nat = self.mappings.nat();
        let session = Session::new(agent, role, verifier, relayed, inbox, local_nat);
        let (handed, handing) = oneshot::channel();
        let race = AbortOnDrop::spawn(session.naming(kinds).run(deadline, handed));
        let result = match handing.await {
            Ok(result) => result,
            Err(_) => Err(SessionError::Broken(io::ErrorKind::BrokenPipe.into())),
        };
        self.metrics.ended(started, &result);
        let mut punched = result?;
        place.hold(self.turns.note(peer, &punched.way.pair));
        punched.stream.get_mut().0.keep(race);
        Ok(punched)
    }
}

/// What the coordinator has arranged for a dial.
enum Met {
    /// An introduction of its own.
    Introduced(Box<Meeting>),
    /// Whatever comes of the introduction that the peer's dial has brought.
    Crossed(Crossed),
}

/// An introduction, over which line it came, and the handshake that begun with it.
struct Meeting {
    introduction: Introduction,
    coordination: Arc<Coordination>,
    relayed: Relayed,
}

impl From<SessionError> for DialError {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::NoPath(report) if report.verdict == Verdict::WrongIdentity => {
                Self::WrongIdentity(report)
            }
            SessionError::NoPath(report) => Self::NoDirectPath(report),
            SessionError::Broken(error) => Self::Broken(error),
        }
    }
}

/// Tells whether another round could not end differently.
fn is_final(error: &DialError) -> bool {
    match error {
        DialError::NoDirectPath(report) => is_proven(report.verdict),
        DialError::Broken(_) => false,
        _ => true,
    }
}

/// Tells whether a verdict rests on what is known of the NATs, and not on what was heard.
const fn is_proven(verdict: Verdict) -> bool {
    matches!(
        verdict,
        Verdict::NoCommonFamily
            | Verdict::LocalMappingVaries
            | Verdict::RemoteMappingVaries
            | Verdict::BothMappingsVary
    )
}

/// Makes a connection of a stream to a peer, for whoever began to wait for it, and was introduced so
/// much later.
pub(crate) fn connection(
    punched: Punched,
    peer: PeerId,
    place: Place,
    (began, introduced): (Instant, Duration),
    rounds: u32,
) -> Connection {
    let Punched { stream, way, stats } = punched;
    let open = way.at.saturating_duration_since(began);
    // Of the peer's dial, which may be further than the answer to ours.
    let introduced = introduced.min(open);
    let times = PathTimes::new(introduced, open, began.elapsed(), rounds);
    let path = Path::new(way.how, way.pair, stats, times);
    Connection::new(stream, peer, path, place)
}

fn random_seed() -> [u8; 32] {
    let mut seed = [0; 32];
    // The seed spreads redials in time and protects nothing, so a fixed one is no harm.
    if let Err(error) = getrandom::fill(&mut seed) {
        tracing::warn!(%error, "no randomness from the system");
    }
    seed
}

/// Returns a number from 0 to 1, for spreading things in time.
pub(crate) fn random_fraction() -> f64 {
    f64::from(random_seed()[0]) / f64::from(u8::MAX)
}
