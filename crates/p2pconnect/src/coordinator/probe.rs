//! Tries a coordinator from outside: two peers that nobody knows meet there.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use p2pconnect_host::{Host, clock};
use p2pconnect_identity::SecretKey;
use p2pconnect_proto::{
    CoordinatorAddr, InviteSecret,
    message::{DialPolicy, DialRequest, Introduction, Registration},
};
use tokio::{sync::mpsc, time::timeout_at};

use crate::{
    BindError, CoordinatorError,
    coordinator::{
        dialer::Dialer,
        requests::{Coordination, DialAnswer},
    },
    machine::nat64::Nat64,
    status::Observer,
};

/// How long each step took of a [`probe`] that has come to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Probe {
    /// Where the coordinator was reached.
    pub address: SocketAddr,
    /// Whether that was by TLS on TCP, and not by QUIC.
    pub by_tcp: bool,
    /// Looking up its name.
    pub looked_up: Duration,
    /// The longer handshake of both.
    pub connected: Duration,
    /// From there until it has said of itself what it does.
    pub welcomed: Duration,
    /// The registration of one.
    pub registered: Duration,
    /// From the dial of the other to its introduction.
    pub introduced: Duration,
    /// How far apart the introductions of both have arrived, which are meant to arrive together.
    pub apart: Duration,
}

/// What a [`probe`] does, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeStep {
    /// Looking up the name.
    LookUp,
    /// The handshakes of both peers.
    Connect,
    /// What the coordinator says of itself.
    Welcome,
    /// The registration of one of them.
    Register,
    /// The introduction of both.
    Introduce,
}

/// Why a [`probe`] has not come to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// Nothing could be tried.
    #[error(transparent)]
    Setup(BindError),
    /// A step has failed.
    #[error("{error}")]
    Failed {
        /// The step.
        step: ProbeStep,
        /// Why.
        error: CoordinatorError,
    },
    /// The time was over.
    #[error("nothing has come of this within {} ms", .limit.as_millis())]
    TimedOut {
        /// The step that was not over.
        step: ProbeStep,
        /// The time.
        limit: Duration,
    },
}

/// One of the two peers.
struct Peer {
    coordination: Coordination,
    introductions: mpsc::Receiver<Introduction>,
    took: Duration,
}

/// Carries out steps, each of them within the time that is left for all.
struct Steps {
    began: Instant,
    limit: Duration,
}

impl Steps {
    async fn take<T>(
        &self,
        step: ProbeStep,
        work: impl Future<Output = Result<T, CoordinatorError>>,
    ) -> Result<(T, Duration), ProbeError> {
        let since = clock::now();
        let limit = self.limit;
        match timeout_at((self.began + limit).into(), work).await {
            Ok(Ok(done)) => Ok((done, clock::since(since))),
            Ok(Err(error)) => Err(ProbeError::Failed { step, error }),
            Err(_) => Err(ProbeError::TimedOut { step, limit }),
        }
    }
}

/// Has two peers with keys of their own, which are thrown away, meet at a coordinator, and returns
/// how long each step took. Nobody is connected to, and nothing is left. A private coordinator is
/// shown that they have been invited.
///
/// # Errors
///
/// [`ProbeError`], within `limit`.
///
/// # Cancel safety
///
/// Dropping the future ends both connections.
///
/// # Panics
///
/// Outside of a Tokio runtime with I/O and time enabled.
pub async fn probe(
    coordinator: CoordinatorAddr,
    invite_secret: Option<InviteSecret>,
    limit: Duration,
) -> Result<Probe, ProbeError> {
    let host = Host::default();
    let steps = Steps {
        began: clock::now(),
        limit,
    };
    let nat64 = Arc::new(Nat64::start(host.clone()));
    let peer = || -> Result<(SecretKey, Dialer), BindError> {
        let key = SecretKey::generate()?;
        let dialer = Dialer::new(
            &key,
            coordinator.clone(),
            host.clone(),
            Arc::clone(&nat64),
            None,
            Observer::none(),
        )?;
        Ok((key, dialer.invited_by(invite_secret.as_ref())))
    };
    let (callee_key, callee) = peer().map_err(ProbeError::Setup)?;
    let (dialler_key, dialler) = peer().map_err(ProbeError::Setup)?;
    let (addresses, looked_up) = steps.take(ProbeStep::LookUp, callee.resolve(limit)).await?;
    let both = async { tokio::try_join!(meet(&callee, &addresses), meet(&dialler, &addresses)) };
    let ((callee, dialler), _) = steps.take(ProbeStep::Connect, both).await?;
    let welcome = async {
        tokio::try_join!(
            callee.coordination.welcome(),
            dialler.coordination.welcome()
        )
    };
    let (_, welcomed) = steps.take(ProbeStep::Welcome, welcome).await?;
    let policy = DialPolicy::Only(vec![dialler_key.peer_id()]);
    let registering = callee.coordination.register(Registration::new(policy));
    let (_, registered) = steps.take(ProbeStep::Register, registering).await?;

    let mut found = Probe {
        address: callee.coordination.host(),
        by_tcp: callee.coordination.is_by_tcp(),
        looked_up,
        connected: callee.took.max(dialler.took),
        welcomed,
        registered,
        introduced: Duration::ZERO,
        apart: Duration::ZERO,
    };
    let asked_at = clock::now();
    let introducing = introduce(callee, dialler, [&callee_key, &dialler_key]);
    let ([heard, answered], _) = steps.take(ProbeStep::Introduce, introducing).await?;
    found.introduced = answered.saturating_duration_since(asked_at);
    let apart = heard.saturating_duration_since(answered);
    found.apart = apart.max(answered.saturating_duration_since(heard));
    Ok(found)
}

/// Has one peer dial the other one, and returns when each heard of that, the callee first.
async fn introduce(
    callee: Peer,
    dialler: Peer,
    [called, dialling]: [&SecretKey; 2],
) -> Result<[Instant; 2], CoordinatorError> {
    let Peer {
        coordination,
        mut introductions,
        ..
    } = callee;
    let hearing = async {
        let heard = introductions.recv().await;
        heard.map(|_| clock::now()).ok_or(CoordinatorError::Answer)
    };
    let request = DialRequest::new(called.peer_id());
    let asking = async {
        match dialler.coordination.dial(request).await? {
            Ok(DialAnswer::Introduced(_)) => Ok(clock::now()),
            Ok(DialAnswer::Crossed(_)) => Err(CoordinatorError::Answer),
            Err(refusal) => Err(CoordinatorError::Refused(refusal)),
        }
    };
    let (heard, answered) = tokio::try_join!(hearing, asking)?;
    // So that the coordinator waits for neither of them.
    coordination.settle(dialling.peer_id()).await?;
    coordination.close().await;
    dialler.coordination.close().await;
    Ok([heard, answered])
}

async fn meet(dialer: &Dialer, addresses: &[SocketAddr]) -> Result<Peer, CoordinatorError> {
    let began = clock::now();
    let (coordination, introductions) = Coordination::connect(dialer, addresses).await?;
    Ok(Peer {
        coordination,
        introductions,
        took: clock::since(began),
    })
}
