//! The answer to the nomination: the controlled side's first application bytes, before the stream.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use p2pconnect_proto::{
    Role,
    answer::{MAX_REASON, NominationAnswer, Progress},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::Refused;

/// How far the answer is, seen from either side.
#[derive(Debug)]
pub(crate) enum AnswerState {
    /// The peer has nominated the connection, and this side has not answered yet.
    Owed,
    /// The peer has not answered. So much of its answer has come.
    Awaited(Vec<u8>),
    /// The peer does not want the stream.
    Refused(Refused),
    /// The stream has begun.
    Given,
}

impl AnswerState {
    /// Returns what is to be done on the side with this role.
    pub(crate) const fn of(role: Role) -> Self {
        match role {
            Role::Controlling => Self::Awaited(Vec::new()),
            Role::Controlled => Self::Owed,
        }
    }

    /// Reads the peer's answer, unless that has been done, and nothing behind it.
    pub(crate) fn poll_heard<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let come = match self {
                Self::Owed | Self::Given => return Poll::Ready(Ok(())),
                Self::Refused(refused) => return Poll::Ready(Err(refused.clone().into())),
                Self::Awaited(come) => come,
            };
            match NominationAnswer::decode(come).map_err(invalid)? {
                Progress::Whole(NominationAnswer::Accepted) => *self = Self::Given,
                Progress::Whole(NominationAnswer::Refused(reason)) => {
                    *self = Self::Refused(Refused::new(reason));
                }
                Progress::Lacks(lacks) => {
                    let mut bytes = [0; MAX_REASON];
                    let mut buf = ReadBuf::new(&mut bytes[..lacks.min(MAX_REASON)]);
                    ready!(Pin::new(&mut *stream).poll_read(cx, &mut buf))?;
                    if buf.filled().is_empty() {
                        return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                    }
                    come.extend_from_slice(buf.filled());
                }
            }
        }
    }

    /// Writes `bufs` with what has to be in front of them, and returns how much of `bufs` was
    /// taken.
    pub(crate) fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Refused(refused) => return Poll::Ready(Err(refused.clone().into())),
            Self::Awaited(_) | Self::Given => {}
            Self::Owed => {
                let answer = NominationAnswer::Accepted.encode();
                // In one record, and so in one packet, with the first bytes of the stream.
                let all = std::iter::once(IoSlice::new(&answer)).chain(bufs.iter().copied());
                let all: Vec<_> = all.collect();
                let written = ready!(Pin::new(&mut *stream).poll_write_vectored(cx, &all))?;
                let Some(taken) = written.checked_sub(answer.len()) else {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                };
                *self = Self::Given;
                if taken > 0 {
                    return Poll::Ready(Ok(taken));
                }
            }
        }
        Pin::new(stream).poll_write_vectored(cx, bufs)
    }

    /// Writes this side's answer, unless that has been done.
    pub(crate) fn poll_given<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        match self {
            Self::Owed => self.poll_write(stream, cx, &[]).map_ok(drop),
            Self::Awaited(_) | Self::Given | Self::Refused(_) => Poll::Ready(Ok(())),
        }
    }
}

fn invalid(error: p2pconnect_proto::answer::InvalidAnswer) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn the_answer_is_in_front_of_the_first_bytes_and_is_no_part_of_them() {
        let (mut here, mut there) = duplex(64);
        let mut owed = AnswerState::of(Role::Controlled);
        for said in ["first", "second"] {
            let bufs = [IoSlice::new(said.as_bytes())];
            let taken = poll_fn(|cx| owed.poll_write(&mut there, cx, &bufs)).await;
            assert_eq!(taken.unwrap(), said.len());
        }
        let mut awaited = AnswerState::of(Role::Controlling);
        let heard = poll_fn(|cx| awaited.poll_heard(&mut here, cx)).await;
        heard.unwrap();
        let mut stream = [0; 11];
        here.read_exact(&mut stream).await.unwrap();
        assert_eq!(&stream, b"firstsecond");
    }

    #[tokio::test]
    async fn a_refusal_is_an_error_again_and_again() {
        let (mut here, mut there) = duplex(1024);
        let refusal = NominationAnswer::Refused("no room".to_owned()).encode();
        there.write_all(&refusal).await.unwrap();
        let mut awaited = AnswerState::of(Role::Controlling);
        for _ in 0..2 {
            let heard = poll_fn(|cx| awaited.poll_heard(&mut here, cx)).await;
            let error = heard.unwrap_err();
            assert_eq!(Refused::of(&error).unwrap().reason(), "no room");
        }
        let bufs = [IoSlice::new(b"for nobody")];
        let taken = poll_fn(|cx| awaited.poll_write(&mut here, cx, &bufs)).await;
        assert!(Refused::of(&taken.unwrap_err()).is_some());
    }
}
