//! What an endpoint tells whoever observes it.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use p2pconnect_proto::{CoordinatorAddr, NatReport, PeerId, Role, message::Refusal};
use p2pconnect_punch::PunchReport;

/// What an endpoint is doing, for somebody who watches.
///
/// Given to the observer set with [`Builder::observer`](crate::Builder::observer).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// A STUN server told how the NATs map a punch port.
    Mapped {
        /// The address on this side.
        local: SocketAddr,
        /// The address that the server saw.
        mapped: SocketAddr,
        /// The server.
        server: SocketAddr,
    },
    /// The mapping is another than before; the coordinator is told.
    MappingChanged {
        /// The address on this side.
        local: SocketAddr,
        /// The mapping until now.
        old: SocketAddr,
        /// The mapping from now on.
        new: SocketAddr,
    },
    /// The router forwards a punch port; the coordinator is told.
    PortMapped {
        /// The address on this side.
        local: SocketAddr,
        /// The router's own address. If it is a private one, the router is behind another NAT,
        /// and peers elsewhere cannot use it.
        external: SocketAddr,
        /// What the router was asked by.
        protocol: PortMappingProtocol,
    },
    /// The endpoint can be dialled.
    Registered,
    /// It was found out how the NATs on this side behave, as far as the STUN server helps. If the
    /// endpoint can be dialled, the coordinator knows it as well.
    NatFound {
        /// What was found; what it leaves out is not known.
        report: NatReport,
    },
    /// A firewall on this side seems to ban, for a while, whoever sends a SYN that it does not
    /// expect. A STUN server that was asked to connect back, which tells how the NAT filters, has
    /// not been heard since, and the coordinator is likely to be out of reach as well until the ban
    /// ends. No server is asked for that again in this network.
    FirewallBans {
        /// The server that is banned.
        server: IpAddr,
    },
    /// The coordinator, and the STUN servers that it names, see this endpoint only at addresses
    /// inside a network, so that peers elsewhere cannot be told where it is. The coordinator is in
    /// that network itself, or a router puts an address there in the place of this endpoint's. Told
    /// once for each address, to an endpoint that can be dialled.
    SeenInside {
        /// Where the coordinator sees this endpoint.
        address: IpAddr,
    },
    /// The connection to the coordinator broke; it is being made anew.
    CoordinatorLost {
        /// What happened.
        reason: String,
    },
    /// Somebody intercepts the TLS of the web that is around the WebSocket to the coordinator. It
    /// sees whom this endpoint talks to and nothing of what is said. Told once for each issuer.
    Intercepted {
        /// Who has issued the certificate, as it says; it is no public authority.
        issuer: String,
    },
    /// The coordinator is still out of reach, for another reason than was last said. It is tried
    /// again.
    CoordinatorUnreachable {
        /// Why.
        reason: String,
    },
    /// A coordinator changes its key: the former one, by which this endpoint knows it, has signed
    /// the other one. This endpoint goes on with that. What it was built with should be changed
    /// before the coordinator gives the former key up.
    CoordinatorKeyChanged {
        /// The id until now.
        former: PeerId,
        /// What to name the coordinator by.
        coordinator: CoordinatorAddr,
    },
    /// The coordinator has introduced a peer.
    Introduced {
        /// The peer.
        peer: PeerId,
        /// Which side this endpoint is on.
        role: Role,
    },
    /// Connecting begins.
    Punching {
        /// The peer.
        peer: PeerId,
        /// How many of the peer's addresses are tried, guessed ones included.
        candidates: usize,
        /// The round-trip time by way of the coordinator.
        rtt_via_coordinator: Duration,
    },
    /// The coordinator refuses a dial for now. It is asked again until it does not, or the dial's
    /// time is over; told once for each dial.
    DialRefused {
        /// The peer that is dialled.
        peer: PeerId,
        /// What the coordinator says.
        refusal: Refusal,
    },
    /// The peer that is dialled has no room for another connection. It is asked again until the
    /// dial's time is over, or there is room; told once for each dial.
    PeerBusy {
        /// The peer.
        peer: PeerId,
    },
    /// A peer that was introduced could not be connected to. The dialler is told by its own
    /// endpoint. Where a dialler gives an introduction up, this is told once it has not begun anew
    /// within some seconds, or when the endpoint is closed.
    PunchFailed {
        /// The peer.
        peer: PeerId,
        /// Why, in words.
        reason: String,
        /// What was tried and what came back, unless it broke for another reason.
        report: Option<Box<PunchReport>>,
    },
}

/// What a router was asked by to forward a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PortMappingProtocol {
    /// The Port Control Protocol (RFC 6887).
    Pcp,
    /// The NAT Port Mapping Protocol (RFC 6886).
    NatPmp,
    /// Universal Plug and Play, Internet Gateway Device.
    UpnpIgd,
}

impl fmt::Display for PortMappingProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pcp => "PCP",
            Self::NatPmp => "NAT-PMP",
            Self::UpnpIgd => "UPnP",
        })
    }
}

/// Who watches an endpoint.
#[derive(Clone)]
pub(crate) struct Observer(Option<Arc<dyn Fn(Status) + Send + Sync>>);

impl Observer {
    pub(crate) const fn none() -> Self {
        Self(None)
    }

    pub(crate) fn new(observe: impl Fn(Status) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(observe)))
    }

    pub(crate) fn tell(&self, status: Status) {
        if let Some(observe) = &self.0 {
            observe(status);
        }
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Observer").field(&self.0.is_some()).finish()
    }
}
