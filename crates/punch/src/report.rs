//! What an agent has tried and what came back, if no connection came of it.

use std::{collections::BTreeMap, fmt};

use p2pconnect_proto::NatReport;

use crate::{CandidatePair, ConnectFailure, VerifyFailure, plan::is_scarce};

mod reasons;
mod verdict;

pub use verdict::Verdict;

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
    /// Each pair of addresses that was to be tried: below a hundred, or up to 1,000 more where
    /// random ports were guessed.
    pub pairs: Vec<PairReport>,
    /// What was tried in other introductions of the same dial, of which this report tells nothing
    /// else.
    pub others: OtherIntroductions,
}

/// What was tried in introductions that a report does not tell of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OtherIntroductions {
    /// How many there were.
    pub introductions: u32,
    /// How many times we connected.
    pub attempts: u32,
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
            others: OtherIntroductions::default(),
        }
    }

    /// Returns how many times we connected, in the introduction that this report tells of.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.pairs.iter().map(|it| it.attempts).sum()
    }

    /// Names the families that this side and the peer are known in, where each is known in one
    /// alone.
    fn families_known(&self) -> (&'static str, &'static str) {
        let is_ipv4 = |it: &PairReport| self.nat64 || it.pair.remote.is_ipv4();
        match self.pairs.first().map(is_ipv4) {
            Some(true) => ("IPv6", "IPv4"),
            Some(false) => ("IPv4", "IPv6"),
            None => ("one family's", "the other's"),
        }
    }

    /// Tells whether one of the NATs has so few ports that dials use them up.
    fn lacks_ports(&self) -> bool {
        [self.local_nat, self.remote_nat].iter().any(is_scarce)
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
        let tried: Vec<_> = self.pairs.iter().filter(|pair| pair.attempts > 0).collect();
        let attempts = self.attempts();
        let in_all = attempts + self.others.attempts;
        if in_all > attempts {
            let introductions = self.others.introductions + 1;
            write!(
                f,
                " In {introductions} introductions there were {in_all} attempts."
            )?;
        }
        if attempts == 0 {
            return Ok(());
        }
        write!(
            f,
            " The last introduction had {attempts} {} on {} {} of addresses",
            plural(attempts as usize, "attempt", "attempts"),
            tried.len(),
            plural(tried.len(), "pair", "pairs"),
        )?;
        let mut counts = BTreeMap::<_, usize>::new();
        for pair in tried {
            *counts.entry(Answer::of(pair.outcome)).or_default() += 1;
        }
        let mut separator = ": ";
        for (answer, number) in counts {
            write!(f, "{separator}{number} {}", answer.in_words())?;
            separator = ", ";
        }
        f.write_str(".")
    }
}

/// What came back on a pair, as far as one sentence tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Answer {
    Nothing,
    Reset,
    Icmp,
    SomebodyElse,
    Unproven,
    Withheld,
    NotSent,
    Untold,
}

impl Answer {
    const fn of(outcome: PairOutcome) -> Self {
        match outcome {
            PairOutcome::Silent => Self::Nothing,
            PairOutcome::Failed(failure) => match failure {
                ConnectFailure::TimedOut => Self::Nothing,
                ConnectFailure::Refused | ConnectFailure::Reset => Self::Reset,
                ConnectFailure::HostUnreachable | ConnectFailure::NetworkUnreachable => Self::Icmp,
                ConnectFailure::AddressNotAvailable => Self::Unproven,
                ConnectFailure::Withheld => Self::Withheld,
                ConnectFailure::AddressInUse
                | ConnectFailure::NoLocalAddress
                | ConnectFailure::NotPermitted
                | ConnectFailure::NoResources => Self::NotSent,
                ConnectFailure::Other => Self::Untold,
            },
            PairOutcome::NotThePeer(failure) => match failure {
                VerifyFailure::Stranger | VerifyFailure::WrongIdentity => Self::SomebodyElse,
                VerifyFailure::Closed | VerifyFailure::TimedOut => Self::Unproven,
            },
            PairOutcome::NotTried => Self::Untold,
        }
    }

    const fn in_words(self) -> &'static str {
        match self {
            Self::Nothing => "unanswered",
            Self::Reset => "refused",
            Self::Icmp => "unreachable",
            Self::SomebodyElse => "answered by somebody else",
            Self::Unproven => "answered, and nobody proved to be the peer",
            Self::Withheld => "withheld",
            Self::NotSent => "not sent by this machine",
            Self::Untold => "failed on this machine",
        }
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
    /// How many times we connected; the kernel's repetitions are not counted, nor what was
    /// withheld.
    pub attempts: u32,
    /// The last thing that happened.
    pub outcome: PairOutcome,
}

impl PairReport {
    /// Tells what on this machine kept it from sending anything here, if that is what happened.
    fn local_cause(&self) -> Option<&'static str> {
        match self.outcome {
            PairOutcome::Failed(failure) => failure.local_cause(self.attempts > 0),
            PairOutcome::NotTried | PairOutcome::Silent | PairOutcome::NotThePeer(_) => None,
        }
    }
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
        matches!(Answer::of(self), Answer::Nothing)
    }

    const fn is_refused(self) -> bool {
        matches!(Answer::of(self), Answer::Reset)
    }

    const fn is_unreachable(self) -> bool {
        matches!(Answer::of(self), Answer::Icmp)
    }

    const fn is_withheld(self) -> bool {
        matches!(Answer::of(self), Answer::Withheld)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use p2pconnect_proto::CandidateKind;

    use super::*;

    fn pair(port: u16, attempts: u32, outcome: PairOutcome) -> PairReport {
        let pair = CandidatePair {
            local: (Ipv4Addr::LOCALHOST, 1).into(),
            remote: (Ipv4Addr::LOCALHOST, port).into(),
            kind: CandidateKind::ServerReflexive,
        };
        PairReport {
            pair,
            attempts,
            outcome,
        }
    }

    #[test]
    fn the_numbers_of_a_report_add_up() {
        let failures = [
            ConnectFailure::Refused,
            ConnectFailure::Reset,
            ConnectFailure::TimedOut,
            ConnectFailure::HostUnreachable,
            ConnectFailure::NetworkUnreachable,
            ConnectFailure::AddressInUse,
            ConnectFailure::AddressNotAvailable,
            ConnectFailure::NoLocalAddress,
            ConnectFailure::NotPermitted,
            ConnectFailure::NoResources,
            ConnectFailure::Withheld,
            ConnectFailure::Other,
        ];
        let refutations = [
            VerifyFailure::Stranger,
            VerifyFailure::WrongIdentity,
            VerifyFailure::Closed,
            VerifyFailure::TimedOut,
        ];
        let outcomes = failures.map(PairOutcome::Failed).into_iter();
        let outcomes = outcomes.chain(refutations.map(PairOutcome::NotThePeer));
        let outcomes = outcomes.chain([PairOutcome::Silent]);
        let mut pairs: Vec<_> = (1..)
            .zip(outcomes)
            .map(|(port, outcome)| pair(port, 2, outcome))
            .collect();
        pairs.push(pair(99, 0, PairOutcome::NotTried));
        let nothing = [NatReport::default(), NatReport::default()];
        let mut report = PunchReport::new(nothing, false, pairs);
        assert!(!report.to_string().contains("introductions"), "{report}");
        report.others = OtherIntroductions {
            introductions: 2,
            attempts: 900,
        };
        let text = report.to_string();
        let in_all = " In 3 introductions there were 934 attempts. ";
        assert!(text.contains(in_all), "{text}");
        let (_, numbers) = text
            .split_once("34 attempts on 17 pairs of addresses: ")
            .expect(&text);
        let sum: usize = numbers
            .split(|c: char| !c.is_ascii_digit())
            .filter_map(|it| it.parse::<usize>().ok())
            .sum();
        assert_eq!(sum, 17, "{numbers}");
    }
}
