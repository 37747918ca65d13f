//! How likely it is to hit a port that nobody can predict.

use super::{
    FILL, Guess, How, LEAST_CHANCE, Outcome, Punchability, SYNS, outside::Outside, passage, reason,
};
use crate::oracle::Timing;

/// How likely a guess is right, and in which order its SYNs must be sent.
#[derive(Clone, Copy)]
struct Odds {
    how: Guess,
    probability: f64,
    timing: Timing,
}

/// Says what luck can do where nothing is certain.
pub(super) fn guess(a: &Outside, b: &Outside) -> Punchability {
    let all = [exact(a, b), by_address(a, b, false), by_address(b, a, true)];
    let best = all.into_iter().flatten().reduce(|best, odds| {
        if odds.probability > best.probability {
            odds
        } else {
            best
        }
    });
    let outcome = match best {
        Some(odds) if odds.probability >= 1.0 => Outcome::Certain {
            how: How::Filling,
            timing: odds.timing,
        },
        Some(odds) if odds.probability >= LEAST_CHANCE => Outcome::Chance {
            how: odds.how,
            probability: odds.probability,
            timing: odds.timing,
        },
        odds => Outcome::Impossible {
            probability: odds.map_or(0.0, |odds| odds.probability),
        },
    };
    let reason = reason::luck(a, b, &outcome);
    Punchability { outcome, reason }
}

/// Both dial, and both ports of a pair of SYNs must match.
fn exact(a: &Outside, b: &Outside) -> Option<Odds> {
    let once = passage::both_dial(a, b).timing();
    let timing = once.or_else(|| passage::both_redial(a, b).timing())?;
    let (how, probability) = match (a.endpoint.is_predictable(), b.endpoint.is_predictable()) {
        (true, true) => return None,
        (true, false) if a.same_for_peer => one_sided(b),
        (false, true) if b.same_for_peer => one_sided(a),
        (true, false) | (false, true) => two_sided(a, b),
        (false, false) => two_sided(a, b),
    };
    Some(Odds {
        how,
        probability,
        timing,
    })
}

/// s filters by address only but is not predictable: p looks for one of its ports.
fn by_address(s: &Outside, p: &Outside, mirrored: bool) -> Option<Odds> {
    let orders = passage::open_to_address(s, p);
    let orders = if mirrored { orders.mirrored() } else { orders };
    let (how, probability) = one_sided(s);
    Some(Odds {
        how,
        probability,
        timing: orders.timing()?,
    })
}

fn one_sided(random: &Outside) -> (Guess, f64) {
    let ports = random.endpoint.ports();
    (Guess::OneSided { ports }, hit(ports))
}

/// Returns the chance that one of [`SYNS`] random ports is one of as many that are tried, of
/// `ports` that there are.
fn hit(ports: u32) -> f64 {
    let syns = SYNS.min(ports);
    let missed = 1.0 - f64::from(syns) / f64::from(ports);
    1.0 - missed.powf(f64::from(syns))
}

fn two_sided(a: &Outside, b: &Outside) -> (Guess, f64) {
    let (a, b) = (a.endpoint.ports(), b.endpoint.ports());
    (Guess::TwoSided { a, b }, filled(a) * filled(b))
}

/// Returns the chance that one port is among those that [`FILL`] SYNs get.
fn filled(ports: u32) -> f64 {
    f64::from(FILL.min(ports)) / f64::from(ports)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_at_known_points() {
        let near = |probability: f64, expected: f64| (probability - expected).abs() < 0.001;
        // 1 - e^(-640 * 640 / 64512), nearly.
        assert!(near(hit(64_512), 0.998));
        // A hole for each port.
        assert_eq!(hit(SYNS), 1.0);
        assert_eq!(filled(512), 1.0);
        assert_eq!(filled(6400), 0.5);
        assert!(filled(64_512) < LEAST_CHANCE);
    }
}
