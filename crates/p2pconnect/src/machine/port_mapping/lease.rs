//! One mapping of one port, by whatever protocol the router speaks.

use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroU16,
    time::Duration,
};

use crab_nat::{
    GatewayAddress, InternetProtocol, MappingFailure, PortMapping, PortMappingOptions,
    PortMappingType, TimeoutConfig, natpmp, pcp,
};

use super::{
    route::Route,
    upnp::{Router, UpnpError},
};
use crate::PortMappingProtocol;

/// How long a mapping is asked for, in seconds. It outlives a process that was killed by no more
/// than this, and is renewed when half of it is over.
const LIFETIME_S: u32 = 1200;

/// When a router that does not answer is asked again, and how often: 1.75 s in all. The RFCs are
/// more patient, but a router is a round trip of some milliseconds away.
const PATIENCE: TimeoutConfig = TimeoutConfig {
    initial_timeout: Duration::from_millis(250),
    max_retries: 2,
    max_retry_timeout: Some(Duration::from_secs(1)),
};

/// Why a port is not mapped.
#[derive(Debug, thiserror::Error)]
pub(super) enum LeaseError {
    #[error("the router does not map the port: {0}")]
    Pcp(#[from] MappingFailure),
    #[error("the router does not tell its address: {0}")]
    NatPmp(#[from] natpmp::Failure),
    #[error(transparent)]
    Upnp(#[from] UpnpError),
}

impl LeaseError {
    /// Tells whether the router has understood the request, and said no. To ask it by another
    /// protocol would be to ask until it says yes.
    pub(super) const fn is_refusal(&self) -> bool {
        use natpmp::Failure as NatPmp;
        use pcp::Failure as Pcp;
        match self {
            Self::Pcp(MappingFailure::Pcp(failure)) => matches!(
                failure,
                Pcp::NotAuthorized(_)
                    | Pcp::NetworkFailure(_)
                    | Pcp::NoResources(_)
                    | Pcp::UserExceededQuota(_)
                    | Pcp::CannotProvideExternal(_)
                    | Pcp::AddressMismatch
                    | Pcp::ExcessiveRemotePeers
            ),
            Self::Pcp(MappingFailure::NatPmp(failure)) | Self::NatPmp(failure) => matches!(
                failure,
                NatPmp::NotAuthorized | NatPmp::NetworkFailure | NatPmp::OutOfResources
            ),
            Self::Upnp(_) => false,
        }
    }
}

/// A port that the router forwards to us for a while.
#[derive(Debug)]
pub(super) struct Lease {
    local: SocketAddr,
    external: SocketAddr,
    by: By,
}

#[derive(Debug)]
enum By {
    Pcp(Box<PortMapping>),
    Upnp(Router),
}

impl Lease {
    /// Maps a port by PCP, or by NAT-PMP if the router is that old.
    pub(super) async fn by_pcp(route: &Route, port: NonZeroU16) -> Result<Self, LeaseError> {
        let options = PortMappingOptions {
            external_port: Some(port),
            lifetime_seconds: Some(LIFETIME_S),
            timeout_config: Some(PATIENCE),
        };
        let local = IpAddr::V4(route.local);
        let mapping = PortMapping::new(
            GatewayAddress::IpV4(route.gateway),
            local,
            InternetProtocol::Tcp,
            port,
            options,
        );
        let mapping = mapping.await?;
        Ok(Self {
            local: SocketAddr::new(local, port.get()),
            external: external_of(&mapping).await?,
            by: By::Pcp(Box::new(mapping)),
        })
    }

    /// Maps a port by UPnP. Routers that only know mappings without an end are not asked for them:
    /// nothing would take them away after a crash.
    pub(super) async fn by_upnp(router: &Router, port: NonZeroU16) -> Result<Self, LeaseError> {
        let external_ip = router.external_ip().await?;
        let external_port = router.map(port.get(), LIFETIME_S).await?;
        Ok(Self {
            local: SocketAddr::from((router.local(), port.get())),
            external: SocketAddr::from((external_ip, external_port)),
            by: By::Upnp(router.clone()),
        })
    }

    /// Asks for the same mapping anew, which may get another address or port.
    pub(super) async fn renew(&mut self) -> Result<(), LeaseError> {
        match &mut self.by {
            By::Pcp(mapping) => {
                mapping.renew().await?;
                self.external = external_of(mapping).await?;
            }
            By::Upnp(router) => {
                let (external, port) = (self.external.port(), self.local.port());
                router.extend(external, port, LIFETIME_S).await?;
                self.external.set_ip(router.external_ip().await?.into());
            }
        }
        Ok(())
    }

    /// Gives the mapping back.
    pub(super) async fn release(self) {
        match self.by {
            By::Pcp(mapping) => {
                if let Err((error, _)) = mapping.try_drop().await {
                    tracing::debug!(%error, "a port mapping was not given back");
                }
            }
            By::Upnp(router) => {
                if let Err(error) = router.unmap(self.external.port()).await {
                    tracing::debug!(%error, "a port mapping was not given back");
                }
            }
        }
    }

    /// Returns the address that is forwarded to.
    pub(super) const fn local(&self) -> SocketAddr {
        self.local
    }

    /// Returns the router's address and port that are forwarded.
    pub(super) const fn external(&self) -> SocketAddr {
        self.external
    }

    /// Returns how long the router forwards the port, from when it was asked last.
    pub(super) fn lifetime(&self) -> Duration {
        let seconds = match &self.by {
            By::Pcp(mapping) => mapping.lifetime(),
            By::Upnp(_) => LIFETIME_S,
        };
        Duration::from_secs(seconds.into())
    }

    /// Returns what the router was asked by.
    pub(super) fn protocol(&self) -> PortMappingProtocol {
        match &self.by {
            By::Pcp(mapping) => match mapping.mapping_type() {
                PortMappingType::NatPmp => PortMappingProtocol::NatPmp,
                PortMappingType::Pcp { .. } => PortMappingProtocol::Pcp,
            },
            By::Upnp(_) => PortMappingProtocol::UpnpIgd,
        }
    }
}

/// Returns the external address of a mapping; NAT-PMP tells the IP on request only.
async fn external_of(mapping: &PortMapping) -> Result<SocketAddr, LeaseError> {
    let ip = match mapping.mapping_type() {
        PortMappingType::Pcp { external_ip, .. } => external_ip.to_canonical(),
        PortMappingType::NatPmp => {
            let ip = natpmp::external_address(mapping.gateway(), Some(PATIENCE)).await?;
            IpAddr::V4(ip)
        }
    };
    Ok(SocketAddr::new(ip, mapping.external_port().get()))
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn only_a_router_that_has_refused_is_not_asked_by_other_means() {
        let by_pcp = |failure| LeaseError::from(MappingFailure::from(failure));
        for refusal in [
            by_pcp(pcp::Failure::NotAuthorized(9)),
            LeaseError::from(MappingFailure::from(natpmp::Failure::OutOfResources)),
            LeaseError::from(natpmp::Failure::NetworkFailure),
        ] {
            assert!(refusal.is_refusal(), "{refusal}");
        }
        let nobody_there = io::ErrorKind::ConnectionRefused.into();
        for other in [
            by_pcp(pcp::Failure::Timeout),
            by_pcp(pcp::Failure::Socket(nobody_there)),
            by_pcp(pcp::Failure::Nonce),
            LeaseError::from(MappingFailure::from(natpmp::Failure::Timeout)),
        ] {
            assert!(!other.is_refusal(), "{other}");
        }
    }
}
