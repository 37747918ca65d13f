//! The end: one connection wins, or the agent says why none can.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Instant,
};

use p2pconnect_proto::{Candidate, NatFiltering, NatReport, Role};

use super::State;
use crate::{
    Action, CandidatePair, CheckId, Event, Introduced, PairOutcome, PairReport, PunchAgent,
    PunchReport, Verdict, VerifyFailure,
    behaviour::mapping_varies,
    nomination::Connection,
    pair::{CheckState, Ending},
    plan::Strategy,
};

/// Tells whether a NAT lets in from any port, as far as is known.
fn admits_addresses(nat: &NatReport) -> bool {
    match nat.filtering {
        Some(NatFiltering::EndpointIndependent | NatFiltering::AddressDependent) => true,
        Some(NatFiltering::AddressAndPortDependent) | None => false,
    }
}

/// Tells whether a NAT is known to let in everybody.
fn admits_anybody(nat: &NatReport) -> bool {
    nat.filtering == Some(NatFiltering::EndpointIndependent)
}

/// Returns what there is to tell of candidates that the system does not reach.
pub(super) fn unrouted_pairs(introduced: &Introduced) -> Vec<PairReport> {
    let failed = |it: &Candidate| {
        let failure = *introduced.unrouted.get(&it.address.ip())?;
        let any: IpAddr = match it.address {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        Some(PairReport {
            pair: CandidatePair {
                local: (any, 0).into(),
                remote: it.address,
                kind: it.kind,
            },
            attempts: 0,
            outcome: PairOutcome::Failed(failure),
        })
    };
    let remotes = introduced.remote_candidates.iter();
    remotes.filter_map(failed).collect()
}

impl PunchAgent {
    pub(super) fn establish(&mut self, check: CheckId, winner: &Connection) {
        tracing::debug!(%check, pair = ?winner.pair, how = %winner.how, "pair nominated");
        self.close_all();
        self.state = State::Established { check };
        self.event = Some(Event::Established {
            check,
            pair: winner.pair,
            how: winner.how,
        });
    }

    pub(super) fn fail(&mut self) {
        let pairs = if self.checklist.is_empty() {
            std::mem::take(&mut self.unrouted)
        } else {
            self.checklist.iter().map(|pair| pair.report()).collect()
        };
        let nats = [self.local_nat, self.remote_nat];
        let mut report = PunchReport::new(nats, self.checklist.has_nat64(), pairs);
        report.guessed = self.strategy.guesses() && self.checklist.iter().any(|it| it.attempts > 0);
        if self.strategy == Strategy::Fill && report.verdict == Verdict::BothMappingsVary {
            report.verdict = Verdict::PortsExhausted;
        }
        tracing::debug!(verdict = ?report.verdict, stats = ?self.stats, "no direct path");
        self.close_all();
        self.state = State::Failed;
        self.event = Some(Event::Failed(Box::new(report)));
    }

    /// Ends a verification that failed, and its connection with it.
    pub(super) fn end_verification(&mut self, check: CheckId, failure: VerifyFailure) {
        let Some(connection) = self.connections.take_verifying(check) else {
            self.stats.ignored += 1;
            return;
        };
        tracing::debug!(%check, pair = ?connection.pair, ?failure, "not the peer");
        self.actions.push_back(Action::Close { check });
        if let Some(id) = connection.pair_id {
            self.mark_not_the_peer(id, connection.how, failure);
        }
    }

    /// Tells whether there is nothing left to hope for.
    ///
    /// The controlled side does not judge: whoever dials says when he gives up, and must not see
    /// from its end what there is at the addresses that he named. Where he says nothing, it ends at
    /// a moment that is fixed at the start, unless somebody outside of its networks holds a
    /// connection then.
    pub(super) fn is_over(&self) -> bool {
        let now = self.latest;
        if now >= self.timing.ends_at {
            return true;
        }
        match self.role {
            Role::Controlling => self.is_hopeless(),
            Role::Controlled => now >= self.timing.silent_at && !self.connections.has_outside(),
        }
    }

    fn is_hopeless(&self) -> bool {
        let now = self.latest;
        if !self.connections.is_empty() {
            return false;
        }
        if self.checklist.is_empty() {
            return !self.may_be_reached || self.timing.impossible_at <= now;
        }
        let hopeless = self.hopeless_at().is_some_and(|at| at <= now);
        if self.nobody_to_reach() || hopeless {
            return true;
        }
        now >= self.timing.dial_until && self.last_attempt_until() <= Some(now)
    }

    /// Returns when `is_over` may change its mind without any input.
    pub(super) fn next_review(&self) -> Instant {
        if self.role == Role::Controlled {
            let silent_at = Some(self.timing.silent_at).filter(|at| *at > self.latest);
            return silent_at.unwrap_or(self.timing.ends_at);
        }
        let next_after_now = |moments: [Option<Instant>; 3]| {
            moments
                .into_iter()
                .flatten()
                .filter(|moment| *moment > self.latest)
                .min()
        };
        if !self.connections.is_empty() {
            return self.timing.ends_at;
        }
        let hopeless = self.hopeless_at();
        let quiet = self.last_attempt_until().max(Some(self.timing.dial_until));
        next_after_now([hopeless, quiet, Some(self.timing.ends_at)]).unwrap_or(self.timing.ends_at)
    }

    /// Returns until when the youngest attempt has to be left alone.
    fn last_attempt_until(&self) -> Option<Instant> {
        let youngest = self.checklist.agenda().youngest()?;
        Some(youngest + self.timing.attempt_min)
    }

    /// Tells whether nothing that is sent can reach the peer: there is no route to any address of
    /// it, or somebody else answers there in its name.
    fn nobody_to_reach(&self) -> bool {
        self.checklist.is_unreachable()
    }

    /// Returns when no SYN will pass any more if none has passed by then, because of a NAT that is
    /// in the way, or since none of the peer's comes to where ours have opened one.
    ///
    /// What a NAT does to IPv4 says nothing of a pair that is IPv6 all the way.
    fn hopeless_at(&self) -> Option<Instant> {
        if self.checklist.is_empty() || self.families_apart {
            return Some(self.timing.impossible_at);
        }
        if self.checklist.has_ipv6() {
            return None;
        }
        let nats = [self.local_nat, self.remote_nat];
        let varies = nats.iter().any(|nat| mapping_varies(nat.mapping).is_some());
        if self.strategy.is_impossible(nats) && !self.checklist.has_port_mapping() {
            return Some(self.timing.impossible_at);
        }
        match self.strategy {
            // Whoever comes from another port than was predicted may get in all the same.
            Strategy::Prediction if nats.iter().any(admits_addresses) => None,
            // All ports of a range have been tried by then, or there are none left of it.
            Strategy::Prediction | Strategy::Door { .. } | Strategy::Fill => {
                Some(self.timing.mispredicted_at)
            }
            // Who lets anybody in has had our SYN by then, also one that was lost and repeated.
            Strategy::OutOfReach if !nats.iter().any(admits_anybody) => {
                Some(self.timing.mispredicted_at)
            }
            // Somebody may yet let the other in, if nobody has found out.
            Strategy::Plain | Strategy::Guess { .. } | Strategy::OutOfReach => {
                varies.then_some(self.timing.hopeless_at)
            }
        }
    }

    fn close_all(&mut self) {
        for id in self.checklist.ids() {
            match self.checklist.pair(id).state() {
                CheckState::InProgress { check, .. } => {
                    self.actions.push_back(Action::Close { check });
                    let ending = CheckState::Ended(Ending::Exhausted);
                    self.checklist.set_state(id, ending);
                }
                CheckState::Waiting { .. }
                | CheckState::AwaitingAccept { .. }
                | CheckState::Open
                | CheckState::Ended(_) => {}
            }
        }
        for (check, _) in self.connections.drain() {
            self.actions.push_back(Action::Close { check });
        }
    }
}
