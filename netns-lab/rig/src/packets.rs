//! IP packets, built, read and checked by way of smoltcp, without any code of the lab.

use std::net::{IpAddr, SocketAddr};

use smoltcp::{
    phy::ChecksumCapabilities,
    wire::{
        Icmpv4Packet, Icmpv6Packet, IpProtocol, IpRepr, Ipv4Packet, Ipv6Packet, TcpPacket,
        UdpPacket,
    },
};

/// The flag FIN of TCP.
pub const FIN: u8 = 1;
/// The flag SYN.
pub const SYN: u8 = 2;
/// The flag RST.
pub const RST: u8 = 4;
/// The flag PSH.
pub const PSH: u8 = 8;
/// The flag ACK.
pub const ACK: u8 = 16;

/// An address with a port.
pub fn endpoint(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A segment without options and data, with these flags.
pub fn tcp(source: SocketAddr, destination: SocketAddr, flags: u8) -> Vec<u8> {
    segment(source, destination, flags, &[], &[])
}

/// The same with data.
pub fn tcp_with(source: SocketAddr, destination: SocketAddr, flags: u8, data: &[u8]) -> Vec<u8> {
    segment(source, destination, flags, &[], data)
}

/// A segment with options, of a length that four divides.
pub fn segment(
    source: SocketAddr,
    destination: SocketAddr,
    flags: u8,
    options: &[u8],
    data: &[u8],
) -> Vec<u8> {
    let mut body = [&[0; 20][..], options, data].concat();
    body[..2].copy_from_slice(&source.port().to_be_bytes());
    body[2..4].copy_from_slice(&destination.port().to_be_bytes());
    body[4..8].copy_from_slice(&1000u32.to_be_bytes());
    body[12] = (5 + options.len() as u8 / 4) << 4;
    body[13] = flags;
    let mut packet = ip(source.ip(), destination.ip(), IpProtocol::Tcp, &body);
    edit_tcp(&mut packet, |_| {});
    packet
}

/// Changes a segment, and its checksum with it.
pub fn edit_tcp(packet: &mut [u8], edit: impl FnOnce(&mut TcpPacket<&mut [u8]>)) {
    let (_, source, destination) = addresses(packet);
    let start = packet.len() - body(packet).len();
    let mut tcp = TcpPacket::new_unchecked(&mut packet[start..]);
    edit(&mut tcp);
    tcp.fill_checksum(&source.into(), &destination.into());
}

/// A UDP datagram, with or without a checksum.
pub fn udp(source: SocketAddr, destination: SocketAddr, data: &[u8], checksum: bool) -> Vec<u8> {
    let mut body = [&[0; 8][..], data].concat();
    let length = body.len() as u16;
    let mut udp = UdpPacket::new_unchecked(&mut body);
    udp.set_src_port(source.port());
    udp.set_dst_port(destination.port());
    udp.set_len(length);
    if checksum {
        udp.fill_checksum(&source.ip().into(), &destination.ip().into());
    }
    ip(source.ip(), destination.ip(), IpProtocol::Udp, &body)
}

/// An ICMP "destination unreachable" that quotes so many bytes of a packet.
pub fn icmp_error(from: IpAddr, to: IpAddr, quoted: &[u8], bytes: usize) -> Vec<u8> {
    let what = if from.is_ipv4() { [3, 1] } else { [1, 0] };
    icmp_error_of(what, from, to, &quoted[..quoted.len().min(bytes)])
}

/// An ICMP error with this type and code.
pub fn icmp_error_of(what: [u8; 2], from: IpAddr, to: IpAddr, quoted: &[u8]) -> Vec<u8> {
    icmp_message(&[&what[..], &[0; 6], quoted].concat(), from, to)
}

/// An ICMP echo request, from the endpoint that its identifier makes.
pub fn echo_request(from: SocketAddr, to: IpAddr) -> Vec<u8> {
    let kind = if to.is_ipv4() { 8 } else { 128 };
    icmp_message(&echo(kind, from.port()), from.ip(), to)
}

/// The reply to such a request.
pub fn echo_reply(from: IpAddr, to: SocketAddr) -> Vec<u8> {
    let kind = if from.is_ipv4() { 0 } else { 129 };
    icmp_message(&echo(kind, to.port()), from, to.ip())
}

fn echo(kind: u8, identifier: u16) -> Vec<u8> {
    let [high, low] = identifier.to_be_bytes();
    vec![kind, 0, 0, 0, high, low, 0, 1, b'd', b'a', b't']
}

/// An ICMP message, with its checksum put in.
pub fn icmp_message(message: &[u8], from: IpAddr, to: IpAddr) -> Vec<u8> {
    let mut message = message.to_vec();
    let protocol = match (from, to) {
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            Icmpv6Packet::new_unchecked(&mut message).fill_checksum(&from, &to);
            IpProtocol::Icmpv6
        }
        _ => {
            Icmpv4Packet::new_unchecked(&mut message).fill_checksum();
            IpProtocol::Icmp
        }
    };
    ip(from, to, protocol, &message)
}

fn ip(source: IpAddr, destination: IpAddr, protocol: IpProtocol, body: &[u8]) -> Vec<u8> {
    let header = IpRepr::new(source.into(), destination.into(), protocol, body.len(), 61);
    let mut packet = vec![0; header.buffer_len()];
    header.emit(&mut packet, &ChecksumCapabilities::default());
    packet[header.header_len()..].copy_from_slice(body);
    packet
}

/// The IP protocol, source and destination of a packet; the identifier of an echo is the port of
/// the end that asks, and other ports are zero in ICMP.
pub fn ends(packet: &[u8]) -> (u8, SocketAddr, SocketAddr) {
    let (protocol, source, destination) = addresses(packet);
    let body = body(packet);
    let be16 = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
    let ports = match (protocol, body[0]) {
        (IpProtocol::Tcp | IpProtocol::Udp, _) => [be16(0), be16(2)],
        (IpProtocol::Icmp, 8) | (IpProtocol::Icmpv6, 128) => [be16(4), 0],
        (IpProtocol::Icmp, 0) | (IpProtocol::Icmpv6, 129) => [0, be16(4)],
        _ => [0, 0],
    };
    (
        protocol.into(),
        SocketAddr::new(source, ports[0]),
        SocketAddr::new(destination, ports[1]),
    )
}

/// Whether a packet is an ICMP echo.
pub fn is_echo(packet: &[u8]) -> bool {
    let (protocol, ..) = addresses(packet);
    matches!(
        (protocol, body(packet)[0]),
        (IpProtocol::Icmp, 0 | 8) | (IpProtocol::Icmpv6, 128 | 129)
    )
}

/// The flags of a TCP packet.
pub fn flags(packet: &[u8]) -> u8 {
    body(packet)[13]
}

/// The type and code of an ICMP packet, and what it quotes.
pub fn icmp(packet: &[u8]) -> (u8, u8, &[u8]) {
    let body = body(packet);
    (body[0], body[1], &body[8..])
}

/// What stands behind the IP header.
pub fn body(packet: &[u8]) -> &[u8] {
    if packet[0] >> 4 == 4 {
        &packet[usize::from(Ipv4Packet::new_unchecked(packet).header_len())..]
    } else {
        &packet[Ipv6Packet::new_unchecked(packet).header_len()..]
    }
}

fn addresses(packet: &[u8]) -> (IpProtocol, IpAddr, IpAddr) {
    if packet[0] >> 4 == 4 {
        let ip = Ipv4Packet::new_unchecked(packet);
        (ip.next_header(), ip.src_addr().into(), ip.dst_addr().into())
    } else {
        let ip = Ipv6Packet::new_unchecked(packet);
        (ip.next_header(), ip.src_addr().into(), ip.dst_addr().into())
    }
}

/// Checks every checksum of a packet; those of a quoted one as far as it goes.
pub fn assert_checksums(packet: &[u8]) {
    assert_ip_checksum(packet);
    assert_transport(packet);
    let (protocol, ..) = addresses(packet);
    let is_icmp = matches!(protocol, IpProtocol::Icmp | IpProtocol::Icmpv6);
    if is_icmp && !is_echo(packet) {
        let (_, _, quoted) = icmp(packet);
        assert_ip_checksum(quoted);
        let total = match quoted[0] >> 4 {
            4 => Ipv4Packet::new_unchecked(quoted).total_len().into(),
            _ => Ipv6Packet::new_unchecked(quoted).total_len(),
        };
        if quoted.len() == total {
            assert_transport(quoted);
        }
    }
}

fn assert_ip_checksum(packet: &[u8]) {
    if packet[0] >> 4 == 4 {
        let ip = Ipv4Packet::new_unchecked(packet);
        assert!(ip.verify_checksum(), "IP header");
    }
}

fn assert_transport(packet: &[u8]) {
    let (protocol, source, destination) = addresses(packet);
    let body = body(packet);
    let (from, to) = (source.into(), destination.into());
    let is_right = match (protocol, source, destination) {
        (IpProtocol::Tcp, ..) => TcpPacket::new_unchecked(body).verify_checksum(&from, &to),
        (IpProtocol::Udp, ..) => UdpPacket::new_unchecked(body).verify_checksum(&from, &to),
        (IpProtocol::Icmp, ..) => Icmpv4Packet::new_unchecked(body).verify_checksum(),
        (IpProtocol::Icmpv6, IpAddr::V6(from), IpAddr::V6(to)) => {
            Icmpv6Packet::new_unchecked(body).verify_checksum(&from, &to)
        }
        _ => panic!("protocol {protocol}"),
    };
    assert!(is_right, "{protocol}");
}

/// Writes the header checksum that makes the sum of an IPv4 header right, if it is whole.
pub fn mend(packet: &mut [u8]) {
    let mut ip = Ipv4Packet::new_unchecked(packet);
    let length = usize::from(ip.header_len());
    if length >= 20 && length <= ip.as_ref().len() {
        ip.fill_checksum();
    }
}
