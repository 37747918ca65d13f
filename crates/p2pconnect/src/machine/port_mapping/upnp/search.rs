//! The search for the router's description (UPnP Device Architecture section 1.3).

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    net::UdpSocket,
    time::{Instant, sleep_until, timeout},
};

use super::{UpnpError, http, url::Url};
use crate::machine::port_mapping::route::Route;

/// The port that searches go to.
pub(super) const PORT: u16 = 1900;

/// The group that searches go to.
const GROUP: Ipv4Addr = Ipv4Addr::new(239, 255, 255, 250);

/// What is searched for: a router, which answers this whatever its version is.
const TARGET: &str = "urn:schemas-upnp-org:device:InternetGatewayDevice:1";

/// For how long nobody may wait longer than a second, which devices may delay their answers by.
const LONGEST_DELAY_S: u8 = 1;

/// When the search is repeated, since a packet may be lost, and how long it takes in all.
const REPEATED: [Duration; 2] = [Duration::from_millis(500), Duration::from_millis(1500)];
const LIMIT: Duration = Duration::from_secs(3);

/// The most datagrams that are looked at, of whomever. Each device of a LAN has some answers at
/// most.
const MAX_ANSWERS: usize = 64;

/// Asks the router where its description is, by multicast as the standard has it, and at its own
/// address, since many networks do not carry multicast. Whatever another device says is not looked
/// at.
pub(super) async fn search(route: &Route, port: u16) -> Result<Url, UpnpError> {
    let socket = UdpSocket::bind((route.local, 0)).await?;
    SockRef::from(&socket).set_multicast_if_v4(&route.local)?;
    let began = Instant::now();
    let asking = async {
        ask(&socket, route.gateway, port).await;
        for repeated in REPEATED {
            sleep_until(began + repeated).await;
            ask(&socket, route.gateway, port).await;
        }
        std::future::pending().await
    };
    let searching = async {
        tokio::select! {
            url = answer(&socket, route.gateway) => url,
            () = asking => Err(UpnpError::NotFound),
        }
    };
    let found = timeout(LIMIT, searching).await;
    found.unwrap_or(Err(UpnpError::NotFound))
}

async fn ask(socket: &UdpSocket, gateway: Ipv4Addr, port: u16) {
    for host in [gateway, GROUP] {
        let to = SocketAddr::from((host, port));
        let search = format!(
            "M-SEARCH * HTTP/1.1\r\nHOST: {to}\r\nMAN: \"ssdp:discover\"\r\n\
             MX: {LONGEST_DELAY_S}\r\nST: {TARGET}\r\n\r\n"
        );
        if let Err(error) = socket.send_to(search.as_bytes(), to).await {
            tracing::debug!(%error, "a search for a router by UPnP cannot be sent");
        }
    }
}

/// Waits for an answer of the router that names an address of the router.
async fn answer(socket: &UdpSocket, gateway: Ipv4Addr) -> Result<Url, UpnpError> {
    let mut datagram = [0; 2048];
    for _ in 0..MAX_ANSWERS {
        // A router that has no such port may say so by ICMP, which is no end of the search.
        let Ok((length, from)) = socket.recv_from(&mut datagram).await else {
            continue;
        };
        if from.ip() != gateway {
            continue;
        }
        let url = http::location(&datagram[..length]).and_then(Url::parse);
        match url {
            Some(url) if *url.host.ip() == gateway => return Ok(url),
            _ => tracing::debug!("the router's answer by UPnP names no address of its own"),
        }
    }
    Err(UpnpError::NotFound)
}
