//! Tests over the loopback, with a server that answers as each of them says.

#![expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

use std::{net::Ipv4Addr, time::Duration};

use p2pconnect_host::{Host, Sharing, TcpListener};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use super::*;
use crate::{
    MappingError, Query,
    framing::HEADER,
    server::{
        StunServerConfig,
        answer::{Answer, Caller, Manner, answer},
    },
};

/// Above anything that loopback needs on a loaded machine.
const LONG: Duration = Duration::from_secs(20);

fn any_port() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

fn listener() -> (TcpListener, SocketAddr) {
    let socket = Host::default().tcp_socket(any_port(), Sharing::Exclusive);
    let listener = socket.unwrap().listen(8).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Asks, and returns the question, the server's end, what the server has read and its answer.
async fn ask() -> (Query, TcpStream, Vec<u8>) {
    let (listener, address) = listener();
    let host = Host::default();
    let query = Query::begin(&host, any_port(), address, LONG);
    let (query, accepted) = tokio::join!(query, listener.accept());
    let (mut server, remote) = accepted.unwrap();
    let mut request = vec![0; HEADER];
    server.read_exact(&mut request).await.unwrap();
    let length = u16::from_be_bytes([request[2], request[3]]);
    let mut rest = vec![0; length.into()];
    server.read_exact(&mut rest).await.unwrap();
    request.extend(rest);
    let caller = Caller {
        remote,
        backs: &[],
        place: None,
        manner: Manner::Stream,
    };
    let answer = answer(&request, caller, &StunServerConfig::default(), 0);
    let Ok(Answer::Send(answer)) = answer else {
        panic!("there is no answer");
    };
    (query.unwrap(), server, answer)
}

async fn read(stream: &mut Onward, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    let reading = stream.read_exact(&mut bytes);
    timeout(LONG, reading).await.unwrap().unwrap();
    bytes
}

#[tokio::test]
async fn what_goes_on_begins_behind_the_answer_however_the_bytes_come() {
    // In one piece, and with a border inside the answer, before what follows, and within that.
    let length = ask().await.2.len();
    for border in [0, 10, length, length + 3] {
        let (query, mut server, answer) = ask().await;
        let local = query.lasts();
        let (mut onward, told) = query.go_on();
        onward.write_all(b"said at once").await.unwrap();
        let mut heard = [0; 12];
        server.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"said at once");

        let seen = onward.as_ref().local_addr().unwrap();
        let all = [&answer[..], b"and heard"].concat();
        let (first, second) = all.split_at(border);
        server.write_all(first).await.unwrap();
        let reading = tokio::spawn(async move { (read(&mut onward, 9).await, onward) });
        tokio::task::yield_now().await;
        server.write_all(second).await.unwrap();
        assert_eq!(timeout(LONG, told).await.unwrap(), Ok(seen));
        let (heard, onward) = reading.await.unwrap();
        assert_eq!(heard, b"and heard");
        assert_eq!(local.strong_count(), 1);
        drop(onward);
        assert_eq!(local.strong_count(), 0);
    }
}

#[tokio::test]
async fn an_answer_that_has_come_before_is_not_waited_for_again() {
    let (mut query, mut server, answer) = ask().await;
    server.write_all(&answer).await.unwrap();
    server.write_all(b"more").await.unwrap();
    timeout(LONG, query.answer()).await.unwrap().unwrap();
    let (mut onward, told) = query.go_on();
    assert_eq!(read(&mut onward, 4).await, b"more");
    assert!(told.await.is_err());
}

#[tokio::test]
async fn a_server_may_go_on_without_an_answer() {
    let (query, mut server, _) = ask().await;
    let (mut onward, told) = query.go_on();
    server.write_all(&[22, 3, 3]).await.unwrap();
    assert_eq!(read(&mut onward, 3).await, [22, 3, 3]);
    assert!(told.await.is_err());

    let (query, server, _) = ask().await;
    let (mut onward, told) = query.go_on();
    server.shutdown_now().unwrap();
    let end = timeout(LONG, onward.read(&mut [0; 1])).await.unwrap();
    assert!(matches!(end, Ok(0)), "{end:?}");
    assert!(told.await.is_err());
}

#[tokio::test]
async fn answers_to_others_are_not_read_for_ever() {
    let (query, mut server, answer) = ask().await;
    let (mut onward, told) = query.go_on();
    let mut other = answer;
    // The transaction is the last of the header.
    other[HEADER - 1] ^= 1;
    let many = usize::try_from(MAX_MESSAGES).unwrap() + 1;
    server.write_all(&other.repeat(many)).await.unwrap();
    server.write_all(b"end").await.unwrap();
    assert_eq!(read(&mut onward, 3).await, b"end");
    assert!(told.await.is_err());
}

#[tokio::test]
async fn a_question_that_nobody_answers_ends() {
    let (_listener, address) = listener();
    let within = Duration::from_millis(50);
    let host = Host::default();
    let query = Query::begin(&host, any_port(), address, within);
    let mut query = query.await.unwrap();
    let answer = timeout(LONG, query.answer()).await.unwrap();
    assert!(matches!(answer, Err(MappingError::NoAnswer)), "{answer:?}");
}
