//! When each of many clients has its turn, one after the other.

use std::time::Duration;

/// How much later each client moves, or comes back, than the one before it: what takes in a
/// thousand in a second spends half a core on handshakes.
const BETWEEN_TWO: Duration = Duration::from_millis(1);

/// The moments of many clients, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slots {
    apart: Duration,
}

impl Slots {
    /// Returns those of so many, all within a time.
    pub(super) fn new(clients: usize, within: Duration) -> Self {
        let clients = u32::try_from(clients).unwrap_or(u32::MAX).max(1);
        Self {
            apart: BETWEEN_TWO.min(within / clients),
        }
    }

    /// Returns when the turn of one is, by how many are before it.
    pub(super) fn of(self, before: usize) -> Duration {
        let before = u32::try_from(before).unwrap_or(u32::MAX);
        self.apart.saturating_mul(before)
    }

    /// Returns how many have had their turn after some time.
    pub(super) fn due(self, after: Duration) -> usize {
        let due = after.as_nanos().checked_div(self.apart.as_nanos());
        due.map_or(usize::MAX, |due| {
            usize::try_from(due + 1).unwrap_or(usize::MAX)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn clients_are_apart_and_all_have_their_turn_in_time() {
        for (clients, within) in [
            (0, SECOND),
            (1, SECOND),
            (100, SECOND),
            (100_000, SECOND * 15),
        ] {
            let slots = Slots::new(clients, within);
            assert!(slots.of(clients) <= within, "{clients}: {slots:?}");
            assert!(slots.of(clients) <= BETWEEN_TWO * u32::try_from(clients).unwrap_or_default());
            for before in [0, 1, clients / 2, clients] {
                let due = slots.due(slots.of(before));
                assert!(due > before, "{clients}: {due} after the turn of {before}");
            }
        }
        // Ten thousand clients take ten seconds where there is time.
        let slots = Slots::new(10_000, SECOND * 15);
        assert_eq!(slots.of(10_000), SECOND * 10);
        assert_eq!(slots.due(SECOND), 1_001);
        assert_eq!(
            Slots::new(7, Duration::ZERO).due(Duration::ZERO),
            usize::MAX
        );
    }
}
