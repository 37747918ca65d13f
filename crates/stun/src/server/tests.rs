//! Tests of the server over the loopback.

#![expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

use std::{io, net::Ipv4Addr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

mod tls;

use super::*;
use p2pconnect_proto::{BackFrom, BackOutcome, ConnectBack};

use crate::{
    HeldMapping, MappingConfig, MappingError, binding, connect_back, framing::MessageReader, query,
};

/// Above anything that loopback needs on a loaded machine.
const LONG: Duration = Duration::from_secs(20);

/// How long the system takes nothing from a sender whose bytes have no room anywhere.
const STALLS: Duration = Duration::from_millis(500);

fn any_port() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

fn start(config: StunServerConfig) -> (StunServerHandle, SocketAddr) {
    let server = StunServer::bind(&[any_port()], config).unwrap().spawn();
    let address = server.local_addrs()[0];
    (server, address)
}

async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.unwrap()
}

/// Returns whether the connection ended by RST, after whatever it brings.
async fn ends_by_reset(stream: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    timeout(LONG, stream.read_to_end(&mut rest))
        .await
        .unwrap()
        .is_err()
}

#[tokio::test]
async fn pipelined_and_split_requests_are_answered_in_order() {
    let (_server, address) = start(StunServerConfig::default());
    let mut stream = connect(address).await;
    let (requests, bytes): (Vec<_>, Vec<_>) = (0..20).map(|_| binding::request(None)).unzip();
    let bytes = bytes.concat();
    let local = stream.local_addr().unwrap();
    for piece in bytes.chunks(33) {
        stream.write_all(piece).await.unwrap();
    }
    // What was asked before the half-close is still answered.
    stream.shutdown().await.unwrap();
    let mut reader = MessageReader::new(stream);
    for transaction in requests {
        let message = timeout(LONG, reader.next()).await.unwrap().unwrap();
        let response = binding::response(&message.unwrap(), None).unwrap().unwrap();
        assert_eq!(response.transaction, transaction);
        assert_eq!(response.result.unwrap().mapped, local);
    }
    assert_eq!(timeout(LONG, reader.next()).await.unwrap().unwrap(), None);
}

/// By default the system would keep 64 KiB and more.
#[tokio::test]
async fn little_is_kept_of_what_is_not_read() {
    let listener = ports::listen(&Host::default(), any_port()).unwrap();
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_send_buffer_size(ports::BUFFER).unwrap();
    let connecting = socket.connect(listener.local_addr().unwrap());
    let client = connecting.await.unwrap();
    let mut kept = 0;
    while timeout(STALLS, client.writable()).await.is_ok() {
        kept += client.try_write(&[0; 1024]).unwrap_or(0);
    }
    assert!(kept <= 32 << 10, "{kept} bytes");
}

#[tokio::test]
async fn garbage_ends_its_own_connection_only() {
    let (server, address) = start(StunServerConfig::default());
    let held = HeldMapping::open(any_port(), address, MappingConfig::default())
        .await
        .unwrap();
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"\x00\x01\x00\x00\x00\x00\x00\x00",
        b"\x00\x01\xff\xfc\x21\x12\xa4\x42",
        // Framed well, but the attribute is longer than the message.
        b"\x00\x01\x00\x04\x21\x12\xa4\x42abcdefghijkl\x80\x22\x00\x40",
    ] {
        let mut stream = connect(address).await;
        stream.write_all(garbage).await.unwrap();
        ends_by_reset(&mut stream).await;
    }
    assert_eq!(held.state().reconnects, 0);
    assert_eq!(held.state().lost, None);
    assert_eq!(server.connections(), 1);
    assert!(
        query(&Host::default(), any_port(), address, LONG)
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn an_address_gets_no_more_than_its_connections() {
    let (server, address) = start(StunServerConfig {
        max_connections_per_address: 2,
        ..StunServerConfig::default()
    });
    let first = HeldMapping::open(any_port(), address, MappingConfig::default()).await;
    let second = HeldMapping::open(any_port(), address, MappingConfig::default()).await;
    let third = HeldMapping::open(any_port(), address, MappingConfig::default()).await;
    assert_eq!(third.unwrap_err(), MappingError::Reset);
    assert_eq!(server.connections(), 2);
    // Another address has its own.
    let elsewhere = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), 0));
    assert!(
        query(&Host::default(), elsewhere, address, LONG)
            .await
            .is_ok()
    );
    drop((first, second));
}

#[tokio::test]
async fn silent_connections_of_one_address_do_not_close_the_server_to_another() {
    const PLACES: usize = 8;
    let (server, address) = start(StunServerConfig {
        max_connections: PLACES,
        ..StunServerConfig::default()
    });
    let mut silent = Vec::new();
    for _ in 0..PLACES {
        silent.push(connect(address).await);
    }
    while server.connections() < PLACES {
        tokio::task::yield_now().await;
    }
    let elsewhere = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), 0));
    let held = HeldMapping::open(elsewhere, address, MappingConfig::default()).await;
    assert!(held.is_ok());
    // The oldest of the silent ones had to go.
    assert!(ends_by_reset(&mut silent[0]).await);
    assert_eq!(server.connections(), PLACES);
}

#[tokio::test]
async fn something_whole_must_be_asked_soon() {
    let (_server, address) = start(StunServerConfig {
        first_request_limit: Duration::from_millis(50),
        ..StunServerConfig::default()
    });
    let mut silent = connect(address).await;
    let mut slow = connect(address).await;
    let (_, request) = binding::request(None);
    slow.write_all(&request[..7]).await.unwrap();
    assert!(ends_by_reset(&mut silent).await);
    ends_by_reset(&mut slow).await;
}

#[tokio::test]
async fn a_place_is_free_again_when_its_connection_has_ended() {
    let (_server, address) = start(StunServerConfig {
        max_connections: 1,
        ..StunServerConfig::default()
    });
    let mut stream = connect(address).await;
    stream.shutdown().await.unwrap();
    // The end of the stream says that the server has let go of it, or is about to.
    assert!(!ends_by_reset(&mut stream).await);
    let again = async {
        while query(&Host::default(), any_port(), address, LONG)
            .await
            .is_err()
        {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, again).await.unwrap();
}

#[tokio::test]
async fn a_message_begun_must_be_completed() {
    let (_server, address) = start(StunServerConfig {
        partial_limit: Duration::from_millis(50),
        ..StunServerConfig::default()
    });
    let mut quiet = connect(address).await;
    let mut slow = connect(address).await;
    let (_, request) = binding::request(None);
    slow.write_all(&request[..7]).await.unwrap();
    ends_by_reset(&mut slow).await;
    // The one that has not begun a message is not affected.
    quiet.write_all(&request).await.unwrap();
    let mut reader = MessageReader::new(quiet);
    assert!(
        timeout(LONG, reader.next())
            .await
            .unwrap()
            .unwrap()
            .is_some()
    );
}

#[tokio::test]
async fn a_trickle_of_bytes_does_not_prolong_the_time_for_a_message() {
    let (_server, address) = start(StunServerConfig {
        partial_limit: Duration::from_millis(100),
        ..StunServerConfig::default()
    });
    let stream = connect(address).await;
    let (mut read, mut write) = stream.into_split();
    let trickle = async {
        loop {
            for byte in b"\x00\x01\x07\x00\x21\x12\xa4\x42".iter().chain([&0; 1000]) {
                tokio::time::sleep(Duration::from_millis(20)).await;
                if write.write_all(&[*byte]).await.is_err() {
                    return;
                }
            }
        }
    };
    let mut rest = Vec::new();
    tokio::select! {
        () = trickle => {}
        _ended = read.read_to_end(&mut rest) => {}
        () = tokio::time::sleep(LONG) => panic!("the connection was kept"),
    }
}

#[tokio::test]
async fn who_stops_asking_is_closed_after_the_idle_limit() {
    let (_server, address) = start(StunServerConfig {
        idle_limit: Duration::from_millis(50),
        ..StunServerConfig::default()
    });
    let mut stream = connect(address).await;
    stream.write_all(&binding::request(None).1).await.unwrap();
    assert!(!ends_by_reset(&mut stream).await, "by FIN, not by RST");
}

#[tokio::test]
async fn a_flood_of_requests_is_slowed_down() {
    let (_server, address) = start(StunServerConfig {
        requests_per_second: 1,
        request_burst: 4,
        ..StunServerConfig::default()
    });
    let start = tokio::time::Instant::now();
    let mut stream = connect(address).await;
    // The connection itself has cost one, so the answer to the fourth waits for a second.
    let bytes = (0..4).map(|_| binding::request(None).1).collect::<Vec<_>>();
    stream.write_all(&bytes.concat()).await.unwrap();
    let mut reader = MessageReader::new(stream);
    for _ in 0..4 {
        assert!(
            timeout(LONG, reader.next())
                .await
                .unwrap()
                .unwrap()
                .is_some()
        );
    }
    assert!(start.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn dropping_or_shutting_down_closes_everything() {
    let (server, address) = start(StunServerConfig::default());
    let mut stream = connect(address).await;
    stream.write_all(&binding::request(None).1).await.unwrap();
    let mut reader = MessageReader::new(stream);
    assert!(reader.next().await.unwrap().is_some());
    server.shutdown().await;
    assert!(matches!(
        timeout(LONG, reader.next()).await.unwrap(),
        Ok(None) | Err(_)
    ));
    assert_eq!(
        query(&Host::default(), any_port(), address, LONG).await,
        Err(MappingError::Refused)
    );
}

#[tokio::test]
async fn one_server_serves_both_address_families() {
    let v6 = SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, 0));
    let server = StunServer::bind(&[any_port(), v6], StunServerConfig::default())
        .unwrap()
        .spawn();
    for (local, address) in [any_port(), v6].into_iter().zip(server.local_addrs()) {
        let mapped = query(&Host::default(), local, *address, LONG)
            .await
            .unwrap();
        assert_eq!(mapped.ip(), local.ip());
    }
    assert_eq!(
        query(&Host::default(), any_port(), server.local_addrs()[1], LONG).await,
        Err(MappingError::Bind(io::ErrorKind::InvalidInput))
    );
}

#[tokio::test]
async fn a_second_server_on_the_same_port_is_an_error() {
    let (_server, address) = start(StunServerConfig::default());
    let error = StunServer::bind(&[address], StunServerConfig::default()).unwrap_err();
    assert_eq!(error.source.kind(), io::ErrorKind::AddrInUse);
    assert_eq!((error.address, error.transport), (address, "TCP"));
}

fn free_port() -> SocketAddr {
    // Nobody takes it in the moment between.
    let listener = std::net::TcpListener::bind(any_port()).unwrap();
    listener.local_addr().unwrap()
}

#[tokio::test]
async fn a_client_is_connected_back_to_from_another_port_and_another_address() {
    use BackFrom::{OtherAddress, OtherPort};
    let addresses = ["127.0.0.1:0", "127.0.0.2:0"].map(|text| text.parse().unwrap());
    let server = StunServer::bind(&addresses, StunServerConfig::default()).unwrap();
    let server = server.spawn();
    let local = free_port();
    let (host, mut seen) = (Host::default(), None);
    let asking = connect_back(&host, local, server.local_addrs()[0], LONG, |mapped| {
        seen = Some(mapped)
    });
    let backs = asking.await.unwrap();
    assert_eq!(seen, Some(local));
    let arrived = |from| ConnectBack {
        from,
        outcome: BackOutcome::Connected,
    };
    assert_eq!(backs.unwrap(), [arrived(OtherPort), arrived(OtherAddress)]);
}

#[tokio::test]
async fn what_nobody_listens_for_is_reset() {
    let (_server, address) = start(StunServerConfig::default());
    let mut reader = MessageReader::new(connect(address).await);
    let (transaction, request) = binding::request_back(LONG);
    reader.get_mut().write_all(&request).await.unwrap();
    let message = timeout(LONG, reader.next()).await.unwrap().unwrap();
    let response = binding::response(&message.unwrap(), None).unwrap().unwrap();
    assert_eq!(response.transaction, transaction);
    let reset = ConnectBack {
        from: BackFrom::OtherPort,
        outcome: BackOutcome::Reset,
    };
    assert_eq!(response.result.unwrap().backs.unwrap(), [reset]);
}

/// Answers each question for a connection back by the next of these outcomes.
async fn connected_back(answers: &[Option<BackOutcome>]) -> Option<Vec<BackOutcome>> {
    let listener = tokio::net::TcpListener::bind(any_port()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let serve = async {
        let (stream, remote) = listener.accept().await.unwrap();
        let mut reader = MessageReader::new(stream);
        // It is asked for the mapping alone before.
        for outcome in [&None].into_iter().chain(answers) {
            let message = reader.next().await.unwrap().unwrap();
            let from = BackFrom::OtherPort;
            let back = outcome.map(|outcome| ConnectBack { from, outcome });
            let backs = back.as_slice();
            let caller = answer::Caller {
                remote,
                backs,
                place: None,
                manner: answer::Manner::Stream,
            };
            let config = StunServerConfig::default();
            let Ok(answer::Answer::Send(bytes)) = answer::answer(&message, caller, &config, 0)
            else {
                panic!("no answer to {message:?}");
            };
            reader.get_mut().write_all(&bytes).await.unwrap();
        }
        let more = reader.next().await;
        assert!(!matches!(more, Ok(Some(_))), "{more:?}");
    };
    let host = Host::default();
    let asking = connect_back(&host, free_port(), address, LONG, drop);
    let (_, answer) = timeout(LONG, async { tokio::join!(serve, asking) })
        .await
        .unwrap();
    let backs = answer.unwrap();
    Some(backs?.iter().map(|back| back.outcome).collect())
}

#[tokio::test]
async fn silence_counts_only_if_it_is_repeated() {
    use BackOutcome::{Connected, Reset, Silent};
    for outcomes in [
        &[Connected][..],
        &[Reset],
        &[Silent, Connected],
        &[Silent, Silent, Reset],
        &[Silent; 3],
    ] {
        let answers: Vec<_> = outcomes.iter().copied().map(Some).collect();
        let backs = connected_back(&answers).await;
        assert_eq!(backs.as_deref(), Some(outcomes));
    }
    assert_eq!(connected_back(&[Some(Silent), None, None]).await, None);
    let busy = connected_back(&[Some(Silent), None, Some(Silent)]).await;
    assert_eq!(busy, Some(vec![Silent; 2]));
}

#[tokio::test]
async fn a_server_that_does_not_connect_back_answers_without() {
    let config = StunServerConfig {
        max_connect_backs: 0,
        ..StunServerConfig::default()
    };
    let (_server, address) = start(config);
    let local = free_port();
    let (host, mut seen) = (Host::default(), None);
    let asking = connect_back(&host, local, address, LONG, |mapped| seen = Some(mapped));
    let answer = asking.await.unwrap();
    assert_eq!((seen, answer), (Some(local), None));
}

/// Sends a request by UDP, and returns who answers and what they say.
async fn asked_by_udp(server: SocketAddr, attributes: &[u8]) -> (SocketAddr, Vec<u8>) {
    let socket = tokio::net::UdpSocket::bind(any_port()).await.unwrap();
    let mut request = b"\x00\x01\x00\x00\x21\x12\xa4\x42abcdefghijkl".to_vec();
    request[3] = attributes.len().try_into().unwrap();
    request.extend(attributes);
    socket.send_to(&request, server).await.unwrap();
    let mut answer = vec![0; 200];
    let received = timeout(LONG, socket.recv_from(&mut answer)).await.unwrap();
    let (len, from) = received.unwrap();
    answer.truncate(len);
    let response = binding::response(&answer, None).unwrap().unwrap();
    let mapped = response.result.unwrap().mapped;
    assert_eq!(mapped, socket.local_addr().unwrap());
    (from, answer)
}

fn at_two(transports: StunTransports) -> StunServerConfig {
    StunServerConfig {
        transports,
        alternates: vec![([127, 0, 0, 2], 0).into()],
        ..StunServerConfig::default()
    }
}

#[tokio::test]
async fn a_datagram_is_answered_from_where_the_client_wishes() {
    let any = [any_port()];
    let server = StunServer::bind(&any, at_two(StunTransports::Both)).unwrap();
    let (meter, address) = (server.meter(), server.local_addrs()[0]);
    let server = server.spawn();
    let [one, second, third, other] = *server.local_addrs() else {
        panic!("{:?}", server.local_addrs());
    };
    assert_eq!(one, address);
    for (flags, expected) in [(0, one), (2, second), (4, third), (6, other)] {
        let (from, _) = asked_by_udp(one, &[0, 3, 0, 4, 0, 0, 0, flags]).await;
        assert_eq!(from, expected);
    }
    assert_eq!(asked_by_udp(other, &[]).await.0, other);
    assert_eq!((meter.datagrams(), meter.requests()), (5, 0));
    // And all four take connections.
    for address in server.local_addrs() {
        let seen = query(&Host::default(), any_port(), *address, LONG).await;
        assert!(seen.is_ok());
    }
    assert_eq!((meter.accepted(), meter.requests()), (4, 4));
}

#[tokio::test]
async fn a_server_at_all_addresses_answers_datagrams_from_the_one_that_was_asked() {
    let all = SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 0));
    let config = StunServerConfig {
        transports: StunTransports::Udp,
        ..StunServerConfig::default()
    };
    let server = StunServer::bind(&[all], config).unwrap().spawn();
    let asked = SocketAddr::from(([127, 0, 0, 5], server.local_addrs()[0].port()));
    assert_eq!(asked_by_udp(asked, &[]).await.0, asked);
}

#[tokio::test]
async fn datagrams_that_come_too_fast_are_not_answered() {
    let config = StunServerConfig {
        transports: StunTransports::Udp,
        datagrams_per_second: 1,
        datagram_burst: 3,
        ..StunServerConfig::default()
    };
    let server = StunServer::bind(&[any_port()], config).unwrap();
    let (meter, address) = (server.meter(), server.local_addrs()[0]);
    let _server = server.spawn();
    for _ in 0..3 {
        asked_by_udp(address, &[]).await;
    }
    let socket = tokio::net::UdpSocket::bind(any_port()).await.unwrap();
    let (_, request) = binding::request(None);
    socket.send_to(&request, address).await.unwrap();
    socket.send_to(b"no request", address).await.unwrap();
    while meter.foreign() == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!((meter.datagrams(), meter.too_fast()), (3, 1));
}

#[tokio::test]
async fn an_alternate_goes_with_one_address_of_its_family() {
    let second = SocketAddr::from(([127, 0, 0, 3], 0));
    let v6 = SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, 0));
    for addresses in [
        &[any_port(), second][..],
        &[v6],
        &[(Ipv4Addr::UNSPECIFIED, 0).into()],
    ] {
        let error = StunServer::bind(addresses, at_two(StunTransports::Both)).unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::InvalidInput);
    }
}
