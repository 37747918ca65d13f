//! The kinds of network access that the suites pair, and the README's table of them.

use std::fmt::Write as _;

use netns_lab::{
    Dependence, NatSpec, PortAssignment, UnsolicitedSyn,
    oracle::{Endpoint, How, Outcome, Outside, punchable},
};

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

/// A NAT with the next port for each further destination.
pub const COUNTS: Kind = Kind {
    row: "the next port for each destination²",
    column: "next port²",
    boxes: &[NatSpec::random_per_destination().ports(PortAssignment::Sequential { delta: 1 })],
};

/// A NAT with another random port for each destination, out of a block that the subscriber has to
/// himself.
pub const BLOCK: Kind = Kind {
    row: "random port of 256 for each destination²",
    column: "random of 256²",
    boxes: &[NatSpec::random_per_destination().port_range(4096, 4351)],
};

/// A NAT with another random port for each destination.
pub const RANDOM_PER_DESTINATION: Kind = Kind {
    row: "random port of all for each destination²",
    column: "random of all²",
    boxes: &[NatSpec::random_per_destination()],
};

/// All of them, in the order of the table.
pub const ALL: [Kind; 11] = [
    PUBLIC,
    FIREWALL,
    DROPS,
    RESETS,
    SENDS_ICMP,
    RANDOM_PORT,
    FILTERS_NOTHING,
    TWO_LAYERS,
    COUNTS,
    BLOCK,
    RANDOM_PER_DESTINATION,
];

/// The least chance that the README calls certain enough. A dial that misses is repeated twice.
const LIKELY: f64 = 0.9;

/// Returns whether a punch connects, by the oracle.
pub fn connects(a: Kind, b: Kind) -> bool {
    punchable(a.boxes, b.boxes).outcome.probability() >= LIKELY
}

/// Returns whether that takes all ports of a side, which are back some minutes later.
pub fn fills(a: Kind, b: Kind) -> bool {
    let varies = |kind: Kind| Outside::of(kind.boxes).endpoint != Endpoint::Reflected;
    let outcome = punchable(a.boxes, b.boxes).outcome;
    let filled = matches!(
        outcome,
        Outcome::Certain {
            how: How::Filling,
            ..
        }
    );
    filled && varies(a) && varies(b)
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
            let text = match (column < row, connects(a, b)) {
                (true, _) => "",
                (false, true) if fills(a, b) => " yes³",
                (false, true) => " yes",
                (false, false) => " no",
            };
            let _infallible = write!(table, "{text} |");
        }
    }
    table.push('\n');
    table
}
