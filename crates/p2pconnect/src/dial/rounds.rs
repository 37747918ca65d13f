//! Whether a dial asks for another introduction, and when.

use std::time::Duration;

use p2pconnect_proto::{NatReport, PortAssignment};
use p2pconnect_punch::{PunchReport, Verdict};

use crate::{DialError, nat::behaviour::varies};

/// How many introductions of one dial may fail. Each round starts at a newly measured moment.
const MAX_ROUNDS: u32 = 3;

/// How many it asks for if some are given up early, because more has become known of a NAT: each
/// side may learn that once, and once more where it is in a sequence of ports.
pub(super) const MAX_INTRODUCTIONS: u32 = MAX_PREDICTED_ROUNDS + 4;

/// How many rounds of one dial may fail in which ports were predicted, while there is time. Others
/// that dial at the same moment from behind the same NAT get these ports; a dozen of them are done
/// after four rounds.
const MAX_PREDICTED_ROUNDS: u32 = 6;

/// The longest pause, at random, before ports are predicted or guessed anew for the first time, so
/// that dials that have been in each other's way are not again. Twice as long each time, as there
/// may be several.
const GUESS_PAUSE: Duration = Duration::from_millis(500);

/// The longest that this becomes: four rounds and their pauses must fit into a dial.
const MAX_GUESS_PAUSE: Duration = Duration::from_secs(2);

/// A new round is not worth asking for when less than this is left.
const MINIMUM: Duration = Duration::from_secs(1);

/// How much of a dial's time is kept for a last round, however many other dials there are to wait
/// for: what goes on before it may have been stopped.
pub(super) const LAST_ROUND: Duration = Duration::from_secs(2);

/// How much of a dial's time is kept for asking a busy peer for the last time: an introduction and
/// a connection take some round trips.
const LAST_QUESTION: Duration = Duration::from_millis(500);

/// How long at least to wait before a coordinator that is asked too much is asked again, or a peer
/// that has no room; up to twice as long at random. A few introductions end in this time. It
/// doubles each time.
pub(super) const BUSY_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause before a peer that has no room for a connection is asked again. Each time,
/// SYNs leave for nothing.
const MAX_PEER_BUSY_PAUSE: Duration = Duration::from_secs(2);

/// Returns how long to wait before a peer is asked again that has turned this endpoint away so many
/// times before, by a number from 0 to 1 that is drawn at random: twice as long each time, and up
/// to twice that.
pub(super) fn pause_for_room(times: u32, drawn: f64) -> Duration {
    let pause = BUSY_PAUSE.saturating_mul(1 << times.min(8));
    pause.mul_f64(1.0 + drawn).min(MAX_PEER_BUSY_PAUSE)
}

/// Returns how long to wait for another round, which should be so long, when so much time is left;
/// `None` where no round is worth it. A peer that was busy says at once whether it still is, so it
/// is asked until the end. So is one whose introduction was left to begin anew, as nothing has been
/// tried yet.
pub(super) fn wait_for_next(
    found: Option<&DialError>,
    pause: Duration,
    left: Duration,
) -> Option<Duration> {
    match (found, left.checked_sub(LAST_QUESTION)) {
        (Some(DialError::PeerBusy), Some(latest)) => Some(pause.min(latest)),
        (Some(DialError::PeerBusy), None) | (Some(DialError::PeerLeft), _) => {
            (pause < left).then_some(pause)
        }
        _ => (!is_short(left)).then_some(pause.min(left)),
    }
}

/// Tells whether a round that began with so much time left says nothing of the path, if it fails.
pub(super) fn is_short(left: Duration) -> bool {
    left < MINIMUM
}

/// Returns how many rounds may fail if this is how one of them has.
pub(super) fn most(error: Option<&DialError>) -> u32 {
    match error {
        Some(DialError::NoDirectPath(report)) if is_predicted(report) => MAX_PREDICTED_ROUNDS,
        _ => MAX_ROUNDS,
    }
}

/// Returns how much later than need be the next round is asked for, after one that has failed like
/// this and so many before, by a number from 0 to 1 that is drawn at random.
pub(super) fn spread(error: Option<&DialError>, failed: u32, drawn: f64) -> Duration {
    match error {
        Some(DialError::NoDirectPath(report)) if report.guessed => pause(failed, drawn),
        _ => Duration::ZERO,
    }
}

/// Returns how long to wait before the next introduction when one has been left because more had
/// become known, and so many before. Each side learns of its NAT once; what goes on becoming stale
/// are ports that dials beside this one take, and what the peer goes on turning away are dials that
/// would take those of another one.
pub(super) fn pause_after_leaving(before: u32, drawn: f64) -> Duration {
    before
        .checked_sub(2)
        .map_or(Duration::ZERO, |before| pause(before, drawn))
}

fn pause(before: u32, drawn: f64) -> Duration {
    let longest = GUESS_PAUSE.saturating_mul(1 << before.min(8));
    longest.min(MAX_GUESS_PAUSE).mul_f64(drawn)
}

/// Tells whether it counted on one port each.
fn is_predicted(report: &PunchReport) -> bool {
    let nats = [&report.local_nat, &report.remote_nat];
    let is_random =
        |nat: &&NatReport| varies(nat) && matches!(nat.ports, Some(PortAssignment::Random { .. }));
    report.guessed && !nats.iter().any(is_random)
}

/// Returns what says more: what the rounds before have found, or what this one has, which the end
/// of the dial's time may have cut off.
pub(super) fn kept(
    found: Option<DialError>,
    error: Option<DialError>,
    is_cut_off: bool,
) -> Option<DialError> {
    match (found, error) {
        (
            Some(whole @ DialError::NoDirectPath(_)),
            Some(DialError::NoDirectPath(_) | DialError::PeerUnheard(_)),
        ) if is_cut_off => Some(whole),
        (found, error) => error.or(found),
    }
}

/// Returns what says more: what the rounds have found, or why there is not another one.
pub(super) fn telling(found: Option<DialError>, error: DialError) -> DialError {
    match (found, error) {
        (Some(DialError::PeerLeft) | None, error @ DialError::Coordinator(_)) => error,
        (Some(found), DialError::TimedOut | DialError::Coordinator(_)) => found,
        (_, error) => error,
    }
}

/// Tells whether another round could not end differently, by whether the two are known in different
/// families, and nothing more will become known of this side.
///
/// Where ranges of ports were filled it could: a dial beside this one may have had the ports that
/// led to the other side, and most NATs give the same ports out again for another one of the
/// peer's.
pub(super) fn is_final(error: &DialError, is_apart: bool) -> bool {
    match error {
        // Without that, this machine had no route or no socket for a moment.
        DialError::NoDirectPath(report)
            if matches!(
                report.verdict,
                Verdict::NoCommonFamily | Verdict::KnownInDifferentFamilies
            ) =>
        {
            is_apart
        }
        // Whoever takes connections to others takes those of the next round as well.
        DialError::NoDirectPath(report) if report.verdict == Verdict::Intercepted => true,
        // Predicted and guessed ports may be better ones next time.
        DialError::NoDirectPath(report) => is_proven(report) && !report.guessed,
        DialError::Broken(_)
        | DialError::PeerBusy
        | DialError::PeerLeft
        | DialError::PeerUnheard(_) => false,
        _ => true,
    }
}

/// Tells whether connections are opened by somebody who is not the peer, whatever ports they are
/// between.
pub(super) fn is_somebody_else(error: &DialError) -> bool {
    match error {
        DialError::NoDirectPath(report) => report.verdict == Verdict::Intercepted,
        DialError::WrongIdentity(_) => true,
        _ => false,
    }
}

/// Tells whether a verdict rests on all that can be known of the NATs, and not on what was heard.
fn is_proven(report: &PunchReport) -> bool {
    let is_complete = |nat: &NatReport| !varies(nat) || nat.ports.is_some();
    let rests_on_nats = matches!(
        report.verdict,
        Verdict::LocalMappingVaries | Verdict::RemoteMappingVaries | Verdict::BothMappingsVary
    );
    rests_on_nats && is_complete(&report.local_nat) && is_complete(&report.remote_nat)
}

#[cfg(test)]
mod tests {
    use p2pconnect_proto::NatMapping;

    use super::*;

    fn failed(verdict: Verdict, ports: PortAssignment) -> DialError {
        let nat = NatReport {
            mapping: Some(NatMapping::AddressAndPortDependent),
            ports: Some(ports),
            ..NatReport::default()
        };
        DialError::NoDirectPath(Box::new(PunchReport {
            verdict,
            local_nat: nat,
            remote_nat: NatReport::default(),
            nat64: false,
            guessed: true,
            pairs: Vec::new(),
            others: Default::default(),
        }))
    }

    const SEQUENCE: PortAssignment = PortAssignment::Sequential { delta: 1 };
    const BLOCK: PortAssignment = PortAssignment::Random { first: 1, last: 9 };

    #[test]
    fn nothing_to_try_is_final_only_between_different_families() {
        for verdict in [Verdict::NoCommonFamily, Verdict::KnownInDifferentFamilies] {
            let error = failed(verdict, SEQUENCE);
            assert!(is_final(&error, true));
            assert!(!is_final(&error, false));
        }
    }

    #[test]
    fn a_round_that_is_cut_off_replaces_no_whole_one() {
        let last = |cut, is_cut_off| {
            let whole = failed(Verdict::LocalMappingVaries, SEQUENCE);
            match kept(Some(whole), Some(cut), is_cut_off) {
                Some(DialError::NoDirectPath(report)) => Some(report.verdict),
                _ => None,
            }
        };
        let silent = || failed(Verdict::Silent, SEQUENCE);
        assert_eq!(last(silent(), true), Some(Verdict::LocalMappingVaries));
        assert_eq!(last(silent(), false), Some(Verdict::Silent));
        let unheard = DialError::PeerUnheard(MINIMUM);
        assert_eq!(last(unheard, true), Some(Verdict::LocalMappingVaries));
        let busy = kept(Some(DialError::PeerBusy), None, false);
        assert!(matches!(busy, Some(DialError::PeerBusy)));
    }

    #[test]
    fn a_busy_peer_is_asked_while_there_is_time() {
        let busy = Some(&DialError::PeerBusy);
        let [short, pause, left] = [100, 400, 900].map(Duration::from_millis);
        assert_eq!(wait_for_next(busy, short, left), Some(short));
        // As late as possible, and once.
        assert_eq!(wait_for_next(busy, left, left), Some(pause));
        assert_eq!(wait_for_next(busy, left, pause), None);
        assert_eq!(wait_for_next(busy, short, pause), Some(short));
        let left_early = Some(&DialError::PeerLeft);
        assert_eq!(wait_for_next(left_early, short, left), Some(short));
        assert_eq!(wait_for_next(left_early, left, short), None);
        assert_eq!(wait_for_next(None, short, left), None);
        assert_eq!(wait_for_next(None, short, MINIMUM), Some(short));
        assert!(is_short(left));
    }

    #[test]
    fn predicted_ports_are_tried_more_often_than_random_ones() {
        let [sequence, block] = [SEQUENCE, BLOCK].map(|it| failed(Verdict::LocalMappingVaries, it));
        assert!(!is_final(&sequence, false));
        let filled = failed(Verdict::PortsExhausted, BLOCK);
        assert!(!is_final(&filled, false));
        assert_eq!((most(Some(&sequence)), most(Some(&block))), (6, 3));
        assert_eq!(spread(Some(&sequence), 0, 1.0), GUESS_PAUSE);
        assert_eq!(spread(Some(&sequence), 1, 0.5), GUESS_PAUSE);
        assert_eq!(spread(Some(&sequence), 100, 1.0), MAX_GUESS_PAUSE);
        assert_eq!(spread(None, 0, 1.0), Duration::ZERO);
        let leaving = [1, 2, 3].map(|before| pause_after_leaving(before, 1.0));
        assert_eq!(leaving, [Duration::ZERO, GUESS_PAUSE, GUESS_PAUSE * 2]);
    }
}
