//! Asks for comparison before a coordinator has named the addresses that serve for that.
//!
//! A dialler that has just started plans its first attempt a round trip before it would hear from
//! those. If it does not know by then that its NAT gives each destination another port, it opens
//! holes to all of a peer's ports, and a NAT that has a block of ports for it gives them all out.
//!
//! The address is the coordinator's own, so the connection is offered to whoever looks for that.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, Weak},
};

use p2pconnect_proto::PunchPort;
use p2pconnect_punch::behaviour::Observation;
use p2pconnect_stun::{self as stun, MappingError, Query};
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use super::{QUERY_LIMIT, Shared, table::Key};
use crate::{coordinator::offers::Offers, machine::tcp, sync::lock};

/// What is asked early, in each family.
#[derive(Debug, Default)]
pub(super) struct EarlyQuestions {
    ipv4: EarlyQuestion,
    ipv6: EarlyQuestion,
}

#[derive(Debug, Default)]
struct EarlyQuestion {
    /// Whom to ask.
    alternate: Mutex<Option<Alternate>>,
    /// Locked until it is answered.
    answer: Arc<AsyncMutex<Option<Answer>>>,
}

/// Whom to ask, and whom the connection is offered to.
#[derive(Debug, Clone)]
struct Alternate {
    address: SocketAddr,
    offers: Arc<Offers>,
}

#[derive(Debug)]
struct Answer {
    local: SocketAddr,
    mapped: SocketAddr,
    /// Can be upgraded while the connection lasts: another one between the two addresses cannot be
    /// made then.
    connection: Weak<()>,
    is_used: bool,
}

impl Answer {
    fn lasts(&self) -> bool {
        self.connection.strong_count() > 0
    }
}

/// Locked while a question is under way.
type Asking = OwnedMutexGuard<Option<Answer>>;

impl EarlyQuestions {
    pub(super) fn presume(&self, address: SocketAddr, offers: Arc<Offers>) {
        let alternate = Alternate { address, offers };
        *lock(&self.of(address.is_ipv4()).alternate) = Some(alternate);
    }

    fn of(&self, is_ipv4: bool) -> &EarlyQuestion {
        match is_ipv4 {
            true => &self.ipv4,
            false => &self.ipv6,
        }
    }

    /// Waits for the early question to an address, if there is one, and returns how this local
    /// address was seen there: once, or for as long as the connection lasts and others see the
    /// local address at `outside` still.
    ///
    /// Cancel safe.
    pub(super) async fn answer(
        &self,
        local: SocketAddr,
        alternate: SocketAddr,
        outside: Option<IpAddr>,
    ) -> Option<SocketAddr> {
        let early = self.of(alternate.is_ipv4());
        if lock(&early.alternate).as_ref()?.address != alternate {
            return None;
        }
        let mut answer = early.answer.lock().await;
        let known = answer.as_mut().filter(|it| it.local == local)?;
        let is_used = std::mem::replace(&mut known.is_used, true);
        let is_true = known.lasts() && outside == Some(known.mapped.ip());
        (is_true || !is_used).then_some(known.mapped)
    }
}

impl EarlyQuestion {
    /// Returns whom to ask, and what is held meanwhile, unless the question is under way.
    fn begin(&self) -> Option<(Alternate, Asking)> {
        let alternate = lock(&self.alternate).clone()?;
        let under_way = Arc::clone(&self.answer).try_lock_owned().ok()?;
        Some((alternate, under_way))
    }
}

impl Shared {
    /// Returns the question that goes out beside the one to the first server of a family from the
    /// primary port, if another address to ask is known.
    pub(super) fn early_question(
        self: &Arc<Self>,
        key: Key,
        port: u16,
    ) -> Option<impl Future<Output = ()> + use<>> {
        let is_first = self.table.borrow().is_first_of_its_family(key.server);
        if key.punch_port != PunchPort::PRIMARY || !is_first {
            return None;
        }
        let early = self.early.of(key.server.is_ipv4());
        let (alternate, asking) = early.begin().filter(|(it, asking)| {
            it.address != key.server && !asking.as_ref().is_some_and(Answer::lasts)
        })?;
        let shared = Arc::clone(self);
        Some(async move {
            let server = shared.nat64.reach(alternate.address).await;
            let Ok(source) = shared.host.source_address(server) else {
                return;
            };
            let local = tcp::in_zone_of(SocketAddr::new(source, port), server);
            let asked = shared.ask_early(local, server, &alternate.offers, asking);
            if let Err(error) = asked.await {
                tracing::debug!(%error, "no early opinion on the mapping");
            }
        })
    }

    /// Asks a server, and lets somebody else go on with the connection, before the answer has come
    /// or after that.
    async fn ask_early(
        &self,
        local: SocketAddr,
        server: SocketAddr,
        offers: &Arc<Offers>,
        mut asking: Asking,
    ) -> Result<(), MappingError> {
        *asking = None;
        let mut query = Query::begin(&self.host, local, server, QUERY_LIMIT).await?;
        let connection = query.lasts();
        let learn = |mapped| {
            *asking = Some(Answer {
                local,
                mapped,
                connection,
                is_used: false,
            });
            drop(asking);
            self.behaviour.observe(Observation {
                local,
                server,
                mapped,
            });
        };
        let mut offered = offers.offer(server, query.round_trip());
        tokio::select! {
            mapped = query.answer() => {
                learn(mapped?);
                if let Some(taker) = offered.wanted_at_last().await {
                    // It has given up meanwhile, perhaps.
                    drop(taker.send(query.go_on().0));
                }
            }
            taker = offered.wanted() => {
                let (onward, answer) = query.go_on();
                // If nobody takes it, it is closed at once.
                let _taken = taker.is_some_and(|taker| taker.send(onward).is_ok());
                learn(match answer.await {
                    Ok(mapped) => mapped,
                    // Whoever went on has given up.
                    Err(_) => stun::query(&self.host, local, server, QUERY_LIMIT).await?,
                });
            }
        }
        Ok(())
    }
}
