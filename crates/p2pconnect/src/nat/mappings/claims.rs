//! What STUN servers may attest of this endpoint before it hears that itself.

use std::{net::IpAddr, sync::MutexGuard};

use p2pconnect_host::Host;
use p2pconnect_proto::{PunchPort, message::ReflexiveClaim, represented};
use p2pconnect_stun::Commitment;

use super::{Shared, table::Key};
use crate::{nat::families::Families, sync::lock};

/// What a STUN server beside the coordinator may have seen.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    pub(crate) list: Vec<ReflexiveClaim>,
    /// The families that these are of, which they do not say themselves.
    pub(crate) families: Families,
}

impl Claims {
    /// Returns the families in which the coordinator, which sees this endpoint at `seen`, has found
    /// something, if it has found so many. Of some only, these are most likely of the family that
    /// it is reached by.
    pub(crate) fn found(&self, count: u8, seen: IpAddr) -> Families {
        match usize::from(count) {
            0 => Families::default(),
            count if count < self.list.len() => [represented(seen)].into_iter().collect(),
            _ => self.families,
        }
    }
}

/// What the STUN servers of one address family shall attest of one punch port, by a salt that only
/// this endpoint and those it tells know.
#[derive(Debug)]
pub(super) struct Claimed {
    pub(super) punch_port: PunchPort,
    pub(super) is_ipv4: bool,
    pub(super) commitment: Commitment,
    /// The address of this machine that it has been used from.
    pub(super) from: Option<IpAddr>,
}

impl Claimed {
    /// Tells whether it is for what a server tells of a punch port.
    pub(super) fn is_of(&self, key: &Key) -> bool {
        self.punch_port == key.punch_port && self.is_ipv4 == key.server.is_ipv4()
    }

    pub(super) fn claim(&self) -> ReflexiveClaim {
        ReflexiveClaim {
            punch_port: self.punch_port,
            salt: self.commitment.salt(),
        }
    }

    /// Returns the commitment to show from this address of the machine: another one than in the
    /// network before, so that servers cannot tell where the machine has gone.
    fn commitment_from(&mut self, host: &Host, source: IpAddr) -> Commitment {
        if self.from.is_some_and(|from| from != source) {
            self.commitment = self.commitment.renewed(host);
        }
        self.from = Some(source);
        self.commitment
    }
}

impl Shared {
    pub(super) fn claims(&self) -> MutexGuard<'_, Vec<Claimed>> {
        lock(&self.claims)
    }

    pub(super) fn commitment(&self, key: &Key, source: IpAddr) -> Option<Commitment> {
        let mut claims = self.claims();
        let claimed = claims.iter_mut().find(|it| it.is_of(key));
        claimed.map(|it| it.commitment_from(&self.host, source))
    }
}
