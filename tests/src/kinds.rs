//! The kinds of network access that the suites pair, and the README's table of them.

use std::fmt::Write as _;

use netns_lab::oracle::{How, Outcome, punchable};
use netns_lab::{Dependence, NatSpec, UnsolicitedSyn};

/// What stands between a peer and the internet, the innermost box first.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// What the README calls it in its own row.
    pub row: &'static str,
    /// What the README calls it at the head of a column.
    pub column: &'static str,
    /// The boxes.
    pub boxes: &'static [NatSpec],
}

/// A host with public addresses.
pub const PUBLIC: Kind = Kind {
    row: "public",
    column: "public",
    boxes: &[],
};

/// A host with public addresses behind a stateful firewall.
pub const FIREWALL: Kind = Kind {
    row: "stateful firewall, no NAT",
    column: "firewall",
    boxes: &[NatSpec::firewall()],
};

/// A NAT that keeps ports and is silent to strangers.
pub const DROPS: Kind = Kind {
    row: "keeps ports, drops a stranger's SYN",
    column: "keeps ports, drops",
    boxes: &[NatSpec::port_preserving()],
};

/// A NAT that keeps ports and resets a stranger's connection.
pub const RESETS: Kind = Kind {
    row: "keeps ports, answers it with RST",
    column: "keeps ports, RST",
    boxes: &[NatSpec::port_preserving().answering(UnsolicitedSyn::Rst)],
};

/// A NAT that keeps ports and answers strangers with ICMP.
pub const SENDS_ICMP: Kind = Kind {
    row: "keeps ports, answers it with ICMP",
    column: "keeps ports, ICMP",
    boxes: &[NatSpec::port_preserving().answering(UnsolicitedSyn::IcmpProhibited)],
};

/// A NAT with random ports that are the same for every destination.
pub const RANDOM_PORT: Kind = Kind {
    row: "random ports, the same for every destination¹",
    column: "random ports¹",
    boxes: &[NatSpec::random_port()],
};

/// A NAT that keeps ports and lets anyone in.
pub const FILTERS_NOTHING: Kind = Kind {
    row: "keeps ports, filters nothing",
    column: "filters nothing",
    boxes: &[NatSpec::port_preserving().filtering(Dependence::EndpointIndependent)],
};

/// A NAT behind a NAT.
pub const TWO_LAYERS: Kind = Kind {
    row: "two layers of NAT",
    column: "two layers",
    boxes: &[NatSpec::port_preserving(), NatSpec::port_preserving()],
};

/// A NAT with another random port for each destination.
pub const RANDOM_PER_DESTINATION: Kind = Kind {
    row: "random port per destination²",
    column: "random per destination²",
    boxes: &[NatSpec::random_per_destination()],
};

/// All of them, in the order of the table.
pub const ALL: [Kind; 9] = [
    PUBLIC,
    FIREWALL,
    DROPS,
    RESETS,
    SENDS_ICMP,
    RANDOM_PORT,
    FILTERS_NOTHING,
    TWO_LAYERS,
    RANDOM_PER_DESTINATION,
];

/// Returns whether the endpoints that servers have seen suffice for a punch, by
/// the oracle: no port has to be foretold or guessed.
pub fn connects(a: Kind, b: Kind) -> bool {
    match punchable(a.boxes, b.boxes).outcome {
        Outcome::Certain { how, .. } => !matches!(how, How::Prediction | How::Filling),
        Outcome::Chance { .. } | Outcome::Impossible { .. } => false,
    }
}

/// Returns the README's table of pairs, in Markdown.
pub fn table() -> String {
    let mut table = String::from("| |");
    for kind in ALL {
        let _infallible = write!(table, " {} |", kind.column);
    }
    table.push_str("\n|---|");
    table.push_str(&"---|".repeat(ALL.len()));
    for (row, a) in ALL.into_iter().enumerate() {
        let _infallible = write!(table, "\n| {} |", a.row);
        for (column, b) in ALL.into_iter().enumerate() {
            // The last kind is paired by single dials, not by twenty.
            let single = column + 1 == ALL.len();
            let text = match (column < row, connects(a, b)) {
                (true, _) => "",
                (false, true) if single => " yes³",
                (false, true) => " yes",
                (false, false) => " no",
            };
            let _infallible = write!(table, "{text} |");
        }
    }
    table.push('\n');
    table
}
