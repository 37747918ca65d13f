//! Holds the NAT mappings of the punch ports.

mod claims;
mod comparing;
mod early_question;
mod elsewhere;
mod fallback;
mod holding;
mod stun_by_web;
mod table;
#[cfg(test)]
mod tests;
mod unproven_backoff;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use p2pconnect_host::Host;
use p2pconnect_proto::{Candidate, NatReport, PeerId, PunchPort, ReflexiveToken};
use p2pconnect_stun::{Commitment, MappingError};
use tokio::time::timeout;

use crate::{
    coordinator::offers::Offers,
    machine::{nat64::Nat64, punch_ports::PunchPorts, task::AbortOnDrop},
    nat::{behaviour::Behaviour, families::Families, network::Network},
    status::Observer,
    sync::{Watched, Watcher, lock},
};
use claims::Claimed;
pub(crate) use claims::Claims;
use early_question::EarlyQuestions;
pub(crate) use stun_by_web::StunByWeb;
use table::{Key, Table};

/// How often something is sent on an idle line, so that NATs keep its UDP mapping: RFC 4787 REQ-5
/// allows them to forget it after two minutes, many do after 30 seconds. It is also how often the
/// mappings ask, and at the same moments, so that an idle machine wakes once for both.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How long the other punch ports may lag behind the first mapping that arrives. They started at
/// the same moment, so only a lost packet makes them later than this.
const STRAGGLER_LIMIT: Duration = Duration::from_millis(25);

/// How long one alternate address may take to answer.
const QUERY_LIMIT: Duration = Duration::from_secs(5);

/// The mapping of one punch port, as one server sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mapped {
    pub(crate) punch_port: PunchPort,
    pub(crate) local: SocketAddr,
    pub(crate) mapped: SocketAddr,
    pub(crate) server: SocketAddr,
    pub(crate) token: Option<ReflexiveToken>,
}

/// A server that tells no mapping, and why.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) server: SocketAddr,
    pub(crate) error: MappingError,
}

/// The mappings of an endpoint. Dropping it lets them go.
#[derive(Debug)]
pub(crate) struct Mappings {
    shared: Arc<Shared>,
    ports: PunchPorts,
    tasks: Mutex<Vec<AbortOnDrop>>,
}

#[derive(Debug)]
struct Shared {
    host: Host,
    table: Watched<Table>,
    /// Changes when a server has failed, whose slot another may take.
    freed: Watched<()>,
    /// Changes when a connection to a server is lost that had told a mapping.
    losses: Watched<()>,
    /// Changes when every server shall be asked at once, and not with the next keep-alive.
    recheck: Watched<()>,
    /// Changes when this machine has been seen to have another address.
    moved: Watched<()>,
    behaviour: Arc<Behaviour>,
    nat64: Arc<Nat64>,
    /// Which addresses serve for comparison, once that is known.
    alternates: Watched<Option<Vec<SocketAddr>>>,
    /// Where else STUN is spoken, if nothing but the web leads there.
    by_web: Mutex<Option<StunByWeb>>,
    /// What is asked for comparison before that.
    early: EarlyQuestions,
    /// In which families the alternate addresses have been asked, if there are any.
    compared: Watched<Families>,
    claims: Mutex<Vec<Claimed>>,
    id: PeerId,
    observer: Observer,
}

impl Mappings {
    pub(crate) fn new(
        host: &Host,
        ports: PunchPorts,
        id: &PeerId,
        observer: Observer,
        behaviour: Arc<Behaviour>,
        nat64: Arc<Nat64>,
    ) -> Self {
        let claim = |punch_port, is_ipv4| {
            let mut salt = [0; 16];
            host.fill_random(&mut salt).ok()?;
            Some(Claimed {
                punch_port,
                is_ipv4,
                commitment: Commitment::new(salt, id),
                from: None,
            })
        };
        let both = |(punch_port, _)| [true, false].map(|is_ipv4| claim(punch_port, is_ipv4));
        let claims = ports.iter().flat_map(both).flatten().collect();
        let shared = Arc::new(Shared {
            host: host.clone(),
            table: Watched::default(),
            freed: Watched::default(),
            losses: Watched::default(),
            recheck: Watched::default(),
            moved: Watched::default(),
            behaviour,
            nat64,
            alternates: Watched::default(),
            by_web: Mutex::default(),
            early: EarlyQuestions::default(),
            compared: Watched::default(),
            claims: Mutex::new(claims),
            id: *id,
            observer,
        });
        let falling_back = fallback::run(Arc::clone(&shared), ports.clone());
        Self {
            shared,
            ports,
            tasks: Mutex::new(vec![AbortOnDrop::spawn(falling_back)]),
        }
    }

    /// Starts to hold a mapping of every punch port at `server`, unless that goes on already. Two
    /// servers of a family are asked at a time, those first that are named first.
    pub(crate) fn start(&self, server: SocketAddr) {
        let punch_ports = self.ports.iter().map(|(punch_port, _)| punch_port);
        let table = &self.shared.table;
        if !table.change_if(|table| table.name(server, punch_ports)) {
            return;
        }
        let is_asked_elsewhere = table.borrow().is_first_of_its_family(server);
        let mut tasks = lock(&self.tasks);
        for (punch_port, port) in self.ports.iter() {
            let shared = Arc::clone(&self.shared);
            let key = Key { punch_port, server };
            tasks.push(AbortOnDrop::spawn(shared.hold(key, port)));
            if is_asked_elsewhere {
                let shared = Arc::clone(&self.shared);
                let holding = shared.hold_elsewhere(key, port);
                tasks.push(AbortOnDrop::spawn(holding));
            }
        }
    }

    /// Names an address that most likely serves for comparison, before [`complete`](Self::complete)
    /// says so. It is asked at the same moment as the first server of its family, so that a dial
    /// knows in time whether its ports are the same for all. The connection is among the offers for
    /// a moment.
    pub(crate) fn presume(&self, alternate: SocketAddr, offers: Arc<Offers>) {
        self.shared.early.presume(alternate, offers);
    }

    /// Names a server that is asked by a WebSocket where others do not answer. It counts from the
    /// next [`complete`](Self::complete) on.
    pub(crate) fn ask_by_web(&self, server: StunByWeb) {
        *lock(&self.shared.by_web) = Some(server);
    }

    /// Lets all mappings go.
    pub(crate) fn release(&self) {
        let mut tasks = lock(&self.tasks);
        tasks.clear();
    }

    /// Says that no further server will be named for now, and which addresses serve for comparison,
    /// and for mappings where the servers that were named do not answer.
    pub(crate) fn complete(&self, alternates: Vec<SocketAddr>) {
        let has_others = !alternates.is_empty() || lock(&self.shared.by_web).is_some();
        // Known to whoever sees that the table is complete, and looks again then.
        let is_news = self.shared.alternates.change_if(|known| {
            let alternates = Some(alternates);
            let is_news = *known != alternates;
            *known = alternates;
            is_news
        });
        self.shared.table.change_if(|table| {
            table.may_fall_back |= has_others && is_news;
            !std::mem::replace(&mut table.complete, true) || is_news
        });
    }

    /// Waits for the first mapping, and a moment longer for the others.
    ///
    /// Cancel safe.
    pub(crate) async fn first(&self) -> Result<(), Failure> {
        let table = &self.shared.table;
        table
            .wait_for(|table| table.any_held() || table.is_hopeless())
            .await;
        if let Some(failure) = table.borrow().failure() {
            return Err(failure);
        }
        let answered = table.wait_for(|table| !table.any_asking());
        if timeout(STRAGGLER_LIMIT, answered).await.is_err() {
            tracing::debug!("going on without the mapping of every punch port");
        }
        Ok(())
    }

    /// Returns the claims to mappings that are not known yet, but may be known to a STUN server.
    pub(crate) fn claims(&self) -> Claims {
        let table = self.shared.table.borrow();
        let is_open = |claimed: &&Claimed| table.is_asked_only(|key| claimed.is_of(key));
        let all = self.shared.claims();
        let mut claims = Claims::default();
        for claimed in all.iter().filter(is_open) {
            claims.list.push(claimed.claim());
            claims.families.add(claimed.is_ipv4);
        }
        claims
    }

    /// Returns why no mapping is known, once it is certain that no server tells any.
    pub(crate) fn failure(&self) -> Option<Failure> {
        let table = self.shared.table.borrow();
        table.is_hopeless().then(|| table.failure()).flatten()
    }

    /// Returns the mappings known now, those of the primary port first, each address once.
    pub(crate) fn known(&self) -> Vec<Mapped> {
        self.shared.table.borrow().known()
    }

    /// Takes in which of the candidates that the coordinator was told it has found unproven. It is
    /// told again of such a mapping when there is a new token, which is asked for at once.
    pub(crate) fn note_unproven(&self, told: &[Candidate], unproven: &[SocketAddr]) {
        let mut is_new = false;
        self.shared.table.change_if(|table| {
            let noted = table.note_unproven(told, unproven);
            is_new = noted.is_new;
            noted.is_news
        });
        if is_new {
            self.recheck();
        }
    }

    /// Asks the servers of all mappings anew, those as well whose connections are lost.
    pub(crate) fn recheck(&self) {
        self.shared.recheck.notify();
    }

    /// Drops the mappings of an address that this machine does not send from any more, and has them
    /// learnt from where it is now. Costs no packet.
    ///
    /// Cancel safe.
    pub(crate) async fn notice_moves(&self) {
        let locals = self.shared.table.borrow().locals();
        // Several punch ports have mappings at one server.
        let mut sources = BTreeMap::new();
        for (key, local) in locals {
            let source = match sources.get(&key.server) {
                Some(source) => *source,
                None => self.shared.source_towards(key.server).await,
            };
            sources.insert(key.server, source);
            if self.shared.has_left_for(source, key, local) {
                self.shared.moved.notify();
            }
        }
    }

    /// Waits for mappings over another route than that to the servers, one after the other. Cancel
    /// safe.
    pub(crate) async fn elsewhere_lacking(&self, is_told: impl Fn(&Mapped) -> bool) {
        let lacks = |table: &Table| !table.elsewhere().all(&is_told);
        self.shared.table.wait_for(lacks).await;
    }

    /// Watches for connections to servers that are lost from now on.
    pub(crate) fn losses(&self) -> Watcher<()> {
        self.shared.losses.watch()
    }

    /// Watches for whatever is new from now on and others should know.
    pub(crate) fn changes(&self) -> Changes {
        Changes {
            table: self.shared.table.watch(),
            nat: self.shared.behaviour.reports(),
            predictions: self.shared.behaviour.predictions(),
        }
    }

    /// Waits until the punch ports are mapped in another network than `known`, or for the first
    /// time, and returns it. Cancel safe.
    pub(crate) async fn other_network(&self, known: Option<Network>) -> Network {
        let mut table = self.shared.table.watch();
        loop {
            let network = table.borrow_and_update().network();
            if let Some(network) = network.filter(|it| Some(*it) != known) {
                return network;
            }
            table.changed().await;
        }
    }

    /// Waits until no further server will be named for now, and all that were have answered or
    /// failed. Cancel safe.
    pub(crate) async fn settled(&self) {
        self.shared.table.wait_for(Table::is_settled).await;
    }

    /// Waits for a mapping of this kind. Cancel safe.
    pub(crate) async fn mapped(&self, is_wanted: impl Fn(&Mapped) -> bool) {
        let is_there = |table: &Table| table.known().iter().any(&is_wanted);
        self.shared.table.wait_for(is_there).await;
    }

    /// Tells whether no further server will be named for now, and all that were have answered or
    /// failed.
    pub(crate) fn is_settled(&self) -> bool {
        self.shared.table.borrow().is_settled()
    }

    /// Waits until it is known how other addresses of the servers see the punch port, as far as it
    /// can be. Cancel safe.
    pub(crate) async fn compared(&self) {
        let mut compared = self.shared.compared.watch();
        let mut table = self.shared.table.watch();
        let counts = |family| self.shared.table.borrow().counts(family);
        loop {
            let done = *compared.borrow_and_update();
            table.mark_unchanged();
            if [true, false]
                .into_iter()
                .any(|family| done.has(family) && counts(family))
            {
                return;
            }
            tokio::select! {
                () = compared.changed() => {}
                () = table.changed() => {}
            }
        }
    }
}

/// Sees changes of an endpoint's mappings and of what is known of its NAT.
#[derive(Debug)]
pub(crate) struct Changes {
    table: Watcher<Table>,
    nat: Watcher<NatReport>,
    predictions: Watcher<()>,
}

impl Changes {
    /// Waits for the next change. Cancel safe.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            () = self.table.changed() => {}
            () = self.nat.changed() => {}
            () = self.predictions.changed() => {}
        }
    }
}
