//! How a coordinator that is going to end lets its clients go: to other coordinators, one after the
//! other, or away for a while.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use p2pconnect_host::clock;
use p2pconnect_proto::{CoordinatorAddr, close, codec};
use tokio::{task::JoinSet, time::sleep};
use tracing::{error, info};

use super::{
    farewell::{Farewell, GOODBYE, REPLACED, back_after},
    notices::Notices,
    request::send_frame,
    shared::Shared,
    slots::Slots,
};
use crate::registry::ConnectionId;

/// How often it is looked who can be told, or let go.
const INTERVAL: Duration = Duration::from_millis(20);

/// Within what time all have been told to come back.
const BACK_WITHIN: Duration = Duration::from_secs(60);

/// How long clients stay when the last of them has been told to move: it may take several attempts
/// to be elsewhere, and those who have not moved yet dial those who have.
const STAY: Duration = Duration::from_secs(5);

/// For how long introductions in flight are waited for where there is no other place: as long as
/// one keeps its peers busy.
const FINISHING: Duration = Duration::from_secs(5);

/// How a coordinator lets its clients go before it ends.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Drain {
    /// Where they may go; [`MAX_PLACES`](p2pconnect_proto::message::MAX_PLACES) count. Without any
    /// they are told when to come back.
    pub to: Vec<CoordinatorAddr>,
    /// How long that may take.
    pub limit: Duration,
}

impl Drain {
    /// Returns what takes so long at most, and names no other place.
    #[must_use]
    pub const fn within(limit: Duration) -> Self {
        let to = Vec::new();
        Self { to, limit }
    }
}

impl Shared {
    /// Lets all clients go; ends when there is none any more, or the time is over.
    pub(super) async fn drain(&self, drain: Drain) {
        let (began, clients) = (clock::now(), self.clients().len());
        let slots = Slots::new(clients, drain.limit / 2);
        let limit = match drain.to.is_empty() {
            true => drain.limit.min(FINISHING),
            false => drain.limit,
        };
        let stay = (slots.of(clients) + STAY).min(limit);
        let farewell = self.bid(Farewell {
            to: drain.to,
            stay_until: began + stay,
        });
        info!(
            clients,
            places = farewell.to.len(),
            ?limit,
            "clients are let go"
        );
        if farewell.has_place() {
            let (mut told, mut telling) = (BTreeSet::new(), JoinSet::new());
            while clock::since(began) < limit && !self.clients().is_empty() {
                self.tell_those_due(
                    &farewell,
                    slots.due(clock::since(began)),
                    &mut told,
                    &mut telling,
                );
                self.let_go(|it| self.has_arrived(it), let_arrived_go);
                sleep(INTERVAL).await;
                while telling.try_join_next().is_some() {}
            }
        } else {
            while clock::since(began) < limit && self.let_go(|_| true, send_away) > 0 {
                sleep(INTERVAL).await;
            }
        }
        info!(left = self.clients().len(), "clients have been let go");
    }

    /// Tells clients to move until so many have been told.
    fn tell_those_due(
        &self,
        farewell: &Farewell,
        due: usize,
        told: &mut BTreeSet<ConnectionId>,
        telling: &mut JoinSet<()>,
    ) {
        let now = clock::now();
        for (id, notices) in self.clients() {
            if told.len() >= due {
                return;
            }
            if !told.insert(id) {
                continue;
            }
            match codec::encode(&farewell.notice(told.len(), now)) {
                Ok(frame) => drop(telling.spawn(async move {
                    // Whoever has no room for a notice is closed like those who do not know it.
                    if let Ok(mut stream) = notices.stream().await {
                        send_frame(&mut stream, &frame).await;
                    }
                })),
                Err(error) => error!(%error, "a notice exceeds a frame"),
            }
        }
    }

    /// Lets those clients go that nobody waits for, out of some. Returns how many of all are left.
    fn let_go(&self, of: impl Fn(ConnectionId) -> bool, go: impl Fn(&[Arc<Notices>])) -> usize {
        let all = self.clients();
        let free = |(id, _): &&(ConnectionId, Arc<Notices>)| of(*id) && !self.is_awaited(*id);
        let free: Vec<_> = all
            .iter()
            .filter(free)
            .map(|it| Arc::clone(&it.1))
            .collect();
        go(&free);
        all.len() - free.len()
    }

    /// Closes the connections of all clients, as the coordinator ends.
    pub(super) fn send_all_away(&self) {
        let all: Vec<_> = self.clients().into_iter().map(|it| it.1).collect();
        send_away(&all);
    }
}

/// Closes the connections of clients that have registered elsewhere.
fn let_arrived_go(clients: &[Arc<Notices>]) {
    for notices in clients {
        notices.link().close(close::REPLACED, REPLACED);
    }
}

/// Closes these connections. Each client is told another time to come back.
fn send_away(clients: &[Arc<Notices>]) {
    let slots = Slots::new(clients.len(), BACK_WITHIN);
    for (before, notices) in clients.iter().enumerate() {
        notices.link().close(back_after(slots.of(before)), GOODBYE);
    }
}
