use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use p2pconnect_identity::SecretKey;
use p2pconnect_proto::{
    NatMapping, NatReport, PeerId, PortAssignment, Role,
    message::{DialRequest, Introduction, Refusal},
};
use p2pconnect_punch::{PunchConfig, Verdict, is_contended};
use p2pconnect_stun::shortage;
use tokio::{
    sync::{Mutex, mpsc, watch},
    time::{sleep, timeout_at},
};

use crate::{
    Builder, Connection, CoordinatorError, DialError, Metrics,
    alone::{Alone, OneEach, alone},
    behaviour::Behaviour,
    bets::Bets,
    chance::random_fraction,
    connection::Steps,
    coordination::{Answer, Coordination},
    crossing::{Crossed, Crossings},
    fresh_ports::FreshPorts,
    gather::Announced,
    holes::Lingering,
    inbound::Inbound,
    mappings::{Claims, Failure, Mappings},
    meeting::Meeting,
    metrics::Recorder,
    more_ports::{Place, Places},
    nat64::Nat64,
    port_mapping::PortMappings,
    punch_ports::PunchPorts,
    registrations::Registrations,
    relayed::Relayed,
    rounds,
    session::{Punched, SessionError},
    status::{Observer, Status},
    syn_budget::SynBudget,
    task::AbortOnDrop,
    turns::Turns,
};

/// How long [`Endpoint::dial`] tries. Three rounds of four seconds fit, which is more than any
/// path that works has been seen to need.
pub(crate) const DIAL_LIMIT: Duration = Duration::from_secs(15);

/// The longest that a dial may be told to try; its rounds are over long before.
const MAX_DIAL_LIMIT: Duration = Duration::from_secs(3600);

/// How long at least to wait before a coordinator that is asked too much is asked again; up to
/// twice as long at random. A few introductions end in this time. It doubles each time.
const BUSY_PAUSE: Duration = Duration::from_millis(100);

/// The longest that this pause becomes, before chance: a coordinator that grants one dial each 100 ms has
/// granted twenty by then.
const MAX_BUSY_PAUSE: Duration = Duration::from_secs(2);

/// The longest pause before a peer that has no room for a connection is asked again. Each time, SYNs
/// leave for nothing.
const MAX_PEER_BUSY_PAUSE: Duration = Duration::from_secs(2);

/// The round trips, by way of the coordinator, after which a peer has found out and told where its
/// NAT is in a row of ports: word of the end takes a half of one, asking a STUN server two to the
/// server, telling another half.
const LOOK_ROUND_TRIPS: u32 = 3;

/// The same for a peer that has only to tell: because its NAT has turned out to be of another kind,
/// or to have other ports used up.
const TELL_ROUND_TRIPS: u32 = 1;

/// The longest that this is waited for.
const MAX_LOOK_PAUSE: Duration = Duration::from_secs(1);

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
    pub(crate) mappings: Arc<Mappings>,
    pub(crate) behaviour: Arc<Behaviour>,
    pub(crate) fresh_ports: FreshPorts,
    /// What the coordinator has been told, and so what diallers act by.
    pub(crate) registered: std::sync::Mutex<Registrations>,
    pub(crate) port_mappings: PortMappings,
    pub(crate) inbound: Arc<Inbound>,
    pub(crate) punch: PunchConfig,
    pub(crate) bets: Arc<Bets>,
    pub(crate) lingering: Arc<Lingering>,
    pub(crate) syn_budget: Arc<SynBudget>,
    pub(crate) metrics: Arc<Recorder>,
    pub(crate) nat64: Arc<Nat64>,
    pub(crate) crossings: Arc<Crossings>,
    pub(crate) turns: Arc<Turns>,
    pub(crate) places: Places,
    /// Whose dials are answered one at a time, and are being answered.
    pub(crate) one_each: Arc<OneEach>,
    /// For how long nothing may come from the peer of a connection.
    pub(crate) stream_silence: Duration,
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
    /// The connection is returned as soon as bytes can be sent, a round trip before any of the
    /// peer's can be read. The peer has proved its key by then and has room for the connection, and
    /// nobody else can read what is sent. But only what is read tells that the peer has it. Until
    /// then TCP may prove to lead elsewhere, and what was sent is sent again over the next path; if
    /// there is none, or the peer goes away, reading and writing end with an error, most likely
    /// [`ConnectionReset`](std::io::ErrorKind::ConnectionReset), and dialling again may help. It holds
    /// [`DialError::PeerSilent`] if the peer's process has gone without a word.
    ///
    /// A peer that has no room for a connection just now is asked again until the time is over,
    /// and the dial ends with [`DialError::PeerBusy`] then.
    ///
    /// If the peer dials this endpoint at the same moment, one connection results: both dials
    /// return it, and neither side's [`accept`](Self::accept) does.
    ///
    /// Several dials at the same moment, of one process or of several with the same key on one machine, do not harm each
    /// other. Where the NATs of both sides give each destination another port, they are made one after the other if
    /// need be.
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
    /// Dropping the future abandons the attempt; the peer is told, or else its side ends by itself.
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
        let began = Instant::now();
        let result = self.dial_in_rounds(peer, limit).await;
        result.map_err(|error| {
            let error = error.or_shortage(shortage::since(began));
            explained(error, self.inner.mappings.failure())
        })
    }

    async fn dial_in_rounds(&self, peer: PeerId, limit: Duration) -> Result<Connection, DialError> {
        let began = Instant::now();
        let deadline = began + limit.min(MAX_DIAL_LIMIT);
        let place = self.inner.place(peer, deadline).await?;
        let _reserved = self.inner.behaviour.reserve();
        let mut found = None;
        let mut _alone = Alone::default();
        let (mut round, mut turned_away, mut outdated) = (0, 0, 0);
        let (mut failed, mut most) = (0, 0);
        while round - turned_away < rounds::MAX_INTRODUCTIONS {
            round += 1;
            let forwarded = self.inner.port_mappings.known();
            if !self.looks_in_time(round, deadline).await {
                break;
            }
            let met = match self.ask(peer, &place, deadline).await {
                Ok(met) => met,
                Err(error) => return Err(rounds::telling(found, error)),
            };
            let (are_apart, remote_nat) = (met.are_apart(), met.remote_nat());
            let is_short = rounds::is_short(deadline.saturating_duration_since(Instant::now()));
            let introduced = began.elapsed();
            self.inner.metrics.introduced(introduced);
            let (error, mut pause) = match self.meet(met, &place, deadline).await {
                Ok((punched, theirs)) => {
                    let place = theirs.unwrap_or(place);
                    return Ok(connection(punched, peer, place, (began, introduced), round));
                }
                Err(failure) => failure,
            };
            _alone = Alone::default();
            match error {
                // It was waited for what the next introduction needs.
                Some(left @ DialError::PeerLeft) => {
                    found = found.or(Some(left));
                    pause = rounds::pause_after_leaving(outdated, random_fraction());
                    outdated += 1;
                }
                Some(DialError::PeerBusy) => {
                    found = Some(DialError::PeerBusy);
                    if turned_away == 0 {
                        self.inner.observer.tell(Status::PeerBusy { peer });
                    }
                    pause = pause_for_room(turned_away);
                    turned_away += 1;
                }
                // What was proven impossible may be possible by what the router forwards by now.
                Some(error)
                    if rounds::is_final(&error, are_apart && self.inner.mappings.is_settled())
                        && self.inner.port_mappings.known() == forwarded =>
                {
                    return Err(error);
                }
                // It was asked for since the peer was busy, which says more.
                Some(_) if is_short && found.is_some() => break,
                error => {
                    pause += rounds::spread(error.as_ref(), failed, random_fraction());
                    most = most.max(rounds::most(error.as_ref()));
                    found = rounds::kept(found, error, Instant::now() >= deadline);
                    failed += 1;
                    if failed >= most {
                        break;
                    }
                }
            }
            let next = self.wait_for_next(found.as_ref(), pause, remote_nat, deadline);
            let Some(alone) = next.await else {
                break;
            };
            _alone = alone;
        }
        Err(found.unwrap_or(DialError::TimedOut))
    }

    /// Sees where this machine and its NAT are, and returns whether there was time for it.
    async fn looks_in_time(&self, round: u32, deadline: Instant) -> bool {
        timeout_at(deadline.into(), self.inner.look(round))
            .await
            .is_ok()
    }

    /// Waits until another introduction is worth asking for, if there is time for one: so long, and until no other
    /// dial of this key goes on and the peer has recovered from that, where dials are in each other's way.
    async fn wait_for_next(
        &self,
        found: Option<&DialError>,
        pause: Duration,
        remote: Option<RemoteNat>,
        deadline: Instant,
    ) -> Option<Alone> {
        let left = deadline.saturating_duration_since(Instant::now());
        sleep(rounds::wait_for_next(found, pause, left)?).await;
        let own = self.inner.behaviour.report();
        let in_the_way = remote.filter(|remote| is_contended([&own, &remote.report]));
        let Some(remote) = in_the_way else {
            return Some(Alone::default());
        };
        let latest = deadline.checked_sub(rounds::LAST_ROUND);
        let alone = alone(&self.inner.key, latest.unwrap_or(deadline)).await;
        if alone.has_waited {
            sleep(remote.recovery).await;
        }
        Some(alone)
    }

    /// Connects as the coordinator has arranged it; returns the place too if the connection is the
    /// peer's dial's. If nothing comes of it, returns why, and how long to wait before the next try.
    async fn meet(
        &self,
        met: Met,
        place: &Place,
        deadline: Instant,
    ) -> Result<(Punched, Option<Place>), (Option<DialError>, Duration)> {
        match met {
            Met::Introduced(meeting) => {
                let pause = pause_after(&meeting.introduction);
                let punching = self.inner.punch_unless_outdated(*meeting, place, deadline);
                match punching.await {
                    Ok(punched) => Ok((punched, None)),
                    Err(error) => Err((Some(error), pause)),
                }
            }
            Met::Crossed(crossed) => match crossed.outcome(deadline).await {
                Ok((punched, theirs)) => Ok((punched, Some(theirs))),
                Err(error) => Err((error, Duration::ZERO)),
            },
        }
    }

    /// Waits for the next peer that dials this endpoint, and returns the connection.
    ///
    /// There is room for 64 connections that are not accepted yet, or are being made. Whoever dials
    /// when it is used up comes back later; nothing that a dial has returned is dropped for it.
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

    /// Gives up what only further connections need: those to the coordinator and to the STUN servers.
    /// Nobody can be dialled afterwards, or dial this endpoint. Connections that have been
    /// [confirmed](Connection::confirmed) live on, and a router goes on forwarding ports until the
    /// endpoint is closed.
    ///
    /// # Cancel safety
    ///
    /// If it is dropped before it is done, the coordinator may notice only after half a minute.
    pub async fn retire(&mut self) {
        // Nobody is to reconnect what is closed here.
        self.tasks.clear();
        self.inner.mappings.release();
        let coordination = self.coordination.borrow().clone();
        if let Some(coordination) = coordination {
            coordination.close().await;
        }
    }

    /// Says goodbye to the coordinator, which otherwise notices the absence only after a while, and
    /// to a router that forwards ports. Takes half a second at most.
    ///
    /// # Cancel safety
    ///
    /// If it is dropped before it is done, the coordinator sends diallers here for up to half a minute
    /// more, and a router forwards its ports until its lease ends, after 20 minutes at most.
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
    /// a time, or has gone: it may be back soon.
    async fn ask(&self, peer: PeerId, place: &Place, deadline: Instant) -> Result<Met, DialError> {
        let (relayed, hello) = Relayed::dialling(&self.inner.key, peer).await?;
        let mut gone = None;
        let mut busy_pause = BUSY_PAUSE;
        loop {
            let outstanding = self.inner.crossings.asking(peer);
            let asking = timeout_at(deadline.into(), self.ask_once(peer, place, hello.clone()));
            let pause = busy_pause.mul_f64(1.0 + random_fraction());
            let is_in_time = |pause| Instant::now() + pause < deadline;
            let Asked {
                coordination,
                announced,
                claims,
                answer,
            } = match asking.await {
                Ok(Ok(asked)) => asked,
                Ok(Err(error)) if is_gone(&error) && is_in_time(pause) => {
                    drop(outstanding);
                    gone = Some(error);
                    sleep(pause).await;
                    continue;
                }
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => return Err(gone.map_or(DialError::TimedOut, DialError::from)),
            };
            match answer {
                // Somebody else, or one who dials as well, was not asked for.
                Ok(Answer::Introduced(introduction))
                    if introduction.peer == peer && introduction.role == Role::Controlling =>
                {
                    let meeting =
                        self.inner
                            .meeting(introduction, announced, &claims, coordination, relayed);
                    return Ok(Met::Introduced(Box::new(meeting)));
                }
                Ok(Answer::Introduced(_)) => return Err(CoordinatorError::Answer.into()),
                Ok(Answer::Crossed(session)) => match outstanding.crossed(session) {
                    Some(crossed) => return Ok(Met::Crossed(crossed)),
                    // It was over before we dialled, and its connection is another one.
                    None => continue,
                },
                Err(Refusal::Unavailable) => {
                    let own_id = self.peer_id();
                    return Err(DialError::Unavailable { own_id });
                }
                Err(Refusal::OwnId) => return Err(DialError::OwnId),
                Err(refusal) => {
                    drop(outstanding);
                    if refusal != Refusal::TooMany || !is_in_time(pause) {
                        return Err(CoordinatorError::Refused(refusal).into());
                    }
                    sleep(pause).await;
                    busy_pause = (busy_pause * 2).min(MAX_BUSY_PAUSE);
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
    ) -> Result<Asked, CoordinatorError> {
        let mut coordination = self.coordination.clone();
        let line = coordination.wait_for(Option::is_some).await;
        // Only another endpoint with the same key ends the task that keeps the line.
        let line = line
            .ok()
            .and_then(|line| line.clone())
            .ok_or(CoordinatorError::Replaced)?;
        // In this order: a mapping that comes to be known meanwhile is named twice, and not left out.
        let claims = place
            .claims()
            .unwrap_or_else(|| self.inner.mappings.claims());
        let announced = self.inner.announce_anew(place);
        let request = DialRequest {
            callee: peer,
            candidates: announced.candidates.clone(),
            nat: announced.nat,
            claims: claims.list.clone(),
            handshake,
        };
        let answer = line.dial(request).await?;
        Ok(Asked {
            coordination: line,
            announced,
            claims,
            answer,
        })
    }
}

/// What the coordinator has arranged for a dial.
enum Met {
    /// An introduction of its own.
    Introduced(Box<Meeting>),
    /// Whatever comes of the introduction that the peer's dial has brought.
    Crossed(Crossed),
}

impl Met {
    /// Tells whether the two are known to each other in different families.
    fn are_apart(&self) -> bool {
        match self {
            Self::Introduced(meeting) => meeting.known.are_apart(),
            Self::Crossed(_) => false,
        }
    }

    /// Returns what is known of the peer's NAT.
    fn remote_nat(&self) -> Option<RemoteNat> {
        match self {
            Self::Introduced(meeting) => Some(RemoteNat {
                report: meeting.introduction.nat,
                recovery: pause_after(&meeting.introduction),
            }),
            Self::Crossed(_) => None,
        }
    }
}

/// What is known of the NAT of a peer that was dialled.
#[derive(Debug, Clone, Copy)]
struct RemoteNat {
    report: NatReport,
    /// How long the peer takes after a dial to find out and tell what that has used up.
    recovery: Duration,
}

/// Who was asked for an introduction, what they were told, and what they said.
struct Asked {
    coordination: Arc<Coordination>,
    announced: Announced,
    /// What they were asked to find out.
    claims: Claims,
    answer: Result<Answer, Refusal>,
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

/// Returns how long to wait before a peer is asked for again.
///
/// A peer tells the coordinator what the last attempt has used up. One whose NAT gives out ports in
/// a row looks before where the row goes on.
pub(crate) fn pause_after(introduction: &Introduction) -> Duration {
    let nat = &introduction.nat;
    let counts = matches!(nat.ports, Some(PortAssignment::Sequential { .. }));
    let round_trips = match nat.mapping {
        Some(NatMapping::EndpointIndependent) => return Duration::ZERO,
        Some(_) if counts => LOOK_ROUND_TRIPS,
        Some(_) | None => TELL_ROUND_TRIPS,
    };
    let round_trip = Duration::from_micros(introduction.relayed_rtt_us.into());
    (round_trip * round_trips).min(MAX_LOOK_PAUSE)
}

/// Returns how long to wait before a peer is asked again that has turned this endpoint away so many
/// times before: twice as long each time, and up to twice that at random.
fn pause_for_room(times: u32) -> Duration {
    let pause = BUSY_PAUSE.saturating_mul(1 << times.min(8));
    pause
        .mul_f64(1.0 + random_fraction())
        .min(MAX_PEER_BUSY_PAUSE)
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

/// Tells whether the coordinator is not there any more, while the connection to it is made anew.
fn is_gone(error: &CoordinatorError) -> bool {
    matches!(
        error,
        CoordinatorError::Closed { .. }
            | CoordinatorError::GoingAway
            | CoordinatorError::Lost { .. }
            | CoordinatorError::Overloaded
            | CoordinatorError::Silent(_)
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
    let steps = Steps {
        began,
        introduced,
        usable: Instant::now(),
        rounds,
    };
    Connection::new(punched, peer, steps, place)
}
