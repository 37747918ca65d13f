//! Keeps an endpoint known to its coordinator, and takes up introductions.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use p2pconnect_proto::message::{DialPolicy, Introduction, Registration};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::sleep,
};

use crate::{
    Connection, CoordinatorError, Status,
    coordination::{Coordination, Dialer},
    endpoint::Inner,
};

/// Introductions that are being punched at a time; the coordinator keeps to eight for each callee.
const MAX_SESSIONS: usize = 16;

/// The pauses before reconnecting: short at first, because most losses are, and then rare enough
/// not to trouble a coordinator that is down with all its peers.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(250),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(15),
];

/// A connection to the coordinator and the introductions that come over it.
pub(crate) type Line = (Arc<Coordination>, mpsc::Receiver<Introduction>);

/// Who may dial this endpoint, and where the connections go.
#[derive(Debug, Clone)]
pub(crate) struct Listening {
    pub(crate) policy: DialPolicy,
    pub(crate) connections: mpsc::Sender<Connection>,
}

/// The task that keeps an endpoint online for as long as it exists.
pub(crate) struct Keeper {
    pub(crate) inner: Arc<Inner>,
    pub(crate) dialer: Dialer,
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) current: watch::Sender<Option<Arc<Coordination>>>,
    pub(crate) listening: Option<Listening>,
    pub(crate) sessions: JoinSet<()>,
}

impl Keeper {
    /// Serves `line`, and whenever it breaks makes a new one, unless another endpoint has taken
    /// this one's place.
    pub(crate) async fn run(mut self, mut line: Line) {
        loop {
            self.current.send_replace(Some(Arc::clone(&line.0)));
            let error = self.serve(line).await;
            self.current.send_replace(None);
            tracing::info!(%error, "coordinator lost");
            self.inner.observer.tell(Status::CoordinatorLost {
                reason: error.to_string(),
            });
            line = self.reconnect().await;
        }
    }

    async fn reconnect(&self) -> Line {
        let mut pauses = PAUSES.into_iter();
        let mut pause = PAUSES[0];
        loop {
            sleep(pause.mul_f64(0.5 + crate::endpoint::random_fraction())).await;
            match self.try_reconnect().await {
                Ok(line) => return line,
                Err(error) => tracing::debug!(%error, "coordinator still out of reach"),
            }
            pause = pauses.next().unwrap_or(PAUSES[PAUSES.len() - 1]);
        }
    }

    async fn try_reconnect(&self) -> Result<Line, CoordinatorError> {
        let (coordination, introductions) = self.dialer.connect(&self.addresses).await?;
        if let Some(listening) = &self.listening {
            self.inner
                .register(&coordination, &listening.policy)
                .await?;
            self.inner.observer.tell(Status::Registered);
        }
        Ok((Arc::new(coordination), introductions))
    }

    async fn serve(&mut self, (coordination, mut introductions): Line) -> CoordinatorError {
        let mut mappings = self.inner.mappings.watch();
        let mut nat = self.inner.mappings.nat();
        loop {
            while self.sessions.try_join_next().is_some() {}
            tokio::select! {
                error = coordination.lost() => return error,
                Some(introduction) = introductions.recv() => self.take_up(introduction),
                Ok(()) = mappings.changed() => self.register_again(&coordination).await,
                Ok(()) = nat.changed() => self.register_again(&coordination).await,
            }
        }
    }

    /// Tells the coordinator what has changed, if this endpoint can be dialled.
    async fn register_again(&self, coordination: &Coordination) {
        if let Some(listening) = &self.listening
            && let Err(error) = self.inner.register(coordination, &listening.policy).await
        {
            tracing::debug!(%error, "a change could not be registered");
        }
    }

    fn take_up(&mut self, introduction: Introduction) {
        let Some(listening) = self.listening.clone() else {
            tracing::debug!("introduction ignored: this endpoint does not listen");
            return;
        };
        // The coordinator has checked this already, but need not be trusted with it.
        if !listening.policy.admits(&introduction.peer) || self.sessions.len() >= MAX_SESSIONS {
            tracing::debug!(peer = %introduction.peer.short(), "introduction ignored");
            return;
        }
        let inner = Arc::clone(&self.inner);
        self.sessions
            .spawn(async move { inner.answer(introduction, &listening.connections).await });
    }
}

impl Inner {
    /// Tells the coordinator where this endpoint may be reached now.
    pub(crate) async fn register(
        &self,
        coordination: &Coordination,
        policy: &DialPolicy,
    ) -> Result<(), CoordinatorError> {
        let registration = Registration {
            candidates: self.candidates(),
            nat: *self.mappings.nat().borrow(),
            policy: policy.clone(),
        };
        let registered = coordination.register(registration).await?;
        if !registered.unproven.is_empty() {
            tracing::debug!(
                count = registered.unproven.len(),
                "candidates left out as unproven"
            );
        }
        Ok(())
    }
}
