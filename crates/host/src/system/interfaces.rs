//! The addresses of this machine's interfaces, listed anew only when something has changed there.
//!
//! To list them takes three dumps of the kernel's tables and a look at a file for each interface.
//! A socket that the kernel tells of changes (rtnetlink(7)) costs one call to see that there were
//! none. Nobody waits at it, so that changes do not wake the process.

use std::{
    io,
    os::fd::OwnedFd,
    path::Path,
    sync::{Mutex, PoisonError},
};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SocketFlags, SocketType, bind, netlink::SocketAddrNetlink, recv,
        socket_with, sockopt,
    },
};

use crate::Interface;

/// What the kernel is to tell of: links, and addresses of both families.
const GROUPS: i32 = libc::RTMGRP_LINK | libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR;

/// How many bytes of changes wait in the kernel: a few. That there were more it tells as well.
const RECEIVE_BUFFER: usize = 4096;

/// The interfaces of the network namespace in which they were first asked for.
#[derive(Debug, Default)]
pub(super) struct Interfaces(Mutex<Option<Listed>>);

#[derive(Debug)]
struct Listed {
    interfaces: Vec<Interface>,
    changes: Changes,
}

impl Interfaces {
    /// Returns the addresses that the interfaces have at this moment.
    ///
    /// # Errors
    ///
    /// What the system says where it does not list them.
    pub(super) fn current(&self) -> io::Result<Vec<Interface>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(listed) = &*kept
            && listed.changes.are_none()
        {
            return Ok(listed.interfaces.clone());
        }
        *kept = None;
        // What changes while they are listed is a change. Without the socket they are listed each
        // time.
        let changes = Changes::from_now_on();
        let interfaces = list()?;
        if let Ok(changes) = changes {
            *kept = Some(Listed {
                interfaces: interfaces.clone(),
                changes,
            });
        }
        Ok(interfaces)
    }
}

/// The socket that the kernel tells of changes.
#[derive(Debug)]
struct Changes(OwnedFd);

impl Changes {
    fn from_now_on() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        // The first of the netlink protocols, rtnetlink, is meant where none is named.
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER)?;
        bind(&socket, &SocketAddrNetlink::new(0, GROUPS.cast_unsigned()))?;
        Ok(Self(socket))
    }

    /// Tells whether nothing has changed. Once something has, what this says means nothing.
    fn are_none(&self) -> bool {
        let mut change = [0; 1];
        let waiting = recv(&self.0, &mut change, RecvFlags::empty());
        matches!(waiting, Err(Errno::AGAIN))
    }
}

fn list() -> io::Result<Vec<Interface>> {
    let all = if_addrs::get_if_addrs()?;
    Ok(all.into_iter().map(interface).collect())
}

fn interface(it: if_addrs::Interface) -> Interface {
    let (ip, prefix) = match &it.addr {
        if_addrs::IfAddr::V4(v4) => (v4.ip.into(), v4.prefixlen),
        if_addrs::IfAddr::V6(v6) => (v6.ip.into(), v6.prefixlen),
    };
    Interface {
        is_running: it.is_oper_up(),
        is_bridge: is_bridge(&it.name),
        name: it.name,
        ip,
        prefix,
    }
}

/// Tells whether Linux says that an interface is a bridge.
fn is_bridge(interface: &str) -> bool {
    let interfaces = Path::new("/sys/class/net");
    interfaces.join(interface).join("bridge").exists()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_kept_until_something_changes() {
        let interfaces = Interfaces::default();
        let listed = interfaces.current().unwrap();
        assert!(listed.iter().any(|it| it.ip.is_loopback()));
        let kept = || interfaces.0.lock().unwrap();
        // A list that was made anew would not have it.
        kept().as_mut().unwrap().interfaces.clear();
        assert_eq!(interfaces.current().unwrap(), []);
        // The kernel answers a question on the socket, which is there as a change would be.
        let question = crate::system::local_route::question([127, 0, 0, 1].into());
        rustix::io::write(&kept().as_ref().unwrap().changes.0, &question).unwrap();
        assert_eq!(interfaces.current().unwrap(), listed);
    }
}
