//! Attempts to and from ports that can be predicted.

use std::net::SocketAddr;

use p2pconnect_proto::CandidateKind;

use super::{Addresses, Class, Classes, Planned, Who, paced};

/// How many predicted ports are used, one after the other where each stands for itself.
///
/// A lost SYN costs the next one, as with the plain pairs: one and three hedges.
pub(super) const ATTEMPTS: u32 = 4;

/// How many ports of a sequence are waited for at a port that is fixed.
///
/// The four connections that are meant to come from there, and what others behind the same NAT may
/// have made in between: eight connections, the pairs among them, for each of a dozen dials that
/// begin at the same moment.
pub(super) const WINDOW: u32 = 96;

/// How many of these are waited for at any price: enough for a dial alone. The others are guesses.
const LIKELY: u32 = 2 * ATTEMPTS;

/// Returns the attempts where each port that counts can be predicted.
pub(super) fn attempts(classes: Classes, addresses: &Addresses<'_>) -> Vec<Planned> {
    let Classes { local, remote } = classes;
    let at_once = counts_all(local) || counts_all(remote);
    let attempt = |n| match (local, remote) {
        (Class::Stable, _) => to_predicted(addresses.primary?, remote, addresses, n),
        (_, Class::Stable) => {
            let (remote, kind) = addresses.target()?;
            Some((addresses.unused(n)?, remote, kind))
        }
        _ => to_predicted(addresses.unused(n)?, remote, addresses, n),
    };
    let count = if local == Class::Stable && at_once {
        WINDOW
    } else {
        ATTEMPTS
    };
    staged(count, at_once, attempt)
}

/// Returns the attempts where one side lets in whomever it has sent to.
pub(super) fn door(keeper: Who, classes: Classes, addresses: &Addresses<'_>) -> Vec<Planned> {
    let Classes { local, remote } = classes;
    match keeper {
        // Any port will do; one that is in use at least leads to the right host.
        Who::Local => staged(ATTEMPTS, counts_all(local), |n| {
            let remote = addresses.used().next().or_else(|| addresses.predicted())?;
            Some((addresses.unused(n)?, remote, CandidateKind::Predicted))
        }),
        Who::Remote => staged(ATTEMPTS, counts_all(remote), |n| {
            to_predicted(addresses.primary?, remote, addresses, n)
        }),
    }
}

/// Returns the `n`-th port of the peer's that can be predicted.
pub(super) fn predicted_port(
    remote: Class,
    addresses: &Addresses<'_>,
    n: u32,
) -> Option<SocketAddr> {
    let Class::Predictable { step, .. } = remote else {
        return None;
    };
    let first = addresses.predicted()?;
    // Modulo 65,536, as the steps are.
    let offset = (n as u16).wrapping_mul(step);
    let port = first.port().wrapping_add(offset);
    (port != 0).then(|| SocketAddr::new(first.ip(), port))
}

fn to_predicted(
    local: SocketAddr,
    remote: Class,
    addresses: &Addresses<'_>,
    n: u32,
) -> Option<(SocketAddr, SocketAddr, CandidateKind)> {
    let remote = predicted_port(remote, addresses, n)?;
    Some((local, remote, CandidateKind::Predicted))
}

/// Tells whether every connection of the side moves its next port on, so that the order counts.
pub(super) const fn counts_all(class: Class) -> bool {
    matches!(
        class,
        Class::Predictable {
            counts_all: true,
            ..
        }
    )
}

fn staged(
    count: u32,
    at_once: bool,
    attempt: impl Fn(u32) -> Option<(SocketAddr, SocketAddr, CandidateKind)>,
) -> Vec<Planned> {
    let planned = |n| {
        let (local, remote, kind) = attempt(n)?;
        Some(Planned {
            local,
            remote,
            kind,
            stage: if at_once { 0 } else { n },
            after: paced(n),
            is_guess: n >= LIKELY,
        })
    };
    (0..count).filter_map(planned).collect()
}
