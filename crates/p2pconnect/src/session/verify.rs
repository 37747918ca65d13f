//! Proves that the other end of an open connection is the peer.

mod answer;
mod controlled;
mod nomination;
mod unconfirmed;

use std::{
    io,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use p2pconnect_host::{ReadHalf, TcpStream, WriteHalf, clock};
use p2pconnect_identity::{SecretKey, TlsConfigError, client_config, server_config};
use p2pconnect_proto::{Opening, PEER_ALPN, Role, SessionToken, preamble::PreambleReader};
use p2pconnect_punch::VerifyFailure;
use rustls::{ClientConfig, ServerConfig, pki_types::ServerName};
use tokio::{
    io::AsyncWriteExt as _,
    sync::{Semaphore, SemaphorePermit, mpsc, watch},
    time::{timeout, timeout_at},
};
use tokio_rustls::{TlsConnector, TlsStream};

pub(crate) use self::nomination::{expect_nomination, nominate};
use self::{answer::CalleesAnswer, unconfirmed::UnconfirmedConnections};
use crate::{
    machine::tcp,
    session::path_faults::{PathFaults, probe},
    stream::{
        coordinated_handshake::{
            CoordinatedHandshake, Progress, SERVER_NAME, TAG_LEN, Tags, classify,
        },
        hearing::{Hearing, Hearings},
        parties::Parties,
        preamble::{Preamble, read_opening, stranger},
        transport::Transport,
    },
};

/// The dialler's byte behind its opening: the handshake runs on this connection.
const ON_STREAM: u8 = 1;

/// The dialler's byte behind its opening: the handshake ran by way of the coordinator, and the
/// dialler's tag of it follows.
const COORDINATED: u8 = 2;

/// The longest that a verification may take.
///
/// Four flights at the longest round trips seen on the internet, with a few lost packets. The
/// agent's own limit is the shorter one, as a rule.
const LIMIT: Duration = Duration::from_secs(10);

/// The most handshakes that run on connections at a time, on the controlled side.
///
/// Hundreds of connections may be open there that wait for the dialler's opening; somebody who has
/// seen the opening must not make all of them hold a handshake's state.
const MAX_HANDSHAKES: usize = 8;

/// How long a connection that is used unconfirmed may do without the opening, before the next one
/// is used as well.
///
/// The peer's opening comes half a round trip after TCP is open; the rest is for lost packets. Two
/// round trips, if these are longer.
const SILENCE: Duration = Duration::from_secs(1);

/// How long a connection that is used unconfirmed may take to bring the whole answer, before the
/// next one is used as well.
///
/// The peer's tag comes a round trip after ours has left, and [`FLIGHT_PATIENCE`] later if the
/// coordinator keeps the last flight back; the rest is for a lost packet. Whoever has the token
/// alone holds the others up for no longer. Four round trips, if these are longer: a packet that is
/// lost is sent again after three at first.
const ANSWER_LIMIT: Duration = Duration::from_millis(1500);

/// The longest round trip that counts for these: nobody is held up for longer than [`LIMIT`],
/// whatever a coordinator says.
const MAX_ROUND_TRIP: Duration = Duration::from_secs(2);

/// How long the coordinator may take to pass the last flight on after it came on a connection.
///
/// It left half a direct round trip earlier at the latest. The copy on the connection is believed
/// only if it must be: whoever knows the token could end the handshake with a wrong one.
const FLIGHT_PATIENCE: Duration = Duration::from_millis(500);

/// The least that is waited for the coordinated handshake, however short the direct round trip is:
/// a busy machine needs some milliseconds.
const MIN_PATIENCE: Duration = Duration::from_millis(20);

/// What a side needs to verify the connections of one session.
#[derive(Debug, Clone)]
pub(crate) struct Verifier {
    /// What this side opens each connection with.
    ours: Opening,
    /// What the peer does.
    theirs: Opening,
    tls: Tls,
    handshake_progress: watch::Receiver<Progress>,
    /// Takes bytes of the coordinated handshake that came on a connection.
    handshake_bytes: mpsc::Sender<Vec<u8>>,
    /// When the coordinated handshake should be over.
    handshake_due: Instant,
    /// The round trip to the peer, as far as is known.
    round_trip: Duration,
    /// How the dialler goes about it: as for the first connection, so for all.
    mode: Arc<OnceLock<HandshakeMode>>,
    /// For how long nothing may come from the peer once its connection is used.
    silence: Duration,
    /// One connection after the other begins to be used. Closed when the peer has answered on one.
    use_permits: Arc<Semaphore>,
    /// How many handshakes may run on connections.
    handshakes: Arc<Semaphore>,
    /// What has been found of the paths, by which further connections are opened.
    faults: Arc<PathFaults>,
    /// On which connections the peer is heard.
    hearings: Hearings,
    /// On which connections that this side uses the peer has not answered.
    unconfirmed: UnconfirmedConnections,
}

#[derive(Debug, Clone)]
enum Tls {
    Controlling(Arc<ClientConfig>),
    Controlled(Arc<ServerConfig>),
}

/// Where the handshake runs that a connection is verified by.
#[derive(Debug, Clone)]
enum HandshakeMode {
    OnStream,
    Coordinated(Tags),
}

/// An open connection, and what is known of it.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) stream: TcpStream,
    /// Whether the peer's opening has been read from it already.
    pub(crate) opening_read: bool,
    pub(crate) origin: Origin,
    /// How long it took to open: the round trip, or a little more.
    pub(crate) took: Duration,
}

/// Where a connection comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// This side dialled an address that the peer named.
    Dialled,
    /// Somebody came from an address that the peer named.
    Accepted,
    /// Somebody came from an address that the peer named, to a port that no other session uses. The
    /// peer may wait for this side to speak: its port shows nobody which of its sessions the
    /// connection is of.
    Door,
    /// Somebody came from elsewhere.
    Stranger,
}

/// What is known of a connection before its other end has proved to be the peer.
#[derive(Debug)]
pub(crate) enum UnconfirmedEvent {
    /// It can be used.
    Usable(WriteHalf),
    /// It has brought the peer's opening.
    Heard,
}

/// A connection whose other end is the peer.
#[derive(Debug)]
pub(crate) enum Verified {
    /// The handshake ran on it. The dialler has nominated it, in the place of one of these.
    OnStream(Box<TlsStream<Transport>>, Vec<Opening>),
    /// The peer has shown its tag of the coordinated handshake; the other half is in use already.
    Confirmed(ReadHalf),
    /// The dialler has shown its tag of the coordinated handshake, and uses the connection.
    Tagged(Tagged),
}

/// A connection that the dialler uses, and that waits for this side's tag.
///
/// The dialler may use several, one after the other where answers are slow, and keeps the one that
/// is answered on. So there is one answer.
#[derive(Debug)]
pub(crate) struct Tagged {
    stream: TcpStream,
    ours: [u8; TAG_LEN],
}

impl Tagged {
    /// Tells the dialler that this connection is the one.
    pub(crate) async fn answer(mut self) -> io::Result<TcpStream> {
        let answer = [&probe(&self.stream)[..], &self.ours].concat();
        self.stream.write_all(&answer).await?;
        Ok(self.stream)
    }
}

/// The permit to use another connection unconfirmed.
struct UsePermit<'a> {
    permit: Option<SemaphorePermit<'a>>,
    /// For how long nothing may come.
    silence: Duration,
    /// When the whole answer should have come.
    until: Instant,
}

impl UsePermit<'_> {
    /// Lets the next connection be used as well. This one ends by a reset unless it is the one in
    /// the end.
    fn pass(&mut self, stream: &TcpStream) {
        self.permit = None;
        tcp::have_reset(stream);
    }
}

impl Verifier {
    pub(crate) fn new(
        key: &SecretKey,
        parties: Parties,
        token: SessionToken,
        handshake: &CoordinatedHandshake,
    ) -> Result<Self, TlsConfigError> {
        let Parties { peer, role, .. } = parties;
        let tls = match role {
            Role::Controlling => Tls::Controlling(Arc::new(client_config(key, peer, PEER_ALPN)?)),
            Role::Controlled => {
                Tls::Controlled(Arc::new(server_config(key, Some(peer), PEER_ALPN)?))
            }
        };
        Ok(Self {
            ours: token.opening(role),
            theirs: token.opening(role.other()),
            tls,
            handshake_progress: handshake.progress(),
            handshake_bytes: handshake.incoming(),
            handshake_due: clock::now(),
            round_trip: Duration::ZERO,
            mode: Arc::default(),
            silence: tcp::STREAM_SILENCE,
            use_permits: Arc::new(Semaphore::new(1)),
            handshakes: Arc::new(Semaphore::new(MAX_HANDSHAKES)),
            faults: Arc::default(),
            hearings: Hearings::default(),
            unconfirmed: UnconfirmedConnections::default(),
        })
    }

    /// Tells whether the peer is heard on a connection that is being verified.
    pub(crate) fn hears_peer(&self) -> bool {
        self.hearings.are_there()
    }

    /// Tells whether the peer may have taken a connection that this side has used, and what was
    /// sent there.
    pub(crate) fn may_be_taken(&self) -> bool {
        self.unconfirmed.are_there()
    }

    /// Returns where it notes what it finds of the paths.
    pub(crate) fn faults(&self) -> Arc<PathFaults> {
        Arc::clone(&self.faults)
    }

    /// Sets when the coordinated handshake should be over: from the beginning, unless set.
    pub(crate) fn handshaking_until(self, handshake_due: Instant) -> Self {
        Self {
            handshake_due,
            ..self
        }
    }

    /// Gives peers that are far away the time that they need.
    pub(crate) fn over(self, round_trip: Duration) -> Self {
        Self {
            round_trip: round_trip.min(MAX_ROUND_TRIP),
            ..self
        }
    }

    /// Sets for how long nothing may come from the peer once its connection is used.
    pub(crate) fn enduring(self, silence: Duration) -> Self {
        Self { silence, ..self }
    }

    /// Verifies a connection; on the controlled side, waits for the nomination too.
    ///
    /// The controlling side gives the writing half to `events` as soon as it can be used, and tells
    /// when it is heard there.
    ///
    /// Cancel safety: dropping the future resets the connection.
    pub(crate) async fn verify(
        self,
        open: Open,
        events: mpsc::Sender<UnconfirmedEvent>,
    ) -> Result<Verified, VerifyFailure> {
        let verifying = async {
            match self.tls.clone() {
                Tls::Controlling(config) => self.as_controlling(open, config, events).await,
                Tls::Controlled(config) => self.as_controlled(open, config).await,
            }
        };
        match timeout(LIMIT, verifying).await {
            Ok(result) => result.map_err(|error| classify(&error)),
            Err(_) => Err(VerifyFailure::TimedOut),
        }
    }

    async fn as_controlling(
        &self,
        open: Open,
        config: Arc<ClientConfig>,
        events: mpsc::Sender<UnconfirmedEvent>,
    ) -> io::Result<Verified> {
        match self.mode(&open).await {
            HandshakeMode::Coordinated(tags) => self.use_unconfirmed(open, tags, events).await,
            HandshakeMode::OnStream => self.shake_hands(open, config).await,
        }
    }

    /// Makes a handshake on the connection.
    async fn shake_hands(&self, open: Open, config: Arc<ClientConfig>) -> io::Result<Verified> {
        let Open {
            mut stream,
            opening_read,
            origin,
            ..
        } = open;
        if self.faults.spoil(&stream) {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        stream.write_all(&self.greeting(ON_STREAM)).await?;
        stream.write_all(&probe(&stream)).await?;
        let stream = Preamble::expecting(stream, self.theirs, opening_read, self.hearings.clone());
        let name = ServerName::try_from(SERVER_NAME).map_err(io::Error::other)?;
        let connector = TlsConnector::from(config);
        let mut handshake = std::pin::pin!(connector.connect(name, Transport::Direct(stream)));
        let limit = ANSWER_LIMIT.max(self.round_trip * 4);
        let ended = match timeout(limit, &mut handshake).await {
            Ok(ended) => ended,
            Err(_) => {
                // It may still be slow only, and goes on.
                if let Some(tcp) = handshake.get_ref().and_then(Transport::tcp) {
                    self.faults.check_silent(tcp);
                }
                handshake.await
            }
        };
        let stream = ended.inspect_err(|error| self.note_silent_end(origin, error))?;
        Ok(Verified::OnStream(Box::new(stream.into()), Vec::new()))
    }

    /// Chooses where the handshake runs, once for all connections.
    async fn mode(&self, open: &Open) -> HandshakeMode {
        if let Some(mode) = self.mode.get() {
            return mode.clone();
        }
        let mode = match open.origin {
            Origin::Dialled | Origin::Accepted | Origin::Door => {
                self.handshake_in_time(open.took).await
            }
            // Somebody who knows the token has to prove more before he is sent anything.
            Origin::Stranger => None,
        };
        let choose = || mode.map_or(HandshakeMode::OnStream, HandshakeMode::Coordinated);
        self.mode.get_or_init(choose).clone()
    }

    /// Waits for the coordinated handshake, if it should end within a round trip of the connection,
    /// which is what a handshake there would take.
    async fn handshake_in_time(&self, round_trip: Duration) -> Option<Tags> {
        let mut progress = self.handshake_progress.clone();
        if let Progress::Done(tags) = &*progress.borrow() {
            return Some(tags.clone());
        }
        let (now, patience) = (clock::now(), round_trip.max(MIN_PATIENCE));
        if self.handshake_due > now + patience {
            return None;
        }
        let until = self.handshake_due.max(now) + patience;
        let over = progress.wait_for(|progress| !matches!(progress, Progress::UnderWay));
        match timeout_at(until.into(), over).await.ok()?.as_deref().ok()? {
            Progress::Done(tags) => Some(tags.clone()),
            Progress::UnderWay | Progress::Failed(_) => None,
        }
    }

    /// Uses a connection before the peer has answered on it, and waits for the answer.
    ///
    /// Where that takes long, the next connection is used as well. This one stays open: the peer
    /// answers on the one that it has taken, and that may be this one still.
    async fn use_unconfirmed(
        &self,
        open: Open,
        tags: Tags,
        events: mpsc::Sender<UnconfirmedEvent>,
    ) -> io::Result<Verified> {
        let Ok(permit) = self.use_permits.acquire().await else {
            // The peer has answered on another one, with which the session ends.
            return std::future::pending().await;
        };
        let Open {
            mut stream,
            opening_read,
            origin,
            ..
        } = open;
        if self.faults.spoil(&stream) {
            // It was opened before that was known.
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let mut permit = UsePermit {
            permit: Some(permit),
            silence: SILENCE.max(self.round_trip * 2),
            until: clock::now() + ANSWER_LIMIT.max(self.round_trip * 4),
        };
        let mut hearing = opening_read.then(|| self.hearings.begin());
        let greets = match origin {
            Origin::Accepted | Origin::Stranger => true,
            Origin::Dialled | Origin::Door => false,
        };
        if greets && hearing.is_none() {
            // Whoever connects greets at once, so this costs nothing.
            hearing = Some(self.expect_opening(&mut stream, permit.silence).await?);
        }
        stream.write_all(&self.greeting(COORDINATED)).await?;
        let rest = [probe(&stream), proof(&tags)?].concat();
        stream.write_all(&rest).await?;
        tcp::settle(&stream, self.silence)?;
        let (mut read, write) = stream.into_split();
        self.unconfirmed.begin();
        if events.send(UnconfirmedEvent::Usable(write)).await.is_err() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let mut answer = CalleesAnswer::new(if hearing.is_some() {
            PreambleReader::behind(self.theirs)
        } else {
            PreambleReader::new(self.theirs)
        });
        let mut is_heard = hearing.is_some();
        let answering = async {
            let _hearing = match hearing {
                Some(hearing) => hearing,
                None => {
                    let opening = self.hear_opening(&mut answer, &mut read, &mut permit).await;
                    opening.inspect_err(|error| self.note_silent_end(origin, error))?
                }
            };
            is_heard = true;
            // Where the session is over, nobody needs to know.
            drop(events.send(UnconfirmedEvent::Heard).await);
            self.hear_tag(&mut answer, &mut read, &mut permit, &tags)
                .await
        };
        if let Err(error) = answering.await {
            // What was written on it belongs to another connection now.
            tcp::have_reset(read.as_ref());
            self.unconfirmed.ended(&error, is_heard);
            return Err(error);
        }
        // Nobody takes this one's place any more.
        self.use_permits.close();
        tcp::settle(read.as_ref(), self.silence)?;
        Ok(Verified::Confirmed(read))
    }

    /// Waits for the callee's opening, and lets the next connection be used as well where that is
    /// late.
    async fn hear_opening(
        &self,
        answer: &mut CalleesAnswer,
        read: &mut ReadHalf,
        permit: &mut UsePermit<'_>,
    ) -> io::Result<Hearing> {
        let opening = answer.expect_opening(read);
        match timeout(permit.silence, opening).await {
            Ok(opening) => opening?,
            Err(_) => {
                permit.pass((*read).as_ref());
                answer.expect_opening(read).await?;
            }
        }
        Ok(self.hearings.begin())
    }

    /// Waits for what the callee says on the connection that it has taken, and lets the next
    /// connection be used as well where that is late.
    async fn hear_tag(
        &self,
        answer: &mut CalleesAnswer,
        read: &mut ReadHalf,
        permit: &mut UsePermit<'_>,
        tags: &Tags,
    ) -> io::Result<()> {
        let tag = answer.expect_tag(read, tags);
        match timeout_at(permit.until.into(), tag).await {
            Ok(tag) => tag,
            Err(_) => {
                self.faults.check_silent((*read).as_ref());
                permit.pass((*read).as_ref());
                answer.expect_tag(read, tags).await
            }
        }
    }

    /// Notes how a connection has ended on which nothing has come.
    fn note_silent_end(&self, origin: Origin, error: &io::Error) {
        match origin {
            Origin::Dialled => self.faults.note_silent_end(error),
            Origin::Accepted | Origin::Door | Origin::Stranger => {}
        }
    }

    /// Returns what the dialler begins a connection with. It leaves in a small packet of its own,
    /// so that it arrives even where large ones do not.
    fn greeting(&self, mode: u8) -> Vec<u8> {
        [self.ours.as_bytes(), &[mode][..]].concat()
    }

    async fn expect_opening(
        &self,
        stream: &mut TcpStream,
        silence: Duration,
    ) -> io::Result<Hearing> {
        let opening = timeout(silence, read_opening(stream)).await;
        let opening = opening.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let is_theirs = opening == self.theirs;
        is_theirs
            .then(|| self.hearings.begin())
            .ok_or_else(stranger)
    }
}

/// Returns what the dialler sends behind the probe if the handshake ran elsewhere.
fn proof(tags: &Tags) -> io::Result<Vec<u8>> {
    let flight = &tags.last_flight;
    let len = u16::try_from(flight.len()).map_err(io::Error::other)?;
    Ok([&tags.ours[..], &len.to_be_bytes(), flight].concat())
}
