//! Keeps the connection to one coordinator, and takes up the introductions that come by it.

use std::{
    convert::Infallible,
    future::pending,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use p2pconnect_host::{Host, LOOKUP_LIMIT, clock};
use p2pconnect_proto::{
    PeerId,
    message::{DialPolicy, Introduction},
};
use p2pconnect_stun::next_keepalive;
use tokio::{
    sync::mpsc,
    time::{sleep, sleep_until, timeout},
};

use super::{Guests, learn};
use crate::{
    CoordinatorError, Status,
    coordinator::{
        dialer::Dialer, lines::Hub, reconnecting::Reconnecting, requests::Coordination, servers,
    },
    introduction::{
        answer::Answers, circumstances::are_inside, listening::Listening, shared::Inner,
    },
    machine::{interfaces::Interfaces, surroundings::Surroundings},
    nat::mappings::{Changes, KEEP_ALIVE, Mappings},
};

/// How long a look-up of the coordinator's name is waited for before it is looked for where it was.
const LOOKUP_HEAD_START: Duration = Duration::from_secs(1);

/// The pause before a change is told again that the coordinator did not take in; it doubles. A
/// coordinator that is asked too often grants one registration each half second.
const REGISTER_PAUSE: Duration = Duration::from_secs(1);

/// The longest that this pause becomes.
const MAX_REGISTER_PAUSE: Duration = Duration::from_secs(30);

/// The pause before a coordinator is looked for that was left because it was going to end.
const AFTER_LEAVING: Duration = Duration::from_secs(2);

/// For how long a connection that is given up goes on for the sake of what is under way by it: as
/// long as a dial may take.
const FINISHING: Duration = Duration::from_secs(15);

/// How often it is looked whether anything is.
const FINISHED_INTERVAL: Duration = Duration::from_millis(50);

/// A connection that has come about, and how long that took.
pub(crate) struct Met {
    pub(crate) coordination: Arc<Coordination>,
    pub(crate) introductions: mpsc::Receiver<Introduction>,
    pub(crate) took: Duration,
}

/// A connection to a coordinator and what comes of it.
pub(crate) struct CoordinatorLink {
    pub(crate) met: Met,
    /// What has changed since the coordinator was told last.
    pub(crate) changes: Changes,
    pub(crate) done: Done,
}

/// What has been done by a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Done {
    pub(crate) is_registered: bool,
    /// Whether the STUN servers are asked that the coordinator names.
    pub(crate) is_learnt: bool,
}

/// What a line begins with.
pub(crate) enum Beginning {
    /// A connection that all is done for.
    Link(Box<CoordinatorLink>),
    /// What has become of a first attempt.
    Attempted(Result<Met, CoordinatorError>),
    Nothing,
}

/// How the service of a connection has ended.
enum Ended {
    Lost(CoordinatorError),
    /// Another endpoint has taken this one's place.
    Replaced,
    /// The coordinator is going to end, and others serve.
    Left,
    /// Others are better.
    Unwanted,
}

/// The task that keeps the connection to one coordinator, as long as that is wanted.
pub(crate) struct LineKeeper {
    pub(crate) inner: Arc<Inner>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) guests: Guests,
    pub(crate) index: usize,
    pub(crate) dialer: Dialer,
    /// Where the coordinator is looked for while its name leads nowhere.
    pub(crate) addresses: Vec<SocketAddr>,
    /// Where the coordinator is that has named this one.
    pub(crate) told_by: Option<SocketAddr>,
    pub(crate) listening: Option<Listening>,
    pub(crate) answers: Answers,
}

impl LineKeeper {
    /// Serves connections to the coordinator, and makes new ones, until another endpoint has taken
    /// this one's place.
    pub(crate) async fn run(mut self, beginning: Beginning) {
        let mut reconnecting = Reconnecting::default();
        let mut pause = Duration::ZERO;
        let mut link = match beginning {
            Beginning::Link(link) => Some(*link),
            Beginning::Attempted(met) => {
                let settled = match met {
                    Ok(met) => self.settle_in(met).await,
                    Err(error) => Err(error),
                };
                settled
                    .inspect_err(|error| {
                        self.hub.fails(self.index);
                        pause = reconnecting.failed(error, self.inner.host.random_fraction());
                    })
                    .ok()
            }
            Beginning::Nothing => None,
        };
        loop {
            let link = match link.take() {
                Some(link) => link,
                None => self.come_by_one(&mut reconnecting, pause).await,
            };
            let since = clock::now();
            let ended = self.serve(link).await;
            let random = self.inner.host.random_fraction();
            pause = match ended {
                Ended::Lost(error) => reconnecting.lost(&error, clock::since(since), random),
                Ended::Left => AFTER_LEAVING.mul_f64(1.0 + random),
                Ended::Unwanted => Duration::ZERO,
                Ended::Replaced => return,
            };
        }
    }

    /// Connects again and again while there should be a connection.
    async fn come_by_one(
        &self,
        reconnecting: &mut Reconnecting,
        pause: Duration,
    ) -> CoordinatorLink {
        let mut pause = pause;
        loop {
            self.hub.until(|lines| lines.wants(self.index)).await;
            tokio::select! {
                link = self.reconnect(reconnecting, pause) => return link,
                () = self.hub.until(|lines| !lines.wants(self.index)) => {}
            }
            self.hub.is_down(self.index, false);
            pause = Duration::ZERO;
        }
    }

    async fn reconnect(
        &self,
        reconnecting: &mut Reconnecting,
        mut pause: Duration,
    ) -> CoordinatorLink {
        let mut said = None;
        if pause.is_zero() {
            self.hub.tries(self.index);
        }
        loop {
            sleep(pause).await;
            match self.try_reconnect().await {
                Ok(link) => return link,
                Err(error) => {
                    tracing::debug!(%error, "coordinator still out of reach");
                    self.hub.fails(self.index);
                    let reason = error.to_string();
                    if said.as_ref() != Some(&reason) && self.hub.now(|it| it.up.is_empty()) {
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
        let met = self.connect_again().await?;
        // Where the coordinator is there again, so may be the STUN servers beside it.
        self.inner.mappings.recheck();
        self.settle_in(met).await
    }

    /// Registers by a new connection, if that is to be, and learns of the STUN servers.
    async fn settle_in(&self, met: Met) -> Result<CoordinatorLink, CoordinatorError> {
        let coordination = &met.coordination;
        let changes = self.inner.mappings.changes();
        let done = if self.hub.is_alone() {
            // Both at once, as nothing depends on what the coordinator says of itself.
            let registering = self.register(coordination, self.listening.is_some());
            // It may name other STUN servers than before, where it is now.
            let learning = self.learn(coordination);
            let (registered, ()) = tokio::join!(registering, learning);
            Done {
                is_registered: registered?,
                is_learnt: true,
            }
        } else {
            let cluster = self.cluster(coordination).await;
            let registers = self.hub.would_register(self.index, cluster.as_deref());
            let is_learnt = registers || self.hub.now(|it| it.up.is_empty());
            if is_learnt {
                self.learn(coordination).await;
            }
            Done {
                is_registered: self.register(coordination, registers).await?,
                is_learnt,
            }
        };
        Ok(CoordinatorLink { met, changes, done })
    }

    /// Returns the cluster that a coordinator names, as far as it names any in time.
    async fn cluster(&self, coordination: &Coordination) -> Option<Vec<u8>> {
        if let Err(error) = coordination.welcome().await {
            tracing::debug!(%error, "no welcome");
        }
        coordination.cluster()
    }

    async fn learn(&self, coordination: &Coordination) {
        if let Err(error) = learn(coordination, &self.inner.mappings).await {
            tracing::debug!(%error, "no welcome");
        }
    }

    /// Registers if that is wanted, and tells the user if it is the first registration. Returns
    /// what was wanted.
    async fn register(
        &self,
        coordination: &Coordination,
        is_wanted: bool,
    ) -> Result<bool, CoordinatorError> {
        if let Some(listening) = self.listening.as_ref().filter(|_| is_wanted) {
            let registering = self.inner.register(coordination, &listening.policy);
            registering.await?;
            if self.hub.is_registered(self.index) {
                self.inner.observer.tell(Status::Registered);
            }
        }
        Ok(is_wanted)
    }

    /// Connects to the coordinator, where its name leads by now or where it was.
    async fn connect_again(&self) -> Result<Met, CoordinatorError> {
        let mut found = pin!(self.dialer.resolve(LOOKUP_LIMIT));
        match timeout(LOOKUP_HEAD_START, &mut found).await {
            Ok(found) => {
                // There are none where the proxy alone knows the name.
                let found = found.ok().filter(|it| !it.is_empty());
                let addresses = found.as_ref().unwrap_or(&self.addresses);
                self.connect(addresses).await
            }
            // Name servers that are slow to answer need not keep anybody from the place that is
            // known.
            Err(_) => match self.connect(&self.addresses).await {
                Ok(connected) => Ok(connected),
                Err(error) => match found.await {
                    Ok(addresses) if addresses != self.addresses => self.connect(&addresses).await,
                    Ok(_) | Err(_) => Err(error),
                },
            },
        }
    }

    async fn connect(&self, addresses: &[SocketAddr]) -> Result<Met, CoordinatorError> {
        match self.told_by {
            Some(told_by) => {
                let Inner { host, nat64, .. } = &*self.inner;
                let surroundings = Surroundings::new(&Interfaces::of(host), nat64.prefix());
                let reached = |it: &SocketAddr| servers::reached(*it, told_by, &surroundings);
                let allowed: Vec<_> = addresses.iter().filter_map(reached).collect();
                Met::by(&self.dialer, &allowed).await
            }
            None => Met::by(&self.dialer, addresses).await,
        }
    }

    async fn serve(&mut self, link: CoordinatorLink) -> Ended {
        let CoordinatorLink {
            mut met,
            changes,
            done,
        } = link;
        let coordination = Arc::clone(&met.coordination);
        self.hub.is_up(self.index, &coordination, met.took);
        if done.is_registered {
            self.hub.is_registered(self.index);
        }
        let ended = self.serve_while_wanted(&mut met, changes, done).await;
        let is_lost = matches!(ended, Ended::Lost(_) | Ended::Replaced);
        let is_last = self.hub.is_down(self.index, is_lost);
        match &ended {
            Ended::Lost(error) => {
                tracing::info!(%error, "coordinator lost");
                if is_last {
                    self.inner.observer.tell(Status::CoordinatorLost {
                        reason: error.to_string(),
                    });
                }
            }
            Ended::Replaced => {}
            Ended::Left | Ended::Unwanted => {
                drop(coordination);
                self.finish(met).await;
            }
        }
        ended
    }

    async fn serve_while_wanted(&mut self, met: &mut Met, changes: Changes, done: Done) -> Ended {
        let (inner, hub, index) = (Arc::clone(&self.inner), Arc::clone(&self.hub), self.index);
        let coordination = Arc::clone(&met.coordination);
        // Goes on beside the introductions, whose arrival is the moment to start at.
        let mut telling = pin!(self.telling(Arc::clone(&coordination), changes, done));
        let mut watching = pin!(watch_over(&inner.host, &coordination, &inner.mappings));
        let mut seeing = pin!(seen_inside(&coordination, &inner.mappings));
        let mut leaving = pin!(self.leaving(Arc::clone(&coordination)));
        let mut succeeded = pin!(coordination.successor());
        let mut is_succeeded = false;
        let mut unwanted = pin!(hub.until(|lines| !lines.wants(index)));
        let mut is_looking = self.listening.is_some();
        loop {
            tokio::select! {
                error = coordination.lost() => {
                    let is_taken = matches!(error, CoordinatorError::Replaced)
                        && (self.listening.is_none() || hub.now(|it| it.registers(index)));
                    return match is_taken {
                        true => Ended::Replaced,
                        false => Ended::Lost(error),
                    };
                }
                Some(introduction) = met.introductions.recv() => {
                    self.answers.take_up(introduction, &coordination);
                }
                seen = &mut seeing, if is_looking => {
                    is_looking = false;
                    self.guests.tell_of_inside(&inner, seen);
                }
                successor = &mut succeeded, if !is_succeeded => {
                    is_succeeded = true;
                    self.follow(successor);
                }
                () = &mut leaving => return Ended::Left,
                () = &mut unwanted => return Ended::Unwanted,
                never = &mut telling => match never {},
                never = &mut watching => match never {},
            }
        }
    }

    /// Knows the coordinator by another key from now on, which the former one has named, and tells
    /// the user.
    fn follow(&mut self, successor: PeerId) {
        match self.dialer.succeeded_by(&self.inner.key, successor) {
            Ok(dialer) => {
                let dialer = dialer.invited_by(self.inner.invite_secret.as_ref());
                let former = self.dialer.coordinator().id;
                self.dialer = dialer;
                self.inner.observer.tell(Status::CoordinatorKeyChanged {
                    former,
                    coordinator: self.dialer.coordinator().clone(),
                });
            }
            Err(error) => tracing::debug!(%error, "a coordinator cannot be used"),
        }
    }

    /// Waits until the coordinator is going to end, and others serve instead of it.
    fn leaving(&self, coordination: Arc<Coordination>) -> impl Future<Output = ()> + use<> {
        let (hub, index, guests) = (Arc::clone(&self.hub), self.index, self.guests.clone());
        async move {
            let told = coordination.told_to_move().await;
            let until = clock::now() + told.stay();
            tracing::info!(places = told.to.len(), "the coordinator is going to end");
            hub.leaves(index);
            guests.invite(told.places(), coordination.host()).await;
            sleep_until(until.into()).await;
            hub.until(|lines| lines.serves_without(index)).await;
        }
    }

    /// Tells the coordinator what changes, while this endpoint is to be registered there, and asks
    /// its STUN servers as well once it is of use, for as long as the future is polled.
    fn telling(
        &self,
        coordination: Arc<Coordination>,
        mut changes: Changes,
        mut done: Done,
    ) -> impl Future<Output = Infallible> + use<> {
        let (inner, hub, index) = (Arc::clone(&self.inner), Arc::clone(&self.hub), self.index);
        let listening = self.listening.clone();
        async move {
            loop {
                let serves = hub.now(|lines| lines.serves(index));
                if serves.is_of_use() && !std::mem::replace(&mut done.is_learnt, true) {
                    let learning = learn(&coordination, &inner.mappings).await;
                    learning.unwrap_or_else(|error| tracing::debug!(%error, "no welcome"));
                }
                let policy = listening
                    .as_ref()
                    .map(|it| &it.policy)
                    .filter(|_| serves.registers);
                if let Some(policy) = policy.filter(|_| !done.is_registered) {
                    inner.register_at_last(&coordination, policy).await;
                    if hub.is_registered(index) {
                        inner.observer.tell(Status::Registered);
                    }
                }
                done.is_registered = serves.registers;
                tokio::select! {
                    () = hub.until(|lines| lines.serves(index) != serves) => {}
                    never = inner.tell_changes(&coordination, policy, &mut changes) => match never {},
                }
            }
        }
    }

    /// Goes on to serve a connection that nobody begins anything by, until nothing is under way by
    /// it, and closes it.
    async fn finish(&mut self, met: Met) {
        let Met {
            coordination,
            mut introductions,
            ..
        } = met;
        let deadline = clock::now() + FINISHING;
        let is_over = |coordination: &Arc<Coordination>| {
            Arc::strong_count(coordination) == 1 || clock::now() > deadline
        };
        while !is_over(&coordination) {
            tokio::select! {
                _ = coordination.lost() => return,
                Some(introduction) = introductions.recv() => {
                    self.answers.take_up(introduction, &coordination);
                }
                () = sleep(FINISHED_INTERVAL) => {}
            }
        }
        coordination.close().await;
    }
}

impl Met {
    /// Connects to the first of the addresses that answers.
    ///
    /// Cancel safe.
    pub(crate) async fn by(
        dialer: &Dialer,
        addresses: &[SocketAddr],
    ) -> Result<Self, CoordinatorError> {
        let began = clock::now();
        let (coordination, introductions) = Coordination::connect(dialer, addresses).await?;
        Ok(Self {
            coordination: Arc::new(coordination),
            introductions,
            took: clock::since(began),
        })
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
    /// Registers, again and again until the coordinator takes it in.
    async fn register_at_last(&self, coordination: &Coordination, policy: &DialPolicy) {
        let mut pause = REGISTER_PAUSE;
        while let Err(error) = self.register(coordination, policy).await {
            tracing::debug!(%error, "a change could not be registered yet");
            sleep(pause.max(error.retry_after().unwrap_or_default())).await;
            pause = (pause * 2).min(MAX_REGISTER_PAUSE);
        }
    }

    /// Tells the coordinator what changes, if this endpoint is registered there, for as long as the
    /// future is polled.
    async fn tell_changes(
        &self,
        coordination: &Coordination,
        policy: Option<&DialPolicy>,
        changes: &mut Changes,
    ) -> Infallible {
        let Some(policy) = policy else {
            return pending().await;
        };
        let mut forwarded = self.port_mappings.changes();
        // The router may have answered before the registration, which then said so already, or
        // just after it.
        if !forwarded.borrow().is_empty() {
            forwarded.mark_changed();
        }
        loop {
            tokio::select! {
                () = changes.next() => {}
                () = forwarded.changed() => {}
            }
            self.register_at_last(coordination, policy).await;
        }
    }
}
