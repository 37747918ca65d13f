//! ICMP echo: what hosts ask for and what they answer.

use std::{collections::VecDeque, net::IpAddr};

use crate::{
    packet::{Flow, Icmp, IcmpHeader, echo_reply, icmp},
    virtual_time::{
        ping::{Ping, Pong, PongKind},
        tcp::MTU,
    },
};

/// Answers that wait to be taken; more than any program has under way.
const MAX_PONGS: usize = 1024;

/// Bytes of an IPv6 header and an ICMP header, the most that stand before the data.
const MAX_HEADERS: u16 = 40 + 8;

/// What has come of the echoes that a host asked for.
#[derive(Debug, Default)]
pub(super) struct Pings {
    pongs: VecDeque<Pong>,
}

impl Pings {
    /// Sends a request, unless it is longer than the link carries.
    pub(super) fn send(&mut self, from: IpAddr, ping: Ping, sent: &mut Vec<Vec<u8>>) -> bool {
        let Ping {
            to,
            identifier,
            sequence,
            length,
        } = ping;
        if length > MTU - MAX_HEADERS {
            return false;
        }
        let what = IcmpHeader::echo(to.is_ipv4(), true, identifier, sequence);
        let data = vec![0; length.into()];
        sent.push(icmp(what, &data, from, to));
        true
    }

    /// Answers a request, or keeps a reply; and says which.
    pub(super) fn receive(
        &mut self,
        echo: &Flow,
        packet: &[u8],
        sent: &mut Vec<Vec<u8>>,
    ) -> &'static str {
        if !echo.is_echo_request {
            self.keep(echo.source.ip(), echo, PongKind::Reply);
            return "to its ping";
        }
        sent.push(echo_reply(echo, packet));
        "echoed"
    }

    /// Keeps an error about an echo.
    pub(super) fn receive_error(
        &mut self,
        echo: &Flow,
        from: IpAddr,
        error: &Icmp,
    ) -> &'static str {
        if !echo.is_echo_request {
            return "ignored: about an echo reply";
        }
        let Icmp { kind, code, .. } = *error;
        self.keep(from, echo, PongKind::Error { kind, code });
        "to its ping"
    }

    /// Takes the answers that have come.
    pub(super) fn take(&mut self) -> Vec<Pong> {
        self.pongs.drain(..).collect()
    }

    fn keep(&mut self, from: IpAddr, echo: &Flow, kind: PongKind) {
        if self.pongs.len() == MAX_PONGS {
            self.pongs.pop_front();
        }
        self.pongs.push_back(Pong {
            from,
            identifier: echo.identifier(),
            // That is the width of the field.
            sequence: echo.sequence as u16,
            kind,
        });
    }
}
