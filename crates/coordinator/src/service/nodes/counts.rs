//! What is counted of what other coordinators are asked.

use std::time::Duration;

use crate::{
    metrics::{Counter, Family, Histogram, Values},
    nodes::Unanswered,
};

/// What becomes of a request to another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Answered,
    NobodyThere,
    TimedOut,
    Away,
}

const OUTCOMES: [(Outcome, &str); 4] = [
    (Outcome::Answered, "answered"),
    (Outcome::NobodyThere, "nobody-there"),
    (Outcome::TimedOut, "timed-out"),
    (Outcome::Away, "away"),
];

impl Outcome {
    pub(super) const fn of<T>(answer: &Result<T, Unanswered>) -> Self {
        match answer {
            Ok(_) => Self::Answered,
            Err(Unanswered::NobodyThere) => Self::NobodyThere,
            Err(Unanswered::TimedOut) => Self::TimedOut,
            Err(Unanswered::Away) => Self::Away,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    requests: [Counter; OUTCOMES.len()],
    /// How long answers take.
    took: Histogram,
    /// What has come that is of no node, or of a node whose clock is wrong.
    rejected: Counter,
    /// Peers that have registered elsewhere since.
    moved: Counter,
}

impl Counts {
    pub(super) fn asked(&self, outcome: Outcome, took: Duration) {
        self.requests[outcome as usize].add(1);
        if outcome == Outcome::Answered {
            self.took.observe(took);
        }
    }

    pub(super) fn rejected(&self) {
        self.rejected.add(1);
    }

    pub(super) fn moved(&self) {
        self.moved.add(1);
    }

    pub(super) fn measure(&self, is_away: bool, nodes: usize, held: usize) -> Vec<Family> {
        let requests = OUTCOMES.iter().map(|(outcome, name)| {
            let count = self.requests[*outcome as usize].get();
            (vec![("outcome", *name)], count)
        });
        let counter = |count: &Counter| Values::Counters(vec![(Vec::new(), count.get())]);
        let gauge = |value: u64| Values::Gauges(vec![(Vec::new(), value)]);
        [
            (
                "p2pconnect_cluster_away",
                "Whether the other coordinators cannot be reached",
                gauge(is_away.into()),
            ),
            (
                "p2pconnect_cluster_nodes",
                "Other coordinators that have been heard of in the last seconds",
                gauge(nodes as u64),
            ),
            (
                "p2pconnect_cluster_held_peers",
                "Peers here that other coordinators can ask for",
                gauge(held as u64),
            ),
            (
                "p2pconnect_cluster_requests",
                "Requests to other coordinators, by what becomes of them",
                Values::Counters(requests.collect()),
            ),
            (
                "p2pconnect_cluster_answer_seconds",
                "How long other coordinators take to answer",
                Values::Histogram(self.took.get()),
            ),
            (
                "p2pconnect_cluster_rejected",
                "Messages that are of no coordinator with the same key, or came out of time",
                counter(&self.rejected),
            ),
            (
                "p2pconnect_cluster_moved_peers",
                "Peers that have registered at another coordinator",
                counter(&self.moved),
            ),
        ]
        .map(|(name, help, values)| Family { name, help, values })
        .to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_is_counted_under_its_own_name() {
        for (number, (outcome, _)) in OUTCOMES.iter().enumerate() {
            assert_eq!(*outcome as usize, number);
        }
    }
}
