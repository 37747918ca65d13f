//! Which connections the peer may have taken without this side knowing.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// How many connections this side has used that the peer may have taken for the one, though no answer has come.
///
/// The callee's opening and tag are the first bytes that it sends on the connection that it takes. So a connection that
/// has brought something else, or has been ended by the other side with nothing of the kind, is not that one. One
/// that has fallen silent may be.
#[derive(Debug, Clone, Default)]
pub(super) struct Unanswered(Arc<AtomicUsize>);

impl Unanswered {
    /// Notes that a connection is used.
    pub(super) fn begin(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes how a connection that is used has ended, or been found to be another one.
    pub(super) fn ended(&self, error: &io::Error) {
        if shows_another(error) {
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
    fn what_falls_silent_may_be_the_one() {
        let unanswered = Unanswered::default();
        for (kind, may_be) in [
            (io::ErrorKind::InvalidData, false),
            (io::ErrorKind::ConnectionReset, false),
            (io::ErrorKind::UnexpectedEof, false),
            (io::ErrorKind::TimedOut, true),
        ] {
            unanswered.begin();
            assert!(unanswered.are_there());
            unanswered.ended(&kind.into());
            assert_eq!(unanswered.are_there(), may_be, "{kind:?}");
        }
    }
}
