//! What an agent has tried and what came back, if no connection came of it.

use std::fmt;

use p2pconnect_proto::NatReport;

use crate::{CandidatePair, ConnectFailure, VerifyFailure};

mod reasons;
mod verdict;

pub use verdict::Verdict;
pub(crate) use verdict::mapping_varies;

/// What was tried and what came back, when no direct path was found.
///
/// Its text is one to three sentences for the person who dialled: why, what would help, and the
/// evidence in numbers. It holds no addresses; [`pairs`](Self::pairs) does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PunchReport {
    /// The most likely reason.
    pub verdict: Verdict,
    /// What is known of our own NAT.
    pub local_nat: NatReport,
    /// What the peer told of its NAT.
    pub remote_nat: NatReport,
    /// Whether the peer's IPv4 addresses were reached through a NAT64, which then is the NAT on our
    /// side.
    pub nat64: bool,
    /// Whether ports were predicted or guessed. Another dial may find others.
    pub guessed: bool,
    /// Each pair of addresses that was to be tried: below a hundred, or up to 1,000 more where random
    /// ports were guessed.
    pub pairs: Vec<PairReport>,
}

impl PunchReport {
    /// Draws the conclusion from the evidence.
    pub(crate) fn new(
        [local_nat, remote_nat]: [NatReport; 2],
        nat64: bool,
        pairs: Vec<PairReport>,
    ) -> Self {
        Self {
            verdict: Verdict::of(local_nat, remote_nat, &pairs),
            local_nat,
            remote_nat,
            nat64,
            guessed: false,
            pairs,
        }
    }

    /// Names the families that this side and the peer are known in, where each is known in one alone.
    fn families_known(&self) -> (&'static str, &'static str) {
        let is_ipv4 = |it: &PairReport| self.nat64 || it.pair.remote.is_ipv4();
        match self.pairs.first().map(is_ipv4) {
            Some(true) => ("IPv6", "IPv4"),
            Some(false) => ("IPv4", "IPv6"),
            None => ("one family's", "the other's"),
        }
    }

    /// Tells whether there were attempts that met no NAT of IPv4.
    fn has_tried_ipv6(&self) -> bool {
        let is_tried = |it: &PairReport| it.attempts > 0 && it.pair.remote.is_ipv6();
        !self.nat64 && self.pairs.iter().any(is_tried)
    }
}

impl fmt::Display for PunchReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.verdict.explain(f, self)?;
        let count = |counts: fn(PairOutcome) -> bool| {
            self.pairs
                .iter()
                .filter(|pair| counts(pair.outcome))
                .count()
        };
        let attempts: u32 = self.pairs.iter().map(|pair| pair.attempts).sum();
        if attempts == 0 {
            return Ok(());
        }
        let tried = self.pairs.iter().filter(|pair| pair.attempts > 0).count();
        write!(
            f,
            " {attempts} {} on {tried} {} of addresses",
            plural(attempts as usize, "attempt", "attempts"),
            plural(tried, "pair", "pairs"),
        )?;
        let counts = [
            (count(PairOutcome::is_silent), "unanswered"),
            (count(PairOutcome::is_refused), "refused"),
            (count(PairOutcome::is_unreachable), "unreachable"),
            (count(PairOutcome::is_stranger), "answered by somebody else"),
            (count(PairOutcome::is_withheld), "withheld"),
        ];
        let mut separator = ": ";
        for (number, outcome) in counts.into_iter().filter(|(number, _)| *number > 0) {
            write!(f, "{separator}{number} {outcome}")?;
            separator = ", ";
        }
        f.write_str(".")
    }
}

const fn plural(number: usize, one: &'static str, many: &'static str) -> &'static str {
    if number == 1 { one } else { many }
}

/// What happened on one pair of addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairReport {
    /// The pair.
    pub pair: CandidatePair,
    /// How many times we connected; the kernel's repetitions are not counted.
    pub attempts: u32,
    /// The last thing that happened.
    pub outcome: PairOutcome,
}

/// The last thing that happened on a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PairOutcome {
    /// It was never this pair's turn.
    NotTried,
    /// No answer at all.
    Silent,
    /// The attempt was ended.
    Failed(ConnectFailure),
    /// A connection opened, but not to the peer.
    NotThePeer(VerifyFailure),
}

impl PairOutcome {
    const fn is_silent(self) -> bool {
        matches!(self, Self::Silent | Self::Failed(ConnectFailure::TimedOut))
    }

    const fn is_refused(self) -> bool {
        matches!(
            self,
            Self::Failed(ConnectFailure::Refused | ConnectFailure::Reset)
        )
    }

    const fn is_unreachable(self) -> bool {
        matches!(
            self,
            Self::Failed(ConnectFailure::HostUnreachable | ConnectFailure::NetworkUnreachable)
        )
    }

    const fn is_withheld(self) -> bool {
        matches!(self, Self::Failed(ConnectFailure::Withheld))
    }

    const fn is_stranger(self) -> bool {
        matches!(
            self,
            Self::NotThePeer(VerifyFailure::Stranger | VerifyFailure::WrongIdentity)
        )
    }
}
