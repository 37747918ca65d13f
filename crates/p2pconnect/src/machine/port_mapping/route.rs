//! Which router this machine is behind.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use p2pconnect_host::Host;

/// The discard service (RFC 863), since a route is asked for with some port. Nothing is sent there.
const DISCARD: u16 = 9;

/// The way out of this machine's network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Route {
    /// The router.
    pub(super) gateway: Ipv4Addr,
    /// This machine's address on that way.
    pub(super) local: Ipv4Addr,
}

impl Route {
    /// Returns the way out over IPv4, if there is one and the system tells whose it is: nobody but
    /// the default gateway is asked for anything.
    pub(super) fn current(host: &Host) -> Option<Self> {
        let gateway = host.gateway()?;
        match host.source_address(SocketAddr::from((gateway, DISCARD))) {
            Ok(IpAddr::V4(local)) => Some(Self { gateway, local }),
            Ok(IpAddr::V6(_)) | Err(_) => None,
        }
    }
}
