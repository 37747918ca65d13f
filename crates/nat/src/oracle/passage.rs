//! Which SYN passes which box, in which order.

use super::{Timing, outside::Outside};
use crate::spec::{Dependence, RstEffect, SimultaneousOpen, UnsolicitedSyn};

/// In which orders of two SYNs a way works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Orders {
    pub(super) a_first: bool,
    pub(super) crossing: bool,
    pub(super) b_first: bool,
}

impl Orders {
    pub(super) const NONE: Self = Self {
        a_first: false,
        crossing: false,
        b_first: false,
    };

    pub(super) const fn mirrored(self) -> Self {
        Self {
            a_first: self.b_first,
            crossing: self.crossing,
            b_first: self.a_first,
        }
    }

    /// Returns the order to choose: one that needs no exact clock if there is one.
    pub(super) const fn timing(self) -> Option<Timing> {
        match self {
            Self {
                a_first: true,
                crossing: true,
                b_first: true,
            } => Some(Timing::Any),
            Self { a_first: true, .. } => Some(Timing::AFirst),
            Self { b_first: true, .. } => Some(Timing::BFirst),
            Self { crossing: true, .. } => Some(Timing::CrossingSyns),
            Self::NONE => None,
        }
    }
}

/// Returns whether anybody can dial s, and if so, whether s may have dialled first.
pub(super) fn open_to_all(s: &Outside) -> Option<bool> {
    let open = s.filtering == Dependence::EndpointIndependent;
    open.then_some(s.simultaneous_open == SimultaneousOpen::Allowed)
}

/// Returns in which orders p can dial s after s has sent a SYN to another port of p's address; a is
/// s.
pub(super) fn open_to_address(s: &Outside, p: &Outside) -> Orders {
    if s.filtering == Dependence::AddressAndPortDependent {
        return Orders::NONE;
    }
    // The reset for that SYN would close the door before p comes.
    let closes = p.unsolicited == UnsolicitedSyn::Rst && s.closes_at_rst();
    Orders {
        a_first: !closes,
        crossing: true,
        b_first: false,
    }
}

/// Returns in which orders two SYNs between the same two endpoints connect.
///
/// TCP repeats a SYN that nobody answers; programs dial once.
pub(super) fn both_dial(a: &Outside, b: &Outside) -> Orders {
    Orders {
        a_first: after_refusal(a, b) || at_own_repetition(a, b) || at_repetition(b, a),
        crossing: in_crossing(a, b) || in_crossing(b, a),
        b_first: after_refusal(b, a) || at_own_repetition(b, a) || at_repetition(a, b),
    }
}

/// The same where it takes a program that dials again after a failure.
pub(super) fn both_redial(a: &Outside, b: &Outside) -> Orders {
    Orders {
        a_first: at_second_dial(b, a),
        crossing: in_second_crossing(a, b) || in_second_crossing(b, a),
        b_first: at_second_dial(a, b),
    }
}

/// Returns whether s takes p's SYN after p's boxes have refused s's.
fn after_refusal(s: &Outside, p: &Outside) -> bool {
    match p.unsolicited {
        UnsolicitedSyn::Nothing
        | UnsolicitedSyn::IcmpProhibited
        | UnsolicitedSyn::IcmpPortUnreachable
        | UnsolicitedSyn::IcmpPortUnreachableAfter(_) => allows(s),
        UnsolicitedSyn::Rst => keeps_open_after_rst(s),
    }
}

/// Returns whether s takes p's SYN when TCP repeats it: p was first, in silence, and s's SYN has
/// come since.
fn at_repetition(s: &Outside, p: &Outside) -> bool {
    is_silent(s)
        && match p.simultaneous_open {
            SimultaneousOpen::Allowed => false,
            SimultaneousOpen::Dropped => allows(s),
            SimultaneousOpen::Reset => keeps_open_after_rst(s),
        }
}

/// Returns whether s takes p's SYN when TCP repeats it: s was first, in silence, both have dropped
/// the other's SYN since, and a repetition of s's has met a reset.
fn at_own_repetition(s: &Outside, p: &Outside) -> bool {
    let drops = s.simultaneous_open == SimultaneousOpen::Dropped;
    let resets = p.simultaneous_open == SimultaneousOpen::Reset;
    is_silent(p) && drops && resets && keeps_open_after_rst(s)
}

/// Returns whether attempts to dial s go on until TCP gives up.
fn is_silent(s: &Outside) -> bool {
    matches!(
        s.unsolicited,
        UnsolicitedSyn::Nothing | UnsolicitedSyn::IcmpPortUnreachableAfter(_)
    )
}

/// Returns whether s takes p's SYN that crosses its own, at once or when TCP repeats it.
fn in_crossing(s: &Outside, p: &Outside) -> bool {
    match (s.simultaneous_open, p.simultaneous_open) {
        (SimultaneousOpen::Allowed, SimultaneousOpen::Reset) => !s.closes_at_rst(),
        (SimultaneousOpen::Allowed, _) => true,
        (SimultaneousOpen::Dropped, SimultaneousOpen::Reset) => keeps_open_after_rst(s),
        _ => false,
    }
}

/// Returns whether s takes p's second SYN after their first have crossed, and both were reset.
fn in_second_crossing(s: &Outside, p: &Outside) -> bool {
    let resets = |side: &Outside| side.simultaneous_open == SimultaneousOpen::Reset;
    // A new mapping would come from elsewhere.
    let same = !p.closes_at_rst() || p.endpoint.is_fixed();
    resets(s) && resets(p) && keeps_open_after_rst(s) && same
}

/// Returns whether s takes p's second SYN after its first was refused with an error that left p's
/// hole open, into which s has dialled since.
fn at_second_dial(s: &Outside, p: &Outside) -> bool {
    let closed = s.unsolicited == UnsolicitedSyn::Rst && p.closes_at_rst();
    let resets = p.simultaneous_open == SimultaneousOpen::Reset;
    !closed && resets && keeps_open_after_rst(s)
}

/// Returns whether a SYN may come in where a reset has ended s's own attempt.
fn keeps_open_after_rst(s: &Outside) -> bool {
    !s.closes_at_rst()
        && s.boxes.iter().all(|spec| {
            spec.simultaneous_open == SimultaneousOpen::Allowed || spec.rst == RstEffect::Transitory
        })
}

/// Returns whether a box lets a SYN in that answers one from inside.
pub(super) fn allows(s: &Outside) -> bool {
    s.simultaneous_open == SimultaneousOpen::Allowed
}
