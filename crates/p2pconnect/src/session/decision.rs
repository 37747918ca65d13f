//! Whether a session's connection is used or its introduction given up: one of the two, and for
//! good.

use std::sync::{Arc, OnceLock};

/// What becomes of a session. Clones share it.
///
/// The callee takes a connection for the one as soon as it is nominated. Whoever gives the
/// introduction up at that moment would leave it with a connection that is dead.
#[derive(Debug, Clone, Default)]
pub(crate) struct Decision(Arc<OnceLock<End>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Used,
    GivenUp,
}

impl Decision {
    /// Has a connection used, unless the introduction has been given up; tells whether it is.
    pub(crate) fn uses(&self) -> bool {
        self.is(End::Used)
    }

    /// Has the introduction given up, unless a connection is used; tells whether it is.
    pub(crate) fn gives_up(&self) -> bool {
        self.is(End::GivenUp)
    }

    fn is(&self, wanted: End) -> bool {
        *self.0.get_or_init(|| wanted) == wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_uses_is_not_given_up() {
        let [one, other] = [(); 2].map(|()| Decision::default());
        assert!(one.uses() && !one.clone().gives_up() && one.uses());
        assert!(other.gives_up() && !other.clone().uses());
    }
}
