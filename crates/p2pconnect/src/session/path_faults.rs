//! What a path does to packets that it should leave alone, and how connections are opened in spite
//! of it.
//!
//! Two faults are silent: the connection opens, small things pass, and the stream then all but
//! stands still. Both can be told before any byte of an application is sent, and both are mended by
//! opening the connection anew in another way, which is what a session does.

use std::io;

use p2pconnect_host::TcpStream;
use p2pconnect_proto::preamble::MAX_PROBE;

use crate::{
    machine::tcp,
    sync::{Watched, Watcher},
};

/// What has been found of the paths between the two peers of a session.
#[derive(Debug, Default)]
pub(crate) struct PathFaults(Watched<Known>);

/// The same at one moment: how a connection is opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// SYNs lose the window scale option on the way (RFC 7323 section 2). Linux goes on scaling
    /// what it announces when SYNs cross and the peer's has lost the option, and the peer takes the
    /// windows for what they look like: 128 times too small. So no scaling is offered.
    pub(crate) scale_lost: bool,
    /// Packets of the links' own size are dropped without a word to their sender (RFC 2923 section
    /// 2.1). So both sides send smaller ones.
    pub(crate) large_lost: bool,
}

impl PathFaults {
    /// Watches what is known.
    pub(crate) fn watch(&self) -> Watcher<Known> {
        self.0.watch()
    }

    /// Notes that a SYN has lost its window scale.
    pub(crate) fn note_scale_lost(&self) {
        tracing::debug!("a SYN has lost its window scale on the way");
        self.0.change(|known| known.scale_lost = true);
    }

    /// Notes how a connection of ours has ended on which the peer has said nothing. The peer resets
    /// one whose SYN has come to it without a window scale, and has no other way to tell.
    pub(crate) fn note_silent_end(&self, error: &io::Error) {
        if error.kind() == io::ErrorKind::ConnectionReset {
            self.note_scale_lost();
        }
    }

    /// Looks why a connection has brought no answer, after the opening that shows that small things
    /// pass.
    pub(crate) fn check_silent(&self, stream: &TcpStream) {
        if tcp::lacks_a_packet(stream) {
            tracing::debug!("large packets seem to be lost on the way");
            self.0.change(|known| known.large_lost = true);
        }
    }

    /// Tells whether a connection is not worth trying, since it sends packets that are lost.
    pub(crate) fn spoil(&self, stream: &TcpStream) -> bool {
        self.0.borrow().large_lost && stream.info().largest_segment > tcp::SMALL_SEGMENT
    }
}

/// Returns what shows that packets of any size pass: as many bytes as one segment holds, and their
/// number before them.
pub(crate) fn probe(stream: &TcpStream) -> Vec<u8> {
    let len = usize::from(stream.info().largest_segment).min(MAX_PROBE);
    let mut probe = vec![0; size_of::<u16>() + len];
    // Bounded above by what two bytes count.
    probe[..2].copy_from_slice(&(len as u16).to_be_bytes());
    probe
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use p2pconnect_proto::{Opening, preamble::PreambleReader};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::{machine::loopback, stream::preamble::read_to_end};

    #[tokio::test]
    async fn a_probe_fills_a_segment_and_is_skipped_by_whoever_reads_it() {
        let (stream, _other) = loopback::connection().await;
        let probe = probe(&stream);
        // The loopback's segments are longer than any probe.
        assert_eq!(probe.len(), 2 + MAX_PROBE);
        let mut sent = probe.as_slice().chain(&b"what follows"[..]);
        read_to_end(&mut sent, &mut expected()).await.unwrap();
        let mut rest = Vec::new();
        sent.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"what follows");
    }

    #[tokio::test]
    async fn a_probe_has_a_limit_and_an_end() {
        let (mut ours, mut theirs) = tokio::io::duplex(64);
        theirs.write_u16(MAX_PROBE as u16 + 1).await.unwrap();
        let error = read_to_end(&mut ours, &mut expected()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let mut cut = &[0, 3, 0, 0][..];
        let error = read_to_end(&mut cut, &mut expected()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    fn expected() -> PreambleReader {
        PreambleReader::behind(Opening::from_bytes([1; Opening::LEN]))
    }
}
