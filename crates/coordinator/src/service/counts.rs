//! What a coordinator counts of what it does.

use std::time::Duration;

use p2pconnect_proto::message::RefusalReason;

use crate::metrics::{Counter, Durations, Family, Histogram, Labels, Values};

/// How an attempt to connect ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Handshake {
    Succeeded,
    /// The client has to show that it receives at its address, and may come again.
    Retried,
    NoRoom,
    Failed,
    NotServed,
    /// The peer connects too often.
    TooMany,
}

const HANDSHAKES: [(Handshake, &str); 6] = [
    (Handshake::Succeeded, "succeeded"),
    (Handshake::Retried, "retried"),
    (Handshake::NoRoom, "no-room"),
    (Handshake::Failed, "failed"),
    (Handshake::NotServed, "not-served"),
    (Handshake::TooMany, "too-many"),
];

/// What becomes of introductions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Introduction {
    /// Both sides are told of each other.
    Made,
    /// A dial is served by the introduction of one the other way round.
    Crossed,
    /// The callee is done with it.
    Settled,
    /// One side waits for another that is not heard of any more.
    Silent,
}

const INTRODUCTIONS: [(Introduction, &str); 4] = [
    (Introduction::Made, "made"),
    (Introduction::Crossed, "crossed"),
    (Introduction::Settled, "settled"),
    (Introduction::Silent, "silent"),
];

/// What a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    Register,
    Dial,
    Relay,
    /// Something of the bulletin board.
    Board,
    /// What only a later version knows.
    Unknown,
}

const ASKED: [(Asked, &str); 5] = [
    (Asked::Register, "register"),
    (Asked::Dial, "dial"),
    (Asked::Relay, "relay"),
    (Asked::Board, "board"),
    (Asked::Unknown, "unknown"),
];

const REFUSALS: [&str; 9] = [
    "unavailable",
    "own-id",
    "too-many",
    "too-large",
    "full",
    "unsupported",
    "other",
    "apart",
    "no-room",
];

const fn number(reason: RefusalReason) -> usize {
    match reason {
        RefusalReason::Unavailable => 0,
        RefusalReason::OwnId => 1,
        RefusalReason::TooMany => 2,
        RefusalReason::TooLarge => 3,
        RefusalReason::Full => 4,
        RefusalReason::Unsupported(_) => 5,
        RefusalReason::Apart => 7,
        RefusalReason::NoRoom(_) => 8,
        _ => 6,
    }
}

/// What there is at a moment.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Present {
    /// By QUIC, and by TLS on TCP.
    pub(super) by_quic: u64,
    pub(super) by_tcp: u64,
    pub(super) handshakes: u64,
    pub(super) lingering: u64,
    pub(super) registered: u64,
    pub(super) introductions: u64,
    pub(super) unfinished: u64,
    /// On the bulletin board.
    pub(super) entries: u64,
    pub(super) watches: u64,
}

/// Counts of what a coordinator does.
#[derive(Debug, Default)]
pub(super) struct Counts {
    handshakes: [Counter; HANDSHAKES.len()],
    introductions: [Counter; INTRODUCTIONS.len()],
    refusals: [[Counter; REFUSALS.len()]; ASKED.len()],
    pub(super) registrations: Counter,
    /// Bytes of handshakes that were passed on.
    pub(super) relayed: Counter,
    /// From the request of a dial to the moment at which both sides could be told.
    introducing: Histogram,
    /// How long the side that is nearer is told later than it could be.
    start_wait: Histogram,
}

impl Counts {
    pub(super) fn handshake(&self, ended: Handshake) {
        self.handshakes[ended as usize].add(1);
    }

    pub(super) fn introduction(&self, it: Introduction) {
        self.introductions[it as usize].add(1);
    }

    /// Counts an introduction, the bytes of a handshake that go with it, and how long it took.
    pub(super) fn introduced(&self, relayed: u64, took: Duration, start_wait: Duration) {
        self.introduction(Introduction::Made);
        self.relayed.add(relayed);
        self.introducing.observe(took);
        self.start_wait.observe(start_wait);
    }

    pub(super) fn refused(&self, asked: Asked, reason: RefusalReason) {
        self.refusals[asked as usize][number(reason)].add(1);
    }

    /// Returns all metrics, together with what there is at the moment.
    pub(super) fn measure(&self, present: Present) -> Vec<Family> {
        let refusals = ASKED.iter().flat_map(|(asked, request)| {
            let counts = REFUSALS.iter().zip(&self.refusals[*asked as usize]);
            counts.map(move |(reason, count)| {
                let labels = vec![("request", *request), ("reason", *reason)];
                (labels, count.get())
            })
        });
        let mut families = vec![
            counters(
                "p2pconnect_handshakes",
                "Attempts to connect, by how they ended",
                named("outcome", &HANDSHAKES, &self.handshakes),
            ),
            counters(
                "p2pconnect_registrations",
                "Registrations that were taken",
                vec![(Vec::new(), self.registrations.get())],
            ),
            counters(
                "p2pconnect_introductions",
                "Introductions, by what becomes of them",
                named("event", &INTRODUCTIONS, &self.introductions),
            ),
            counters(
                "p2pconnect_refusals",
                "Requests that were refused, by what they ask for and why",
                refusals.collect(),
            ),
            counters(
                "p2pconnect_relayed_bytes",
                "Bytes of handshakes that were passed on between peers",
                vec![(Vec::new(), self.relayed.get())],
            ),
            histogram(
                "p2pconnect_introduction_seconds",
                "From the request of a dial to the moment at which both sides could be told",
                self.introducing.get(),
            ),
            histogram(
                "p2pconnect_start_wait_seconds",
                "How long the side that is nearer is told later, so that both start together",
                self.start_wait.get(),
            ),
        ];
        families.extend(present.measure());
        families
    }
}

impl Present {
    fn measure(self) -> Vec<Family> {
        let by_way = [("quic", self.by_quic), ("tcp", self.by_tcp)];
        let by_way = by_way.map(|(way, count)| (vec![("way", way)], count));
        let connections = Values::Gauges(by_way.to_vec());
        let mut families = vec![Family {
            name: "p2pconnect_connections",
            help: "Connections of peers, by the way that they came",
            values: connections,
        }];
        let others = [
            (
                "p2pconnect_handshakes_under_way",
                "Handshakes that have begun and not ended",
                self.handshakes,
            ),
            (
                "p2pconnect_places_of_failed_handshakes",
                "Places that failed handshakes still take",
                self.lingering,
            ),
            (
                "p2pconnect_registered_peers",
                "Peers that can be dialled",
                self.registered,
            ),
            (
                "p2pconnect_introduction_entries",
                "Entries that are kept of introductions of the last seconds",
                self.introductions,
            ),
            (
                "p2pconnect_unfinished_bytes",
                "Memory that requests take that are not whole yet",
                self.unfinished,
            ),
            (
                "p2pconnect_board_entries",
                "Entries of peers under topics of the bulletin board",
                self.entries,
            ),
            (
                "p2pconnect_board_watches",
                "Watches of topics of the bulletin board",
                self.watches,
            ),
        ];
        families.extend(others.map(|(name, help, value)| Family {
            name,
            help,
            values: Values::Gauges(vec![(Vec::new(), value)]),
        }));
        families
    }
}

fn named<T>(
    label: &'static str,
    names: &[(T, &'static str)],
    counts: &[Counter],
) -> Vec<(Labels, u64)> {
    let named = names.iter().zip(counts);
    named
        .map(|((_, name), count)| (vec![(label, *name)], count.get()))
        .collect()
}

const fn counters(name: &'static str, help: &'static str, counts: Vec<(Labels, u64)>) -> Family {
    Family {
        name,
        help,
        values: Values::Counters(counts),
    }
}

const fn histogram(name: &'static str, help: &'static str, durations: Durations) -> Family {
    Family {
        name,
        help,
        values: Values::Histogram(durations),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_is_counted_under_its_own_name() {
        for (number, (outcome, _)) in HANDSHAKES.iter().enumerate() {
            assert_eq!(*outcome as usize, number);
        }
        for (number, (event, _)) in INTRODUCTIONS.iter().enumerate() {
            assert_eq!(*event as usize, number);
        }
        for (number, (asked, _)) in ASKED.iter().enumerate() {
            assert_eq!(*asked as usize, number);
        }
        let counts = Counts::default();
        counts.refused(Asked::Dial, RefusalReason::TooLarge);
        let families = counts.measure(Present::default());
        let refusals = families
            .into_iter()
            .find(|it| it.name == "p2pconnect_refusals");
        let Some(Values::Counters(refusals)) = refusals.map(|it| it.values) else {
            panic!("no refusals");
        };
        let counted: Vec<_> = refusals.into_iter().filter(|it| it.1 > 0).collect();
        let labels = vec![("request", "dial"), ("reason", "too-large")];
        assert_eq!(counted, [(labels, 1)]);
    }
}
