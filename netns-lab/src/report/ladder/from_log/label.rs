//! A packet in a few words.

use std::net::{IpAddr, SocketAddr};

use smoltcp::wire::{Icmpv4Packet, IpProtocol, Ipv4Packet, Ipv6Packet, TcpPacket};

/// Returns a packet in a few words. Its source address is left out, since a
/// ladder shows where it comes from.
pub(super) fn of(packet: &[u8]) -> String {
    match packet.first().map(|first| first >> 4) {
        Some(4) => Ipv4Packet::new_checked(packet).ok().map(|ip| {
            let (source, destination) = (ip.src_addr().into(), ip.dst_addr().into());
            body(source, destination, ip.next_header(), ip.payload())
        }),
        Some(6) => Ipv6Packet::new_checked(packet).ok().map(|ip| {
            let (source, destination) = (ip.src_addr().into(), ip.dst_addr().into());
            body(source, destination, ip.next_header(), ip.payload())
        }),
        _ => None,
    }
    .unwrap_or_else(|| "malformed packet".into())
}

fn body(source: IpAddr, destination: IpAddr, protocol: IpProtocol, payload: &[u8]) -> String {
    match protocol {
        IpProtocol::Tcp => TcpPacket::new_checked(payload).map_or_else(
            |_| format!("malformed TCP > {destination}"),
            |segment| tcp(destination, &segment),
        ),
        IpProtocol::Icmp | IpProtocol::Icmpv6 => {
            // Both versions begin with type and code (RFC 792, RFC 4443 section 2.1).
            Icmpv4Packet::new_checked(payload).map_or_else(
                |_| format!("malformed ICMP > {destination}"),
                |icmp| {
                    let (kind, code) = (u8::from(icmp.msg_type()), icmp.msg_code());
                    let is_ipv4 = destination.is_ipv4();
                    match (is_ipv4, kind) {
                        (true, 8) | (false, 128) => format!("echo request > {destination}"),
                        (true, 0) | (false, 129) => format!("echo reply > {destination}"),
                        _ => format!("ICMP {kind}/{code} > {destination}"),
                    }
                },
            )
        }
        other => format!("{other} {source} > {destination}"),
    }
}

fn tcp(destination: IpAddr, segment: &TcpPacket<&[u8]>) -> String {
    let names = [
        (segment.syn(), "SYN"),
        (segment.fin(), "FIN"),
        (segment.rst(), "RST"),
    ];
    let mut flags: Vec<_> = names
        .iter()
        .filter(|flag| flag.0)
        .map(|flag| flag.1)
        .collect();
    let length = segment.payload().len();
    if segment.ack() && (length == 0 || !flags.is_empty()) {
        flags.push("ACK");
    }
    let mut text = flags.join(",");
    if length > 0 {
        let space = if text.is_empty() { "" } else { " " };
        text = format!("{text}{space}{length} bytes");
    }
    let destination = SocketAddr::new(destination, segment.dst_port());
    format!("{text} :{} > {destination}", segment.src_port())
}
