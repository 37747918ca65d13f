//! Keeps an endpoint known to its coordinator, and takes up introductions.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use p2pconnect_host::{Host, LOOKUP_LIMIT, clock};
use p2pconnect_proto::message::{DialPolicy, Introduction};
use p2pconnect_stun::next_keepalive;
use tokio::{
    sync::{mpsc, watch},
    time::{sleep, sleep_until, timeout},
};

use crate::{
    CoordinatorError, Status,
    coordinator::{dialer::Dialer, reconnecting::Reconnecting, requests::Coordination},
    introduction::{
        answer::Answers, circumstances::are_inside, listening::Listening, shared::Inner,
    },
    nat::mappings::{Changes, KEEP_ALIVE, Mappings, StunByWeb},
};

/// How long a look-up of the coordinator's name is waited for before it is looked for where it was.
const LOOKUP_HEAD_START: Duration = Duration::from_secs(1);

/// The pause before a change is told again that the coordinator did not take in; it doubles. A
/// coordinator that is asked too often grants one registration each half second.
const REGISTER_PAUSE: Duration = Duration::from_secs(1);

/// The longest that this pause becomes.
const MAX_REGISTER_PAUSE: Duration = Duration::from_secs(30);

/// A connection to the coordinator and what comes of it.
pub(crate) struct CoordinatorLink {
    pub(crate) coordination: Arc<Coordination>,
    pub(crate) introductions: mpsc::Receiver<Introduction>,
    /// What has changed since the coordinator was told last.
    pub(crate) changes: Changes,
}

/// The task that keeps an endpoint online for as long as it exists.
pub(crate) struct RegistrationKeeper {
    inner: Arc<Inner>,
    dialer: Dialer,
    addresses: Vec<SocketAddr>,
    current: watch::Sender<Option<Arc<Coordination>>>,
    listening: Option<Listening>,
    answers: Answers,
    /// At which address inside a network the user has been told that this endpoint is seen.
    seen_inside: Option<IpAddr>,
}

impl RegistrationKeeper {
    /// Returns a keeper that looks for the coordinator at `addresses` while its name leads nowhere,
    /// and tells `current` of each connection to it.
    pub(crate) fn new(
        inner: Arc<Inner>,
        dialer: Dialer,
        addresses: Vec<SocketAddr>,
        current: watch::Sender<Option<Arc<Coordination>>>,
        listening: Option<Listening>,
    ) -> Self {
        Self {
            dialer,
            addresses,
            current,
            answers: Answers::new(Arc::clone(&inner), listening.clone()),
            inner,
            listening,
            seen_inside: None,
        }
    }

    /// Serves `link`, and whenever it breaks makes a new one, unless another endpoint has taken
    /// this one's place.
    pub(crate) async fn run(mut self, mut link: CoordinatorLink) {
        let mut reconnecting = Reconnecting::default();
        loop {
            let coordination = Arc::clone(&link.coordination);
            self.current.send_replace(Some(coordination));
            let since = clock::now();
            let error = self.serve(link).await;
            let lasted = clock::since(since);
            self.current.send_replace(None);
            tracing::info!(%error, "coordinator lost");
            if matches!(error, CoordinatorError::Replaced) {
                return;
            }
            self.inner.observer.tell(Status::CoordinatorLost {
                reason: error.to_string(),
            });
            let pause = reconnecting.lost(&error, lasted, self.inner.host.random_fraction());
            link = self.reconnect(&mut reconnecting, pause).await;
        }
    }

    async fn reconnect(
        &self,
        reconnecting: &mut Reconnecting,
        mut pause: Duration,
    ) -> CoordinatorLink {
        let mut said = None;
        loop {
            sleep(pause).await;
            match self.try_reconnect().await {
                Ok(link) => return link,
                Err(error) => {
                    tracing::debug!(%error, "coordinator still out of reach");
                    let reason = error.to_string();
                    if said.as_ref() != Some(&reason) {
                        said = Some(reason.clone());
                        let status = Status::CoordinatorUnreachable { reason };
                        self.inner.observer.tell(status);
                    }
                    pause = reconnecting.failed(&error, self.inner.host.random_fraction());
                }
            }
        }
    }

    async fn try_reconnect(&self) -> Result<CoordinatorLink, CoordinatorError> {
        let (coordination, introductions) = self.connect_again().await?;
        let changes = self.inner.mappings.changes();
        let registering = async {
            if let Some(listening) = &self.listening {
                let registering = self.inner.register(&coordination, &listening.policy);
                registering.await?;
                self.inner.observer.tell(Status::Registered);
            }
            Ok::<_, CoordinatorError>(())
        };
        // Where the coordinator is there again, so may be the STUN servers beside it.
        self.inner.mappings.recheck();
        // It may name other STUN servers than before, where it is now.
        let learning = learn(&coordination, &self.inner.mappings);
        let (registered, learned) = tokio::join!(registering, learning);
        registered?;
        if let Err(error) = learned {
            tracing::debug!(%error, "no welcome");
        }
        Ok(CoordinatorLink {
            coordination: Arc::new(coordination),
            introductions,
            changes,
        })
    }

    /// Connects to the coordinator, where its name leads by now or where it was.
    async fn connect_again(
        &self,
    ) -> Result<(Coordination, mpsc::Receiver<Introduction>), CoordinatorError> {
        let mut found = pin!(self.dialer.resolve(LOOKUP_LIMIT));
        match timeout(LOOKUP_HEAD_START, &mut found).await {
            Ok(found) => {
                // There are none where the proxy alone knows the name.
                let found = found.ok().filter(|it| !it.is_empty());
                let addresses = found.as_ref().unwrap_or(&self.addresses);
                Coordination::connect(&self.dialer, addresses).await
            }
            // Name servers that are slow to answer need not keep anybody from the place that is
            // known.
            Err(_) => match Coordination::connect(&self.dialer, &self.addresses).await {
                Ok(connected) => Ok(connected),
                Err(error) => match found.await {
                    Ok(addresses) if addresses != self.addresses => {
                        Coordination::connect(&self.dialer, &addresses).await
                    }
                    Ok(_) | Err(_) => Err(error),
                },
            },
        }
    }

    async fn serve(&mut self, link: CoordinatorLink) -> CoordinatorError {
        let CoordinatorLink {
            coordination,
            mut introductions,
            changes,
        } = link;
        let inner = Arc::clone(&self.inner);
        let policy = self.listening.as_ref().map(|it| it.policy.clone());
        // Goes on beside the introductions, whose arrival is the moment to start at.
        let telling = inner.tell_changes(&coordination, policy.as_ref(), changes);
        tokio::pin!(telling);
        let watching = watch_over(&inner.host, &coordination, &inner.mappings);
        tokio::pin!(watching);
        let seeing = seen_inside(&coordination, &inner.mappings);
        tokio::pin!(seeing);
        let mut is_looking = self.listening.is_some();
        loop {
            tokio::select! {
                error = coordination.lost() => return error,
                Some(introduction) = introductions.recv() => {
                    self.answers.take_up(introduction, &coordination);
                }
                seen = &mut seeing, if is_looking => {
                    is_looking = false;
                    self.tell_of_inside(seen);
                }
                never = &mut telling => match never {},
                never = &mut watching => match never {},
            }
        }
    }

    /// Tells the user where this endpoint is seen if peers elsewhere cannot reach it there, once.
    fn tell_of_inside(&mut self, seen: Option<IpAddr>) {
        let is_news = self.seen_inside != seen;
        self.seen_inside = seen;
        if let Some(address) = seen.filter(|_| is_news) {
            self.inner.observer.tell(Status::SeenInside { address });
        }
    }
}

/// Waits until the STUN servers have answered, and returns where the coordinator sees this endpoint
/// if it is seen only inside a network. Cancel safe.
async fn seen_inside(coordination: &Coordination, mappings: &Mappings) -> Option<IpAddr> {
    mappings.settled().await;
    let observed = coordination.observed()?.to_canonical();
    let mapped = mappings.known();
    let seen = mapped.iter().map(|it| it.mapped.ip()).chain([observed]);
    are_inside(&seen.collect()).then_some(observed)
}

/// Keeps a NAT's UDP mapping for the connection, and finds out soon whether the coordinator is
/// gone, for as long as the future is polled.
///
/// The system closes the TCP connections of a process that is killed, those to its STUN server
/// among them. So a lost one is a reason to look, while an idle QUIC connection shows nothing for
/// long.
async fn watch_over(host: &Host, coordination: &Coordination, mappings: &Mappings) -> Infallible {
    let mut losses = mappings.losses();
    loop {
        tokio::select! {
            () = losses.changed() => {}
            () = sleep_until(next_keepalive(host, KEEP_ALIVE)) => {}
        }
        coordination.check().await;
    }
}

impl Inner {
    /// Tells the coordinator what changes, if this endpoint can be dialled, for as long as the
    /// future is polled.
    async fn tell_changes(
        &self,
        coordination: &Coordination,
        policy: Option<&DialPolicy>,
        mut changes: Changes,
    ) -> Infallible {
        let Some(policy) = policy else {
            return self.tell_what_is_found().await;
        };
        let mut forwarded = self.port_mappings.changes();
        // The router may have answered before the registration, which then said so already, or
        // just after it.
        if !forwarded.borrow().is_empty() {
            forwarded.mark_changed();
        }
        loop {
            tokio::select! {
                // What is found has changed the report before.
                biased;
                () = changes.next() => {}
                () = forwarded.changed() => {}
                never = self.tell_what_is_found() => match never {},
            }
            let mut pause = REGISTER_PAUSE;
            while let Err(error) = self.register(coordination, policy).await {
                tracing::debug!(%error, "a change could not be registered yet");
                sleep(pause.max(error.retry_after().unwrap_or_default())).await;
                pause = (pause * 2).min(MAX_REGISTER_PAUSE);
            }
        }
    }

    /// Tells the observer what is found out, for as long as the future is polled. Cancel safe.
    async fn tell_what_is_found(&self) -> Infallible {
        loop {
            let report = self.behaviour.found().await;
            self.observer.tell(Status::NatFound { report });
        }
    }
}

/// Asks the STUN servers that the coordinator names as well.
pub(crate) async fn learn(
    coordination: &Coordination,
    mappings: &Mappings,
) -> Result<(), CoordinatorError> {
    let welcome = coordination.welcome().await?;
    for &server in &welcome.stun_servers {
        mappings.start(server);
    }
    if let Some((server, client)) = coordination.web() {
        mappings.ask_by_web(StunByWeb { server, client });
    }
    mappings.complete(welcome.stun_alternates);
    Ok(())
}
