//! What comes to a STUN server, and to its clients.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use p2pconnect_proto::portable;
use p2pconnect_stun::{
    Commitment, MappingError, StunServerConfig,
    framing::{FrameError, HEADER, MAX_MESSAGE, MessageReader, message_length},
    fuzzing,
};
use tokio::io::{AsyncRead, ReadBuf};

use crate::{input::Input, says_why};

/// The types of a Binding request and its two responses (RFC 8489 section 5).
const REQUEST: u16 = 0x0001;
const SUCCESS: u16 = 0x0101;
const ERROR: u16 = 0x0111;

/// Two addresses of a server, with two ports.
const ADDRESSES: [&str; 2] = ["198.51.100.1:3478", "198.51.100.2:3479"];

/// What a server says to a request that holds what it must understand and does not (RFC 8489
/// section 14.8).
const UNKNOWN_ATTRIBUTE: u16 = 420;

/// Takes an input for what comes to a STUN server, and to a client, in pieces of some size.
///
/// The messages do not depend on the pieces. Binding requests are answered and nothing else is,
/// least of all an answer. A client understands what the server says. What has come as one datagram
/// is answered from one of the server's addresses, to whoever has sent it, and shortly.
pub fn stun(input: &[u8]) {
    let mut input = Input::new(input);
    let (piece, is_ipv6) = (usize::from(input.u8()).max(1), input.u8() % 2 == 1);
    let remote = if is_ipv6 {
        ([0x2001, 0xDB8, 0, 0, 0, 0, 0, 1], 65_535).into()
    } else {
        ([192, 0, 2, 1], 1).into()
    };
    let bytes = input.rest();
    let (messages, end) = cut(bytes);
    let (same, same_end) = read(bytes, piece);
    assert_eq!(same, messages);
    // Which of two reasons is found first may depend on the pieces.
    let is_cut = |end: Option<FrameError>| end.map(|why| why == FrameError::Truncated);
    assert_eq!(is_cut(same_end), is_cut(end));
    for message in messages {
        check(&message, remote);
    }
    check_datagram(bytes, remote);
}

fn check_datagram(bytes: &[u8], remote: SocketAddr) {
    let config = StunServerConfig::default();
    let addresses = ADDRESSES.map(|it| it.parse().unwrap());
    let Some(reply) = fuzzing::answer_datagram(bytes, remote, addresses, &config) else {
        return;
    };
    assert_eq!(kind(bytes), REQUEST);
    assert_eq!(
        reply.bytes[4..HEADER],
        bytes[4..HEADER],
        "another transaction"
    );
    assert!(reply.bytes.len() <= 3 * bytes.len() + 3 * HEADER);
    assert!(addresses.iter().any(|it| it.ip() == reply.from.ip()));
    assert!(addresses.iter().any(|it| it.port() == reply.from.port()));
    assert_eq!(reply.to.ip(), remote.ip());
    assert!(reply.to.port() != 0);
    let again = fuzzing::answer_datagram(&reply.bytes, remote, addresses, &config);
    assert_eq!(again, None, "an answer is answered");
}

/// Cuts what has come as a whole into messages, and says why there are no more.
fn cut(mut bytes: &[u8]) -> (Vec<Vec<u8>>, Option<FrameError>) {
    let mut messages = Vec::new();
    loop {
        let length = match message_length(bytes) {
            Ok(Some(length)) => length,
            Ok(None) if bytes.is_empty() => return (messages, None),
            Ok(None) => return (messages, Some(FrameError::Truncated)),
            Err(why) => {
                says_why(&why, &[]);
                return (messages, Some(why));
            }
        };
        assert!((HEADER..=MAX_MESSAGE).contains(&length) && length.is_multiple_of(4));
        let Some((message, rest)) = bytes.split_at_checked(length) else {
            return (messages, Some(FrameError::Truncated));
        };
        messages.push(message.to_vec());
        bytes = rest;
    }
}

/// Reads what comes in pieces, as a client does.
fn read(bytes: &[u8], piece: usize) -> (Vec<Vec<u8>>, Option<FrameError>) {
    let mut reader = MessageReader::new(Pieces { bytes, piece });
    let mut messages = Vec::new();
    loop {
        let next = std::pin::pin!(reader.next());
        match next.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(Some(message))) => messages.push(message),
            Poll::Ready(Ok(None)) => return (messages, None),
            Poll::Ready(Err(error)) => {
                let why = error.get_ref().and_then(|it| it.downcast_ref());
                return (messages, Some(*why.unwrap()));
            }
            Poll::Pending => panic!("it waits for what is there"),
        }
    }
}

/// A stream that brings so many bytes at a time.
struct Pieces<'a> {
    bytes: &'a [u8],
    piece: usize,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let len = self.piece.min(buf.remaining()).min(self.bytes.len());
        let (now, later) = self.bytes.split_at(len);
        buf.put_slice(now);
        self.bytes = later;
        Poll::Ready(Ok(()))
    }
}

fn kind(message: &[u8]) -> u16 {
    u16::from_be_bytes([message[0], message[1]])
}

fn check(message: &[u8], remote: SocketAddr) {
    let mut config = StunServerConfig::default();
    config.software = Some("p2pconnect".to_owned());
    match fuzzing::answer(message, remote, &config, 1) {
        Ok(Some(answer)) => {
            assert_eq!(kind(message), REQUEST);
            assert_eq!(answer[4..HEADER], message[4..HEADER], "another transaction");
            assert_eq!(message_length(&answer), Ok(Some(answer.len())));
            assert_eq!(fuzzing::answer(&answer, remote, &config, 1), Ok(None));
            match (kind(&answer), fuzzing::read(&answer, None)) {
                (SUCCESS, Ok(Some(success))) => assert_eq!(success.mapped, remote),
                (ERROR, Err(MappingError::Rejected(code))) => assert_eq!(code, UNKNOWN_ATTRIBUTE),
                (kind, read) => panic!("{kind:#06x} is read as {read:?}"),
            }
        }
        Ok(None) => {}
        Err(why) => says_why(&why, message),
    }
    let commitment = Commitment::new([7; 16], &p2pconnect_proto::PeerId::from_public_key([1; 32]));
    match fuzzing::read(message, Some(&commitment)) {
        Ok(Some(success)) => {
            assert_eq!(kind(message), SUCCESS);
            let mapped = success.mapped;
            assert!(mapped.port() != 0 && !mapped.ip().is_unspecified());
            assert_eq!(portable(mapped), mapped);
            assert!(success.token.is_none_or(|it| it.salt == commitment.salt()));
        }
        // What answers another method's request is nothing to a client that asks for its binding.
        Ok(None) => assert_ne!(kind(message), SUCCESS, "a response is passed over"),
        Err(why) => says_why(&why, message),
    }
}
