//! Hands the connection out: as soon as it can be used, and from then on whichever is the one.

use std::{
    io,
    sync::{Arc, Weak},
    time::Duration,
};

use p2pconnect_host::WriteHalf;
use p2pconnect_proto::{Opening, Role};
use p2pconnect_punch::CandidatePair;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_rustls::TlsStream;

use super::{Decision, Handed, SessionError, Signs};
use crate::{
    machine::tcp,
    session::verify::{Tagged, Verified, expect_nomination, nominate},
    stream::{
        coordinated_handshake::{CoordinatedHandshake, Withdrawn},
        opened_path::UsablePath,
        path_ledger::{PathLedger, StreamPath},
        preamble::Preamble,
        punched::Punched,
        transport::{Transport, Unconfirmed, Update, Written},
    },
};

/// How long sending the nomination may take, and reading one that has begun to arrive: it is one
/// small record.
const NOMINATION_LIMIT: Duration = Duration::from_secs(1);

/// Updates that wait until the stream is used: of as many connections as are used unconfirmed one
/// after the other in the time of a session, three each.
const MAX_UPDATES: usize = 64;

/// A connection that is out.
struct Out {
    updates: mpsc::Sender<Update>,
    /// What is sent on each connection that is used.
    written: Written,
    stream_path: Weak<StreamPath>,
    /// Where to say that it has come to nothing.
    lost: oneshot::Sender<SessionError>,
}

/// Takes the connection from the race to whoever wants it.
pub(crate) struct Handover {
    role: Role,
    handshake: CoordinatedHandshake,
    ledger: PathLedger,
    /// For how long nothing may come from the peer.
    silence: Duration,
    decision: Decision,
    /// The other introductions that connections of this dial have been used of: the callee is to
    /// give up this one if it has taken one of those.
    predecessors: Vec<Opening>,
    state: State,
}

enum State {
    /// Nobody has asked yet.
    Idle,
    /// Somebody waits for a connection.
    Awaited(oneshot::Sender<Result<Handed, SessionError>>),
    /// It is told what it runs over, and so is whoever asks about it.
    Out(Out),
    /// There is nothing more to hand out.
    Over,
}

impl Handover {
    pub(crate) fn new(role: Role, handshake: CoordinatedHandshake, ledger: PathLedger) -> Self {
        Self {
            role,
            handshake,
            ledger,
            silence: tcp::STREAM_SILENCE,
            decision: Decision::default(),
            predecessors: Vec::new(),
            state: State::Idle,
        }
    }

    /// Lets somebody else give the introduction up.
    pub(crate) fn unless(self, decision: Decision) -> Self {
        Self { decision, ..self }
    }

    /// Names the introductions that connections of this dial have been used of before.
    pub(crate) fn succeeding(self, predecessors: Vec<Opening>) -> Self {
        Self {
            predecessors,
            ..self
        }
    }

    /// Sets for how long nothing may come from the peer.
    pub(crate) fn enduring(self, silence: Duration) -> Self {
        Self { silence, ..self }
    }

    pub(super) fn to(&mut self, handed: oneshot::Sender<Result<Handed, SessionError>>) {
        self.state = State::Awaited(handed);
    }

    /// Returns the handshake by way of the coordinator.
    pub(super) const fn handshake(&self) -> &CoordinatedHandshake {
        &self.handshake
    }

    pub(super) fn is_controlled(&self) -> bool {
        self.role == Role::Controlled
    }

    /// Tells whether nobody wants a connection any more.
    pub(super) fn is_abandoned(&self) -> bool {
        match &self.state {
            State::Idle => false,
            State::Awaited(handed) => handed.is_closed(),
            State::Out(out) => out.updates.is_closed(),
            State::Over => true,
        }
    }

    /// Waits until nobody wants a connection any more, or the peer has given up before it had one.
    /// That a coordinator does not hear the peer counts unless this side hears it. Cancel safe.
    pub(super) async fn abandoned(&mut self, signs: Signs) {
        let counts = self.counts(signs);
        match &mut self.state {
            State::Idle => std::future::pending().await,
            State::Awaited(handed) => tokio::select! {
                () = handed.closed() => {}
                () = self.handshake.withdrawn(counts) => {}
            },
            State::Out(out) => tokio::select! {
                () = out.updates.closed() => {}
                () = self.handshake.withdrawn(counts) => {}
            },
            State::Over => {}
        }
    }

    /// Tells whether, and how, the peer has given up before it had a connection.
    pub(super) fn withdrawn(&self, signs: Signs) -> Option<Withdrawn> {
        self.handshake
            .has_withdrawn()
            .filter(|it| self.counts(signs)(*it))
    }

    /// Returns what tells whether the peer's giving up in this way ends the attempt.
    fn counts(&self, signs: Signs) -> impl Fn(Withdrawn) -> bool + use<> {
        let is_out = matches!(self.state, State::Out(_));
        move |left| match left {
            // The peer gives up what it has no connection of; the one that is out may become one.
            Withdrawn::Begun | Withdrawn::Untouched => !(is_out && signs.may_have_taken),
            Withdrawn::Silent(_) => !signs.is_heard,
        }
    }

    /// Lets a connection be used before the peer has answered on it.
    pub(super) async fn use_unconfirmed(&mut self, half: WriteHalf, path: UsablePath) {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Awaited(handed) => {
                let stream = self.handshake.take_stream();
                let Some(mut stream) = stream.filter(|_| self.decision.uses()) else {
                    self.state = State::Awaited(handed);
                    return;
                };
                let (updates, receiver) = mpsc::channel(MAX_UPDATES);
                let unconfirmed = Unconfirmed::new(half, receiver);
                let written = unconfirmed.written();
                *stream.get_mut().0 = Transport::Unconfirmed(Box::new(unconfirmed));
                let stream_path = Arc::new(StreamPath::new(&self.ledger, path));
                let used = Arc::downgrade(&stream_path);
                let (lost, losing) = oneshot::channel();
                let result = match nominated(&mut stream, &self.predecessors).await {
                    Ok(()) => Ok(Handed {
                        punched: self.punched(stream, stream_path),
                        lost: Some(losing),
                    }),
                    Err(error) => Err(SessionError::Broken(error)),
                };
                // Where nobody waits any more, the session finds that out.
                drop(handed.send(result));
                self.state = State::Out(Out {
                    updates,
                    written,
                    stream_path: used,
                    lost,
                });
            }
            State::Out(out) => {
                if let Some(stream_path) = out.stream_path.upgrade() {
                    stream_path.replace(path);
                }
                tell(&out.updates, Update::Joined(out.written.join(half)));
                self.state = State::Out(out);
            }
            other @ (State::Idle | State::Over) => self.state = other,
        }
    }

    /// Tells that a connection that is used has brought the peer's opening.
    pub(super) fn hear(&self, pair: &CandidatePair) {
        if let State::Out(out) = &self.state {
            let (local, remote) = (pair.local, pair.remote);
            tell(&out.updates, Update::Heard { local, remote });
        }
    }

    /// Tells that a connection does not lead to the peer; it may be one that is used unconfirmed.
    pub(super) fn refute(&self, pair: &CandidatePair) {
        if let State::Out(out) = &self.state {
            let (local, remote) = (pair.local, pair.remote);
            tell(&out.updates, Update::Refuted { local, remote });
        }
    }

    /// Ends with the connection that has won.
    pub(super) async fn finish(&mut self, winner: Option<(Verified, UsablePath)>) {
        let Some((verified, path)) = winner else {
            let broken = SessionError::Broken(io::ErrorKind::NotConnected.into());
            let signs = Signs {
                is_heard: true,
                may_have_taken: true,
            };
            return self.fail(broken, signs);
        };
        match (verified, std::mem::replace(&mut self.state, State::Over)) {
            (Verified::Confirmed(half), State::Out(out)) => {
                tell(&out.updates, Update::Confirmed(half));
                if let Some(stream_path) = out.stream_path.upgrade() {
                    // Others may have joined it since.
                    if stream_path.now().opened.pair != path.opened.pair {
                        stream_path.replace(path);
                    }
                    stream_path.confirm();
                }
            }
            (Verified::OnStream(stream, predecessors), State::Awaited(handed)) => {
                if self.is_controlled() {
                    self.predecessors = predecessors;
                }
                let stream = self.nominated_on(*stream).await;
                drop(handed.send(stream.map(|stream| self.confirmed(stream, path))));
            }
            (Verified::Tagged(tagged), State::Awaited(handed)) => {
                let stream = self.attach(tagged).await;
                drop(handed.send(stream.map(|stream| self.confirmed(stream, path))));
            }
            (_, State::Awaited(handed)) => {
                let broken = SessionError::Broken(io::ErrorKind::NotConnected.into());
                drop(handed.send(Err(broken)));
            }
            (_, State::Idle | State::Out(_) | State::Over) => {}
        }
    }

    /// Ends without a connection. One that is out finds that there is nothing more to come.
    pub(super) fn fail(&mut self, error: SessionError, signs: Signs) {
        match (std::mem::replace(&mut self.state, State::Over), error) {
            (State::Awaited(handed), error) => drop(handed.send(Err(error))),
            (State::Out(out), SessionError::PeerSilent(silence)) => {
                tell(&out.updates, Update::PeerSilent(silence));
            }
            (State::Out(out), error) if !signs.may_have_taken => {
                // Nobody begins anew where nobody hears it.
                drop(out.lost.send(error));
            }
            (State::Idle | State::Out(_) | State::Over, _) => {}
        }
    }

    fn confirmed(&self, stream: TlsStream<Transport>, path: UsablePath) -> Handed {
        let stream_path = Arc::new(StreamPath::new(&self.ledger, path));
        stream_path.confirm();
        Handed {
            punched: self.punched(stream, stream_path),
            lost: None,
        }
    }

    fn punched(&self, stream: TlsStream<Transport>, stream_path: Arc<StreamPath>) -> Punched {
        Punched {
            stream,
            stream_path,
            role: self.role,
            silence: self.silence,
            predecessors: self.predecessors.clone(),
        }
    }

    async fn nominated_on(
        &self,
        mut stream: TlsStream<Transport>,
    ) -> Result<TlsStream<Transport>, SessionError> {
        if !self.decision.uses() {
            return Err(SessionError::Broken(
                io::ErrorKind::ConnectionAborted.into(),
            ));
        }
        if self.role == Role::Controlling {
            let nominated = nominated(&mut stream, &self.predecessors).await;
            nominated.map_err(SessionError::Broken)?;
        }
        if let Some(tcp) = stream.get_ref().0.tcp() {
            tcp::settle(tcp, self.silence).map_err(SessionError::Broken)?;
        }
        Ok(stream)
    }

    /// Lets the coordinated handshake's stream go on over the connection that the dialler uses, and
    /// tells it so.
    async fn attach(&mut self, tagged: Tagged) -> Result<TlsStream<Transport>, SessionError> {
        let broken = |kind: io::ErrorKind| SessionError::Broken(kind.into());
        let stream = self.handshake.take_stream();
        let mut stream = stream.ok_or_else(|| broken(io::ErrorKind::NotConnected))?;
        let tcp = tagged.answer().await.map_err(SessionError::Broken)?;
        tcp::settle(&tcp, self.silence).map_err(SessionError::Broken)?;
        *stream.get_mut().0 = Transport::Direct(Preamble::passed(tcp));
        match timeout(NOMINATION_LIMIT, expect_nomination(&mut stream)).await {
            Ok(result) => self.predecessors = result.map_err(SessionError::Broken)?,
            Err(_) => return Err(broken(io::ErrorKind::TimedOut)),
        }
        let is_used = self.decision.uses();
        is_used
            .then_some(stream)
            .ok_or_else(|| broken(io::ErrorKind::ConnectionAborted))
    }
}

async fn nominated(stream: &mut TlsStream<Transport>, predecessors: &[Opening]) -> io::Result<()> {
    match timeout(NOMINATION_LIMIT, nominate(stream, predecessors)).await {
        Ok(result) => result,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

fn tell(updates: &mpsc::Sender<Update>, update: Update) {
    // Where nobody is left to tell, or nobody ever looks, nothing is lost.
    if updates.try_send(update).is_err() {
        tracing::debug!("the connection in use is not told of another one");
    }
}
