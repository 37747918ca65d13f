//! ICMP echo: what hosts ask for and what they answer.

use std::collections::VecDeque;
use std::net::IpAddr;

use super::stack::{MTU, Stack};
use crate::build::{IcmpKind, icmp};
use crate::packet::Echo;
use crate::virtual_time::ping::{Ping, Pong, PongKind};

/// Answers that wait to be taken; more than any program has under way.
const MAX_PONGS: usize = 1024;

/// Bytes of an IPv6 header and an ICMP header, the most that stand before the data.
const MAX_HEADERS: usize = 40 + 8;

/// What has come of the echoes that a host asked for.
#[derive(Debug, Default)]
pub(super) struct Pings {
    pongs: VecDeque<Pong>,
}

impl Pings {
    /// Sends a request, unless it is longer than the link carries.
    pub(super) fn send(&mut self, from: IpAddr, ping: Ping, stack: &mut Stack) -> bool {
        let Ping {
            to,
            identifier,
            sequence,
            length,
        } = ping;
        if usize::from(length) > MTU - MAX_HEADERS {
            return false;
        }
        let what = IcmpKind::echo(to.is_ipv4(), true, identifier, sequence);
        let data = vec![0; length.into()];
        stack.send(icmp(what, &data, from, to));
        true
    }

    /// Answers a request, or keeps a reply; and says which.
    pub(super) fn receive(
        &mut self,
        echo: &Echo,
        packet: &[u8],
        stack: &mut Stack,
    ) -> &'static str {
        if !echo.is_request {
            self.keep(echo.source, echo, PongKind::Reply);
            return "to its ping";
        }
        if let Some(reply) = echo.reply(packet) {
            stack.send(reply);
        }
        "echoed"
    }

    /// Keeps an error about an echo.
    pub(super) fn receive_error(
        &mut self,
        echo: &Echo,
        from: IpAddr,
        kind: u8,
        code: u8,
    ) -> &'static str {
        if !echo.is_request {
            return "ignored: about an echo reply";
        }
        self.keep(from, echo, PongKind::Error { kind, code });
        "to its ping"
    }

    /// Takes the answers that have come.
    pub(super) fn take(&mut self) -> Vec<Pong> {
        self.pongs.drain(..).collect()
    }

    fn keep(&mut self, from: IpAddr, echo: &Echo, kind: PongKind) {
        if self.pongs.len() == MAX_PONGS {
            self.pongs.pop_front();
        }
        self.pongs.push_back(Pong {
            from,
            identifier: echo.identifier,
            sequence: echo.sequence,
            kind,
        });
    }
}
