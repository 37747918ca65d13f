//! Why a dial found no direct path, for people and for programs.

use std::{cmp::Reverse, collections::BTreeMap, fmt::Debug, net::IpAddr};

use p2pconnect::{
    CandidateKind, ConnectFailure, NatReport, PairOutcome, PairReport, PortAssignment, PunchReport,
    VerifyFailure,
};
use serde_json::{Value, json};

/// The most lines of pairs; the rest is summed up in one.
const MAX_LINES: usize = 12;

/// The most pairs in an object for programs: guessing ports takes a thousand, which say the same.
/// Those that are left out are counted in their group.
const MAX_PAIRS: usize = 64;

/// Why addresses of the peer's are not those that it has, and what the NAT of this side is.
const NAT64: &str =
    "this side has IPv6 only, and a NAT64 leads to the IPv4 addresses of the peer's NAT";

/// Returns the evidence as lines: what is known of both sides, and each pair with what came of it.
pub(crate) fn lines(report: &PunchReport) -> Vec<String> {
    let mut lines = vec![
        format!("this side  {}", nat_in_words(&report.local_nat)),
        format!("the peer   {}", nat_in_words(&report.remote_nat)),
    ];
    if report.nat64 {
        lines.push(NAT64.to_owned());
    }
    let mut rows = vec![["from", "to", "which is", "tried", "what came back"].map(str::to_owned)];
    rows.extend(rows_of(&report.pairs));
    let left_out = rows.len().saturating_sub(1 + MAX_LINES);
    rows.truncate(1 + MAX_LINES);
    if rows.len() > 1 {
        lines.extend(align(&rows));
    }
    if left_out > 0 {
        lines.push(format!(
            "and {left_out} more lines; --json has all of them as groups"
        ));
    }
    lines
}

/// Returns the evidence as fields.
pub(crate) fn fields(report: &PunchReport) -> Value {
    let groups = groups_of(&report.pairs);
    // Each of a few tells more than one of a thousand.
    let mut smallest_first: Vec<_> = groups.values().collect();
    smallest_first.sort_by_key(|members| members.len());
    let of_pair = |it: &&PairReport| {
        json!({
            "local": it.pair.local,
            "remote": it.pair.remote,
            "kind": kebab(&it.pair.kind),
            "attempts": it.attempts,
            "outcome": outcome_for_programs(it.outcome),
        })
    };
    let pairs = smallest_first.iter().copied().flatten().take(MAX_PAIRS);
    let pairs: Vec<_> = pairs.map(of_pair).collect();
    let of_group = |(key, members): (&Group, &Vec<&PairReport>)| {
        json!({
            "local": key.local,
            "remote": key.remote,
            "kind": kebab(&key.kind),
            "outcome": members.first().map(|it| outcome_for_programs(it.outcome)),
            "pairs": members.len(),
            "attempts": attempts(members),
        })
    };
    let groups: Vec<_> = groups.iter().map(of_group).collect();
    json!({
        "verdict": kebab(&report.verdict),
        "local_nat": nat_fields(&report.local_nat),
        "remote_nat": nat_fields(&report.remote_nat),
        "nat64": report.nat64,
        "guessed": report.guessed,
        "groups": groups,
        "pairs_in_all": report.pairs.len(),
        "pairs": pairs,
        "introductions": report.others.introductions + 1,
        "attempts_in_all": report.others.attempts + report.attempts(),
    })
}

pub(crate) fn nat_in_words(nat: &NatReport) -> String {
    let words: Vec<_> = [
        nat.mapping.map(|it| it.to_string()),
        nat.ports.map(|it| it.to_string()),
        Some(filtering_in_words(nat)).filter(|it| !it.is_empty()),
    ]
    .into_iter()
    .flatten()
    .collect();
    if words.is_empty() {
        "nothing is known of its NAT, if it has one".to_owned()
    } else {
        words.join(", ")
    }
}

pub(crate) fn filtering_in_words(nat: &NatReport) -> String {
    let words = [
        nat.filtering.map(|it| it.to_string()),
        nat.unsolicited.map(|it| it.to_string()),
    ];
    words.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

pub(crate) fn nat_fields(nat: &NatReport) -> Value {
    json!({
        "mapping": nat.mapping.as_ref().map(kebab),
        "ports": nat.ports.map(|ports| match ports {
            PortAssignment::Preserved => json!({ "assignment": "preserved" }),
            PortAssignment::Sequential { delta } => {
                json!({ "assignment": "sequential", "delta": delta.cast_signed() })
            }
            PortAssignment::Random { first, last } => {
                json!({ "assignment": "random", "first": first, "last": last })
            }
        }),
        "filtering": nat.filtering.as_ref().map(kebab),
        "unsolicited": nat.unsolicited.as_ref().map(kebab),
        "hairpinning": nat.hairpinning,
    })
}

/// What pairs have in common that differ in nothing but their ports.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    kind: CandidateKind,
    local: IpAddr,
    remote: IpAddr,
    outcome: &'static str,
}

fn groups_of(pairs: &[PairReport]) -> BTreeMap<Group, Vec<&PairReport>> {
    let mut groups: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for it in pairs {
        let key = Group {
            kind: it.pair.kind,
            local: it.pair.local.ip(),
            remote: it.pair.remote.ip(),
            outcome: outcome_in_words(it.outcome),
        };
        groups.entry(key).or_default().push(it);
    }
    groups
}

fn attempts(pairs: &[&PairReport]) -> u32 {
    pairs.iter().map(|it| it.attempts).sum()
}

/// Returns a row for each pair, those first that were tried most. If there are too many, pairs that
/// differ in nothing but their ports make one row.
fn rows_of(pairs: &[PairReport]) -> Vec<[String; 5]> {
    let mut rows = Vec::new();
    for (key, members) in groups_of(pairs) {
        let Group {
            kind,
            local,
            remote,
            outcome,
        } = key;
        let row = |from: String, to: String, attempts: u32| {
            let tried = format!("{attempts}x");
            let row = [
                from,
                to,
                kind_in_words(kind).to_owned(),
                tried,
                outcome.to_owned(),
            ];
            (kind, attempts, row)
        };
        if pairs.len() <= MAX_LINES || members.len() == 1 {
            rows.extend(members.iter().map(|it| {
                let (from, to) = (it.pair.local.to_string(), it.pair.remote.to_string());
                row(from, to, it.attempts)
            }));
        } else {
            let to = format!("{remote}, {} pairs of ports", members.len());
            rows.push(row(local.to_string(), to, attempts(&members)));
        }
    }
    // A peer's own address hardly ever leads anywhere from another network.
    rows.sort_by_key(|(kind, attempts, _)| (Reverse(*attempts), *kind == CandidateKind::Host));
    rows.into_iter().map(|(.., row)| row).collect()
}

fn align<const N: usize>(rows: &[[String; N]]) -> Vec<String> {
    let widths: [usize; N] = std::array::from_fn(|column| {
        let lengths = rows.iter().map(|row| row[column].len());
        lengths.max().unwrap_or(0)
    });
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths);
        let cells: Vec<_> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

const fn kind_in_words(kind: CandidateKind) -> &'static str {
    match kind {
        CandidateKind::Host => "its own address",
        CandidateKind::ServerReflexive => "its NAT's, by STUN",
        CandidateKind::Mapped => "its router's, forwarded",
        CandidateKind::Predicted => "its NAT's, predicted",
        CandidateKind::PeerReflexive => "where it came from",
        CandidateKind::Reserved(_) => "nothing",
    }
}

const fn outcome_in_words(outcome: PairOutcome) -> &'static str {
    match outcome {
        PairOutcome::NotTried => "it was not its turn",
        PairOutcome::Silent | PairOutcome::Failed(ConnectFailure::TimedOut) => "nothing",
        PairOutcome::Failed(failure) => match failure {
            ConnectFailure::Refused => "RST: refused",
            ConnectFailure::Reset => "RST: reset",
            ConnectFailure::HostUnreachable => "ICMP: host unreachable",
            ConnectFailure::NetworkUnreachable => "no route to that network",
            ConnectFailure::AddressInUse => "nothing was sent: the local port is in use",
            ConnectFailure::AddressNotAvailable => "the peer's SYN, and no connection",
            ConnectFailure::NoLocalAddress => "nothing was sent: no address to send from",
            ConnectFailure::NotPermitted => "nothing was sent: it is not permitted",
            ConnectFailure::NoResources => "nothing was sent: no sockets are left",
            ConnectFailure::Withheld => "nothing more was sent: too much was in vain lately",
            ConnectFailure::TimedOut | ConnectFailure::Other => "an error of this system",
        },
        PairOutcome::NotThePeer(failure) => match failure {
            VerifyFailure::Stranger => "a connection to somebody else",
            VerifyFailure::WrongIdentity => "a connection to another identity",
            VerifyFailure::Closed => "a connection that broke at once",
            VerifyFailure::TimedOut => "a connection that stayed silent",
        },
    }
}

fn outcome_for_programs(outcome: PairOutcome) -> String {
    match outcome {
        PairOutcome::NotTried => "not-tried".to_owned(),
        PairOutcome::Silent => "silent".to_owned(),
        PairOutcome::Failed(failure) => kebab(&failure),
        PairOutcome::NotThePeer(failure) => format!("not-the-peer-{}", kebab(&failure)),
    }
}

/// Returns the name of a variant as programs write it: `NoCommonFamily` is `no-common-family`.
pub(crate) fn kebab(variant: &impl Debug) -> String {
    let mut name = String::new();
    for letter in format!("{variant:?}")
        .chars()
        .take_while(|it| it.is_alphanumeric())
    {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('-');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use p2pconnect::{CandidatePair, NatMapping, OtherIntroductions, Verdict};

    use super::*;

    fn pair(
        kind: CandidateKind,
        ports: [u16; 2],
        attempts: u32,
        outcome: PairOutcome,
    ) -> PairReport {
        let pair = CandidatePair {
            local: ([192, 168, 1, 2], ports[0]).into(),
            remote: ([203, 0, 113, 9], ports[1]).into(),
            kind,
        };
        PairReport {
            pair,
            attempts,
            outcome,
        }
    }

    fn report() -> PunchReport {
        let refused = PairOutcome::Failed(ConnectFailure::Refused);
        let reflexive = CandidateKind::ServerReflexive;
        let predicted = CandidateKind::Predicted;
        // What is guessed comes first, as in the agent's report.
        let guessed = (0..300).map(|n| pair(predicted, [40_000, n], 1, PairOutcome::Silent));
        let mut pairs: Vec<_> = guessed.collect();
        pairs.extend([
            pair(reflexive, [40_000, 50_000], 1, PairOutcome::Silent),
            pair(reflexive, [40_001, 50_001], 12, refused),
        ]);
        let local_nat = NatReport {
            mapping: Some(NatMapping::EndpointIndependent),
            ports: Some(PortAssignment::Preserved),
            ..NatReport::default()
        };
        PunchReport {
            verdict: Verdict::NoCommonFamily,
            local_nat,
            remote_nat: NatReport::default(),
            nat64: false,
            guessed: true,
            pairs,
            others: OtherIntroductions {
                introductions: 1,
                attempts: 926,
            },
        }
    }

    #[test]
    fn people_see_a_table() {
        let expected = [
            "this side  endpoint-independent mapping, ports preserved",
            "the peer   nothing is known of its NAT, if it has one",
            "from               to                               which is              tried  what came back",
            "192.168.1.2        203.0.113.9, 300 pairs of ports  its NAT's, predicted  300x   nothing",
            "192.168.1.2:40001  203.0.113.9:50001                its NAT's, by STUN    12x    RST: refused",
            "192.168.1.2:40000  203.0.113.9:50000                its NAT's, by STUN    1x     nothing",
        ];
        assert_eq!(lines(&report()), expected);
        let nat64 = PunchReport {
            nat64: true,
            ..report()
        };
        let lines = lines(&nat64);
        assert_eq!(lines.len(), expected.len() + 1);
        assert_eq!(lines[2], NAT64);
    }

    #[test]
    fn programs_see_fields_within_bounds() {
        let fields = fields(&report());
        assert_eq!(fields["verdict"], "no-common-family");
        assert_eq!(fields["local_nat"]["mapping"], "endpoint-independent");
        assert_eq!(fields["local_nat"]["ports"]["assignment"], "preserved");
        assert!(fields["remote_nat"]["mapping"].is_null());
        assert_eq!(fields["nat64"], false);
        assert_eq!(fields["pairs_in_all"], 302);
        assert_eq!(fields["introductions"], 2);
        assert_eq!(fields["attempts_in_all"], 300 + 1 + 12 + 926);
        assert_eq!(fields["pairs"].as_array().map(Vec::len), Some(MAX_PAIRS));
        // What is not one of hundreds is not left out for these.
        let pairs = fields["pairs"].as_array().unwrap();
        let reflexive = |remote: &str| {
            let mut found = pairs.iter().filter(|it| it["remote"] == remote);
            let it = found.next().unwrap();
            assert_eq!(it["kind"], "server-reflexive");
            it["outcome"].clone()
        };
        assert_eq!(reflexive("203.0.113.9:50001"), "refused");
        assert_eq!(reflexive("203.0.113.9:50000"), "silent");
        let groups = fields["groups"].as_array().unwrap();
        assert_eq!(groups.len(), 3);
        let guessed = groups.iter().find(|it| it["kind"] == "predicted").unwrap();
        assert_eq!(guessed["pairs"], 300);
        assert_eq!(guessed["attempts"], 300);
        assert_eq!(guessed["local"], "192.168.1.2");
    }
}
