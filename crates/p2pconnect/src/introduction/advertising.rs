//! Advertises: tells the coordinator, and by way of it a peer, where this endpoint may be reached
//! and what its NAT is like.

use std::net::SocketAddr;

use p2pconnect_host::clock;
use p2pconnect_proto::{
    PunchPort,
    message::{DialPolicy, Extensions, Introduction, Registration},
};

use super::{advertisement::Advertisement, gather, registrations::Registrations, shared::Inner};
use crate::{
    CoordinatorError,
    coordinator::requests::Coordination,
    machine::{interfaces::Interfaces, port_mapping::ForwardedPort, punch_ports::PunchPorts},
    nat::{mappings::Mapped, port_sets::PortSetLease},
    sync::lock,
};

impl Inner {
    /// Returns where this endpoint may be reached and what its NAT is like, as far as is known
    /// now.
    pub(crate) fn advertise(&self) -> Advertisement {
        let forwarded = self.port_mappings.known();
        self.advertise_from(&self.ports, &self.mappings.known(), &forwarded)
    }

    /// Returns what is advertised of these punch ports, with their mappings and with what a router
    /// forwards to them.
    fn advertise_from(
        &self,
        ports: &PunchPorts,
        mapped: &[Mapped],
        forwarded: &[ForwardedPort],
    ) -> Advertisement {
        let block = self.unused_ports.block();
        let (nat, predicted) = self.behaviour.predict(block);
        let primary = mapped
            .iter()
            .find(|it| it.punch_port == PunchPort::PRIMARY && it.mapped.is_ipv4());
        // Nobody is told of ports that this side could not use.
        let with_primary = predicted.filter(SocketAddr::is_ipv4).zip(primary);
        let predicted = with_primary.map(|(predicted, _)| predicted);
        let unused = with_primary.map(|(_, primary)| (primary.local.ip(), block).into());
        let interfaces = Interfaces::of(&self.host);
        let own = gather::host_addresses(mapped, &interfaces);
        Advertisement {
            at: clock::now(),
            is_mapped: !mapped.is_empty(),
            candidates: gather::candidates(ports, &own, &nat, predicted, mapped, forwarded),
            interfaces,
            nat,
            predicted,
            probed_at: self.behaviour.probed_at(),
            unused,
        }
    }

    /// Returns what a dial advertises, with a block of local ports that no peer has been told of.
    pub(crate) fn advertise_for_dial(&self, lease: &PortSetLease) -> Advertisement {
        let advertised = || match lease.further() {
            Some((ports, mapped)) => self.advertise_from(ports, &mapped, &[]),
            None => self.advertise(),
        };
        let first = advertised();
        let Some(unused) = first.unused else {
            return first;
        };
        let advance = || self.unused_ports.advance([&first.nat, &first.nat]);
        if self.registered().tell_of(unused) {
            advance();
        }
        let advertised = advertised();
        // Whoever registers next tells of others.
        advance();
        self.use_up_prediction(&advertised);
        advertised
    }

    /// Returns what the coordinator has been told.
    pub(crate) fn registered(&self) -> std::sync::MutexGuard<'_, Registrations> {
        lock(&self.registered)
    }

    /// Returns what a dialler was told, and has the next one told of ports that no NAT has seen, as
    /// those of this one are used now.
    pub(super) fn use_up(&self, introduction: &Introduction) -> Advertisement {
        let advertised = self.registered().told(introduction.serial).cloned();
        // Nobody is introduced to an endpoint that has told nothing.
        let advertised = advertised.unwrap_or_else(|| self.advertise());
        self.use_up_prediction(&advertised);
        if let Some(unused) = advertised.unused {
            // Dials of this side may have taken others since.
            if unused.port() == self.unused_ports.block() {
                let nats = [&advertised.nat, &introduction.nat];
                self.unused_ports.advance(nats);
            }
            if self.registered().tell_of(unused) {
                self.behaviour.prediction_changed();
            }
        }
        advertised
    }

    /// Has another random port predicted to the next peer, as this one may be used up.
    fn use_up_prediction(&self, advertised: &Advertisement) {
        if let Some(predicted) = advertised.predicted {
            self.behaviour.uses_up(predicted);
        }
    }

    /// Tells the coordinator where this endpoint may be reached now.
    pub(crate) async fn register(
        &self,
        coordination: &Coordination,
        policy: &DialPolicy,
    ) -> Result<(), CoordinatorError> {
        let advertised = self.advertise();
        let serial = self.registered().add(advertised.clone());
        let registration = Registration {
            serial,
            candidates: advertised.candidates.clone(),
            nat: advertised.nat,
            peer_extensions: Vec::new(),
            extensions: Extensions::default(),
            ..Registration::new(policy.clone())
        };
        let registered = coordination.register(registration).await?;
        if !registered.unproven.is_empty() {
            tracing::debug!(
                count = registered.unproven.len(),
                "candidates left out as unproven"
            );
        }
        self.mappings
            .note_unproven(&advertised.candidates, &registered.unproven);
        Ok(())
    }
}
