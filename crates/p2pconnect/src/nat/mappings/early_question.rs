//! Asks for comparison before a coordinator has named the addresses that serve for that.
//!
//! A dialler that has just started plans its first attempt a round trip before it would hear from
//! those. If it does not know by then that its NAT gives each destination another port, it opens
//! holes to all of a peer's ports, and a NAT that has a block of ports for it gives them all out.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use p2pconnect_proto::PunchPort;
use p2pconnect_punch::behaviour::Observation;
use p2pconnect_stun::query;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use super::{QUERY_LIMIT, Shared, table::Key};
use crate::{machine::tcp, sync::lock};

/// What is asked early, in each family.
#[derive(Debug, Default)]
pub(super) struct EarlyQuestions {
    ipv4: EarlyQuestion,
    ipv6: EarlyQuestion,
}

#[derive(Debug, Default)]
struct EarlyQuestion {
    /// Whom to ask.
    alternate: Mutex<Option<SocketAddr>>,
    /// Locked while the question is under way. The local address that has got an answer, until
    /// somebody relies on that.
    answered: Arc<AsyncMutex<Option<SocketAddr>>>,
}

impl EarlyQuestions {
    pub(super) fn presume(&self, alternate: SocketAddr) {
        *lock(&self.of(alternate.is_ipv4()).alternate) = Some(alternate);
    }

    fn of(&self, is_ipv4: bool) -> &EarlyQuestion {
        match is_ipv4 {
            true => &self.ipv4,
            false => &self.ipv6,
        }
    }

    /// Waits for the early question to an address, if there is one, and tells, once, whether it has
    /// been answered from this local address.
    ///
    /// Cancel safe.
    pub(super) async fn has_answered(&self, local: SocketAddr, alternate: SocketAddr) -> bool {
        let early = self.of(alternate.is_ipv4());
        if *lock(&early.alternate) != Some(alternate) {
            return false;
        }
        let mut answered = early.answered.lock().await;
        answered.take_if(|it| *it == local).is_some()
    }
}

impl EarlyQuestion {
    /// Returns whom to ask, and what is held meanwhile, unless the question is under way.
    fn begin(&self) -> Option<(SocketAddr, OwnedMutexGuard<Option<SocketAddr>>)> {
        let alternate = (*lock(&self.alternate))?;
        let under_way = Arc::clone(&self.answered).try_lock_owned().ok()?;
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
        let (alternate, mut answered) = early.begin().filter(|(it, _)| *it != key.server)?;
        *answered = None;
        let shared = Arc::clone(self);
        Some(async move {
            let server = shared.nat64.reach(alternate).await;
            let Ok(source) = shared.host.source_address(server) else {
                return;
            };
            let local = tcp::in_zone_of(SocketAddr::new(source, port), server);
            match query(&shared.host, local, server, QUERY_LIMIT).await {
                Ok(mapped) => {
                    *answered = Some(local);
                    shared.behaviour.observe(Observation {
                        local,
                        server,
                        mapped,
                    });
                }
                Err(error) => tracing::debug!(%error, "no early opinion on the mapping"),
            }
        })
    }
}
