//! Netlink sockets: requests with acknowledgement, and dumps.
#![expect(unsafe_code, reason = "netlink sockets exist only as system calls")]

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use super::message::{HEADER, Message, find, messages, read_u32};
use crate::error::Error;

/// The kernel sends a dump in datagrams of at most 32 KiB.
const RECEIVE_BUFFER: usize = 64 * 1024;

/// A whole ruleset goes out in one write; this holds some hundred rules and is within the limit for
/// ordinary users.
const SEND_BUFFER: libc::c_int = 200 * 1024;

/// `NLMSGERR_ATTR_MSG`: the kernel's own words about an error.
const ERROR_TEXT: u16 = 1;

/// `NLM_F_CAPPED`: the error does not repeat the whole request.
const CAPPED: u16 = 0x100;

/// A netlink socket, bound to the network namespace of the thread that opened it.
#[derive(Debug)]
pub(crate) struct Netlink {
    fd: OwnedFd,
    sequence: u32,
}

impl Netlink {
    /// Opens a socket of a netlink family such as `NETLINK_ROUTE`.
    pub(crate) fn open(family: libc::c_int) -> Result<Self, Error> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        // SAFETY: no pointers; a returned descriptor is ours alone.
        let raw = unsafe { libc::socket(libc::AF_NETLINK, kind, family) };
        if raw < 0 {
            return Err(Error::system("open a netlink socket"));
        }
        // SAFETY: `raw` was just created and nothing else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        let socket = Self { fd, sequence: 0 };
        // The texts only improve error messages, so a kernel without them will do.
        let _ignored = socket.option(libc::SOL_NETLINK, libc::NETLINK_EXT_ACK, 1);
        let _ignored = socket.option(libc::SOL_NETLINK, libc::NETLINK_CAP_ACK, 1);
        socket
            .option(libc::SOL_SOCKET, libc::SO_SNDBUF, SEND_BUFFER)
            .map_err(|source| Error::System {
                action: "size a netlink socket".into(),
                source,
            })?;
        Ok(socket)
    }

    /// Sends the messages in one write and waits for every acknowledgement.
    pub(crate) fn request(&mut self, action: &str, batch: Vec<Message>) -> Result<(), Error> {
        let mut pending = batch.iter().filter(|message| message.wants_ack()).count();
        self.send(action, batch)?;
        let mut buffer = vec![0; RECEIVE_BUFFER];
        while pending > 0 {
            let length = self.receive(action, &mut buffer)?;
            for message in messages(&buffer[..length]) {
                if message.kind == libc::NLMSG_ERROR as u16 {
                    acknowledge(action, message.body)?;
                    pending = pending.saturating_sub(1);
                }
            }
        }
        Ok(())
    }

    /// Sends a dump request and hands every answer's body to `each`.
    pub(crate) fn dump(
        &mut self,
        action: &str,
        request: Message,
        mut each: impl FnMut(&[u8]),
    ) -> Result<(), Error> {
        self.send(action, vec![request])?;
        let mut buffer = vec![0; RECEIVE_BUFFER];
        loop {
            let length = self.receive(action, &mut buffer)?;
            for message in messages(&buffer[..length]) {
                if message.sequence != self.sequence {
                    continue;
                }
                match i32::from(message.kind) {
                    libc::NLMSG_DONE => return Ok(()),
                    libc::NLMSG_ERROR => return acknowledge(action, message.body),
                    _ => each(message.body),
                }
            }
        }
    }

    fn send(&mut self, action: &str, batch: Vec<Message>) -> Result<(), Error> {
        let mut bytes = Vec::with_capacity(batch.len() * 128);
        for message in batch {
            self.sequence += 1;
            message.finish_into(self.sequence, &mut bytes);
        }
        // SAFETY: the pointer and length describe `bytes`, alive for the call.
        let sent =
            unsafe { libc::send(self.fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
        if sent < 0 {
            return Err(Error::system(action));
        }
        Ok(())
    }

    fn receive(&self, action: &str, buffer: &mut [u8]) -> Result<usize, Error> {
        loop {
            // SAFETY: the pointer and length describe `buffer`, alive for the call.
            let got = unsafe {
                libc::recv(
                    self.fd.as_raw_fd(),
                    buffer.as_mut_ptr().cast(),
                    buffer.len(),
                    0,
                )
            };
            if let Ok(length) = usize::try_from(got) {
                return Ok(length);
            }
            let source = io::Error::last_os_error();
            if source.kind() != io::ErrorKind::Interrupted {
                return Err(Error::System {
                    action: action.to_owned(),
                    source,
                });
            }
        }
    }

    fn option(&self, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
        // SAFETY: the pointer and length describe `value`, alive for the call.
        let result = unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                level,
                name,
                (&raw const value).cast(),
                size_of_val(&value) as libc::socklen_t,
            )
        };
        if result < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }
}

/// Turns the body of an NLMSG_ERROR into a result; number 0 means success.
fn acknowledge(action: &str, body: &[u8]) -> Result<(), Error> {
    let number = read_u32(body, 0).cast_signed();
    if number == 0 {
        return Ok(());
    }
    Err(Error::Netlink {
        action: action.to_owned(),
        detail: error_text(body).unwrap_or_default(),
        source: io::Error::from_raw_os_error(-number),
    })
}

fn error_text(body: &[u8]) -> Option<String> {
    let request = body.get(4..4 + HEADER)?;
    let flags = u16::from_ne_bytes([request[6], request[7]]);
    let echoed = if flags & CAPPED != 0 {
        HEADER
    } else {
        read_u32(request, 0) as usize
    };
    let text = find(body.get(4 + echoed.next_multiple_of(4)..)?, ERROR_TEXT)?;
    let text = std::str::from_utf8(text.strip_suffix(&[0])?).ok()?;
    Some(format!(" ({text})"))
}
