//! Mappings over another route than the one that leads to the servers.
//!
//! A machine may reach a server by one route and everybody else by another, as with a VPN that
//! leaves out the route to its own server. Connections to a peer begin at the address of the other
//! route then, so the servers are asked from there as well.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use p2pconnect_host::{ELSEWHERE, Host};
use p2pconnect_proto::is_global;
use p2pconnect_stun::{
    Commitment, HeldMapping, Mapping, MappingConfig, MappingError, MappingEvent, next_keepalive,
};
use tokio::time::sleep_until;

use super::{KEEP_ALIVE, Key, Mapped, Shared};
use crate::Status;

/// A route out of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
struct OtherRoute {
    local: IpAddr,
    device: String,
}

impl OtherRoute {
    /// Returns the route to everybody, if a server elsewhere is reached by another one. Costs no
    /// packet.
    fn other_than_to(host: &Host, server: SocketAddr) -> Option<Self> {
        if !is_global(server.ip()) {
            return None;
        }
        let everybody = ELSEWHERE.iter().find(|it| it.is_ipv4() == server.is_ipv4());
        let local = host.source_address(*everybody?).ok()?;
        if host.source_address(server).ok()? == local {
            return None;
        }
        let interfaces = host.interfaces();
        let device = interfaces.into_iter().find(|it| it.ip == local)?.name;
        Some(Self { local, device })
    }
}

impl Shared {
    /// Holds the mapping of a punch port over the other route, as long as there is one and the
    /// future is polled.
    pub(super) async fn hold_elsewhere(self: Arc<Self>, key: Key, port: u16) {
        loop {
            if let Some(route) = OtherRoute::other_than_to(&self.host, key.server) {
                match self.open_over(&route, port, key.server).await {
                    Ok(held) => self.follow_over(&route, key, held).await,
                    Err(error) => tracing::debug!(%error, "no mapping over the other route"),
                }
                self.set_elsewhere(key, None);
            }
            sleep_until(next_keepalive(&self.host, KEEP_ALIVE)).await;
        }
    }

    async fn open_over(
        &self,
        route: &OtherRoute,
        port: u16,
        server: SocketAddr,
    ) -> Result<HeldMapping, MappingError> {
        let mut config = MappingConfig::default();
        config.host = self.host.clone();
        config.device = Some(route.device.clone());
        // Of its own, since what the server sees for it is another address.
        let mut salt = [0; 16];
        if self.host.fill_random(&mut salt).is_ok() {
            config.commitment = Some(Commitment::new(salt, &self.id));
        }
        HeldMapping::open(SocketAddr::new(route.local, port), server, config).await
    }

    /// Keeps the table true to a mapping, until the route is no longer another one.
    async fn follow_over(&self, route: &OtherRoute, key: Key, mut held: HeldMapping) {
        let Key { punch_port, server } = key;
        let mapped = |it: Mapping| Mapped {
            punch_port,
            local: it.local,
            mapped: it.mapped,
            server: it.server,
            token: it.token,
        };
        let first = held.current();
        self.observer.tell(Status::Mapped {
            local: first.local,
            mapped: first.mapped,
            server: first.server,
        });
        self.set_elsewhere(key, Some(mapped(first)));
        loop {
            tokio::select! {
                event = held.next_event() => match event {
                    Some(MappingEvent::MappingChanged { new: known, .. } | MappingEvent::Mapped(known)) => {
                        self.set_elsewhere(key, Some(mapped(known)));
                    }
                    Some(MappingEvent::Lost { error }) => {
                        tracing::debug!(%error, "stun connection over the other route lost");
                        self.set_elsewhere(key, None);
                    }
                    None => return,
                },
                () = sleep_until(next_keepalive(&self.host, KEEP_ALIVE)) => {
                    if OtherRoute::other_than_to(&self.host, server).as_ref() != Some(route) {
                        return;
                    }
                    // With the token that came last.
                    if held.state().lost.is_none() {
                        self.set_elsewhere(key, Some(mapped(held.current())));
                    }
                }
            }
        }
    }

    fn set_elsewhere(&self, key: Key, mapped: Option<Mapped>) {
        let table = &self.table;
        table.change_if(|table| table.set_elsewhere(key, mapped));
    }
}
