//! Which of the addresses that a peer names as its own are believed.
//!
//! Whatever is admitted here makes other peers send SYNs there. So an address counts only when
//! something shows that it leads to the peer itself, or when it can lead nowhere but into the
//! network that the connecting peer is in.

use std::net::{IpAddr, SocketAddr};

use p2pconnect_proto::{Candidate, CandidateKind, PeerId, TokenKey, is_local, portable};

use crate::network::subscriber;

/// The peer whose candidates are judged, and what is known of it beyond doubt.
#[derive(Debug, Clone, Copy)]
pub struct Claimant {
    /// The id that the peer proved in the handshake.
    pub peer: PeerId,
    /// The address at which the peer finished the QUIC handshake.
    pub seen: SocketAddr,
}

/// What is left of a list of candidates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Admitted {
    /// The candidates that others may be told, in the order given, without their tokens.
    pub candidates: Vec<Candidate>,
    /// The addresses that were left out.
    pub unproven: Vec<SocketAddr>,
}

/// Sorts out which candidates of a peer others may be told.
///
/// `now` is in seconds since the Unix epoch and decides whether tokens have expired. Addresses
/// are portable afterwards (an IPv4 address mapped into IPv6 becomes IPv4), and each one appears
/// once for each punch port.
#[must_use]
pub fn admit(candidates: &[Candidate], claimant: &Claimant, key: &TokenKey, now: u64) -> Admitted {
    let mut admitted = Admitted::default();
    let attested: Vec<IpAddr> = candidates
        .iter()
        .filter(|candidate| candidate.kind == CandidateKind::ServerReflexive)
        .map(|candidate| candidate.clone().portable())
        .filter(|candidate| is_attested(candidate, claimant, key, now))
        .map(|candidate| candidate.address.ip())
        .collect();
    for candidate in candidates {
        let candidate = candidate.clone().portable();
        let address = candidate.address;
        if is_believable(&candidate, claimant, &attested, key, now) {
            let known = |other: &Candidate| {
                (other.address, other.punch_port) == (address, candidate.punch_port)
            };
            if !admitted.candidates.iter().any(known) {
                // The token has done its work; it is nobody else's business.
                admitted.candidates.push(Candidate {
                    token: None,
                    ..candidate
                });
            }
        } else if !admitted.unproven.contains(&address) {
            admitted.unproven.push(address);
        }
    }
    admitted
}

/// Tells whether a peer seen at `seen` may be told this admitted candidate of another peer.
///
/// A loopback address would make it connect to itself, unless both are on the coordinator's own
/// host.
#[must_use]
pub fn is_reachable_from(candidate: &Candidate, seen: SocketAddr) -> bool {
    !candidate.address.ip().is_loopback() || portable(seen).ip().is_loopback()
}

/// `attested` are the addresses at which STUN servers have seen the peer.
fn is_believable(
    candidate: &Candidate,
    claimant: &Claimant,
    attested: &[IpAddr],
    key: &TokenKey,
    now: u64,
) -> bool {
    let ip = candidate.address.ip();
    if !candidate.is_well_formed() {
        return false;
    }
    if ip.is_loopback() {
        // Development on one machine: this peer is there itself.
        return claimant.seen.ip().to_canonical().is_loopback();
    }
    let is_seen = || subscriber(ip) == subscriber(claimant.seen.ip());
    match candidate.kind {
        CandidateKind::PeerReflexive | CandidateKind::Reserved(_) => false,
        CandidateKind::Host if is_local(ip) => true,
        CandidateKind::Host | CandidateKind::ServerReflexive => {
            is_seen() || is_attested(candidate, claimant, key, now)
        }
        // No server has seen this port. The address must be that of the peer's NAT.
        CandidateKind::Mapped | CandidateKind::Predicted => is_seen() || attested.contains(&ip),
    }
}

fn is_attested(candidate: &Candidate, claimant: &Claimant, key: &TokenKey, now: u64) -> bool {
    candidate
        .token
        .as_ref()
        .is_some_and(|token| key.verify(token, &claimant.peer, candidate.address, now))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests;
