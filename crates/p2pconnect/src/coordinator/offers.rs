//! Connections by TCP that STUN has to coordinators while an endpoint starts, and on which TLS may
//! go on.
//!
//! Where a network lets no UDP out, they make up for the time in which QUIC is waited for: the
//! handshake of TCP is done by the time at which QUIC's is missed.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use p2pconnect_stun::Onward;
use tokio::{
    sync::oneshot,
    task::yield_now,
    time::{Instant, sleep_until},
};

use crate::sync::Watched;

/// By how much QUIC's handshake may take longer than TCP's, which is one round trip as well: a
/// quarter of that for the network's chance, and this for the processors.
const LEAST_LAG: Duration = Duration::from_millis(10);

/// Where the connection goes to whoever goes on with it.
pub(crate) type Taker = oneshot::Sender<Onward>;

/// The connections that are offered.
#[derive(Debug, Default)]
pub(crate) struct Offers(Watched<Vec<Offer>>);

#[derive(Debug)]
struct Offer {
    server: SocketAddr,
    /// When QUIC's handshake is late.
    due: Instant,
    wanted: oneshot::Sender<Taker>,
}

/// A connection that is offered until this is dropped.
#[derive(Debug)]
pub(crate) struct Offered {
    offers: Arc<Offers>,
    server: SocketAddr,
    due: Instant,
    wanted: oneshot::Receiver<Taker>,
}

impl Offers {
    /// Offers a connection to a coordinator that has just come about. A round trip takes so long,
    /// if that is known.
    pub(crate) fn offer(
        self: &Arc<Self>,
        server: SocketAddr,
        round_trip: Option<Duration>,
    ) -> Offered {
        let lag = round_trip.unwrap_or_default() / 4;
        let due = Instant::now() + lag.max(LEAST_LAG);
        let (taker, wanted) = oneshot::channel();
        let offer = Offer {
            server,
            due,
            wanted: taker,
        };
        self.0.change(|offers| offers.push(offer));
        Offered {
            offers: Arc::clone(self),
            server,
            due,
            wanted,
        }
    }

    /// Waits until a connection to this coordinator is offered, and QUIC's handshake is late.
    ///
    /// Cancel safe.
    pub(crate) async fn late(&self, server: SocketAddr) {
        let mut offers = self.0.watch();
        let due = |offers: &[Offer]| {
            let offer = offers.iter().find(|it| it.server == server);
            offer.map(|it| it.due)
        };
        let due = loop {
            let due = due(&offers.borrow_and_update());
            match due {
                Some(due) => break due,
                None => offers.changed().await,
            }
        };
        sleep_until(due).await;
        // An answer that has come is read before.
        yield_now().await;
    }

    /// Takes up an offer, if there is still one.
    pub(crate) async fn take(&self, server: SocketAddr) -> Option<Onward> {
        let mut taken = None;
        self.0.change_if(|offers| {
            let index = offers.iter().position(|it| it.server == server);
            taken = index.map(|it| offers.swap_remove(it));
            false
        });
        let (taker, connection) = oneshot::channel();
        taken?.wanted.send(taker).ok()?;
        connection.await.ok()
    }
}

impl Offered {
    /// Waits until somebody takes the offer up. Cancel safe.
    pub(crate) async fn wanted(&mut self) -> Option<Taker> {
        (&mut self.wanted).await.ok()
    }

    /// Waits until somebody takes the offer up, or nobody does for a moment from when QUIC's
    /// handshake is late.
    pub(crate) async fn wanted_at_last(&mut self) -> Option<Taker> {
        let until = self.due + LEAST_LAG;
        tokio::select! {
            taker = &mut self.wanted => taker.ok(),
            () = sleep_until(until) => None,
        }
    }
}

impl Drop for Offered {
    fn drop(&mut self) {
        let (server, due) = (self.server, self.due);
        self.offers.0.change_if(|offers| {
            offers.retain(|it| (it.server, it.due) != (server, due));
            false
        });
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests;
