//! How long to wait before something is tried again that may become right by itself.

use std::time::Duration;

use p2pconnect::{BindError, CoordinatorError, DialError, Reconnecting, RefusalReason};

/// The first pause: what was only late is there soon.
const FIRST: Duration = Duration::from_millis(500);

/// The longest pause. An attempt costs a few packets, and a machine that boots should not wait for
/// long.
const LONGEST: Duration = Duration::from_secs(5);

/// Pauses that become longer, and those that a coordinator asks for.
#[derive(Debug)]
pub(crate) struct Pauses {
    usual: Duration,
    reconnecting: Reconnecting,
}

impl Default for Pauses {
    fn default() -> Self {
        Self {
            usual: FIRST,
            reconnecting: Reconnecting::default(),
        }
    }
}

impl Pauses {
    /// Returns the pause after an error.
    pub(crate) fn after(&mut self, error: &anyhow::Error) -> Duration {
        if let Some(error) = of_coordinator(error) {
            return self.reconnecting.pause_after(error);
        }
        let pause = self.usual;
        self.usual = (pause * 2).min(LONGEST);
        pause
    }
}

/// Tells whether the network, or the coordinator, may be there later.
pub(crate) fn binding_may_become_right(error: &BindError) -> bool {
    match error {
        BindError::Coordinator(error) => coordinator_may_become_right(error),
        BindError::Stun { .. } => true,
        _ => false,
    }
}

/// Tells whether the peer, the network or the coordinator may be there later.
pub(crate) fn dial_may_become_right(error: &DialError) -> bool {
    match error {
        DialError::Coordinator(error) => coordinator_may_become_right(error),
        DialError::Unavailable { .. }
        | DialError::PeerSilent(_)
        | DialError::PeerUnheard(_)
        | DialError::PeerLeft
        | DialError::Stun { .. }
        | DialError::TimedOut => true,
        _ => false,
    }
}

fn coordinator_may_become_right(error: &CoordinatorError) -> bool {
    match error {
        CoordinatorError::WrongIdentity { .. }
        | CoordinatorError::Replaced
        | CoordinatorError::Shortage(_) => false,
        CoordinatorError::Refused(refusal) => refusal.reason != RefusalReason::TooLarge,
        _ => true,
    }
}

/// Returns what a coordinator has to do with an error.
pub(crate) fn of_coordinator(error: &anyhow::Error) -> Option<&CoordinatorError> {
    if let Some(BindError::Coordinator(error)) = error.downcast_ref() {
        return Some(error);
    }
    match error.downcast_ref() {
        Some(DialError::Coordinator(error)) => Some(error),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_there_yet_is_asked_every_few_seconds() {
        let mut pauses = Pauses::default();
        let error = anyhow::anyhow!("the peer is not online");
        let all: Vec<_> = (0..6).map(|_| pauses.after(&error)).collect();
        assert_eq!(all.first(), Some(&FIRST));
        assert_eq!(all.last(), Some(&LONGEST));
    }

    #[test]
    fn a_coordinator_that_says_when_to_come_back_is_obeyed() {
        let minute = Duration::from_secs(60);
        let bound = BindError::Coordinator(CoordinatorError::Answer).into();
        assert!(Pauses::default().after(&bound) >= minute);
        let dialled = DialError::Coordinator(CoordinatorError::Answer).into();
        assert!(Pauses::default().after(&dialled) >= minute);
    }
}
