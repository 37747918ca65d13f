//! What the server answers to a datagram.

use std::{borrow::Cow, net::SocketAddr};

use p2pconnect_proto::portable;

use super::{
    StunServerConfig,
    answer::{Caller, Manner, is_understood, read, respond},
    discovery::{Quad, Wishes},
};
use crate::framing::{HEADER, MAGIC_COOKIE, message_length};

/// Where the cookie is in a message.
const COOKIE: std::ops::Range<usize> = 4..8;

/// A datagram that has come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival<'a> {
    /// What is in it.
    pub(crate) bytes: &'a [u8],
    /// Its sender, as the socket tells it.
    pub(crate) from: SocketAddr,
    /// The address of the socket that it has come to.
    pub(crate) at: SocketAddr,
    /// The four addresses that `at` is one of, if it is.
    pub(crate) quad: Option<Quad>,
}

/// What is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    /// The datagram.
    pub(crate) bytes: Vec<u8>,
    /// The address of the socket to send it by.
    pub(crate) by: SocketAddr,
    /// Whom to send it to.
    pub(crate) to: SocketAddr,
}

/// Answers a datagram that came at `now`, in seconds since the Unix epoch; `None` if it is to be
/// discarded.
pub(crate) fn reply(arrival: Arrival<'_>, config: &StunServerConfig, now: u64) -> Option<Reply> {
    let InNewForm { message, classic } = InNewForm::of(arrival.bytes)?;
    let request = read(&message).ok()??;
    let place = |by| arrival.quad.map(|it| config.known(it.place(by)));
    let mut caller = Caller {
        remote: portable(arrival.from),
        backs: &[],
        place: place(arrival.at),
        manner: match classic {
            Some(_) => Manner::Classic,
            None => Manner::Datagram,
        },
    };
    let (mut by, mut to) = (arrival.at, arrival.from);
    if let Some(quad) = arrival.quad
        && is_understood(&request, &caller)
    {
        let wishes = Wishes::of(&request);
        by = quad.changed(by, wishes.change);
        to.set_port(wishes.port.unwrap_or_else(|| to.port()));
        caller.place = place(by);
    }
    let mut bytes = respond(&request, caller, config, now);
    if let Some(cookie) = classic {
        bytes[COOKIE].copy_from_slice(&cookie);
    }
    Some(Reply { bytes, by, to })
}

/// A message in the form of RFC 8489.
struct InNewForm<'a> {
    message: Cow<'a, [u8]>,
    /// The first four bytes of the transaction id of RFC 3489, if it was one of these: they stand
    /// where the cookie is now (RFC 5389 section 12.2).
    classic: Option<[u8; 4]>,
}

impl<'a> InNewForm<'a> {
    /// Returns the one message that a datagram is, if it is one.
    fn of(datagram: &'a [u8]) -> Option<Self> {
        if datagram.len() < HEADER {
            return None;
        }
        let first: [u8; 4] = datagram[COOKIE].try_into().ok()?;
        let mut message = Cow::Borrowed(datagram);
        let is_classic = first != MAGIC_COOKIE;
        if is_classic {
            message.to_mut()[COOKIE].copy_from_slice(&MAGIC_COOKIE);
        }
        let is_whole = message_length(&message) == Ok(Some(message.len()));
        is_whole.then_some(Self {
            message,
            classic: is_classic.then_some(first),
        })
    }
}

#[cfg(test)]
mod tests;
