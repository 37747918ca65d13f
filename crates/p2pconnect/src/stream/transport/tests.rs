//! A stream whose halves belong to two tasks, before the peer has answered and after.

use std::time::Duration;

use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf, split},
    net::TcpListener,
    task::yield_now,
    time::timeout,
};

use super::*;

const PATIENCE: Duration = Duration::from_secs(10);

/// A stream that is used early, and what becomes of it.
struct Early {
    reader: ReadHalf<Transport>,
    writer: WriteHalf<Transport>,
    updates: mpsc::Sender<Update>,
    written: Written,
    answered: p2pconnect_host::ReadHalf,
    peer: tokio::net::TcpStream,
}

impl Early {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        // Less than what may be unconfirmed.
        let room = 4096;
        SockRef::from(&listener).set_recv_buffer_size(room).unwrap();
        let address = listener.local_addr().unwrap();
        let (stream, accepted) =
            tokio::join!(tokio::net::TcpStream::connect(address), listener.accept());
        let stream = stream.unwrap();
        SockRef::from(&stream).set_send_buffer_size(room).unwrap();
        let (answered, half) = TcpStream::from(stream).into_split();
        let (updates, receiver) = mpsc::channel(2);
        let heard = Update::Heard {
            local: half.as_ref().local_addr().unwrap(),
            remote: half.as_ref().peer_addr().unwrap(),
        };
        updates.try_send(heard).unwrap();
        let unconfirmed = Unconfirmed::new(half, receiver);
        let written = unconfirmed.written();
        let (reader, writer) = split(Transport::Unconfirmed(Box::new(unconfirmed)));
        Self {
            reader,
            writer,
            updates,
            written,
            answered,
            peer: accepted.unwrap().0,
        }
    }
}

#[tokio::test]
async fn a_connection_that_joins_brings_what_is_written_though_nobody_uses_the_stream() {
    let mut early = Early::new().await;
    early.writer.write_all(b"said").await.unwrap();
    let mut other = Early::new().await;
    let Transport::Unconfirmed(unconfirmed) = other.reader.unsplit(other.writer) else {
        panic!("it is unconfirmed no more");
    };
    let Unconfirmed {
        mut connections, ..
    } = *unconfirmed;
    let _joined = early.written.join(connections.remove(0).half);
    let mut heard = [0; 4];
    let hearing = timeout(PATIENCE, other.peer.read_exact(&mut heard));
    hearing.await.expect("nothing has come").unwrap();
    assert_eq!(&heard, b"said");
}

#[tokio::test]
async fn whoever_reads_goes_on_though_somebody_has_written_since() {
    let mut early = Early::new().await;
    let reading = tokio::spawn(async move {
        let mut heard = [0; 6];
        early.reader.read_exact(&mut heard).await.map(|_| heard)
    });
    // Begins to wait.
    yield_now().await;
    let writing = tokio::spawn(async move {
        early.writer.write_all(b"said").await.unwrap();
        early.writer
    });
    let _writer = writing.await.unwrap();
    let confirmed = Update::Confirmed(early.answered);
    early.updates.send(confirmed).await.unwrap();
    early.peer.write_all(b"answer").await.unwrap();
    let heard = timeout(PATIENCE, reading).await.expect("the reader sleeps");
    assert_eq!(&heard.unwrap().unwrap(), b"answer");
}

#[tokio::test]
async fn whoever_waits_to_write_goes_on_though_somebody_has_read_since() {
    let mut early = Early::new().await;
    let said = vec![1; MAX_UNCONFIRMED + 1];
    let all = said.len();
    let writing = tokio::spawn(async move {
        early.writer.write_all(&said).await.unwrap();
        early.writer
    });
    // TCP has room again, and the writer waits for the peer's answer alone.
    let mut heard = vec![0; MAX_UNCONFIRMED];
    early.peer.read_exact(&mut heard).await.unwrap();
    yield_now().await;
    let mut byte = [0];
    let _reading = tokio::spawn(async move { early.reader.read(&mut byte).await });
    yield_now().await;
    let confirmed = Update::Confirmed(early.answered);
    early.updates.send(confirmed).await.unwrap();
    let mut rest = vec![0; all - heard.len()];
    let reading = timeout(PATIENCE, early.peer.read_exact(&mut rest));
    reading.await.expect("the writer sleeps").unwrap();
    drop(writing.await.unwrap());
}

#[tokio::test]
async fn what_is_flushed_has_left() {
    let mut early = Early::new().await;
    let said = vec![1; MAX_UNCONFIRMED];
    let mut heard = vec![0; said.len()];
    let writing = tokio::spawn(async move {
        early.writer.write_all(&said).await.unwrap();
        early.writer.flush().await.unwrap();
        // Nobody polls it any more.
        early.writer
    });
    let reading = timeout(PATIENCE, early.peer.read_exact(&mut heard));
    reading.await.expect("the rest is still here").unwrap();
    drop(timeout(PATIENCE, writing).await.expect("the flush sleeps"));
}

#[tokio::test]
async fn a_dial_has_failed_where_no_connection_is_answered() {
    let mut early = Early::new().await;
    drop(early.updates);
    let error = early.reader.read(&mut [0]).await.unwrap_err();
    assert!(matches!(error.downcast(), Ok(DialError::Broken(_))));
}

#[tokio::test]
async fn both_directions_end_when_the_peer_is_silent() {
    let mut early = Early::new().await;
    let reading = tokio::spawn(async move { early.reader.read(&mut [0]).await.unwrap_err() });
    // Begins to wait.
    yield_now().await;
    let silence = Duration::from_secs(2);
    let update = Update::PeerSilent(silence);
    early.updates.send(update).await.unwrap();
    drop(early.updates);
    let read = timeout(PATIENCE, reading).await.expect("the reader sleeps");
    let written = early.writer.write(b"in vain").await;
    for error in [read.unwrap(), written.unwrap_err()] {
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        let why = error.get_ref().and_then(|it| it.downcast_ref());
        assert!(matches!(why, Some(DialError::PeerSilent(it)) if *it == silence));
    }
}

#[tokio::test]
async fn little_is_sent_where_nobody_has_been_heard() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stream, accepted) =
        tokio::join!(tokio::net::TcpStream::connect(address), listener.accept());
    let (_read, half) = TcpStream::from(stream.unwrap()).into_split();
    let mut there = accepted.unwrap().0;
    let (local, remote) = (
        half.as_ref().local_addr().unwrap(),
        half.as_ref().peer_addr().unwrap(),
    );
    let (updates, receiver) = mpsc::channel(1);
    let mut early = Transport::Unconfirmed(Box::new(Unconfirmed::new(half, receiver)));
    early.write_all(&[1; MAX_UNCONFIRMED]).await.unwrap();
    assert!(timeout(Duration::ZERO, early.flush()).await.is_err());
    let mut heard = vec![0; MAX_UNCONFIRMED];
    there.read_exact(&mut heard[..MAX_UNHEARD]).await.unwrap();
    let error = there.try_read(&mut heard).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    updates.send(Update::Heard { local, remote }).await.unwrap();
    let rest = there.read_exact(&mut heard[MAX_UNHEARD..]);
    let both = async { tokio::join!(early.flush(), rest) };
    let (flushed, read) = timeout(PATIENCE, both).await.unwrap();
    flushed.unwrap();
    read.unwrap();
}
