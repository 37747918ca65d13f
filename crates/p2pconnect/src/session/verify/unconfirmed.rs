//! Which connections the peer may have taken without this side knowing.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// How many connections this side has used that the peer may have taken for the one, though no
/// answer has come.
///
/// The callee's opening and tag are the first bytes that it sends on the connection that it takes.
/// So a connection that has brought something else first, or has been ended by the other side with
/// nothing of the kind, is not that one. One that has fallen silent may be, and so may one that has
/// brought the opening: a reset does not wait for a tag that was lost on the way.
#[derive(Debug, Clone, Default)]
pub(super) struct UnconfirmedConnections(Arc<AtomicUsize>);

impl UnconfirmedConnections {
    /// Notes that a connection is used.
    pub(super) fn begin(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes how a connection that is used has ended, or been found to be another one, and whether
    /// it had brought the peer's opening.
    pub(super) fn ended(&self, error: &io::Error, is_heard: bool) {
        if !is_heard && shows_another(error) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }

    pub(super) fn are_there(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

fn shows_another(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidData | io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_falls_silent_or_is_heard_may_be_the_one() {
        for (kind, is_heard, may_be) in [
            (io::ErrorKind::InvalidData, false, false),
            (io::ErrorKind::ConnectionReset, false, false),
            (io::ErrorKind::UnexpectedEof, false, false),
            (io::ErrorKind::TimedOut, false, true),
            (io::ErrorKind::ConnectionReset, true, true),
        ] {
            let unconfirmed = UnconfirmedConnections::default();
            unconfirmed.begin();
            assert!(unconfirmed.are_there());
            unconfirmed.ended(&kind.into(), is_heard);
            assert_eq!(unconfirmed.are_there(), may_be, "{kind:?}");
        }
    }
}
