//! How long to wait before a connection to the coordinator is made anew.
//!
//! Told what has happened, it says how long. A coordinator may say when to come back as it closes a
//! connection or refuses a request; otherwise that follows from the code (PROTOCOL.md section 3).

use std::time::Duration;

use p2pconnect_host::Host;

use crate::CoordinatorError;

/// The pauses before a coordinator that is out of reach is tried again. Short at first, because
/// most losses are, and never long: a peer is to be dialable within three seconds of the
/// coordinator's return. An attempt in vain costs four packets in five seconds.
const PAUSES: [Duration; 3] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
];

/// The first pause after a coordinator has said that it shuts down, or closed a connection without
/// saying when to come back. Most are started anew within a second.
const AFTER_GOING_AWAY: Duration = Duration::from_millis(500);

/// The first pause after a coordinator has said that it has no room, "some seconds"; it doubles.
const AFTER_OVERLOADED: Duration = Duration::from_secs(4);

/// The longest that such a pause becomes.
const MAX_OVERLOADED: Duration = Duration::from_secs(60);

/// The pause after one of both has not understood the other, or needs what the other does not know,
/// or this side is not served. The same would happen again until one of them is another version, or
/// an operator has changed something.
const AFTER_VIOLATION: Duration = Duration::from_secs(60);

/// A connection that has lasted for so long shows that what was wrong before is over.
const LASTED: Duration = Duration::from_secs(10);

/// One that has lasted for so long before the coordinator went is that of a process that has been
/// started anew, and perhaps is again: nobody sends a peer away whom it has served.
const SERVED: Duration = Duration::from_secs(1);

/// What has gone wrong in a row with a coordinator, and with it how long to wait before it is asked
/// again.
///
/// An [`Endpoint`](crate::Endpoint) that is bound keeps to this by itself. It is for programs that
/// go on trying to bind one.
#[derive(Debug, Default)]
pub struct Reconnecting {
    /// Attempts that nobody has answered, and connections that broke.
    failures: u32,
    /// How often the coordinator has sent this side away at once.
    sent_away: u32,
    overloads: u32,
}

impl Reconnecting {
    /// Takes in that a connection was lost after it had lasted for `lasted`, and returns the pause
    /// before the first attempt to make it again. `random` is between 0 and 1: peers that were sent
    /// away together are not to come back together.
    pub(crate) fn lost(
        &mut self,
        error: &CoordinatorError,
        lasted: Duration,
        random: f64,
    ) -> Duration {
        if lasted >= LASTED {
            *self = Self::default();
        } else if lasted >= SERVED {
            self.sent_away = 0;
        }
        self.failed(error, random)
    }

    /// Takes in that an attempt has failed, or a connection was lost at once, and returns the pause
    /// before the next attempt: half a second to a second and a half where nobody answers, a minute
    /// or two where one side does not understand the other, and otherwise what the coordinator asks
    /// for (PROTOCOL.md section 3). Chance keeps clients that were sent away together from coming
    /// back together.
    pub fn pause_after(&mut self, error: &CoordinatorError) -> Duration {
        self.failed(error, Host::default().random_fraction())
    }

    /// Does what [`pause_after`](Self::pause_after) does, with a number from 0 to 1 for chance.
    pub(crate) fn failed(&mut self, error: &CoordinatorError, random: f64) -> Duration {
        let usual = self.usual(error, random);
        let said = error.retry_after();
        said.map_or(usual, |after| after.mul_f64(1.0 + random / 4.0))
    }

    fn usual(&mut self, error: &CoordinatorError, random: f64) -> Duration {
        match error {
            CoordinatorError::Violation { .. }
            | CoordinatorError::NotServed { .. }
            | CoordinatorError::Message(_)
            | CoordinatorError::Answer
            | CoordinatorError::UnknownAnswer(_)
            | CoordinatorError::UnknownExtension(_) => AFTER_VIOLATION.mul_f64(1.0 + random),
            CoordinatorError::Overloaded { .. } | CoordinatorError::Refused(_) => {
                let doubled = AFTER_OVERLOADED * 2_u32.saturating_pow(self.overloads.min(8));
                self.overloads += 1;
                doubled.min(MAX_OVERLOADED).mul_f64(1.0 + random)
            }
            // Sending away again and again is no restart: it is not wanted that anybody comes.
            CoordinatorError::GoingAway { .. } | CoordinatorError::Closed { .. } => {
                let doubled = AFTER_GOING_AWAY * 2_u32.saturating_pow(self.sent_away.min(8));
                self.sent_away += 1;
                doubled.min(MAX_OVERLOADED).mul_f64(1.0 + random)
            }
            _ => {
                let index = usize::try_from(self.failures).unwrap_or(usize::MAX);
                self.failures += 1;
                PAUSES[index.min(PAUSES.len() - 1)].mul_f64(0.5 + random)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use p2pconnect_proto::message::{Refusal, RefusalReason};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    const GOING_AWAY: CoordinatorError = CoordinatorError::GoingAway { retry_after: None };
    const OVERLOADED: CoordinatorError = CoordinatorError::Overloaded { retry_after: None };

    #[test]
    fn one_that_says_when_to_come_back_is_left_alone_for_so_long() {
        let told = |millis| {
            let retry_after = Some(Duration::from_millis(millis));
            let reason = String::new();
            [
                CoordinatorError::GoingAway { retry_after },
                CoordinatorError::Overloaded { retry_after },
                CoordinatorError::Closed {
                    reason,
                    retry_after,
                },
                CoordinatorError::Refused(Refusal::until(RefusalReason::Full, SECOND * 7)),
            ]
        };
        for error in told(7_000) {
            let mut reconnecting = Reconnecting::default();
            for random in [0.0, 0.5, 1.0] {
                let pause = reconnecting.lost(&error, Duration::ZERO, random);
                assert!(
                    (SECOND * 7..=SECOND * 9).contains(&pause),
                    "{error}: {pause:?}"
                );
            }
        }
        // Soon, if it says so, and never for ever.
        let soon = Reconnecting::default().lost(&told(100)[1], Duration::ZERO, 0.0);
        assert_eq!(soon, Duration::from_millis(100));
        let latest = Reconnecting::default().lost(&told(u64::MAX)[0], Duration::ZERO, 1.0);
        assert!(latest < SECOND * 400, "{latest:?}");
    }

    fn gone() -> CoordinatorError {
        CoordinatorError::Lost {
            reason: "timed out".to_owned(),
        }
    }

    #[test]
    fn a_coordinator_that_is_out_of_reach_is_looked_for_every_second() {
        let mut reconnecting = Reconnecting::default();
        for random in [0.0, 0.5, 1.0] {
            for _ in 0..100 {
                assert!(reconnecting.failed(&gone(), random) <= SECOND * 3 / 2);
            }
            assert!(
                reconnecting.failed(&gone(), random) >= SECOND / 2,
                "no faster"
            );
        }
        let first = Reconnecting::default().lost(&gone(), SECOND * 60, 0.5);
        assert!(first < SECOND / 2, "most losses are short");
    }

    #[test]
    fn one_that_shuts_down_is_expected_back_soon_and_not_at_once() {
        let closed = CoordinatorError::Closed {
            reason: "a code that nobody knows".to_owned(),
            retry_after: None,
        };
        for error in [GOING_AWAY, closed] {
            let mut reconnecting = Reconnecting::default();
            let pause = reconnecting.lost(&error, SECOND * 60, 0.0);
            assert!((SECOND / 2..=SECOND).contains(&pause), "{pause:?}");
            // It sends everybody away again and again: eight times within a minute at most.
            let mut waited = pause;
            for _ in 0..8 {
                waited += reconnecting.lost(&error, Duration::ZERO, 0.0);
            }
            assert!(waited > SECOND * 60, "{error}: {waited:?}");
        }
    }

    #[test]
    fn one_that_is_started_anew_many_times_is_back_soon_each_time() {
        let mut reconnecting = Reconnecting::default();
        for _ in 0..20 {
            // It was killed, and nobody answered for a while; then it is stopped.
            for _ in 0..5 {
                reconnecting.failed(&gone(), 1.0);
            }
            let pause = reconnecting.lost(&GOING_AWAY, SECOND * 3, 1.0);
            assert!(pause <= SECOND, "{pause:?}");
        }
    }

    #[test]
    fn one_without_room_has_its_some_seconds() {
        let mut reconnecting = Reconnecting::default();
        let mut last = Duration::ZERO;
        for _ in 0..10 {
            let pause = reconnecting.lost(&OVERLOADED, Duration::ZERO, 0.0);
            assert!(pause >= SECOND * 4 && pause >= last, "{pause:?}");
            last = pause;
        }
        assert_eq!(last, MAX_OVERLOADED);
        let fresh = reconnecting.lost(&OVERLOADED, LASTED, 0.0);
        assert_eq!(fresh, AFTER_OVERLOADED, "it had room meanwhile");
    }

    #[test]
    fn who_is_not_understood_does_not_say_the_same_again() {
        let violation = CoordinatorError::Violation {
            reason: String::new(),
        };
        let newer = CoordinatorError::UnknownExtension(0x8001);
        for error in [violation, CoordinatorError::Answer, newer] {
            let pause = Reconnecting::default().lost(&error, Duration::ZERO, 0.0);
            assert!(pause >= SECOND * 60, "{error}");
        }
    }
}
