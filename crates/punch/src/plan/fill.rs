//! Attempts that use up the ranges of both sides, so that the ports that the two have named are
//! in use.

use std::time::Duration;

use p2pconnect_proto::{CandidateKind, NatReport, Role, UnsolicitedSyn};

use super::{Addresses, Class, Classes, MAX_FILL, Planned, Who, paced, prediction};
use crate::Introduced;

/// How many ports of a sequence may have been given to others, or be left over, where a range is
/// filled for one of them.
pub(super) const SPARE: u32 = 2;

/// The longest round-trip time by way of the coordinator that counts here.
const MAX_RTT: Duration = Duration::from_secs(1);

/// By how much the start moments of the two may differ, with the time that a SYN takes from a host
/// to its NAT and back.
const MARGIN: Duration = Duration::from_millis(5);

/// The side that begins later, and how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Second {
    who: Who,
    pub(super) after: Duration,
}

impl Second {
    /// Returns how much later this side begins.
    pub(super) fn local_wait(self) -> Duration {
        match self.who {
            Who::Local => self.after,
            Who::Remote => Duration::ZERO,
        }
    }
}

/// Connects from all of the own ports to the one that the peer has named.
///
/// Once all ports of a range are in use, the named one is; and all of them lead to the port that
/// this side has named, which is in use on its own side by the same reason. Of a sequence, a port
/// a little further on is meant, and the side that makes it uses those around it as well: there is
/// no second try before the NAT forgets this one.
pub(super) fn attempts(classes: Classes, addresses: &Addresses<'_>) -> Vec<Planned> {
    let Classes { local, remote } = classes;
    let named = if prediction::counts_all(remote) {
        prediction::predicted_port(remote, addresses, SPARE)
    } else {
        addresses.predicted()
    };
    let Some(remote) = named else {
        return Vec::new();
    };
    let guess = |n| {
        Some(Planned {
            local: addresses.unused(n)?,
            remote,
            kind: CandidateKind::Predicted,
            stage: 0,
            after: paced(n),
            is_guess: true,
        })
    };
    (0..count(local)).filter_map(guess).collect()
}

/// Returns how many connections a side makes.
fn count(class: Class) -> u32 {
    if prediction::counts_all(class) {
        2 * SPARE + 1
    } else {
        class.ports().min(MAX_FILL)
    }
}

/// Returns which side begins later, and how much; the other side comes to the same. `None` where
/// SYNs that come too early would not be dropped.
///
/// A range is taken for larger than it is, so that SYNs go on when no port is left. Linux gives
/// such a SYN the port of a connection that it believes to be closing, and takes one for that whose
/// SYN has just met the peer's (`SYN_SENT2` of its connection tracking): the one that counts. So no
/// SYN of the peer's comes while there may be no port left: the second side's come when the first
/// one is done, and the first side's before the second one has used up what it has for certain.
pub(super) fn second(classes: Classes, introduced: &Introduced) -> Option<Second> {
    let Classes { local, remote } = classes;
    let controls = introduced.role == Role::Controlling;
    let on_the_way = introduced.rtt_via_coordinator.min(MAX_RTT) / 2;
    let [if_local, if_remote] =
        [[remote, local], [local, remote]].map(|[first, second]| wait(first, second, on_the_way));
    // Whose NAT answers sends the first SYN, or its answer ends the peer's attempt.
    let rank = |nat: &NatReport, wait: Duration, controls: bool| (answer(nat), wait, controls);
    let (local_nat, remote_nat) = (&introduced.local_nat, &introduced.remote_nat);
    let waits = rank(local_nat, if_local, controls) < rank(remote_nat, if_remote, !controls);
    let (who, its_nat, after) = if waits {
        (Who::Local, local_nat, if_local)
    } else {
        (Who::Remote, remote_nat, if_remote)
    };
    (answer(its_nat) == Answer::None).then_some(Second { who, after })
}

/// Returns how long the second side waits, if a SYN takes so long at most.
fn wait(first: Class, second: Class, on_the_way: Duration) -> Duration {
    // A machine that is busy takes longer than planned.
    let sends = paced(count(first)) * 3 / 2;
    let is_done = has_too_many(first).then_some(sends + MARGIN);
    // A report takes a range for up to two thirds larger than it is.
    let sure = paced(count(second).min(second.ports() * 3 / 5));
    let has_arrived = (sends + on_the_way + MARGIN).saturating_sub(sure);
    let has_arrived = has_too_many(second).then_some(has_arrived);
    is_done.max(has_arrived).unwrap_or_default()
}

/// Tells whether a side sends more SYNs than its NAT may have ports for.
fn has_too_many(class: Class) -> bool {
    matches!(class, Class::Random { .. })
}

/// What a NAT sends to whoever connects unasked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Answer {
    None,
    Unknown,
    Some,
}

fn answer(nat: &NatReport) -> Answer {
    match nat.unsolicited {
        Some(UnsolicitedSyn::Dropped) => Answer::None,
        None => Answer::Unknown,
        Some(UnsolicitedSyn::Reset | UnsolicitedSyn::Icmp) => Answer::Some,
    }
}
