//! Whether packets to an address stay on this machine, as its routes say (rtnetlink(7)).
//!
//! A machine may answer for more addresses than its interfaces have: for whole networks by a route
//! of type `local`, and as a router for the anycast address of each of its IPv6 networks (RFC 4291
//! section 2.6.1).

use std::{
    io::{self, Read as _},
    net::IpAddr,
};

use socket2::{Domain, Protocol, Socket, Type};

/// The lengths of a message's head (`nlmsghdr`) and of a route's (`rtmsg`).
const HEAD: usize = 16;
const ROUTE: usize = 12;

/// Where in an answer the type of the route is, and where an error's number.
const ROUTE_TYPE: usize = HEAD + 7;
const ERROR: std::ops::Range<usize> = HEAD..HEAD + 4;

/// More than an answer about one route has, whose attributes do not matter here.
const ANSWER: usize = 1024;

/// Tells whether the kernel would deliver packets to an address to this machine. Nothing is sent,
/// and nothing waited for: the kernel has answered when it has taken the question. Where there is
/// no route it says no.
///
/// # Errors
///
/// What the system says where it does not let this process ask.
pub(super) fn stays_here(ip: IpAddr) -> io::Result<bool> {
    let domain = Domain::from(libc::AF_NETLINK);
    let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(libc::NETLINK_ROUTE)));
    let mut socket = socket?;
    socket.set_nonblocking(true)?;
    socket.send(&question(ip))?;
    let mut answer = [0; ANSWER];
    let length = socket.read(&mut answer)?;
    conclusion(&answer[..length])
}

/// Returns the message that asks for the route to an address.
pub(super) fn question(ip: IpAddr) -> Vec<u8> {
    let (family, address) = match ip {
        IpAddr::V4(v4) => (libc::AF_INET, v4.octets().to_vec()),
        IpAddr::V6(v6) => (libc::AF_INET6, v6.octets().to_vec()),
    };
    // All of it is below 256.
    let [family, bytes] = [family as u8, address.len() as u8];
    let attribute = 4 + u16::from(bytes);
    let length = (HEAD + ROUTE) as u32 + u32::from(attribute);
    let flags = libc::NLM_F_REQUEST as u16;
    let mut message = Vec::new();
    message.extend(length.to_ne_bytes());
    message.extend(libc::RTM_GETROUTE.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    // No number of its own, as there is one question on the socket, and the kernel knows who asks.
    message.extend([0; 8]);
    message.extend([family, bytes * 8]);
    message.extend([0; ROUTE - 2]);
    message.extend(attribute.to_ne_bytes());
    message.extend(libc::RTA_DST.to_ne_bytes());
    message.extend(address);
    message
}

/// Reads the kernel's answer.
fn conclusion(answer: &[u8]) -> io::Result<bool> {
    let kind = answer
        .get(4..6)
        .map(|it| u16::from_ne_bytes([it[0], it[1]]));
    match kind {
        Some(libc::RTM_NEWROUTE) => {
            let route = answer.get(ROUTE_TYPE).copied();
            Ok(matches!(route, Some(libc::RTN_LOCAL | libc::RTN_ANYCAST)))
        }
        // There is no route, or one that leads nowhere.
        Some(kind) if i32::from(kind) == libc::NLMSG_ERROR && answer.len() >= ERROR.end => {
            Ok(false)
        }
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_says_what_it_delivers_to_this_machine() {
        // The whole network of the loopback interface, of which it has one address.
        for own in ["127.0.0.1", "127.9.9.9", "::1"] {
            assert!(stays_here(own.parse().unwrap()).unwrap(), "{own}");
        }
        for other in ["192.0.2.1", "255.255.255.255", "2001:db8::1", "ff02::1"] {
            assert!(!stays_here(other.parse().unwrap()).unwrap(), "{other}");
        }
    }

    #[test]
    fn an_answer_is_a_route_or_an_error() {
        let answer = |kind: u16, last: [u8; 8]| {
            let mut message = vec![0; 4];
            message.extend(kind.to_ne_bytes());
            message.extend([0; HEAD - 6]);
            message.extend(last);
            conclusion(&message).ok()
        };
        let route = |kind| answer(libc::RTM_NEWROUTE, [2, 32, 0, 0, 255, 2, 0, kind]);
        let types = [
            libc::RTN_UNICAST,
            libc::RTN_LOCAL,
            libc::RTN_ANYCAST,
            libc::RTN_BROADCAST,
        ];
        assert_eq!(types.map(route), [false, true, true, false].map(Some));
        let error = u16::try_from(libc::NLMSG_ERROR).unwrap();
        assert_eq!(answer(error, [0; 8]), Some(false));
        assert_eq!(answer(99, [0; 8]), None);
        assert!(conclusion(&[]).is_err());
    }
}
