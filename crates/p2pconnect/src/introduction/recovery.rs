//! How long a peer takes after an introduction to be as good as before.

use std::time::Duration;

use p2pconnect_proto::{NatMapping, PortAssignment, message::Introduction};

/// The round trips, by way of the coordinator, after which a peer has probed the sequence of its
/// NAT and told the coordinator: word of the end takes a half of one, asking a STUN server two to
/// the server, telling another half.
const PROBE_ROUND_TRIPS: u32 = 3;

/// The round trips after which a peer has told the coordinator without a probe: because its NAT has
/// turned out to be of another kind, or to have other ports used up.
const TELL_ROUND_TRIPS: u32 = 1;

/// The longest wait for a peer to recover.
const MAX_RECOVERY: Duration = Duration::from_secs(1);

/// Returns how long to wait before a peer is asked for again.
///
/// A peer tells the coordinator what the last attempt has used up. One whose NAT gives out ports in
/// sequence probes before where the sequence goes on.
pub(crate) fn recovery(introduction: &Introduction) -> Duration {
    let nat = &introduction.nat;
    let counts = matches!(nat.ports, Some(PortAssignment::Sequential { .. }));
    let round_trips = match nat.mapping {
        Some(NatMapping::EndpointIndependent) => return Duration::ZERO,
        Some(_) if counts => PROBE_ROUND_TRIPS,
        Some(_) | None => TELL_ROUND_TRIPS,
    };
    let round_trip = Duration::from_micros(introduction.rtt_via_coordinator_us.into());
    (round_trip * round_trips).min(MAX_RECOVERY)
}
