//! Holds one mapping: asks a server, keeps the connection to it, and follows what it tells.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use p2pconnect_host::Host;
use p2pconnect_proto::PunchPort;
use p2pconnect_punch::behaviour::Observation;
use p2pconnect_stun::{
    HeldMapping, Mapping, MappingConfig, MappingError, MappingEvent, MappingState, next_keepalive,
};
use tokio::{
    task::JoinSet,
    time::{sleep, sleep_until},
};

use super::{
    KEEP_ALIVE, Mapped, Shared,
    table::{Key, Slot},
};
use crate::{Status, machine::tcp, sync::Watcher};

/// The pause before a server that did not answer is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(15);

/// How many times in a row a server that has answered may be lost before another one may take its
/// place: the connection, and three attempts to make it again. They take 2 to 20 s, in which a
/// server that was started anew is there again.
const MAX_LOSSES: u32 = 4;

impl Shared {
    /// Holds one mapping for as long as the future is polled.
    pub(super) async fn hold(self: Arc<Self>, key: Key, port: u16) {
        // Ends with this future.
        let mut asking = JoinSet::new();
        loop {
            self.wait_to_ask(key).await;
            if let Some(question) = self.early_question(key, port) {
                asking.spawn(question);
            }
            match self.open(key, port).await {
                Ok(held) => tokio::select! {
                    biased;
                    () = self.superseded(key) => self.stand_down(key),
                    () = self.follow(key, held) => {}
                },
                Err(error) => {
                    tracing::debug!(%error, "stun server tells no mapping");
                    let no_route = matches!(error, MappingError::Unreachable);
                    self.set(key, Slot::Failed(error));
                    self.freed.notify();
                    match no_route {
                        // Reading the routes costs no packet, and no wake-up of its own.
                        true => sleep_until(next_keepalive(&self.host, KEEP_ALIVE)).await,
                        false => sleep(RETRY_PAUSE).await,
                    }
                }
            }
        }
    }

    /// Waits until a server may be asked, and notes that it is. Cancel safe.
    pub(super) async fn wait_to_ask(&self, key: Key) {
        let mut freed = self.freed.watch();
        loop {
            let mut may_ask = false;
            self.table.change_if(|table| {
                may_ask = table.ask(key);
                // That is no news to those who watch.
                false
            });
            if may_ask {
                return;
            }
            freed.changed().await;
        }
    }

    /// Waits until a server that stands in for others is not needed any more. Cancel safe.
    async fn superseded(&self, key: Key) {
        self.table.wait_for(|table| table.is_superseded(key)).await;
    }

    /// Lets a server wait that stood in for others. What it saw is asked anew: the NAT may have
    /// begun anew just before these were back.
    fn stand_down(&self, key: Key) {
        let mut last = None;
        self.table.change_if(|table| {
            last = table.stand_down(key);
            last.is_some()
        });
        if let Some(Mapped { local, server, .. }) = last {
            self.behaviour.stands_down(local, server);
            self.alternates.change(|_| ());
        }
    }

    async fn open(&self, key: Key, port: u16) -> Result<HeldMapping, MappingError> {
        let server = self.nat64.reach(key.server).await;
        let source = self.host.source_address(server);
        let source = source.map_err(|_| MappingError::Unreachable)?;
        let mut config = MappingConfig::default();
        config.commitment = self.commitment(&key, source);
        config.host = self.host.clone();
        config.over = self.over(key.server);
        let local = tcp::in_zone_of(SocketAddr::new(source, port), server);
        HeldMapping::open(local, server, config).await
    }

    /// Keeps the table true to a mapping, until it cannot be held from its address any more.
    pub(super) async fn follow(self: &Arc<Self>, key: Key, mut held: HeldMapping) {
        let Key { punch_port, server } = key;
        let first = held.current();
        let local = first.local;
        self.observer.tell(Status::Mapped {
            local,
            mapped: first.mapped,
            server: first.server,
        });
        let learn = |mapping| self.learn(key, mapping);
        learn(first);
        let mut states = held.subscribe();
        let mut recheck = self.recheck.watch();
        let mut moved = self.moved.watch();
        let mut alternates = self.alternates.watch();
        alternates.mark_changed();
        let mut losses = 0;
        // One at a time: both would want the same pair of addresses.
        let mut comparing = JoinSet::new();
        loop {
            tokio::select! {
                event = held.next_event() => match event {
                    Some(MappingEvent::MappingChanged { old, new }) => {
                        let changed = Status::MappingChanged { local, old, new: new.mapped };
                        self.observer.tell(changed);
                        learn(new);
                        self.recheck.notify();
                        recheck.mark_unchanged();
                        // The primary port's holder compares both.
                        self.alternates.change(|_| ());
                    }
                    Some(MappingEvent::Mapped(mapping)) => learn(mapping),
                    Some(MappingEvent::Lost { error }) => {
                        tracing::debug!(%error, "stun connection lost, reconnecting");
                    }
                    None => return,
                },
                Ok(()) = states.changed() => {
                    let state = states.borrow_and_update().clone();
                    if !self.take_in(key, state, &mut losses).await {
                        return;
                    }
                }
                () = recheck.changed() => held.refresh(),
                // The connection may last for long where packets do not leave from any more.
                () = wake_up_or(&self.host, &mut moved) => {
                    if self.has_left(key, local).await {
                        return;
                    }
                }
                () = alternates.changed(),
                    if punch_port == PunchPort::PRIMARY && comparing.is_empty() =>
                {
                    if let Some(alternates) = alternates.borrow_and_update().clone() {
                        let shared = Arc::clone(self);
                        comparing.spawn(shared.compare(local, server, alternates));
                    }
                }
                Some(_) = comparing.join_next() => {}
            }
        }
    }

    /// Takes in what an answer or a loss shows. `false` if the mapping is not to be held like this
    /// any longer.
    async fn take_in(&self, key: Key, state: MappingState, losses: &mut u32) -> bool {
        let MappingState { mapping, lost, .. } = state;
        let Some(error) = lost else {
            *losses = 0;
            self.learn(key, mapping);
            return true;
        };
        if self.has_left(key, mapping.local).await {
            tracing::debug!(%error, "the last mapping from there was lost");
            return false;
        }
        self.losses.notify();
        // What was seen before says nothing of now.
        *losses += 1;
        *losses < MAX_LOSSES || self.lose(key, error)
    }

    /// Lets another server take the place of one that comes back no more. `false` if others have
    /// taken them all.
    fn lose(&self, key: Key, error: MappingError) -> bool {
        self.table.change_if(|table| table.lose(key, error));
        self.freed.notify();
        self.table.borrow().is_lost(key)
    }

    /// Takes in the mapping of a punch port that a server tells, which may be reached by another
    /// address than its own.
    fn learn(&self, key: Key, mapping: Mapping) {
        let punch_port = key.punch_port;
        let Mapping {
            local,
            server,
            mapped,
            token,
            ..
        } = mapping;
        let observation = Observation {
            local,
            server,
            mapped,
        };
        if punch_port != PunchPort::PRIMARY {
            self.behaviour.holds_other(observation);
        } else if self.table.borrow().is_fallback(key.server) {
            self.behaviour.holds_instead(observation);
        } else {
            self.behaviour.holds(observation);
        }
        self.set(
            key,
            Slot::Held(Mapped {
                punch_port,
                local,
                mapped,
                server,
                token,
            }),
        );
    }

    /// Stores what is known of a mapping, and wakes those who watch if that is news.
    pub(super) fn set(&self, key: Key, slot: Slot) {
        self.table.change_if(|table| table.set(key, slot));
    }

    /// Tells whether packets to a server leave from another address by now, as they do after a
    /// change of networks, and drops what is known from the former one. While there is no way to
    /// it, they leave from none.
    pub(super) async fn has_left(&self, key: Key, local: SocketAddr) -> bool {
        let source = self.source_towards(key.server).await;
        self.has_left_for(source, key, local)
    }

    /// Returns the address that packets to a server leave from, if there is a way to it.
    pub(super) async fn source_towards(&self, server: SocketAddr) -> Option<IpAddr> {
        let server = self.nat64.reach(server).await;
        self.host.source_address(server).ok()
    }

    /// Does so where it is known that packets to the server leave from `source`.
    pub(super) fn has_left_for(&self, source: Option<IpAddr>, key: Key, local: SocketAddr) -> bool {
        let has_left = source.is_some_and(|source| source != local.ip());
        if has_left {
            tracing::debug!("this machine has another address now");
            self.behaviour.forget(local.ip());
            self.table.change_if(|table| table.leave(key, local));
        }
        has_left
    }
}

/// Waits until the machine is awake anyway, or somebody has seen that it has another address.
/// Cancel safe.
async fn wake_up_or(host: &Host, seen: &mut Watcher<()>) {
    tokio::select! {
        () = seen.changed() => {}
        () = sleep_until(next_keepalive(host, KEEP_ALIVE)) => {}
    }
}
