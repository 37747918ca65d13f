//! Tests of connections that come for TLS.

use super::*;
use crate::framing;

/// Starts a server, and returns where those arrive that come to it for TLS as well.
fn start_for_tls() -> (StunServerHandle, SocketAddr, mpsc::Receiver<TlsConnection>) {
    let (taker, taken) = tls_connections();
    let config = StunServerConfig {
        tls: Some(taker),
        ..StunServerConfig::default()
    };
    let (server, address) = start(config);
    (server, address, taken)
}

#[tokio::test]
async fn a_connection_that_comes_for_tls_is_handed_over_whole_and_counts_on() {
    let (server, address, mut taken) = start_for_tls();
    let mut stun = connect(address).await;
    stun.write_all(&binding::request(None).1).await.unwrap();
    assert_ne!(
        timeout(LONG, stun.read(&mut [0; 64]))
            .await
            .unwrap()
            .unwrap(),
        0
    );
    let mut client = connect(address).await;
    client.write_all(&[22, 3, 1]).await.unwrap();
    let TlsConnection {
        mut stream,
        remote,
        place,
    } = timeout(LONG, taken.recv()).await.unwrap().unwrap();
    assert_eq!(remote, client.local_addr().unwrap());
    let mut first = [0; 3];
    stream.read_exact(&mut first).await.unwrap();
    assert_eq!(first, [22, 3, 1]);
    assert_eq!(server.connections(), 2);
    drop(place);
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_connection_by_which_tls_goes_on_behind_stun_is_handed_over_from_there() {
    let (server, address, mut taken) = start_for_tls();
    let mut client = connect(address).await;
    // Without waiting for the answer.
    let bytes = [&binding::request(None).1[..], &[22, 3, 1]].concat();
    client.write_all(&bytes).await.unwrap();
    let arrived = timeout(LONG, taken.recv()).await.unwrap().unwrap();
    let TlsConnection {
        mut stream, place, ..
    } = arrived;
    let mut first = [0; 3];
    stream.read_exact(&mut first).await.unwrap();
    assert_eq!(first, [22, 3, 1]);
    stream.write_all(b"hello").await.unwrap();
    drop(stream);
    let mut heard = Vec::new();
    let reading = client.read_to_end(&mut heard);
    timeout(LONG, reading).await.unwrap().unwrap();
    let answered = framing::message_length(&heard).unwrap().unwrap();
    assert_eq!(&heard[answered..], b"hello");
    assert_eq!(server.connections(), 1);
    drop(place);
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn a_connection_that_stays_silent_is_ended_whoever_it_comes_for() {
    let (taker, _taken) = tls_connections();
    let config = StunServerConfig {
        tls: Some(taker),
        first_request_limit: Duration::from_millis(50),
        ..StunServerConfig::default()
    };
    let (_server, address) = start(config);
    assert!(ends_by_reset(&mut connect(address).await).await);
}

#[tokio::test]
async fn a_connection_that_comes_for_tls_where_nobody_waits_is_ended() {
    let (_server, address) = start(StunServerConfig::default());
    let mut client = connect(address).await;
    client.write_all(&[22, 3, 1, 0, 200]).await.unwrap();
    let end = timeout(LONG, client.read(&mut [0; 1])).await.unwrap();
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
}
