//! The handshake with a peer by way of the coordinator, while the connection is being punched.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use p2pconnect_identity::{SecretKey, TlsConfigError, client_config, server_config};
use p2pconnect_proto::{PEER_ALPN, PeerId, SessionToken, message::Flight};
use p2pconnect_punch::VerifyFailure;
use rustls::{CertificateError, pki_types::ServerName};
use subtle::ConstantTimeEq as _;
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::{
    coordinator::{flights::SessionNotice, requests::Coordination},
    machine::task::AbortOnDrop,
    stream::{
        handshake_pipe::{CoordinatorEnd, HandshakePipe},
        transport::Transport,
    },
    sync::{Watched, lock},
};

/// The name that TLS libraries want from a client; the key alone counts.
pub(crate) const SERVER_NAME: &str = "p2pconnect";

/// What a connection's tags are derived for (RFC 8446 section 7.5).
const TAG_LABEL: &[u8] = b"EXPORTER-p2pconnect-connection";

/// The length of a tag: nobody guesses it.
pub(crate) const TAG_LEN: usize = 32;

/// The callee's flights that the dialler needs: TLS 1.3 has one (RFC 8446 section 2).
const FROM_CALLEE: usize = 1;

/// The dialler's flights that the callee needs: the hello and the last one.
const FROM_DIALLER: usize = 2;

/// How long the coordinated handshake may take: three times across, with lost packets. TCP
/// connections go on without it long before.
const LIMIT: Duration = Duration::from_secs(10);

/// What proves on a TCP connection that the coordinated handshake's two ends are there.
///
/// Both sides derive the same two tags from the handshake's secrets, which nobody else has.
#[derive(Debug, Clone)]
pub(crate) struct Tags {
    /// What this side sends.
    pub(crate) ours: [u8; TAG_LEN],
    theirs: [u8; TAG_LEN],
    /// This side's last flight, should the coordinator not pass it on.
    pub(crate) last_flight: Arc<[u8]>,
}

impl Tags {
    /// Tells, in a time that says nothing, whether this is the peer's tag.
    pub(crate) fn is_theirs(&self, tag: &[u8; TAG_LEN]) -> bool {
        self.theirs.ct_eq(tag).into()
    }
}

/// The state of a coordinated handshake.
#[derive(Debug, Clone, Default)]
pub(crate) enum Progress {
    #[default]
    UnderWay,
    Done(Tags),
    /// It will not end, for this reason; each connection has to make its own.
    Failed(VerifyFailure),
}

/// How a peer withdraws from an introduction.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Withdrawn {
    /// It had begun, and found that another introduction would be better.
    Begun,
    /// It has not taken the introduction up.
    Untouched,
    /// It has said nothing: the coordinator has heard nothing of it for so long.
    Silent(Duration),
}

/// A TLS handshake with a peer whose flights the coordinator passes on. Dropping this ends it.
#[derive(Debug)]
pub(crate) struct CoordinatedHandshake {
    progress: watch::Receiver<Progress>,
    stream: Arc<Mutex<Option<TlsStream<Transport>>>>,
    outgoing: Option<mpsc::Receiver<Vec<u8>>>,
    incoming: mpsc::Sender<Vec<u8>>,
    /// Whether anything of the peer's handshake has come.
    heard: Arc<AtomicBool>,
    /// How the peer has withdrawn from the introduction, once it has.
    withdrawn: Watched<Option<Withdrawn>>,
    tasks: Vec<AbortOnDrop>,
}

impl CoordinatedHandshake {
    /// Begins as the dialler; returns the first bytes too, which travel with the dial.
    ///
    /// Without them the dial goes on, and each connection makes its own handshake.
    pub(crate) async fn dialling(
        key: &SecretKey,
        peer: PeerId,
    ) -> Result<(Self, Vec<u8>), TlsConfigError> {
        let config = Arc::new(client_config(key, peer, PEER_ALPN)?);
        let (pipe, end) = HandshakePipe::new(FROM_CALLEE);
        let handshake = async move {
            let name = ServerName::try_from(SERVER_NAME).map_err(io::Error::other)?;
            let connector = TlsConnector::from(config);
            let stream = connector
                .connect(name, Transport::Coordinated(pipe))
                .await?;
            Ok(stream.into())
        };
        let mut handshake = Self::start(handshake, end);
        let hello = match &mut handshake.outgoing {
            Some(outgoing) => outgoing.recv().await,
            None => None,
        };
        Ok((handshake, hello.unwrap_or_default()))
    }

    /// Begins as the callee, with the dialler's first bytes.
    pub(crate) fn called(
        key: &SecretKey,
        peer: PeerId,
        hello: Vec<u8>,
    ) -> Result<Self, TlsConfigError> {
        let config = Arc::new(server_config(key, Some(peer), PEER_ALPN)?);
        let (pipe, end) = HandshakePipe::new(FROM_DIALLER);
        let handshake = async move {
            let acceptor = TlsAcceptor::from(config);
            let stream = acceptor.accept(Transport::Coordinated(pipe)).await?;
            Ok(stream.into())
        };
        let handshake = Self::start(handshake, end);
        handshake.heard.store(true, Ordering::Relaxed);
        if hello.is_empty() || handshake.incoming.try_send(hello).is_err() {
            tracing::debug!("no handshake by way of the coordinator");
        }
        Ok(handshake)
    }

    fn start(
        handshake: impl Future<Output = io::Result<TlsStream<Transport>>> + Send + 'static,
        end: CoordinatorEnd,
    ) -> Self {
        let CoordinatorEnd { outgoing, incoming } = end;
        let (sender, progress) = watch::channel(Progress::UnderWay);
        let stream = Arc::new(Mutex::new(None));
        let slot = Arc::clone(&stream);
        let task = AbortOnDrop::spawn(async move {
            let ended = match timeout(LIMIT, handshake).await {
                Ok(result) => result.and_then(|stream| Ok((tags(&stream)?, stream))),
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
            };
            match ended {
                Ok((tags, stream)) => {
                    *lock(&slot) = Some(stream);
                    sender.send_replace(Progress::Done(tags));
                }
                Err(error) => {
                    tracing::debug!(%error, "no handshake by way of the coordinator");
                    sender.send_replace(Progress::Failed(classify(&error)));
                }
            }
        });
        Self {
            progress,
            stream,
            outgoing: Some(outgoing),
            incoming,
            heard: Arc::default(),
            withdrawn: Watched::default(),
            tasks: vec![task],
        }
    }

    /// Lets the bytes of the handshake pass by way of the coordinator from now on.
    pub(crate) fn connect(&mut self, session: SessionToken, coordination: Arc<Coordination>) {
        let Some(mut outgoing) = self.outgoing.take() else {
            return;
        };
        let mut flights = coordination.expect_flights(session);
        let incoming = self.incoming.clone();
        let (withdrawn, heard) = (self.withdrawn.clone(), Arc::clone(&self.heard));
        self.tasks.push(AbortOnDrop::spawn(async move {
            loop {
                tokio::select! {
                    Some(bytes) = outgoing.recv() => {
                        if let Err(error) = coordination.relay(Flight { session, bytes }).await {
                            tracing::debug!(%error, "bytes of a handshake not passed on");
                        }
                    }
                    Some(notice) = flights.next() => {
                        let bytes = match notice {
                            SessionNotice::Bytes(bytes) if !bytes.is_empty() => bytes,
                            SessionNotice::Bytes(_) => {
                                withdrawn.set(Some(match heard.load(Ordering::Relaxed) {
                                    true => Withdrawn::Begun,
                                    false => Withdrawn::Untouched,
                                }));
                                continue;
                            }
                            SessionNotice::Silent(silence) => {
                                withdrawn.set(Some(Withdrawn::Silent(silence)));
                                continue;
                            }
                        };
                        heard.store(true, Ordering::Relaxed);
                        if incoming.try_send(bytes).is_err() {
                            tracing::debug!("bytes of a handshake dropped");
                        }
                    }
                    else => return,
                }
            }
        }));
    }

    /// Waits until the peer has withdrawn from the introduction in a way that counts. Cancel safe.
    pub(crate) async fn withdrawn(&self, counts: impl Fn(Withdrawn) -> bool) {
        self.withdrawn
            .wait_for(|how| how.is_some_and(&counts))
            .await;
    }

    /// Returns how the peer has withdrawn from the introduction, if it has.
    pub(crate) fn has_withdrawn(&self) -> Option<Withdrawn> {
        *self.withdrawn.borrow()
    }

    /// Tells whether anything of the peer's handshake has come.
    pub(crate) fn is_heard(&self) -> bool {
        self.heard.load(Ordering::Relaxed)
    }

    /// Tells whether somebody who holds another key has answered in the peer's place.
    pub(crate) fn is_with_another(&self) -> bool {
        let another = VerifyFailure::WrongIdentity;
        matches!(*self.progress.borrow(), Progress::Failed(failure) if failure == another)
    }

    /// Takes flights of the peer that came on a connection, and not by way of the coordinator.
    pub(crate) fn incoming(&self) -> mpsc::Sender<Vec<u8>> {
        self.incoming.clone()
    }

    /// Watches the state of the handshake.
    pub(crate) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    /// Takes the stream whose handshake is over. There is one.
    pub(crate) fn take_stream(&self) -> Option<TlsStream<Transport>> {
        lock(&self.stream).take()
    }
}

/// Lets two ends speak to each other without a coordinator.
#[cfg(test)]
pub(crate) fn wire(one: &mut CoordinatedHandshake, other: &mut CoordinatedHandshake) {
    one.answer_only(other);
    other.answer_only(one);
}

#[cfg(test)]
impl CoordinatedHandshake {
    /// Returns what tells this end that the other one has withdrawn.
    pub(crate) fn withdrawing(&self) -> Watched<Option<Withdrawn>> {
        self.withdrawn.clone()
    }

    /// Lets the other end hear this one, but not this one the other.
    pub(crate) fn answer_only(&mut self, other: &mut Self) {
        let Some(mut outgoing) = self.outgoing.take() else {
            return;
        };
        let (incoming, heard) = (other.incoming.clone(), Arc::clone(&other.heard));
        self.tasks.push(AbortOnDrop::spawn(async move {
            while let Some(bytes) = outgoing.recv().await {
                heard.store(true, Ordering::Relaxed);
                if incoming.send(bytes).await.is_err() {
                    return;
                }
            }
        }));
    }
}

/// Says what an error of a handshake tells of the other side.
pub(crate) fn classify(error: &io::Error) -> VerifyFailure {
    let tls = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::InvalidCertificate(
            CertificateError::ApplicationVerificationFailure,
        )) => VerifyFailure::WrongIdentity,
        Some(_) => VerifyFailure::Stranger,
        None if error.kind() == io::ErrorKind::InvalidData => VerifyFailure::Stranger,
        None if error.kind() == io::ErrorKind::TimedOut => VerifyFailure::TimedOut,
        None => VerifyFailure::Closed,
    }
}

fn tags(stream: &TlsStream<Transport>) -> io::Result<Tags> {
    let export = |context: &[u8]| match stream {
        TlsStream::Client(stream) => {
            let connection = stream.get_ref().1;
            connection.export_keying_material([0; TAG_LEN], TAG_LABEL, Some(context))
        }
        TlsStream::Server(stream) => {
            let connection = stream.get_ref().1;
            connection.export_keying_material([0; TAG_LEN], TAG_LABEL, Some(context))
        }
    };
    let controlling = export(b"controlling").map_err(io::Error::other)?;
    let controlled = export(b"controlled").map_err(io::Error::other)?;
    let (ours, theirs) = match stream {
        TlsStream::Client(_) => (controlling, controlled),
        TlsStream::Server(_) => (controlled, controlling),
    };
    let last_flight = match io(stream) {
        Transport::Coordinated(pipe) => pipe.last_flight.as_slice().into(),
        Transport::Unconfirmed(_) | Transport::Direct(_) | Transport::Gone => Arc::default(),
    };
    Ok(Tags {
        ours,
        theirs,
        last_flight,
    })
}

fn io(stream: &TlsStream<Transport>) -> &Transport {
    stream.get_ref().0
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_last_flight_that_comes_twice_does_no_harm() {
        let [one, other] = [(); 2].map(|()| SecretKey::generate().unwrap());
        let (mut dialling, hello) = CoordinatedHandshake::dialling(&one, other.peer_id())
            .await
            .unwrap();
        let mut called = CoordinatedHandshake::called(&other, one.peer_id(), hello).unwrap();
        called.answer_only(&mut dialling);
        let is_over = |progress: &Progress| !matches!(progress, Progress::UnderWay);
        let mut progress = dialling.progress();
        let flight = match &*progress.wait_for(is_over).await.unwrap() {
            Progress::Done(tags) => tags.last_flight.to_vec(),
            Progress::UnderWay | Progress::Failed(_) => panic!("the dialler needs no more"),
        };
        // By the coordinator and on a connection, before the callee gets any time.
        for _ in 0..2 {
            called.incoming().try_send(flight.clone()).unwrap();
        }
        let mut progress = called.progress();
        let progress = progress.wait_for(is_over).await.unwrap();
        assert!(matches!(*progress, Progress::Done(_)));
    }
}
