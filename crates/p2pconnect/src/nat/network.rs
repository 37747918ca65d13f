//! The network that an endpoint is in.

use std::net::{IpAddr, SocketAddr};

/// Where an endpoint is: what is found out holds for that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Network {
    pub(crate) local: IpAddr,
    pub(crate) external: IpAddr,
    pub(crate) server: SocketAddr,
}
