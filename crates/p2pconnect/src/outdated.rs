//! Notices that what a peer was told of this side's NAT does not hold.

use std::{future, net::SocketAddr, time::Duration};

use p2pconnect_proto::{NatReport, PortAssignment, Role, SessionToken};
use tokio::time::{sleep, timeout};

use crate::{
    behaviour::{Behaviour, lets_anybody_in, varies},
    discovery,
    gather::Announced,
    mappings::Mappings,
    session::Pace,
};

/// How many ports of a row may have been given to others, if the peer waits at a fixed port: it
/// expects the four connections from this side at eight ports.
const SLACK: u32 = 4;

/// How long the first SYNs of a session take to leave.
const LEAVING: Duration = Duration::from_millis(2);

/// How long a session may take to begin its first connection.
const BEGINNING: Duration = Duration::from_millis(50);

/// The longest time that is waited for them.
const MAX_PATIENCE: Duration = Duration::from_millis(500);

/// How long a coordinator waits for the STUN server beside it to see a dialler, and a little more.
/// What comes within a round trip and this was known to it.
const WITNESSED: Duration = Duration::from_millis(150);

/// What a peer was told, and what has been done by it.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) session: SessionToken,
    pub(crate) announced: Announced,
    pub(crate) role: Role,
    /// What the peer has told of its own NAT.
    pub(crate) peer: NatReport,
    /// The round-trip time by way of the coordinator.
    pub(crate) relayed_rtt: Duration,
    pub(crate) pace: Pace,
}

impl Told {
    /// Returns how long the first SYNs, once they have left, are waited for: should the peer let
    /// anybody in, of which it need not know yet, they suffice.
    pub(crate) fn patience(&self) -> Duration {
        if self.peer.filtering.is_some() {
            return Duration::ZERO;
        }
        (self.relayed_rtt * 3 / 2).min(MAX_PATIENCE)
    }
}

/// Waits until a new introduction would be better than to go on. Cancel safe.
pub(crate) async fn outdated(told: Told, mappings: &Mappings, behaviour: &Behaviour) {
    // The way to such a peer does not depend on this side's ports.
    if lets_anybody_in(&told.peer) {
        return future::pending().await;
    }
    tokio::select! {
        () = behaviour.outdates(&told.announced.nat) => {}
        () = has_moved(&told, mappings, behaviour) => {}
        () = is_late(&told, mappings) => {}
    }
    let first_ones = async {
        told.pace.begun().await;
        sleep(LEAVING).await;
    };
    if timeout(BEGINNING, first_ones).await.is_err() {
        tracing::debug!("an introduction ends before anything has been tried");
    }
}

/// Waits for a mapping that not even the coordinator knew when this side dialled: packets to the STUN
/// server were lost, and the peer dials nothing but private addresses.
async fn is_late(told: &Told, mappings: &Mappings) {
    let knew_none = told.role == Role::Controlling && !told.announced.is_mapped;
    if knew_none && mappings.first().await.is_ok() {
        let late = told.announced.at.elapsed();
        if late > told.relayed_rtt + WITNESSED {
            return;
        }
    }
    future::pending().await
}

/// Waits until it is certain that others have got the ports that the peer expects connections from.
async fn has_moved(told: &Told, mappings: &Mappings, behaviour: &Behaviour) {
    let (Some(predicted), Some(PortAssignment::Sequential { delta })) =
        (told.announced.predicted, told.announced.nat.ports)
    else {
        return future::pending().await;
    };
    if told.role == Role::Controlling && told.announced.is_fresh() {
        return future::pending().await;
    }
    told.pace.begun().await;
    sleep(LEAVING).await;
    let own = told.pace.count();
    let Some(looked) = discovery::look_again(mappings, behaviour).await else {
        return future::pending().await;
    };
    let slack = if varies(&told.peer) { 0 } else { SLACK };
    if is_within((predicted, delta), own + slack, looked) {
        return future::pending().await;
    }
    tracing::debug!("others have got the ports that the peer expects");
}

/// Tells whether an address is among the next so many of a row, and the one behind them.
fn is_within((first, delta): (SocketAddr, u16), count: u32, address: SocketAddr) -> bool {
    let mut port = first.port();
    for _ in 0..=count {
        if port == address.port() {
            return true;
        }
        port = port.wrapping_add(delta);
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_connections_and_a_few_others_are_expected() {
        let at = |port: u16| SocketAddr::from(([203, 0, 113, 7], port));
        let row = (at(65_532), 2);
        assert!(is_within(row, 2, at(65_532)));
        assert!(is_within(row, 2, at(0)));
        assert!(!is_within(row, 2, at(2)));
        assert!(!is_within(row, 2, at(65_530)));
    }
}
