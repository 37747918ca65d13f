//! Packets, built and checked without any code of the model.

use std::net::{IpAddr, SocketAddr};

pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const ACK: u8 = 16;

pub(crate) fn endpoint(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub(crate) fn tcp(source: SocketAddr, destination: SocketAddr, flags: u8) -> Vec<u8> {
    tcp_with(source, destination, flags, b"")
}

pub(crate) fn tcp_with(
    source: SocketAddr,
    destination: SocketAddr,
    flags: u8,
    data: &[u8],
) -> Vec<u8> {
    segment(source, destination, flags, &[], data)
}

/// A segment without data that has these options, of a length that four divides.
pub(crate) fn tcp_with_options(
    source: SocketAddr,
    destination: SocketAddr,
    flags: u8,
    options: &[u8],
) -> Vec<u8> {
    segment(source, destination, flags, options, &[])
}

fn segment(
    source: SocketAddr,
    destination: SocketAddr,
    flags: u8,
    options: &[u8],
    data: &[u8],
) -> Vec<u8> {
    let mut segment = vec![0; 20];
    segment[..2].copy_from_slice(&source.port().to_be_bytes());
    segment[2..4].copy_from_slice(&destination.port().to_be_bytes());
    segment[4..8].copy_from_slice(&1000u32.to_be_bytes());
    segment[12] = (5 + options.len() as u8 / 4) << 4;
    segment[13] = flags;
    segment.extend(options);
    segment.extend(data);
    let sum = sum(
        &pseudo(source.ip(), destination.ip(), 6, segment.len()),
        &segment,
    );
    segment[16..18].copy_from_slice(&(!sum).to_be_bytes());
    ip(source.ip(), destination.ip(), 6, &segment)
}

pub(crate) fn udp(
    source: SocketAddr,
    destination: SocketAddr,
    data: &[u8],
    checksum: bool,
) -> Vec<u8> {
    let mut datagram = vec![0; 8];
    datagram[..2].copy_from_slice(&source.port().to_be_bytes());
    datagram[2..4].copy_from_slice(&destination.port().to_be_bytes());
    datagram[4..6].copy_from_slice(&(8 + data.len() as u16).to_be_bytes());
    datagram.extend(data);
    if checksum {
        let sum = !sum(
            &pseudo(source.ip(), destination.ip(), 17, datagram.len()),
            &datagram,
        );
        let sum = if sum == 0 { 0xFFFF } else { sum };
        datagram[6..8].copy_from_slice(&sum.to_be_bytes());
    }
    ip(source.ip(), destination.ip(), 17, &datagram)
}

/// An ICMP "destination unreachable" that quotes so many bytes of a packet.
pub(crate) fn icmp_error(from: IpAddr, to: IpAddr, quoted: &[u8], bytes: usize) -> Vec<u8> {
    let (kind, code) = if from.is_ipv4() { (3, 1) } else { (1, 0) };
    let mut error = vec![kind, code, 0, 0, 0, 0, 0, 0];
    error.extend(quoted.iter().take(bytes));
    icmp_message(&error, from, to)
}

/// An ICMP echo request, from the endpoint that its identifier makes.
pub(crate) fn echo_request(from: SocketAddr, to: IpAddr) -> Vec<u8> {
    let kind = if to.is_ipv4() { 8 } else { 128 };
    echo(kind, from.port(), from.ip(), to)
}

/// The reply to such a request.
pub(crate) fn echo_reply(from: IpAddr, to: SocketAddr) -> Vec<u8> {
    let kind = if from.is_ipv4() { 0 } else { 129 };
    echo(kind, to.port(), from, to.ip())
}

fn echo(kind: u8, identifier: u16, from: IpAddr, to: IpAddr) -> Vec<u8> {
    let [high, low] = identifier.to_be_bytes();
    icmp_message(
        &[kind, 0, 0, 0, high, low, 0, 1, b'd', b'a', b't'],
        from,
        to,
    )
}

/// An ICMP message, with its checksum put in.
pub(crate) fn icmp_message(message: &[u8], from: IpAddr, to: IpAddr) -> Vec<u8> {
    let mut message = message.to_vec();
    let (protocol, pseudo) = if from.is_ipv4() {
        (1, Vec::new())
    } else {
        (58, pseudo(from, to, 58, message.len()))
    };
    let sum = !sum(&pseudo, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    ip(from, to, protocol, &message)
}

fn ip(source: IpAddr, destination: IpAddr, protocol: u8, body: &[u8]) -> Vec<u8> {
    let length = body.len() as u16;
    let mut packet = if source.is_ipv4() {
        let [high, low] = (length + 20).to_be_bytes();
        vec![0x45, 0, high, low, 1, 2, 0, 0, 61, protocol, 0, 0]
    } else {
        let [high, low] = length.to_be_bytes();
        vec![0x60, 0, 0, 0, high, low, protocol, 61]
    };
    packet.extend(octets(source));
    packet.extend(octets(destination));
    if source.is_ipv4() {
        let sum = !sum(&[], &packet);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    packet.extend(body);
    packet
}

/// The IP protocol, source and destination of a packet; the identifier of an echo is
/// the port of the end that asks, and other ports are zero in ICMP.
pub(crate) fn ends(packet: &[u8]) -> (u8, SocketAddr, SocketAddr) {
    let (protocol, source, destination) = addresses(packet);
    let body = body(packet);
    let be16 = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
    let ports = match (protocol, body[0]) {
        (6 | 17, _) => [be16(0), be16(2)],
        (1, 8) | (58, 128) => [be16(4), 0],
        (1, 0) | (58, 129) => [0, be16(4)],
        _ => [0, 0],
    };
    (
        protocol,
        SocketAddr::new(source, ports[0]),
        SocketAddr::new(destination, ports[1]),
    )
}

/// Whether a packet is an ICMP echo.
pub(crate) fn is_echo(packet: &[u8]) -> bool {
    let (protocol, ..) = addresses(packet);
    matches!((protocol, body(packet)[0]), (1, 0 | 8) | (58, 128 | 129))
}

/// The flags of a TCP packet.
pub(crate) fn flags(packet: &[u8]) -> u8 {
    body(packet)[13]
}

/// The type and code of an ICMP packet, and what it quotes.
pub(crate) fn icmp(packet: &[u8]) -> (u8, u8, &[u8]) {
    let body = body(packet);
    (body[0], body[1], &body[8..])
}

pub(crate) fn body(packet: &[u8]) -> &[u8] {
    match packet[0] >> 4 {
        4 => &packet[usize::from(packet[0] & 15) * 4..],
        _ => &packet[40..],
    }
}

fn addresses(packet: &[u8]) -> (u8, IpAddr, IpAddr) {
    if packet[0] >> 4 == 4 {
        let at = |at: usize| <[u8; 4]>::try_from(&packet[at..at + 4]).unwrap();
        (packet[9], at(12).into(), at(16).into())
    } else {
        let at = |at: usize| <[u8; 16]>::try_from(&packet[at..at + 16]).unwrap();
        (packet[6], at(8).into(), at(24).into())
    }
}

/// Checks every checksum of a packet; those of a quoted one as far as it goes.
pub(crate) fn assert_checksums(packet: &[u8]) {
    let (protocol, source, destination) = addresses(packet);
    assert_ip_checksum(packet);
    let body = body(packet);
    match protocol {
        6 => assert_transport(source, destination, 6, body),
        17 if body[6..8] == [0, 0] => {}
        17 => assert_transport(source, destination, 17, body),
        1 | 58 => {
            assert_transport(source, destination, protocol, body);
            if !is_echo(packet) {
                assert_quoted(&body[8..]);
            }
        }
        other => panic!("protocol {other}"),
    }
}

fn assert_quoted(packet: &[u8]) {
    assert_ip_checksum(packet);
    let (protocol, source, destination) = addresses(packet);
    let total = match packet[0] >> 4 {
        4 => u16::from_be_bytes([packet[2], packet[3]]),
        _ => u16::from_be_bytes([packet[4], packet[5]]) + 40,
    };
    let body = body(packet);
    let has_checksum = protocol != 17 || body[6..8] != [0, 0];
    if packet.len() == usize::from(total) && has_checksum {
        assert_transport(source, destination, protocol, body);
    }
}

fn assert_ip_checksum(packet: &[u8]) {
    if packet[0] >> 4 == 4 {
        let header = &packet[..usize::from(packet[0] & 15) * 4];
        assert_eq!(sum(&[], header), 0xFFFF, "IP header");
    }
}

fn assert_transport(source: IpAddr, destination: IpAddr, protocol: u8, body: &[u8]) {
    let pseudo = match protocol {
        1 => Vec::new(),
        _ => pseudo(source, destination, protocol, body.len()),
    };
    assert_eq!(sum(&pseudo, body), 0xFFFF, "protocol {protocol}");
}

fn pseudo(source: IpAddr, destination: IpAddr, protocol: u8, length: usize) -> Vec<u8> {
    let mut pseudo = octets(source);
    pseudo.extend(octets(destination));
    pseudo.extend([0, protocol]);
    pseudo.extend((length as u16).to_be_bytes());
    pseudo
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn sum(pseudo: &[u8], body: &[u8]) -> u16 {
    let words = pseudo.chunks(2).chain(body.chunks(2));
    let mut sum = 0u32;
    for word in words {
        sum += u32::from(word[0]) << 8 | u32::from(word.get(1).copied().unwrap_or_default());
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    sum as u16
}

/// Writes the header checksum that makes the sum of the header right.
pub(crate) fn mend(packet: &mut [u8]) {
    let length = usize::from(packet[0] & 15) * 4;
    packet[10..12].fill(0);
    let Some(header) = packet.get(..length) else {
        return;
    };
    let words = header
        .chunks(2)
        .map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
    let mut sum: u32 = words.sum();
    while sum > 0xFFFF {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    packet[10..12].copy_from_slice(&(!sum as u16).to_be_bytes());
}
