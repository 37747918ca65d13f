//! A stream that begins anew, and what the peer gets of it.

use p2pconnect_host::ReadHalf;
use p2pconnect_identity::SecretKey;
use p2pconnect_proto::{CandidateKind, PeerId, Role};
use p2pconnect_punch::{CandidatePair, How, Stats};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, split},
    time::timeout,
};

use super::*;
use crate::{
    Connection,
    machine::{loopback, tcp::STREAM_SILENCE},
    stream::{
        coordinated_handshake::{CoordinatedHandshake, Progress, wire},
        opened_path::OpenedPath,
        path_ledger::PathLedger,
        preamble::Preamble,
        transport::{Unconfirmed, Update},
    },
};

const PATIENCE: Duration = Duration::from_secs(10);

const PEER: PeerId = PeerId::from_public_key([1; 32]);

/// What a stream begins with.
const SAID: &[u8] = b"said before anybody has answered";

/// Returns the dialler's and the callee's end of a handshake that is over.
async fn ends() -> (TlsStream<Transport>, TlsStream<Transport>) {
    let [one, other] = [(); 2].map(|()| SecretKey::generate().unwrap());
    let (mut dialling, hello) = CoordinatedHandshake::dialling(&one, other.peer_id())
        .await
        .unwrap();
    let mut called = CoordinatedHandshake::called(&other, one.peer_id(), hello).unwrap();
    wire(&mut dialling, &mut called);
    for end in [&dialling, &called] {
        let is_done = |progress: &Progress| matches!(progress, Progress::Done(_));
        drop(end.progress().wait_for(is_done).await.unwrap());
    }
    (
        dialling.take_stream().unwrap(),
        called.take_stream().unwrap(),
    )
}

/// Returns what a dial comes to with its n-th introduction.
fn established(stream: TlsStream<Transport>, rounds: u32) -> Established {
    let at = ([127, 0, 0, 1], 1).into();
    let pair = CandidatePair {
        local: at,
        remote: at,
        kind: CandidateKind::Host,
    };
    let now = Instant::now();
    let opened = OpenedPath {
        pair,
        how: How::Connected,
        at: now,
    };
    let ledger = PathLedger {
        peer: PEER,
        pair_rotation: Arc::default(),
        metrics: Arc::default(),
    };
    let stream_path = StreamPath::new(&ledger, UsablePath::new(opened, Stats::default()));
    let punched = Punched {
        stream,
        stream_path: Arc::new(stream_path),
        role: Role::Controlling,
        silence: STREAM_SILENCE,
        predecessors: Vec::new(),
    };
    let steps = Steps {
        began: now,
        introduced: Duration::ZERO,
        usable: now,
        rounds,
    };
    let lease = Arc::new(());
    Established {
        punched,
        steps,
        lease,
    }
}

/// A connection that is used before anybody has answered on it. It comes to nothing when the sender
/// is dropped.
async fn unconfirmed(rounds: u32) -> (Established, mpsc::Sender<Update>) {
    let (established, Late { updates, .. }) = late(rounds).await;
    (established, updates)
}

/// What it takes to answer on a connection that is used already.
struct Late {
    there: TlsStream<Transport>,
    answered: ReadHalf,
    updates: mpsc::Sender<Update>,
}

/// A connection that is used before the peer has answered on it, which may come.
async fn late(rounds: u32) -> (Established, Late) {
    let (mut here, mut there) = ends().await;
    let (one, other) = loopback::connection().await;
    let (answered, half) = one.into_split();
    let (updates, receiver) = mpsc::channel(1);
    *here.get_mut().0 = Transport::Unconfirmed(Box::new(Unconfirmed::new(half, receiver)));
    *there.get_mut().0 = Transport::Direct(Preamble::passed(other));
    let late = Late {
        there,
        answered,
        updates,
    };
    (established(here, rounds), late)
}

/// A connection that the peer has answered on, and the peer's end.
async fn answered(rounds: u32) -> (Established, TlsStream<Transport>) {
    let (mut here, mut there) = ends().await;
    let (one, other) = loopback::connection().await;
    *here.get_mut().0 = Transport::Direct(Preamble::passed(one));
    *there.get_mut().0 = Transport::Direct(Preamble::passed(other));
    (established(here, rounds), there)
}

type Successors = mpsc::Sender<Result<Established, DialError>>;

/// Returns a stream on the first of these, and where to give it what comes next.
fn stream(first: Established) -> (Stream, Successors) {
    let (successors, next) = mpsc::channel(1);
    let dial = AbortOnDrop::spawn(std::future::pending());
    let mut stream = Stream::new(first);
    stream.expect(Successor::new(next, dial));
    (stream, successors)
}

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("it comes in time")
}

/// Accepts a stream as the callee, and expects to read this.
async fn accept(mut there: TlsStream<Transport>, expected: &[u8]) -> TlsStream<Transport> {
    let mut answer = AnswerState::of(Role::Controlled);
    let given = std::future::poll_fn(|cx| answer.poll_given(&mut there, cx)).await;
    given.unwrap();
    there.flush().await.unwrap();
    let mut heard = vec![0; expected.len()];
    in_time(there.read_exact(&mut heard)).await.unwrap();
    assert!(heard == expected, "once and in order");
    there
}

#[tokio::test]
async fn what_was_written_is_written_again_and_nothing_twice() {
    let (first, updates) = unconfirmed(1).await;
    let (mut stream, successors) = stream(first);
    stream.write_all(SAID).await.unwrap();
    stream.flush().await.unwrap();
    drop(updates);
    // Another one that comes to nothing, after it has had everything and a part more.
    let (second, updates) = unconfirmed(2).await;
    successors.send(Ok(second)).await.unwrap();
    stream.write_all(b", and more").await.unwrap();
    drop(updates);
    let (third, there) = answered(3).await;
    successors.send(Ok(third)).await.unwrap();
    assert!(!*stream.confirmation().borrow());

    let expected = [SAID, b", and more, and the rest"].concat();
    let accepting = tokio::spawn(async move {
        let mut there = accept(there, &expected).await;
        there.write_all(b"answer").await.unwrap();
        there.flush().await.unwrap();
        there
    });
    in_time(stream.write_all(b", and the rest")).await.unwrap();
    let mut heard = [0; 6];
    in_time(stream.read_exact(&mut heard)).await.unwrap();
    assert_eq!(&heard, b"answer");
    let mut there = in_time(accepting).await.unwrap();
    assert_eq!(stream.path().1.rounds, 3);
    assert!(*stream.confirmation().borrow());
    assert!(stream.replay.is_none(), "nothing is kept any more");
    // What is written now is not written a second time either.
    stream.write_all(b"at last").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut rest = Vec::new();
    in_time(there.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(rest, b"at last");
}

#[tokio::test]
async fn both_halves_of_a_stream_begin_anew() {
    let (first, updates) = unconfirmed(1).await;
    let (stream, successors) = stream(first);
    let (mut reader, mut writer) = split(stream);
    // As much as is taken before the peer has answered, of which TCP has got a part.
    let said: Vec<u8> = (0..20_000_u32).flat_map(u32::to_le_bytes).collect();
    writer.write_all(&said[..50_000]).await.unwrap();
    let written = tokio::spawn(async move {
        writer.write_all(&said[50_000..]).await.unwrap();
        writer.shutdown().await.unwrap();
        said
    });
    let read = tokio::spawn(async move {
        let mut heard = Vec::new();
        reader.read_to_end(&mut heard).await.map(|_| heard)
    });
    tokio::task::yield_now().await;
    drop(updates);
    let (second, there) = answered(2).await;
    successors.send(Ok(second)).await.unwrap();
    let mut there = accept(there, &[]).await;
    let mut heard = Vec::new();
    in_time(there.read_to_end(&mut heard)).await.unwrap();
    assert!(heard == in_time(written).await.unwrap());
    there.write_all(b"answer").await.unwrap();
    there.shutdown().await.unwrap();
    let heard = in_time(read).await.unwrap().unwrap();
    assert_eq!(heard, b"answer");
}

#[tokio::test]
async fn a_connection_that_is_answered_on_late_has_everything_once() {
    // As the first connection of a dial, and as what follows on one that came to nothing.
    for rounds in [1, 2] {
        let (first, mut late) = late(rounds).await;
        let (mut stream, successors) = match rounds {
            1 => stream(first),
            _ => {
                let (lost, _) = unconfirmed(1).await;
                let (mut stream, successors) = stream(lost);
                successors.send(Ok(first)).await.unwrap();
                stream.write_all(SAID).await.unwrap();
                (stream, successors)
            }
        };
        if rounds == 1 {
            stream.write_all(SAID).await.unwrap();
        }
        stream.write_all(b", and more").await.unwrap();
        let mut buf = [0; 6];
        tokio::select! {
            biased;
            read = stream.read(&mut buf) => panic!("{read:?}"),
            () = tokio::task::yield_now() => {}
        }
        late.updates
            .send(Update::Confirmed(late.answered))
            .await
            .unwrap();
        let expected = [SAID, b", and more"].concat();
        let answering = async {
            late.there = accept(late.there, &expected).await;
            late.there.write_all(b"answer").await.unwrap();
            late.there.flush().await.unwrap();
        };
        let (read, ()) =
            in_time(async { tokio::join!(stream.read_exact(&mut buf), answering) }).await;
        read.unwrap();
        assert_eq!(&buf, b"answer");
        assert_eq!(stream.path().1.rounds, rounds);
        assert!(*stream.confirmation().borrow() && stream.replay.is_none());
        drop(successors);
    }
}

#[tokio::test]
async fn a_dial_that_comes_to_nothing_tells_why() {
    for (why, expected) in [
        (Some(DialError::PeerBusy), "busy"),
        (None, "no answer of the peer"),
    ] {
        let (first, updates) = unconfirmed(1).await;
        let (mut stream, successors) = stream(first);
        drop(updates);
        match why {
            Some(why) => successors.send(Err(why)).await.unwrap(),
            // The peer may have got what was written.
            None => drop(successors),
        }
        let error = in_time(stream.read(&mut [0])).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        let error = error.downcast::<DialError>().unwrap();
        let error = match error {
            DialError::Broken(error) => error.to_string(),
            error => error.to_string(),
        };
        assert!(error.contains(expected), "{error}");
    }
}

#[tokio::test]
async fn nothing_is_acknowledged_before_the_peer_has_answered() {
    let (first, updates) = unconfirmed(1).await;
    let mut connection = Connection::new(PEER, first);
    connection.write_all(SAID).await.unwrap();
    tokio::select! {
        biased;
        acknowledged = connection.acknowledged() => panic!("{acknowledged:?}"),
        () = tokio::task::yield_now() => {}
    }
    drop(updates);
    in_time(connection.acknowledged()).await.unwrap_err();
}

#[tokio::test]
async fn a_stream_that_breaks_after_an_answer_does_not_begin_anew() {
    let (first, updates) = unconfirmed(1).await;
    let (mut stream, successors) = stream(first);
    drop(updates);
    let (second, there) = answered(2).await;
    successors.send(Ok(second)).await.unwrap();
    // The stream finds its successor, and waits there.
    let mut buf = [0];
    tokio::select! {
        biased;
        read = stream.read(&mut buf) => panic!("{read:?}"),
        () = tokio::task::yield_now() => {}
    }
    let (third, _other) = answered(3).await;
    drop(successors.try_send(Ok(third)));
    drop(there);
    let error = in_time(stream.read(&mut [0])).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    assert_eq!(stream.path().1.rounds, 2);
}
