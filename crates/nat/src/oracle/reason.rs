//! The reasons in plain words.

use super::{
    FILL, Guess, Outcome, SYNS, Timing,
    outside::{Endpoint, Outside},
    passage,
};
use crate::spec::{RstEffect, SimultaneousOpen, UnsolicitedSyn};

/// Anybody can dial s; `names` are those of s and p.
pub(super) fn open_to_all(s: &Outside, [s_name, p_name]: [&str; 2], timing: Timing) -> String {
    let why = if s.boxes.is_empty() {
        format!("{s_name} has a public address that nothing filters")
    } else {
        format!(
            "{s_name}'s filtering is endpoint-independent: who sends to the endpoint that the \
             server has seen gets in"
        )
    };
    let order = match timing {
        Timing::Any => String::new(),
        _ => {
            format!(" {s_name} must not dial first, as its box refuses a SYN in answer to its own")
        }
    };
    format!("{why}. {p_name} dials, and {s_name}'s listener accepts.{order}")
}

/// s has opened its filter for p's address; `names` are those of s and p.
pub(super) fn open_to_address(s: &Outside, names: [&str; 2], timing: Timing) -> String {
    let [s_name, p_name] = names;
    let order = match timing {
        Timing::CrossingSyns => format!(
            " {p_name}'s must be under way by then, as the reset for {s_name}'s SYN ends the \
             permission"
        ),
        _ => String::new(),
    };
    format!(
        "{s_name} filters by address only, and appears from {}. {s_name} sends one SYN to \
         {p_name}'s address, to any port; {p_name}'s SYN then gets in from any port, and \
         {s_name}'s listener accepts.{order}",
        s.endpoint
    )
}

/// Both dial endpoints that are known.
pub(super) fn both_dial(a: &Outside, b: &Outside, timing: Timing) -> String {
    let known = if a.endpoint == b.endpoint {
        format!("a and b each appear from {}", a.endpoint)
    } else {
        format!("a appears from {}, b from {}", a.endpoint, b.endpoint)
    };
    let order = if !passage::allows(a) && !passage::allows(b) {
        freed(timing)
    } else {
        match timing {
            Timing::Any => String::new(),
            Timing::AFirst => format!(" a dials first{}", why_first(a, b, ["a", "b"])),
            Timing::BFirst => format!(" b dials first{}", why_first(b, a, ["b", "a"])),
            Timing::CrossingSyns => {
                format!(" The SYNs must cross: {}.", why_not_first(a, b).join("; "))
            }
        }
    };
    format!(
        "{known}, so each dials the other there, and its SYN opens its own box for the other's.\
         {order}"
    )
}

/// Neither side allows simultaneous open, but a reset helps.
fn freed(timing: Timing) -> String {
    let who = match timing {
        Timing::AFirst => "a's box, which remembers the connection",
        Timing::BFirst => "b's box, which remembers the connection",
        Timing::Any | Timing::CrossingSyns => "the box that remembers a connection",
    };
    format!(
        " Both boxes refuse a SYN in answer to their own; but the RST for the first SYN makes \
         {who} after a reset (RFC 7857 section 2.2), stop waiting for a SYN-ACK, and the next SYN \
         from the other side passes to the listener."
    )
}

/// Says why it is s, and not p, that dials first.
fn why_first(s: &Outside, p: &Outside, [s_name, p_name]: [&str; 2]) -> String {
    if p.simultaneous_open != SimultaneousOpen::Allowed {
        return format!(", as {p_name}'s box refuses a SYN in answer to its own.");
    }
    match s.unsolicited {
        UnsolicitedSyn::Rst if p.closes_at_rst() => format!(
            ": {s_name}'s box would answer an earlier SYN with RST, which closes {p_name}'s hole."
        ),
        _ => ".".to_owned(),
    }
}

/// Says of each side what is wrong with its SYN being first.
fn why_not_first(a: &Outside, b: &Outside) -> Vec<String> {
    let reason = |s: &Outside, p: &Outside, [s_name, p_name]: [&str; 2]| {
        if p.unsolicited == UnsolicitedSyn::Rst && s.closes_at_rst() {
            return format!(
                "a SYN of {s_name} that comes first is answered with RST by {p_name}'s box, which \
                 closes {s_name}'s hole"
            );
        }
        format!("{s_name}'s box refuses a SYN in answer to its own")
    };
    vec![reason(a, b, ["a", "b"]), reason(b, a, ["b", "a"])]
}

/// Nothing is certain.
pub(super) fn luck(a: &Outside, b: &Outside, outcome: &Outcome) -> String {
    if let Outcome::Impossible { probability } = outcome
        && *probability == 0.0
    {
        return refused(a, b);
    }
    let mut parts: Vec<_> = [(a, "a"), (b, "b")]
        .into_iter()
        .filter_map(|(side, name)| unknown(side, name))
        .collect();
    for (side, name, other) in [(a, "a", "b"), (b, "b", "a")] {
        if side.needs_exact() {
            parts.push(format!(
                "{name}'s lets in only what {name} has sent to, port and all"
            ));
        } else {
            parts.push(format!(
                "{name}'s lets in what {name} has sent to, whatever {other}'s port"
            ));
        }
    }
    let syns = match outcome {
        Outcome::Certain { .. } => return format!("{}. {}.", parts.join("; "), filling(a, b)),
        Outcome::Chance {
            how: Guess::OneSided { ports },
            ..
        } => format!("With {SYNS} SYNs from each side one of {ports} ports may be hit"),
        _ => format!("With {FILL} SYNs from each side too many ports are left out"),
    };
    let percent = outcome.probability() * 100.0;
    let change = match (a.endpoint.is_predictable(), b.endpoint.is_predictable()) {
        (false, false) => "either NAT had endpoint-independent mapping and filtered by address",
        (false, true) => "a's NAT had endpoint-independent mapping",
        _ => "b's NAT had endpoint-independent mapping",
    };
    format!(
        "{}. {syns}: {percent:.3} %. It would be certain if {change}, or if either filtering were \
         endpoint-independent.",
        parts.join("; ")
    )
}

/// The ranges are small enough.
fn filling(a: &Outside, b: &Outside) -> String {
    let small = [(a, "a"), (b, "b")];
    let mut small = small.into_iter().filter_map(|(side, name)| {
        let ports = side.endpoint.ports();
        (ports > 1).then(|| format!("{name}'s {ports} ports"))
    });
    let (first, second) = (small.next().unwrap_or_default(), small.next());
    match second {
        Some(second) => format!(
            "But {first} and {second} are few: each side dials one free port of the other's from \
             all of its own, so that the two are sure to meet"
        ),
        None => format!(
            "But {first} are few: with a SYN from or to each of them one is sure to meet the \
             other side's"
        ),
    }
}

fn unknown(side: &Outside, name: &str) -> Option<String> {
    match side.endpoint {
        Endpoint::Random(ports) => Some(format!(
            "{name}'s NAT gives each destination its own random port, one of {ports}"
        )),
        _ if !side.same_for_peer => Some(format!(
            "{name}'s NAT gives each destination its own port, so that it cannot open many \
             holes on one"
        )),
        _ => None,
    }
}

/// The right ports would not help.
fn refused(a: &Outside, b: &Outside) -> String {
    let mut parts = Vec::new();
    for (s, p, [s_name, p_name]) in [(a, b, ["a", "b"]), (b, a, ["b", "a"])] {
        let why = match (s.simultaneous_open, p.simultaneous_open) {
            (SimultaneousOpen::Allowed, SimultaneousOpen::Reset) => {
                format!("{p_name}'s box resets {s_name}'s SYN, which closes {s_name}'s hole")
            }
            (SimultaneousOpen::Allowed, _) => {
                format!("{s_name}'s hole is closed by the RST for its SYN")
            }
            _ => format!(
                "{s_name}'s filtering lets in only what {s_name} has sent a SYN to, and then \
                 refuses a SYN as the answer"
            ),
        };
        parts.push(why);
    }
    let closes = [a, b].iter().any(|side| {
        side.boxes.iter().any(|spec| spec.rst == RstEffect::Closes)
            && side.simultaneous_open == SimultaneousOpen::Allowed
    });
    let change = if closes {
        "if resets closed nothing, or if the other allowed simultaneous open"
    } else {
        "if either allowed simultaneous open (RFC 5382 REQ-2), or filtered by address only"
    };
    format!("{}. It would work {change}.", parts.join("; "))
}
