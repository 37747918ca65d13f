//! The controlling side's first application bytes: "this connection is the one".
//!
//! Both sides may finish several handshakes; only this makes them keep the same one. It costs no
//! round trip, since it travels right behind the handshake's last flight.

use std::io;

use p2pconnect_proto::Opening;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// The dial has used no connection of another introduction.
const NOMINATION: u8 = 1;

/// The dial has used connections of other introductions. Behind it come their number, in one byte,
/// and the controlling side's opening of each.
const SUCCESSION: u8 = 2;

/// Tells the controlled side that this connection is the one, unless it has taken one of the
/// introductions with these openings.
pub(crate) async fn nominate(
    stream: &mut (impl AsyncWrite + Unpin),
    predecessors: &[Opening],
) -> io::Result<()> {
    let mut nomination = Vec::new();
    if predecessors.is_empty() {
        nomination.push(NOMINATION);
    } else {
        let count = u8::try_from(predecessors.len()).map_err(io::Error::other)?;
        nomination.extend([SUCCESSION, count]);
        nomination.extend(predecessors.iter().flat_map(Opening::as_bytes));
    }
    stream.write_all(&nomination).await?;
    stream.flush().await
}

/// Reads what [`nominate`] writes, and returns the openings.
pub(crate) async fn expect_nomination(
    stream: &mut (impl AsyncRead + Unpin),
) -> io::Result<Vec<Opening>> {
    let count = match stream.read_u8().await? {
        NOMINATION => 0,
        SUCCESSION => stream.read_u8().await?,
        _ => return Err(io::ErrorKind::InvalidData.into()),
    };
    let mut predecessors = Vec::with_capacity(count.into());
    for _ in 0..count {
        let mut opening = [0; Opening::LEN];
        stream.read_exact(&mut opening).await?;
        predecessors.push(Opening::from_bytes(opening));
    }
    Ok(predecessors)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_nomination_names_its_predecessors_and_is_no_part_of_the_stream() {
        let openings = [1, 2].map(|byte| Opening::from_bytes([byte; Opening::LEN]));
        let first = [&[2, 2][..], &[1; Opening::LEN], &[2; Opening::LEN]].concat();
        for (predecessors, bytes) in [(&openings[..], &first[..]), (&[], &[1])] {
            let mut sent = Vec::new();
            nominate(&mut sent, predecessors).await.unwrap();
            assert_eq!(sent, bytes);
            sent.push(7);
            let mut rest = &sent[..];
            let read = expect_nomination(&mut rest).await.unwrap();
            assert_eq!((&read[..], rest), (predecessors, &[7][..]));
        }
        let error = expect_nomination(&mut &[3_u8][..]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
