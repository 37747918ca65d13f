//! Tests of how messages are found in a stream.

#![expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use proptest::prelude::*;
use tokio::io::ReadBuf;

use super::*;
use crate::rfc5769;

/// Hands out `data` in pieces of the given lengths, then all that is left.
struct Pieces {
    data: Vec<u8>,
    lengths: Vec<usize>,
}

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let wanted = self.lengths.pop().unwrap_or(usize::MAX);
        let length = wanted.min(buffer.remaining()).min(self.data.len());
        let rest = self.data.split_off(length);
        buffer.put_slice(&self.data);
        self.data = rest;
        Poll::Ready(Ok(()))
    }
}

fn read_all(data: &[u8], lengths: Vec<usize>) -> (Vec<Vec<u8>>, io::Result<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let mut reader = MessageReader::new(Pieces {
        data: data.to_vec(),
        lengths,
    });
    let mut messages = Vec::new();
    let end = runtime.block_on(async {
        loop {
            let next = reader.next().await;
            assert!(reader.buffer.capacity() <= MAX_MESSAGE + CHUNK);
            match next {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    });
    (messages, end)
}

fn error_of(data: &[u8]) -> FrameError {
    let error = read_all(data, vec![]).1.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    *error.get_ref().unwrap().downcast_ref().unwrap()
}

#[test]
fn what_is_not_stun_is_told_apart() {
    assert_eq!(error_of(b"GET /"), FrameError::FirstByte(b'G'));
    assert_eq!(error_of(b"\x16\x03\x01"), FrameError::Truncated);
    assert_eq!(
        error_of(b"\x00\x01\x00\x00\x21\x13"),
        FrameError::MagicCookie
    );
    assert_eq!(error_of(b"\x00\x01\x00\x03\x21"), FrameError::Misaligned(3));
    assert_eq!(error_of(b"\x00\x01\xff\xfc"), FrameError::TooLong(0xFFFC));
    assert_eq!(error_of(&rfc5769::REQUEST[..50]), FrameError::Truncated);
}

#[test]
fn the_longest_message_is_read_and_a_longer_one_refused() {
    let body = u16::try_from(MAX_MESSAGE - HEADER).unwrap();
    let mut longest = b"\x00\x01\x00\x00\x21\x12\xa4\x42".to_vec();
    longest[2..4].copy_from_slice(&body.to_be_bytes());
    longest.resize(MAX_MESSAGE, 0);
    assert_eq!(read_all(&longest, vec![]).0, [longest.clone()]);
    longest[2..4].copy_from_slice(&(body + 4).to_be_bytes());
    assert_eq!(error_of(&longest), FrameError::TooLong(body + 4));
}

#[test]
fn a_good_message_before_garbage_is_still_delivered() {
    let mut data = rfc5769::REQUEST.to_vec();
    data.extend(b"garbage");
    let (messages, end) = read_all(&data, vec![]);
    assert_eq!(messages, [rfc5769::REQUEST]);
    assert!(end.is_err());
}

proptest! {
    #[test]
    fn any_split_gives_the_same_messages(
        lengths in prop::collection::vec(1_usize..200, 0..40),
    ) {
        let sent = [rfc5769::REQUEST, rfc5769::IPV4_RESPONSE, rfc5769::IPV6_RESPONSE];
        let (messages, end) = read_all(&sent.concat(), lengths);
        prop_assert_eq!(messages, sent);
        prop_assert!(end.is_ok());
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        data in prop::collection::vec(any::<u8>(), 0..5000),
        lengths in prop::collection::vec(1_usize..900, 0..10),
    ) {
        let (messages, _) = read_all(&data, lengths);
        prop_assert!(messages.concat().len() <= data.len());
    }

    #[test]
    fn arbitrary_lengths_stay_within_the_limit(
        length in any::<u16>(),
        data in prop::collection::vec(any::<u8>(), 0..5000),
    ) {
        let mut bytes = b"\x00\x01\x00\x00\x21\x12\xa4\x42".to_vec();
        bytes[2..4].copy_from_slice(&length.to_be_bytes());
        bytes.extend(data);
        for message in read_all(&bytes, vec![]).0 {
            prop_assert!(message.len() <= MAX_MESSAGE);
        }
    }
}
