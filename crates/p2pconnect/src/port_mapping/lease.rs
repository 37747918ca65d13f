//! One mapping of one port, by whatever protocol the router speaks.

use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroU16,
    time::Duration,
};

use crab_nat::{
    GatewayAddress, InternetProtocol, MappingFailure, PortMapping, PortMappingOptions,
    PortMappingType, TimeoutConfig, natpmp,
};
use igd_next::{
    AddAnyPortError, AddPortError, GetExternalIpError, PortMappingProtocol as Transport,
    SearchOptions,
    aio::{Gateway, tokio::Tokio, tokio::search_gateway},
};

use super::route::Route;
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

/// How long routers may take to answer a search by UPnP, which grants them a second and more.
const SEARCH_LIMIT: Duration = Duration::from_secs(4);

/// The port that UPnP searches go to.
const SSDP_PORT: u16 = 1900;

/// How the router's list of mappings names ours.
const DESCRIPTION: &str = "p2pconnect";

/// Why a port is not mapped.
#[derive(Debug, thiserror::Error)]
pub(super) enum LeaseError {
    #[error("the system does not tell the router's address")]
    NoGateway,
    #[error("the router does not map the port")]
    Pcp(#[from] MappingFailure),
    #[error("the router does not tell its address")]
    NatPmp(#[from] natpmp::Failure),
    #[error("the router does not map the port")]
    AddPort(#[from] AddPortError),
    #[error("the router does not map any port")]
    AddAnyPort(#[from] AddAnyPortError),
    #[error("the router does not tell its address")]
    ExternalIp(#[from] GetExternalIpError),
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
    Upnp(Box<Gateway<Tokio>>),
}

/// Looks for a router that speaks UPnP: by multicast as the standard has it, and by asking the
/// gateway itself, since many networks do not carry multicast.
pub(super) async fn find_upnp(route: &Route) -> Option<Gateway<Tokio>> {
    let options = || {
        let mut options = SearchOptions::default();
        options.bind_addr = (route.local, 0).into();
        options.timeout = Some(SEARCH_LIMIT);
        options.single_search_timeout = Some(SEARCH_LIMIT);
        options
    };
    let by_multicast = search_gateway(options());
    let by_address = async {
        let gateway = route.gateway?;
        let mut options = options();
        options.broadcast_address = (gateway, SSDP_PORT).into();
        search_gateway(options).await.ok()
    };
    tokio::select! {
        Ok(router) = by_multicast => Some(router),
        Some(router) = by_address => Some(router),
        else => {
            tracing::debug!("no router speaks UPnP");
            None
        }
    }
}

impl Lease {
    /// Maps a port by PCP, or by NAT-PMP if the router is that old.
    pub(super) async fn by_pcp(route: &Route, port: NonZeroU16) -> Result<Self, LeaseError> {
        let gateway = route.gateway.ok_or(LeaseError::NoGateway)?;
        let options = PortMappingOptions {
            external_port: Some(port),
            lifetime_seconds: Some(LIFETIME_S),
            timeout_config: Some(PATIENCE),
        };
        let local = IpAddr::V4(route.local);
        let mapping = PortMapping::new(
            GatewayAddress::IpV4(gateway),
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
    pub(super) async fn by_upnp(
        router: &Gateway<Tokio>,
        route: &Route,
        port: NonZeroU16,
    ) -> Result<Self, LeaseError> {
        let local = SocketAddr::from((route.local, port.get()));
        let external_port = router
            .add_any_port(Transport::TCP, local, LIFETIME_S, DESCRIPTION)
            .await?;
        let external_ip = router.get_external_ip().await?;
        Ok(Self {
            local,
            external: SocketAddr::new(external_ip, external_port),
            by: By::Upnp(Box::new(router.clone())),
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
                let port = self.external.port();
                router
                    .add_port(Transport::TCP, port, self.local, LIFETIME_S, DESCRIPTION)
                    .await?;
                self.external.set_ip(router.get_external_ip().await?);
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
                let port = self.external.port();
                if let Err(error) = router.remove_port(Transport::TCP, port).await {
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
