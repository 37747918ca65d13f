//! Whether two hosts can open a TCP connection to each other, from the behaviours of their boxes
//! alone.
//!
//! [`punchable`] takes what stands before each host, and says whether a punch must work, may work
//! with luck, or cannot, and why. Nothing is simulated: the answer is derived by the rules below,
//! which tests of the lab compare with exhaustive runs in virtual time.
//!
//! ```
//! use p2pconnect_nat::NatSpec;
//! use p2pconnect_nat::oracle::{How, Outcome, Timing, punchable};
//!
//! let home = [NatSpec::port_preserving()];
//! let mobile = [NatSpec::random_per_destination()];
//! let (how, timing) = (How::SimultaneousOpen, Timing::Any);
//! assert_eq!(punchable(&home, &home).outcome, Outcome::Certain { how, timing });
//! let luck = punchable(&home, &mobile);
//! assert!((0.99..1.0).contains(&luck.outcome.probability()), "{luck}");
//! ```
//!
//! # What the hosts can do
//!
//! Each has asked a server which endpoint it appears from, has told the other, listens on the port
//! that it dials from, and dials when it likes, also more than once. It may ask from other ports as
//! well. Boxes have one external address, no other users, and no wish to help (no PCP, no UPnP).
//!
//! # Step 1: where will a host appear?
//!
//! The other host needs to know the external endpoint *towards itself* ([`Endpoint`]). Along the
//! chain of boxes, innermost first:
//!
//! - A host that has asked the server shows the other the same endpoint if every box has
//!   endpoint-independent mapping (RFC 4787 section 4.1), or keeps the port whatever the
//!   destination (port overloading): `Reflected`. The peer's address is not the server's, so
//!   address-dependent mapping makes a new mapping just like address- and port-dependent.
//! - Otherwise, if every box preserves ports, a host that has *not* asked from this port shows the
//!   port itself: `Kept`. The question would have taken it.
//! - Otherwise the outermost box that assigns ports itself decides. If it does so in sequence, the
//!   next one is the last one that the server saw plus delta: `Sequential`. If at random, `Random`,
//!   out of so many.
//!
//! # Step 2: whom does a chain let in?
//!
//! A SYN from outside must pass all boxes, so the strictest filtering counts (RFC 4787 section 5,
//! RFC 5382 REQ-3).
//!
//! 1. **Endpoint-independent.** Whoever sends to an endpoint that the host has used at all gets in;
//!    the server's will do, whatever the mapping. The host listens and the other dials: certain. If
//!    its boxes refuse simultaneous open, it must not dial first itself.
//! 2. **Address-dependent**, with a predictable endpoint. The host sends one SYN to the other's
//!    address, to *any* port. Now the other gets in from any port, known or not, and no box sees a
//!    simultaneous open: certain.
//! 3. **Address- and port-dependent.** The host must send to exactly the endpoint that the other
//!    will appear from, and the other to exactly its: both must be predictable. If so, two SYNs are
//!    under way between the same two endpoints, and it is enough that *one* of them reaches the
//!    other host, since its SYN-ACK, unlike a SYN, passes everywhere. See step 3.
//!
//! # Step 3: which SYN passes?
//!
//! Say s's box has to let p's SYN in. s's own SYN has made the hole, and has come to p's box before
//! or after p's SYN left there.
//!
//! - **Before** (s first), p's box answers as to strangers (RFC 5382 REQ-4). Nothing, or ICMP,
//!   which closes no hole (REQ-10): p's SYN passes if s's boxes allow simultaneous open (REQ-2).
//!   After ICMP, s's attempt has ended, and its listener accepts. RST: what it does to the hole is
//!   [`RstEffect`]. `Closes`: p's SYN is refused, and s must not be first. `Ignored`: as with ICMP.
//!   `Transitory`: the hole stays but no longer waits for a SYN-ACK, and p's SYN passes even where
//!   simultaneous open is refused.
//! - **After** (both SYNs cross), p's SYN passes if s's boxes allow simultaneous open. If p's boxes
//!   answer s's SYN with RST, that comes to s's box behind p's SYN. `Closes` then loses the
//!   connection: a SYN-ACK is not picked up (`pickup`). `Transitory` frees s's box from waiting, as
//!   above, so that p's next SYN passes.
//! - **Again.** TCP repeats a SYN that nobody answers. So if p was first, in silence, and s's SYN
//!   came afterwards, p's next SYN is judged as one that comes after. A program can do the same by
//!   dialling again after an error, if p's hole is still there, or comes back where it was.
//!
//! [`Timing`] is about programs that dial once, if that is enough.
//!
//! The punch is certain if in some order one of the two SYNs passes.
//!
//! # Step 4: many SYNs
//!
//! Where an endpoint is `Random` among n ports, a hit is a connection if steps 2 and 3 say so of
//! the right ports. What each host may send for that is bounded: [`SYNS`] at ports that it guesses,
//! [`FILL`] to use up a range.
//!
//! - **Holes.** s is predictable, and all ports of p see it at the same endpoint; p is random. s
//!   opens holes to m ports of p, p dials that endpoint from k ports of its own. Each of the k is
//!   in a hole with m/n: 1 - (1 - m/n)^k, with m, k ≤ n. If n ≤ [`SYNS`] there is a hole for every
//!   port, and the first SYN is in one: certain.
//! - Where the random side filters by address only, the other needs no hole to match: it tries m of
//!   its ports while k are open. The same formula.
//! - **Filling.** Both are random, or the predictable one shows each port of p another endpoint.
//!   Guessing two ports at once is hopeless: 1/(n₁n₂) for each pair of SYNs. So each side names one
//!   port of its own that is free, x of a's and y of b's, which the server's connections have not
//!   taken. Then a dials y from as many ports as it can, and b dials x. Once a has all its ports, x
//!   is among them, and has a hole for y; likewise y. The chance is min(1, m/n₁) · min(1, k/n₂):
//!   certain if both ranges can be filled. A side that is predictable has n = 1.
//!
//! A range counts as known, which is the most that luck can have. A program that knows some of its
//! ports takes it for larger than it is, and may give it up: p2pconnect fills two of 3,000 each
//! time, and two of 3,500 in one case of three, where the formula says 84 %.
//!
//! Below [`LEAST_CHANCE`] the oracle says impossible.
//!
//! # Limits
//!
//! IPv4, two hosts that are not behind the same box, boxes with one external address each, and no
//! loss. The timers and table sizes of boxes do not count, though a thousand SYNs may fill a small
//! table. Nobody else takes ports of a range that is to be filled.
//!
//! Of a chain whose boxes answer SYNs or resets in different ways, the strictest answer counts.
//! That is not always what happens: an outer box that lets anybody in has seen p's SYN before s's,
//! and then does not refuse it as a simultaneous open. Of 5,000 pairs of such odd chains, drawn at
//! random, 29 were judged wrong; of the presets, none.
//!
//! [`RstEffect`]: crate::RstEffect

mod chance;
mod outside;
mod passage;
mod reason;

use std::fmt;

use crate::spec::NatSpec;

pub use outside::{Endpoint, Outside};

use passage::Orders;

/// SYNs that each host may send at ports that it guesses.
///
/// With as many from each side one of 64,512 ports is hit in 99.8 %; 512 make it 98.3 %, 256 only
/// 64 %. It is less than what most carriers let a subscriber have at once: 1,000 ports and more in
/// RFC 7422's examples, seldom under 256.
pub const SYNS: u32 = 640;

/// SYNs that each host may send to have all ports of its range.
///
/// A NAT that gives a subscriber a small range lets nobody have more than that anyway. It is enough
/// for blocks of 3,000, the largest that are common but for 4,096, which would take more SYNs than
/// is polite.
pub const FILL: u32 = 3200;

/// The least chance that is not called impossible.
///
/// A chance is either near one or hopeless: of all pairs of presets, none is between 0.21 and 0.99.
/// Whoever has less than an even chance is told so at once, instead of after seconds and thousands
/// of SYNs that a carrier counts.
pub const LEAST_CHANCE: f64 = 0.5;

/// Whether two hosts can open a connection, and why.
///
/// The [`Display`](fmt::Display) form is one or two sentences.
#[derive(Debug, Clone, PartialEq)]
pub struct Punchability {
    /// Whether they can.
    pub outcome: Outcome,
    /// Why, in words that call the hosts a and b; and if not, what would have to change.
    pub reason: String,
}

/// Whether a punch works.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Outcome {
    /// It does, if no packet is lost.
    Certain {
        /// By which way.
        how: How,
        /// If the SYNs are sent in this order.
        timing: Timing,
    },
    /// It takes luck.
    Chance {
        /// What has to be guessed.
        how: Guess,
        /// How likely it is with [`SYNS`] or [`FILL`] on each side.
        probability: f64,
        /// In which order the SYNs that match must be sent.
        timing: Timing,
    },
    /// It does not.
    Impossible {
        /// How likely it is all the same with [`SYNS`] or [`FILL`] on each side: zero if the right
        /// ports would not help, else less than [`LEAST_CHANCE`].
        probability: f64,
    },
}

/// By which way a connection comes about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum How {
    /// A host dials and the other's listener accepts.
    Accept,
    /// Both dial the endpoints that a server has seen.
    SimultaneousOpen,
    /// Both dial, and an endpoint must be predicted.
    Prediction,
    /// Both dial, from or to all ports of a small range at once.
    Filling,
}

/// What has to be guessed, where no endpoint can be predicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Guess {
    /// One port among `ports`.
    OneSided {
        /// How many it could be.
        ports: u32,
    },
    /// That a named port is among those that each side gets.
    TwoSided {
        /// How many a's could be; one if that is predictable.
        a: u32,
        /// How many b's could be; one if that is predictable.
        b: u32,
    },
}

/// In which order two SYNs must be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Timing {
    /// In any.
    Any,
    /// Each before the other arrives.
    CrossingSyns,
    /// a's arrives, or is refused, before b's is sent.
    AFirst,
    /// b's arrives, or is refused, before a's is sent.
    BFirst,
}

impl Outcome {
    /// Returns how likely a punch is: one if it is certain.
    pub const fn probability(&self) -> f64 {
        match *self {
            Self::Certain { .. } => 1.0,
            Self::Chance { probability, .. } | Self::Impossible { probability } => probability,
        }
    }

    /// Returns the outcome with the names of the hosts exchanged.
    #[must_use]
    pub const fn mirrored(self) -> Self {
        match self {
            Self::Certain { how, timing } => Self::Certain {
                how,
                timing: timing.mirrored(),
            },
            Self::Chance {
                how,
                probability,
                timing,
            } => Self::Chance {
                how: how.mirrored(),
                probability,
                timing: timing.mirrored(),
            },
            Self::Impossible { .. } => self,
        }
    }
}

impl Guess {
    const fn mirrored(self) -> Self {
        match self {
            Self::OneSided { .. } => self,
            Self::TwoSided { a, b } => Self::TwoSided { a: b, b: a },
        }
    }
}

impl Timing {
    const fn mirrored(self) -> Self {
        match self {
            Self::AFirst => Self::BFirst,
            Self::BFirst => Self::AFirst,
            Self::Any | Self::CrossingSyns => self,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certain { how, timing } => write!(f, "certain, by {how}{timing}"),
            Self::Chance {
                probability,
                timing,
                ..
            } => write!(f, "by luck in {}{timing}", percent(*probability)),
            Self::Impossible { .. } => f.write_str("impossible"),
        }
    }
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accept => "accept",
            Self::SimultaneousOpen => "simultaneous open",
            Self::Prediction => "prediction",
            Self::Filling => "filling a range of ports",
        })
    }
}

impl fmt::Display for Timing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "",
            Self::CrossingSyns => ", if the SYNs cross",
            Self::AFirst => ", if a dials first",
            Self::BFirst => ", if b dials first",
        })
    }
}

impl fmt::Display for Punchability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.outcome, self.reason)
    }
}

/// Says whether host a, behind boxes `a`, and host b, behind boxes `b`, can open a connection to
/// each other.
///
/// Boxes are named from the host outwards; none is a host with a public address that is not
/// filtered.
pub fn punchable(a: &[NatSpec], b: &[NatSpec]) -> Punchability {
    let (a, b) = (Outside::of(a), Outside::of(b));
    certain(&a, &b).unwrap_or_else(|| chance::guess(&a, &b))
}

/// Returns what each chain of a pair shows to the outside, as a line of text for each.
pub fn seen_from_outside(a: &[NatSpec], b: &[NatSpec]) -> String {
    format!("a {}.\nb {}.\n", Outside::of(a), Outside::of(b))
}

/// Returns a chance as a percentage that is not rounded to certainty.
pub fn percent(probability: f64) -> String {
    let percent = probability * 100.0;
    if percent > 99.9 {
        ">99.9 %".to_owned()
    } else {
        format!("{percent:.1} %")
    }
}

/// Goes through the ways that need no luck, the simplest first.
fn certain(a: &Outside, b: &Outside) -> Option<Punchability> {
    for (s, names, p_first) in [
        (b, ["b", "a"], Timing::AFirst),
        (a, ["a", "b"], Timing::BFirst),
    ] {
        if let Some(dialled_first) = passage::open_to_all(s) {
            let timing = if dialled_first { Timing::Any } else { p_first };
            let how = How::Accept;
            let outcome = Outcome::Certain { how, timing };
            let reason = reason::open_to_all(s, names, timing);
            return Some(Punchability { outcome, reason });
        }
    }
    if a.endpoint.is_predictable() && b.endpoint.is_predictable() {
        let once = passage::both_dial(a, b).timing();
        if let Some(timing) = once.or_else(|| passage::both_redial(a, b).timing()) {
            let reflected = [a, b].map(|side| side.endpoint == Endpoint::Reflected);
            let how = if reflected != [true, true] {
                How::Prediction
            } else if passage::allows(a) || passage::allows(b) {
                How::SimultaneousOpen
            } else {
                How::Accept
            };
            let outcome = Outcome::Certain { how, timing };
            let reason = reason::both_dial(a, b, timing);
            return Some(Punchability { outcome, reason });
        }
    }
    for (s, p, names) in [(a, b, ["a", "b"]), (b, a, ["b", "a"])] {
        let orders = passage::open_to_address(s, p);
        if !s.endpoint.is_predictable() || orders == Orders::NONE {
            continue;
        }
        let orders = if names[0] == "a" {
            orders
        } else {
            orders.mirrored()
        };
        if let Some(timing) = orders.timing() {
            let how = match s.endpoint {
                Endpoint::Reflected => How::Accept,
                _ => How::Prediction,
            };
            let outcome = Outcome::Certain { how, timing };
            let reason = reason::open_to_address(s, names, timing);
            return Some(Punchability { outcome, reason });
        }
    }
    None
}
