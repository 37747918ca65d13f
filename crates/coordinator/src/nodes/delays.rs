//! How far the other nodes are.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    mem,
    time::{Duration, Instant},
};

use p2pconnect_proto::nodes::NodeId;

/// The most nodes that are known at a time.
const MAX_NODES: usize = 256;

/// The round trips by which a node's delay is judged: the shortest one of them, as others have met
/// something on the way.
const MEASUREMENTS: usize = 8;

/// After what time without a word a node is missing: three of its pings, and as many answers.
const MISSING: Duration = Duration::from_secs(1);

/// For how long a node is missed. Its peers are elsewhere by then, or not online.
const FORGOTTEN: Duration = Duration::from_secs(15);

/// For how long an answer to a ping is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// The round-trip times to other nodes. Pure.
#[derive(Debug, Default)]
pub(crate) struct Delays {
    nodes: BTreeMap<NodeId, Node>,
    /// The pings that may be answered, the oldest first.
    asked: VecDeque<(u64, Instant)>,
    number: u64,
    /// The nodes that were there when that was asked last.
    there: BTreeSet<NodeId>,
}

#[derive(Debug)]
struct Node {
    heard: Instant,
    /// The oldest first.
    round_trips: VecDeque<Duration>,
}

impl Delays {
    /// Returns the number of a ping that leaves now.
    pub(crate) fn ask(&mut self, now: Instant) -> u64 {
        self.number += 1;
        self.asked.push_back((self.number, now));
        while let Some((_, at)) = self.asked.front() {
            if now.saturating_duration_since(*at) < PATIENCE && self.asked.len() <= MAX_NODES {
                break;
            }
            self.asked.pop_front();
        }
        self.number
    }

    /// Notes that a node has been heard of; tells whether its delay is not known yet.
    pub(crate) fn hear(&mut self, node: NodeId, now: Instant) -> bool {
        self.nodes
            .retain(|_, it| now.saturating_duration_since(it.heard) < FORGOTTEN);
        if self.nodes.len() >= MAX_NODES && !self.nodes.contains_key(&node) {
            return false;
        }
        let new = || Node {
            heard: now,
            round_trips: VecDeque::new(),
        };
        let known = self.nodes.entry(node).or_insert_with(new);
        known.heard = now;
        known.round_trips.is_empty()
    }

    /// Notes the answer to a ping.
    pub(crate) fn answered(&mut self, node: NodeId, number: u64, now: Instant) {
        self.hear(node, now);
        let asked = self.asked.iter().find(|it| it.0 == number);
        let (Some((_, at)), Some(known)) = (asked, self.nodes.get_mut(&node)) else {
            return;
        };
        if known.round_trips.len() >= MEASUREMENTS {
            known.round_trips.pop_front();
        }
        let took = now.saturating_duration_since(*at);
        known.round_trips.push_back(took);
    }

    /// Forgets a node that has said goodbye.
    pub(crate) fn forget(&mut self, node: NodeId) {
        self.nodes.remove(&node);
    }

    /// Returns the round-trip time to a node, if it is known.
    pub(crate) fn round_trip(&self, node: NodeId) -> Option<Duration> {
        self.nodes.get(&node)?.shortest()
    }

    /// Returns the round-trip time to the farthest node.
    pub(crate) fn farthest(&self) -> Duration {
        let all = self.nodes.values().filter_map(Node::shortest);
        all.max().unwrap_or_default()
    }

    /// Returns how many nodes are heard of.
    pub(crate) fn count(&self, now: Instant) -> usize {
        self.silent_for_less_than(MISSING, now).count()
    }

    /// Returns the nodes that are there, or missing.
    pub(crate) fn nodes(&self, now: Instant) -> Vec<NodeId> {
        self.silent_for_less_than(FORGOTTEN, now).collect()
    }

    /// Tells whether a node has come or gone, or is missing, since this was asked last.
    pub(crate) fn have_changed(&mut self, now: Instant) -> bool {
        let there = self.silent_for_less_than(MISSING, now).collect();
        mem::replace(&mut self.there, there) != self.there
    }

    fn silent_for_less_than(
        &self,
        time: Duration,
        now: Instant,
    ) -> impl Iterator<Item = NodeId> + '_ {
        let nodes = self.nodes.iter();
        let heard = nodes.filter(move |(_, it)| it.silent_for(now) < time);
        heard.map(|(node, _)| *node)
    }

    /// Tells whether a node is missing that has not said goodbye: whoever was registered there may
    /// be there still, or come to another node soon.
    pub(crate) fn is_any_missing(&self, now: Instant) -> bool {
        let mut silent = self.nodes.values().map(|it| it.silent_for(now));
        silent.any(|it| (MISSING..FORGOTTEN).contains(&it))
    }
}

impl Node {
    fn silent_for(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.heard)
    }

    fn shortest(&self) -> Option<Duration> {
        self.round_trips.iter().min().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn node(n: u8) -> NodeId {
        NodeId::from_bytes([n; 16])
    }

    #[test]
    fn the_shortest_of_the_last_round_trips_counts() {
        let (mut delays, mut now) = (Delays::default(), Instant::now());
        assert!(delays.hear(node(1), now), "not known yet");
        let mut measure = |delays: &mut Delays, ms| {
            let number = delays.ask(now);
            now += ms * MS;
            delays.answered(node(1), number, now);
        };
        for ms in [40, 30, 50] {
            measure(&mut delays, ms);
        }
        assert_eq!(delays.round_trip(node(1)), Some(30 * MS));
        // The way has become longer.
        for _ in 0..MEASUREMENTS {
            measure(&mut delays, 70);
        }
        assert_eq!(delays.round_trip(node(1)), Some(70 * MS));
        assert_eq!(delays.farthest(), 70 * MS);
        assert_eq!(delays.round_trip(node(2)), None);
    }

    #[test]
    fn who_is_silent_or_says_goodbye_is_forgotten() {
        let (mut delays, now) = (Delays::default(), Instant::now());
        delays.hear(node(1), now);
        delays.hear(node(2), now + MISSING / 2);
        assert_eq!(delays.count(now + MISSING / 2), 2);
        assert!(!delays.is_any_missing(now + MISSING / 2));
        assert_eq!(delays.count(now + MISSING), 1);
        assert!(delays.is_any_missing(now + MISSING));
        assert_eq!(delays.nodes(now + MISSING), [node(1), node(2)]);
        delays.hear(node(2), now + FORGOTTEN);
        assert_eq!(delays.nodes(now + FORGOTTEN), [node(2)]);
        assert!(!delays.is_any_missing(now + FORGOTTEN));
        assert_eq!(delays.nodes.len(), 1);
        // Who says goodbye is not missed.
        delays.forget(node(2));
        assert!(!delays.is_any_missing(now + FORGOTTEN + MISSING));
    }

    #[test]
    fn that_a_node_comes_or_goes_or_is_missing_is_told_once() {
        let (mut delays, now) = (Delays::default(), Instant::now());
        assert!(!delays.have_changed(now));
        delays.hear(node(1), now);
        delays.hear(node(2), now + MISSING / 2);
        assert!(delays.have_changed(now + MISSING / 2));
        assert!(!delays.have_changed(now + MISSING / 2));
        assert!(delays.have_changed(now + MISSING), "one is missing");
        delays.hear(node(1), now + MISSING);
        assert!(delays.have_changed(now + MISSING), "it is back");
        delays.forget(node(2));
        delays.hear(node(3), now + MISSING);
        assert!(delays.have_changed(now + MISSING), "as many, and others");
        assert!(!delays.have_changed(now + MISSING));
    }

    #[test]
    fn what_nobody_has_asked_measures_nothing_and_there_is_an_end_to_it() {
        let (mut delays, now) = (Delays::default(), Instant::now());
        delays.answered(node(1), 77, now);
        assert_eq!(delays.round_trip(node(1)), None);
        for n in 0..2000_u32 {
            let mut id = [0; 16];
            id[..4].copy_from_slice(&n.to_be_bytes());
            delays.hear(NodeId::from_bytes(id), now);
            delays.ask(now);
        }
        assert_eq!(delays.nodes.len(), MAX_NODES);
        assert_eq!(delays.asked.len(), MAX_NODES);
        delays.ask(now + PATIENCE);
        assert_eq!(delays.asked.len(), 1);
    }
}
