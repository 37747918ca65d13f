//! How likely it is to guess a port.

use super::outside::Outside;
use super::{Birthday, LEAST_CHANCE, Outcome, Punchability, SYNS, passage, reason};
use crate::oracle::Timing;
use crate::spec::Dependence;

/// A bet, and in which order its SYNs must be sent.
#[derive(Clone, Copy)]
struct Bet {
    how: Birthday,
    probability: f64,
    timing: Timing,
}

/// Says what luck can do where nothing is certain.
pub(super) fn bet(a: &Outside, b: &Outside) -> Punchability {
    let bets = [exact(a, b), by_address(a, b, false), by_address(b, a, true)];
    let best = bets.into_iter().flatten().reduce(|best, bet| {
        if bet.probability > best.probability {
            bet
        } else {
            best
        }
    });
    let outcome = match best {
        Some(bet) if bet.probability >= LEAST_CHANCE => Outcome::Chance {
            how: bet.how,
            probability: bet.probability,
            timing: bet.timing,
        },
        bet => Outcome::Impossible {
            probability: bet.map_or(0.0, |bet| bet.probability),
        },
    };
    let reason = reason::luck(a, b, &outcome);
    Punchability { outcome, reason }
}

/// Both dial, and both ports of a pair of SYNs must match.
fn exact(a: &Outside, b: &Outside) -> Option<Bet> {
    let once = passage::both_dial(a, b).timing();
    let timing = once.or_else(|| passage::both_redial(a, b).timing())?;
    let (how, probability) = match (a.endpoint.is_foretold(), b.endpoint.is_foretold()) {
        (true, true) => return None,
        (true, false) => one_sided(a, b),
        (false, true) => one_sided(b, a),
        (false, false) => {
            let (a, b) = (a.endpoint.ports(), b.endpoint.ports());
            let probability = two_sided(a, b);
            (Birthday::TwoSided { a, b }, probability)
        }
    };
    Some(Bet {
        how,
        probability,
        timing,
    })
}

/// s filters by address only but is not foretold: p looks for one of its ports.
fn by_address(s: &Outside, p: &Outside, mirrored: bool) -> Option<Bet> {
    let orders = passage::open_to_address(s, p);
    let orders = if mirrored { orders.mirrored() } else { orders };
    let ports = s.endpoint.ports();
    Some(Bet {
        how: Birthday::OneSided { ports },
        probability: birthday(ports, SYNS),
        timing: orders.timing()?,
    })
}

fn one_sided(foretold: &Outside, random: &Outside) -> (Birthday, f64) {
    let ports = random.endpoint.ports();
    let holes = if foretold.same_for_peer { SYNS } else { 1 };
    (Birthday::OneSided { ports }, birthday(ports, holes))
}

/// Returns the chance that one of [`SYNS`] random ports is one of `holes`, of
/// `ports` that there are.
fn birthday(ports: u32, holes: u32) -> f64 {
    let hit = f64::from(holes.min(ports)) / f64::from(ports);
    at_least_once(hit, SYNS.min(ports))
}

fn two_sided(one: u32, other: u32) -> f64 {
    let hit = 1.0 / (f64::from(one) * f64::from(other));
    at_least_once(hit, SYNS.min(one) * SYNS.min(other))
}

fn at_least_once(hit: f64, tries: u32) -> f64 {
    1.0 - (1.0 - hit).powf(f64::from(tries))
}

/// Returns whether the filtering of a side makes the other's port matter.
pub(super) fn needs_exact(s: &Outside) -> bool {
    s.filtering == Dependence::AddressAndPortDependent
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_at_known_points() {
        let near = |probability: f64, expected: f64| (probability - expected).abs() < 0.001;
        // 1 - e^(-256 * 256 / 64512), nearly.
        assert!(near(birthday(64_512, 256), 0.638));
        assert!(near(birthday(64_512, 1), 0.004));
        // All ports of a block at once.
        assert!(near(birthday(32, 256), 1.0));
        assert!(near(two_sided(512, 512), 0.221));
        assert!(two_sided(64_512, 64_512) < 0.0001);
    }
}
