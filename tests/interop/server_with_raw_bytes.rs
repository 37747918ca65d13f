//! Our server against bytes written down from RFC 8489, without any codec.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use p2pconnect_stun::{StunServer, StunServerConfig};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Above anything that loopback needs on a loaded machine.
const LONG: Duration = Duration::from_secs(20);

const HEADER: [u8; 20] = *b"\x00\x01\x00\x00\x21\x12\xa4\x42abcdefghijkl";

async fn exchange(stream: &mut TcpStream, request: &[u8], length: usize) -> Vec<u8> {
    stream.write_all(request).await.unwrap();
    let mut response = vec![0; length];
    timeout(LONG, stream.read_exact(&mut response))
        .await
        .unwrap()
        .unwrap();
    response
}

fn xored(address: SocketAddr) -> Vec<u8> {
    // The cookie and the transaction id of `HEADER` follow each other (section 14.2).
    let key = &HEADER[4..];
    let (family, octets) = match address.ip() {
        IpAddr::V4(v4) => (1, v4.octets().to_vec()),
        IpAddr::V6(v6) => (2, v6.octets().to_vec()),
    };
    let port = address.port() ^ 0x2112;
    let mut value = vec![0, family];
    value.extend(port.to_be_bytes());
    value.extend(octets.iter().zip(key).map(|(octet, key)| octet ^ key));
    value
}

#[tokio::test]
async fn a_binding_request_is_answered_byte_for_byte() {
    let addresses = [
        SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        SocketAddr::from((Ipv6Addr::LOCALHOST, 0)),
    ];
    let server = StunServer::bind(&addresses, StunServerConfig::default())
        .unwrap()
        .spawn();
    for address in server.local_addrs() {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let value = xored(stream.local_addr().unwrap());
        let length = u8::try_from(value.len()).unwrap();
        let expected = [
            &[0x01, 0x01, 0, length + 4],
            &HEADER[4..],
            &[0x00, 0x20, 0, length],
            &value,
        ]
        .concat();
        // Twice on one connection, which stays open.
        for _ in 0..2 {
            let response = exchange(&mut stream, &HEADER, expected.len()).await;
            assert_eq!(response, expected);
        }
    }
}

#[tokio::test]
async fn change_request_is_refused_by_name() {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let server = StunServer::bind(&[address], StunServerConfig::default())
        .unwrap()
        .spawn();
    let mut stream = TcpStream::connect(server.local_addrs()[0]).await.unwrap();
    let mut request = HEADER.to_vec();
    request[3] = 8;
    request.extend(b"\x00\x03\x00\x04\x00\x00\x00\x06");
    let response = exchange(&mut stream, &request, 20 + 4 + 24 + 4 + 4).await;
    let reason = b"\x00\x09\x00\x15\x00\x00\x04\x14Unknown Attribute\x00\x00\x00";
    let expected = [
        b"\x01\x11\x00\x24",
        &HEADER[4..],
        reason,
        b"\x00\x0a\x00\x02\x00\x03\x00\x00",
    ]
    .concat();
    assert_eq!(response, expected);
}
