//! Port mappings by UPnP (the service WANIPConnection), of the default gateway alone.
//!
//! Any device of a LAN can answer a search, and a router can be broken or taken over. So the
//! gateway alone is listened to, and nothing is fetched from anywhere else; each answer is bounded
//! in time (`exchange`), in bytes before it is read (`http`), and in what it may consist of
//! (`xml`).

mod description;
mod exchange;
mod http;
mod search;
mod soap;
mod url;
mod xml;

#[cfg(test)]
mod tests;

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4},
};

use super::route::Route;
use description::{Service, ServiceType};
use http::HttpError;
use p2pconnect_host::Host;
use soap::{Action, Answer, Refusal, Wanted};
use url::Url;
use xml::XmlError;

/// How many external ports are asked for where routers do not choose one themselves: the chance
/// that each is taken is small.
const MAX_TRIES: usize = 4;

/// Error codes (WANIPConnection:2 section 2.5, UPnP Device Architecture section 3.2.2).
const INVALID_ACTION: u16 = 401;
const NOT_IMPLEMENTED: u16 = 602;
const CONFLICT: u16 = 718;

/// Why a router maps no port by UPnP.
#[derive(Debug, thiserror::Error)]
pub(super) enum UpnpError {
    #[error("no router answers a search by UPnP")]
    NotFound,
    #[error("the router cannot be asked by UPnP: {0}")]
    Io(#[from] io::Error),
    #[error("the router's answer is not understood: {0}")]
    Http(#[from] HttpError),
    #[error("what the router says is not understood: {0}")]
    Xml(#[from] XmlError),
    #[error("the router answers by UPnP with HTTP status {0}")]
    Status(u16),
    #[error("the router names no connection to the internet, of its own and with an address")]
    NoConnection,
    #[error("the router refuses: {0}")]
    Refused(Refusal),
    #[error("the router's answer lacks what was asked for")]
    Lacking,
}

/// A router's connection to the internet.
#[derive(Debug, Clone)]
pub(super) struct Router {
    local: Ipv4Addr,
    control: Url,
    service: ServiceType,
}

impl Router {
    /// Looks for one that has an external address. Cancel safe.
    pub(super) async fn find(route: &Route) -> Result<Self, UpnpError> {
        let description = search::search(route, search::PORT).await?;
        Self::described(route, &description).await
    }

    /// Chooses the first connection of a description that is up.
    async fn described(route: &Route, description: &Url) -> Result<Self, UpnpError> {
        let text = exchange::get(route.local, description).await?;
        let mut last = UpnpError::NoConnection;
        for Service { kind, control } in description::services(&text)? {
            let control = description.join(&control);
            let Some(control) = control.filter(|it| *it.host.ip() == route.gateway) else {
                continue;
            };
            let router = Self {
                local: route.local,
                control,
                service: kind,
            };
            match router.external_ip().await {
                Ok(_) => return Ok(router),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Returns the address of this machine that mappings lead to.
    pub(super) const fn local(&self) -> Ipv4Addr {
        self.local
    }

    /// Asks for the router's own address.
    pub(super) async fn external_ip(&self) -> Result<Ipv4Addr, UpnpError> {
        let answer = self.call(Action::GetExternalIp).await?;
        let ip = answer.external_ip.filter(|ip| !ip.is_unspecified());
        ip.ok_or(UpnpError::NoConnection)
    }

    /// Maps a port, and returns the external one: the same if the router has it.
    pub(super) async fn map(&self, port: u16, lifetime_s: u32) -> Result<u16, UpnpError> {
        let wanted = |external_port| self.wanted(external_port, port, lifetime_s);
        if let ServiceType::Ip {
            knows_any_port: true,
        } = self.service
        {
            match self.call(Action::AddAny(wanted(port))).await {
                Ok(answer) => return answer.reserved_port.ok_or(UpnpError::Lacking),
                Err(UpnpError::Refused(refusal))
                    if [INVALID_ACTION, NOT_IMPLEMENTED].contains(&refusal.code) => {}
                Err(error) => return Err(error),
            }
        }
        let mut external_port = port;
        for _ in 1..MAX_TRIES {
            match self.call(Action::Add(wanted(external_port))).await {
                Ok(_) => return Ok(external_port),
                Err(UpnpError::Refused(refusal)) if refusal.code == CONFLICT => {
                    external_port = other_port();
                }
                Err(error) => return Err(error),
            }
        }
        self.call(Action::Add(wanted(external_port))).await?;
        Ok(external_port)
    }

    /// Asks for the same mapping for longer.
    pub(super) async fn extend(
        &self,
        external_port: u16,
        port: u16,
        lifetime_s: u32,
    ) -> Result<(), UpnpError> {
        let wanted = self.wanted(external_port, port, lifetime_s);
        self.call(Action::Add(wanted)).await.map(drop)
    }

    /// Gives a mapping back.
    pub(super) async fn unmap(&self, external_port: u16) -> Result<(), UpnpError> {
        self.call(Action::Delete { external_port }).await.map(drop)
    }

    const fn wanted(&self, external_port: u16, port: u16, lifetime_s: u32) -> Wanted {
        Wanted {
            external_port,
            local: SocketAddrV4::new(self.local, port),
            lifetime_s,
        }
    }

    async fn call(&self, action: Action) -> Result<Answer, UpnpError> {
        let answer = exchange::call(self.local, &self.control, self.service, action).await?;
        match answer.refusal {
            Some(refusal) => Err(UpnpError::Refused(refusal)),
            None => Ok(answer),
        }
    }
}

/// Returns a port that may be free on the router: any that needs no privilege.
fn other_port() -> u16 {
    let [high, low, ..] = Host::default().random_seed();
    u16::from_be_bytes([high, low]).max(1024)
}
