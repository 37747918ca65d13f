//! Other ends for packets, as boxes give them. Checksums are updated, never computed
//! anew: a damaged packet stays damaged.

use std::{
    net::{IpAddr, SocketAddr},
    ops::Range,
};

use smoltcp::wire::{
    Icmpv4Packet, Ipv4Packet, Ipv6Packet, TcpOption, TcpPacket, UdpPacket, checksum,
};

use super::{
    class::ICMP_HEADER,
    flow::{End, Flow, Protocol},
};

/// Where the checksum of a TCP header ends (RFC 9293 section 3.1).
const TCP_CHECKSUM_END: usize = 18;

/// Returns the checksum field after the sum of some of the data that it covers has
/// changed (RFC 1624 equation 3).
pub(super) fn updated(field: u16, before: u16, after: u16) -> u16 {
    !checksum::combine(&[!field, !before, after])
}

impl Flow {
    /// Rewrites an end of the packet that this was read from, or of what it quotes (RFC
    /// 3022 section 4.1), and updates the checksums of that.
    pub(crate) fn rewrite(&self, packet: &mut [u8], end: End, to: SocketAddr) {
        set_address(&mut packet[self.ip..], end, to.ip());
        let (before, after) = (self.sum(end, self.end(end)), self.sum(end, to));
        let transport = &mut packet[self.transport..];
        match (self.protocol, end) {
            (Protocol::Tcp, _) => {
                let mut tcp = TcpPacket::new_unchecked(transport);
                match end {
                    End::Source => tcp.set_src_port(to.port()),
                    End::Destination => tcp.set_dst_port(to.port()),
                }
                // A quoted TCP header often ends before its checksum.
                if tcp.as_ref().len() >= TCP_CHECKSUM_END {
                    tcp.set_checksum(updated(tcp.checksum(), before, after));
                }
            }
            (Protocol::Udp, _) => {
                let mut udp = UdpPacket::new_unchecked(transport);
                match end {
                    End::Source => udp.set_src_port(to.port()),
                    End::Destination => udp.set_dst_port(to.port()),
                }
                // Zero says that there is no checksum, and all ones stand for zero (RFC 768).
                if udp.checksum() != 0 {
                    let checksum = updated(udp.checksum(), before, after);
                    udp.set_checksum(if checksum == 0 { !0 } else { checksum });
                }
            }
            (Protocol::Echo, _) => {
                let mut icmp = Icmpv4Packet::new_unchecked(transport);
                if self.has_port(end) {
                    icmp.set_echo_ident(to.port());
                }
                icmp.set_checksum(updated(icmp.checksum(), before, after));
            }
        }
    }

    /// Returns the sum of what the checksum covers of an end.
    fn sum(&self, end: End, at: SocketAddr) -> u16 {
        let address = match at.ip() {
            // ICMP has no pseudo-header (RFC 792), ICMPv6 has (RFC 4443 section 2.3).
            IpAddr::V4(_) if self.protocol == Protocol::Echo => 0,
            IpAddr::V4(address) => checksum::data(&address.octets()),
            IpAddr::V6(address) => checksum::data(&address.octets()),
        };
        let port = if self.has_port(end) { at.port() } else { 0 };
        checksum::combine(&[address, port])
    }

    /// Overwrites the window scale option of a SYN with NOPs, and updates the checksum.
    pub(crate) fn strip_window_scale(&self, packet: &mut [u8]) {
        if !self.flags.has_syn() {
            return;
        }
        let mut tcp = TcpPacket::new_unchecked(&mut packet[self.transport..]);
        let options = tcp.options_mut();
        let Some(option) = window_scale(options) else {
            return;
        };
        let before = checksum::data(options);
        for at in option {
            TcpOption::NoOperation.emit(&mut options[at..]);
        }
        let after = checksum::data(options);
        tcp.set_checksum(updated(tcp.checksum(), before, after));
    }
}

/// Returns where the window scale stands among the options of a TCP header.
fn window_scale(options: &[u8]) -> Option<Range<usize>> {
    let mut left = options;
    loop {
        let (next, option) = TcpOption::parse(left).ok()?;
        if let TcpOption::WindowScale(_) = option {
            return Some(options.len() - left.len()..options.len() - next.len());
        }
        if option == TcpOption::EndOfList {
            return None;
        }
        left = next;
    }
}

/// Rewrites an ICMP error: one end of the packet that it quotes, and the address of the
/// error itself that goes with it (RFC 3022 section 4.3).
pub(crate) fn rewrite_error(packet: &mut [u8], quoted: &Flow, end: End, to: SocketAddr) {
    let body = quoted.ip - ICMP_HEADER;
    // ICMPv6 covers the addresses of the error as well (RFC 4443 section 2.3).
    let covered = if to.is_ipv4() { body } else { 0 };
    let before = checksum::data(&packet[covered..]);
    quoted.rewrite(packet, end, to);
    // The quoted packet went the other way.
    set_address(packet, end.other(), to.ip());
    let after = checksum::data(&packet[covered..]);
    let mut icmp = Icmpv4Packet::new_unchecked(&mut packet[body..]);
    icmp.set_checksum(updated(icmp.checksum(), before, after));
}

/// Writes an address of an IP header, and updates the header checksum that IPv4 has.
fn set_address(packet: &mut [u8], end: End, to: IpAddr) {
    match (to, end) {
        (IpAddr::V4(to), _) => {
            let mut ip = Ipv4Packet::new_unchecked(packet);
            let from = match end {
                End::Source => ip.src_addr(),
                End::Destination => ip.dst_addr(),
            };
            match end {
                End::Source => ip.set_src_addr(to),
                End::Destination => ip.set_dst_addr(to),
            }
            let (before, after) = (checksum::data(&from.octets()), checksum::data(&to.octets()));
            ip.set_checksum(updated(ip.checksum(), before, after));
        }
        (IpAddr::V6(to), End::Source) => Ipv6Packet::new_unchecked(packet).set_src_addr(to),
        (IpAddr::V6(to), End::Destination) => Ipv6Packet::new_unchecked(packet).set_dst_addr(to),
    }
}
