//! rtnetlink: virtual Ethernet pairs, addresses and routes.

use std::{
    net::{IpAddr, Ipv6Addr},
    os::fd::RawFd,
};

use super::{
    Message,
    message::{find, read_u32},
};

/// Index of the loopback device in every network namespace.
pub(crate) const LOOPBACK: u32 = 1;

/// `VETH_INFO_PEER`.
const VETH_INFO_PEER: u16 = 1;

/// Reach the gateway by the link, whatever the routes say.
const RTNH_F_ONLINK: u32 = 4;

const CREATE: i32 = libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;

/// One end of a virtual Ethernet pair.
#[derive(Debug, Clone, Copy)]
pub(crate) struct VethEnd<'a> {
    pub(crate) name: &'a str,
    pub(crate) index: u32,
    pub(crate) mac: [u8; 6],
    pub(crate) mtu: u32,
    pub(crate) namespace: RawFd,
}

impl VethEnd<'_> {
    fn header(&self, flags: libc::c_int) -> [u8; 16] {
        // Frames go to the only other end there is, so ARP would only cost packets.
        let flags = (flags | libc::IFF_NOARP) as u32;
        let mut header = [0; 16];
        header[4..8].copy_from_slice(&self.index.to_ne_bytes());
        header[8..12].copy_from_slice(&flags.to_ne_bytes());
        header[12..16].copy_from_slice(&flags.to_ne_bytes());
        header
    }

    fn describe(&self, message: Message) -> Message {
        message
            .string(libc::IFLA_IFNAME, self.name)
            .attribute(libc::IFLA_ADDRESS, &self.mac)
            .u32(libc::IFLA_MTU, self.mtu)
            .u32(libc::IFLA_NUM_TX_QUEUES, 1)
            .u32(libc::IFLA_NUM_RX_QUEUES, 1)
            .u32(libc::IFLA_NET_NS_FD, self.namespace.cast_unsigned())
    }
}

/// Creates a pair with its ends directly in their namespaces. Only the first is up: the kernel
/// makes the other before it has anything to be connected to.
pub(crate) fn veth(one: VethEnd<'_>, other: VethEnd<'_>) -> Message {
    let message = Message::new(libc::RTM_NEWLINK, CREATE).raw(&one.header(libc::IFF_UP));
    one.describe(message).nest(libc::IFLA_LINKINFO, |message| {
        message
            .string(libc::IFLA_INFO_KIND, "veth")
            .nest(libc::IFLA_INFO_DATA, |message| {
                message.nest(VETH_INFO_PEER, |message| {
                    other.describe(message.raw(&other.header(0)))
                })
            })
    })
}

/// Sets a link up.
pub(crate) fn link_up(index: u32) -> Message {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&(libc::IFF_UP as u32).to_ne_bytes());
    header[12..16].copy_from_slice(&(libc::IFF_UP as u32).to_ne_bytes());
    Message::new(libc::RTM_SETLINK, libc::NLM_F_REQUEST | libc::NLM_F_ACK).raw(&header)
}

/// Asks for all links.
pub(crate) fn links() -> Message {
    let flags = libc::NLM_F_REQUEST | libc::NLM_F_DUMP;
    Message::new(libc::RTM_GETLINK, flags).raw(&[0; 16])
}

/// Reads an answer to [`links`]: the link's index, if it is running.
///
/// `IFF_RUNNING` would say so too early: it is also set while the state is not known yet, and the
/// queue of such a link drops what it is given.
pub(crate) fn running_link(body: &[u8]) -> Option<u32> {
    /// Behind struct ifinfomsg.
    const ATTRIBUTES: usize = 16;
    const IFLA_OPERSTATE: u16 = 16;
    /// `IF_OPER_UP` (RFC 2863).
    const UP: u8 = 6;
    let state = find(body.get(ATTRIBUTES..)?, IFLA_OPERSTATE)?;
    (state.first() == Some(&UP)).then(|| read_u32(body, 4))
}

/// Adds an address to a link, without duplicate address detection.
pub(crate) fn address(index: u32, address: IpAddr, prefix: u8) -> Message {
    let mut header = [
        family(address),
        prefix,
        libc::IFA_F_NODAD as u8,
        0,
        0,
        0,
        0,
        0,
    ];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    let bytes = octets(address);
    Message::new(libc::RTM_NEWADDR, CREATE)
        .raw(&header)
        .attribute(libc::IFA_LOCAL, &bytes)
        .attribute(libc::IFA_ADDRESS, &bytes)
}

/// Adds a route to `destination/prefix` out of a link, through `gateway` if given.
pub(crate) fn route(
    destination: IpAddr,
    prefix: u8,
    index: u32,
    gateway: Option<IpAddr>,
) -> Message {
    let scope = if gateway.is_some() || destination.is_ipv6() {
        libc::RT_SCOPE_UNIVERSE
    } else {
        libc::RT_SCOPE_LINK
    };
    let mut header = [
        family(destination),
        prefix,
        0,
        0,
        libc::RT_TABLE_MAIN,
        libc::RTPROT_STATIC,
        scope,
        libc::RTN_UNICAST,
        0,
        0,
        0,
        0,
    ];
    if gateway.is_some() {
        // The gateway is in no subnet of ours: every address is a /32 of its own.
        header[8..12].copy_from_slice(&RTNH_F_ONLINK.to_ne_bytes());
    }
    let mut message = Message::new(libc::RTM_NEWROUTE, CREATE).raw(&header);
    if prefix > 0 {
        message = message.attribute(libc::RTA_DST, &octets(destination));
    }
    if let Some(gateway) = gateway {
        message = message.attribute(libc::RTA_GATEWAY, &octets(gateway));
    }
    message.u32(libc::RTA_OIF, index)
}

/// Makes what comes for one of this namespace's IPv6 addresses arrive here.
///
/// The kernel adds such a route for every address, but for IPv6 only later and from a worker, which
/// may take tens of milliseconds where many wait for the same lock; until then it drops what comes.
pub(crate) fn local(address: Ipv6Addr, index: u32) -> Message {
    let header = [
        libc::AF_INET6 as u8,
        128,
        0,
        0,
        libc::RT_TABLE_LOCAL,
        libc::RTPROT_STATIC,
        libc::RT_SCOPE_UNIVERSE,
        libc::RTN_LOCAL,
        0,
        0,
        0,
        0,
    ];
    Message::new(libc::RTM_NEWROUTE, CREATE)
        .raw(&header)
        .attribute(libc::RTA_DST, &address.octets())
        .u32(libc::RTA_OIF, index)
}

fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => libc::AF_INET as u8,
        IpAddr::V6(_) => libc::AF_INET6 as u8,
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
