//! Netlink: the kernel's interface to links, addresses, routes, NAT rules and connection tracking,
//! spoken directly so that a lab needs no program.

pub(crate) mod conntrack;
pub(crate) mod message;
pub(crate) mod nftables;
pub(crate) mod route;
pub(crate) mod rule;
mod socket;

pub(crate) use message::Message;
pub(crate) use socket::Netlink;
