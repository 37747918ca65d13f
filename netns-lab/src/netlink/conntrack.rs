//! ctnetlink: reading and forgetting the connections that a box tracks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{
    Message, Netlink,
    message::{find, read_u32},
};
use crate::{
    error::Error,
    tracked::{TcpState, TrackedConnection},
};

const SUBSYSTEM: u16 = 1;
const GET: u16 = 1;
const DELETE: u16 = 2;
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const PROTOCOL_INFO: u16 = 4;
const TIMEOUT: u16 = 7;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;

/// Lists the TCP connections tracked in the network namespace of this thread.
pub(crate) fn list() -> Result<Vec<TrackedConnection>, Error> {
    let mut found = Vec::new();
    let request = message(GET, libc::NLM_F_REQUEST | libc::NLM_F_DUMP);
    Netlink::open(libc::NETLINK_NETFILTER)?.dump("list tracked connections", request, |body| {
        // Past struct nfgenmsg.
        found.extend(body.get(4..).and_then(parse));
    })?;
    Ok(found)
}

/// Forgets every connection tracked in the network namespace of this thread.
pub(crate) fn flush() -> Result<(), Error> {
    let request = message(DELETE, libc::NLM_F_REQUEST | libc::NLM_F_ACK);
    Netlink::open(libc::NETLINK_NETFILTER)?.request("forget tracked connections", vec![request])
}

fn message(operation: u16, flags: i32) -> Message {
    Message::new(SUBSYSTEM << 8 | operation, flags).raw(&[libc::AF_UNSPEC as u8, 0, 0, 0])
}

fn parse(attributes: &[u8]) -> Option<TrackedConnection> {
    let (source, destination) = tuple(find(attributes, TUPLE_ORIGINAL)?)?;
    let (peer, mapped) = tuple(find(attributes, TUPLE_REPLY)?)?;
    // CTA_PROTOINFO_TCP { CTA_PROTOINFO_TCP_STATE }
    let state = find(attributes, PROTOCOL_INFO)
        .and_then(|info| find(info, 1))
        .and_then(|tcp| find(tcp, 1))
        .and_then(|state| state.first().copied())
        .map_or(TcpState::Other(0), TcpState::from_number);
    let expires_in = find(attributes, TIMEOUT).map_or(0, |data| u32::from_be(read_u32(data, 0)));
    Some(TrackedConnection {
        source,
        destination,
        mapped,
        peer,
        state,
        expires_in,
    })
}

/// Reads source and destination of a TCP tuple.
fn tuple(data: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let protocol = find(data, TUPLE_PROTOCOL)?;
    if find(protocol, 1)?.first() != Some(&(libc::IPPROTO_TCP as u8)) {
        return None;
    }
    let port = |kind| Some(u16::from_be_bytes(find(protocol, kind)?.try_into().ok()?));
    let ip = find(data, TUPLE_IP)?;
    let v4 = |kind| {
        Some(IpAddr::V4(Ipv4Addr::from(
            <[u8; 4]>::try_from(find(ip, kind)?).ok()?,
        )))
    };
    let v6 = |kind| {
        Some(IpAddr::V6(Ipv6Addr::from(
            <[u8; 16]>::try_from(find(ip, kind)?).ok()?,
        )))
    };
    let source = v4(1).or_else(|| v6(3))?;
    let destination = v4(2).or_else(|| v6(4))?;
    Some((
        SocketAddr::new(source, port(2)?),
        SocketAddr::new(destination, port(3)?),
    ))
}
