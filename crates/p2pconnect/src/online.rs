//! Keeps an endpoint known to its coordinators, and takes up introductions.

pub(crate) mod line;

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
};

use p2pconnect_proto::{CoordinatorAddr, PeerId};
use tokio::{sync::mpsc, task::JoinSet};

use self::line::{Beginning, CoordinatorLink, LineKeeper, Met};
use crate::{
    CoordinatorError, Status,
    coordinator::{dialer::Dialer, lines::Hub, requests::Coordination},
    introduction::{answer::Answers, listening::Listening, shared::Inner},
    nat::mappings::{Mappings, StunByWeb},
    sync::lock,
};

/// The most coordinators that are known because others have named them.
const MAX_GUESTS: usize = 8;

/// A coordinator that the user has named, and where it is.
pub(crate) struct Known {
    pub(crate) index: usize,
    pub(crate) dialer: Dialer,
    pub(crate) addresses: Vec<SocketAddr>,
}

/// What has become of the first attempt to connect to a coordinator.
pub(crate) struct Attempted {
    pub(crate) known: Known,
    pub(crate) met: Result<Met, CoordinatorError>,
}

/// What all lines have for coordinators that others name, and for the user.
#[derive(Clone)]
pub(crate) struct Guests {
    invited: mpsc::Sender<(CoordinatorAddr, SocketAddr)>,
    /// At which address inside a network the user has been told that this endpoint is seen.
    seen_inside: Arc<Mutex<Option<IpAddr>>>,
}

impl Guests {
    /// Has these coordinators known, which the one at `told_by` has named.
    async fn invite(&self, places: Vec<CoordinatorAddr>, told_by: SocketAddr) {
        for place in places {
            // Nobody hears it once the endpoint ends.
            drop(self.invited.send((place, told_by)).await);
        }
    }

    /// Tells the user where this endpoint is seen if peers elsewhere cannot reach it there, once.
    fn tell_of_inside(&self, inner: &Inner, seen: Option<IpAddr>) {
        let before = std::mem::replace(&mut *lock(&self.seen_inside), seen);
        if let Some(address) = seen.filter(|_| before != seen) {
            inner.observer.tell(Status::SeenInside { address });
        }
    }
}

/// The task that keeps an endpoint online for as long as it exists.
pub(crate) struct RegistrationKeeper {
    inner: Arc<Inner>,
    hub: Arc<Hub>,
    listening: Option<Listening>,
    guests: Guests,
    invited: mpsc::Receiver<(CoordinatorAddr, SocketAddr)>,
    /// All coordinators that are known.
    known: BTreeMap<PeerId, usize>,
    lines: JoinSet<()>,
}

impl RegistrationKeeper {
    /// Returns a keeper that tells `hub` of each connection to one of these coordinators.
    pub(crate) fn new(
        inner: Arc<Inner>,
        hub: Arc<Hub>,
        coordinators: &[CoordinatorAddr],
        listening: Option<Listening>,
    ) -> Self {
        let (sender, invited) = mpsc::channel(MAX_GUESTS);
        let known = coordinators.iter().enumerate();
        Self {
            inner,
            hub,
            listening,
            guests: Guests {
                invited: sender,
                seen_inside: Arc::default(),
            },
            invited,
            known: known.map(|(index, it)| (it.id, index)).collect(),
            lines: JoinSet::new(),
        }
    }

    /// Serves the first connection, and those that `attempts` come to, and makes new ones, unless
    /// another endpoint has taken this one's place.
    pub(crate) async fn run(
        mut self,
        known: Known,
        link: CoordinatorLink,
        mut attempts: JoinSet<Attempted>,
    ) {
        self.begin(known, None, Beginning::Link(Box::new(link)));
        let (inner, hub) = (Arc::clone(&self.inner), Arc::clone(&self.hub));
        let mut telling = std::pin::pin!(inner.tell_what_is_found());
        let mut deciding = std::pin::pin!(hub.keep_deciding());
        let own = self.known.len();
        loop {
            tokio::select! {
                Some(attempted) = attempts.join_next() => match attempted {
                    Ok(Attempted { known, met }) => {
                        self.begin(known, None, Beginning::Attempted(met));
                    }
                    Err(failed) => tracing::error!(%failed, "an attempt ended without a result"),
                },
                // Only where another endpoint has taken this one's place.
                Some(_) = self.lines.join_next() => return,
                Some((place, told_by)) = self.invited.recv() => {
                    if self.known.len() < own + MAX_GUESTS {
                        self.take_in(place, told_by);
                    }
                }
                never = &mut telling => match never {},
                never = &mut deciding => match never {},
            }
        }
    }

    /// Makes a coordinator known that another one has named, unless it is already.
    fn take_in(&mut self, place: CoordinatorAddr, told_by: SocketAddr) {
        let id = place.id;
        if self.known.contains_key(&id) {
            return;
        }
        let Inner {
            key, host, nat64, ..
        } = &*self.inner;
        let observer = self.inner.observer.clone();
        match Dialer::new(key, place, host.clone(), Arc::clone(nat64), None, observer) {
            Ok(dialer) => {
                // It may be as private as the one that names it.
                let dialer = dialer.invited_by(self.inner.invite_secret.as_ref());
                let index = self.hub.add_guest();
                self.known.insert(id, index);
                let known = Known {
                    index,
                    dialer,
                    addresses: Vec::new(),
                };
                self.begin(known, Some(told_by), Beginning::Nothing);
            }
            Err(error) => tracing::debug!(%error, "a coordinator cannot be used"),
        }
    }

    fn begin(&mut self, known: Known, told_by: Option<SocketAddr>, beginning: Beginning) {
        let Known {
            index,
            dialer,
            addresses,
        } = known;
        let keeper = LineKeeper {
            answers: Answers::new(Arc::clone(&self.inner), self.listening.clone()),
            inner: Arc::clone(&self.inner),
            hub: Arc::clone(&self.hub),
            guests: self.guests.clone(),
            index,
            dialer,
            addresses,
            told_by,
            listening: self.listening.clone(),
        };
        self.lines.spawn(keeper.run(beginning));
    }
}

impl Inner {
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
