//! Asks how other addresses of the servers see a punch port (RFC 5780 section 4.3).

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use p2pconnect_proto::NatMapping;
use p2pconnect_punch::behaviour::Observation;
use p2pconnect_stun::query;
use tokio::task::JoinSet;

use super::{Mapped, QUERY_LIMIT, Shared};

impl Shared {
    /// Asks the server's alternate addresses, all at once, how they see the same local port.
    pub(super) async fn compare(
        self: Arc<Self>,
        local: SocketAddr,
        server: SocketAddr,
        alternates: Vec<SocketAddr>,
    ) {
        let is_ipv4 = server.is_ipv4();
        let comparable = |it: &SocketAddr| it.is_ipv4() == is_ipv4 && *it != server;
        let alternates: Vec<_> = alternates.into_iter().filter(comparable).collect();
        self.ask_alternates(local, &alternates).await;
        if let Some(other) = self.other_to_compare(local) {
            self.behaviour.observe(Observation {
                local: other.local,
                server: other.server,
                mapped: other.mapped,
            });
            self.ask_alternates(other.local, &alternates).await;
        }
        self.compared.change(|compared| compared.add(is_ipv4));
    }

    /// Returns the other punch port if it should be compared as well: of a small block, a NAT gives
    /// two destinations the same port now and then, and would be taken for one that always does.
    fn other_to_compare(&self, local: SocketAddr) -> Option<Mapped> {
        let is_fixed = self.behaviour.report().mapping == Some(NatMapping::EndpointIndependent);
        let known = self.table.borrow().known();
        let is_kept = |it: &Mapped| it.local == local && it.mapped.port() == local.port();
        if !is_fixed || known.iter().any(is_kept) {
            return None;
        }
        let other = |it: &Mapped| it.local.ip() == local.ip() && it.local != local;
        known.into_iter().find(other)
    }

    /// Returns at which address a local one is seen by the servers that hold its mapping.
    fn outside_of(&self, local: SocketAddr) -> Option<IpAddr> {
        let known = self.table.borrow().known();
        let mut seen = known.iter().filter(|it| it.local == local);
        Some(seen.next()?.mapped.ip())
    }

    async fn ask_alternates(self: &Arc<Self>, local: SocketAddr, alternates: &[SocketAddr]) {
        let mut asking = JoinSet::new();
        for alternate in alternates.iter().copied() {
            let shared = Arc::clone(self);
            asking.spawn(async move { shared.ask_alternate(local, alternate).await });
        }
        asking.join_all().await;
    }

    async fn ask_alternate(&self, local: SocketAddr, alternate: SocketAddr) {
        let outside = self.outside_of(local);
        let early = self.early.answer(local, alternate, outside).await;
        let alternate = self.nat64.reach(alternate).await;
        if let Some(mapped) = early {
            return self.behaviour.observe(Observation {
                local,
                server: alternate,
                mapped,
            });
        }
        match query(&self.host, local, alternate, QUERY_LIMIT).await {
            Ok(mapped) => self.behaviour.observe(Observation {
                local,
                server: alternate,
                mapped,
            }),
            Err(error) => tracing::debug!(%error, "no second opinion on the mapping"),
        }
    }
}
