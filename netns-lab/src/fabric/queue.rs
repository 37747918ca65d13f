//! What will happen, in the order in which it will.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    sync::Arc,
    time::Duration,
};

use crate::middlebox::Side;

/// Something that will happen.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Event {
    pub(super) at: Duration,
    /// Keeps events of one moment in order, and the comparison short.
    sequence: u64,
    pub(super) what: What,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    /// A packet leaves the link above a node, towards a side.
    Arrival(usize, Side, Arc<[u8]>),
    /// A node has something to do.
    Timer(usize),
    /// A gate has been closed for as long as it may.
    GateLimit(usize),
}

/// A packet on a link.
#[derive(Debug)]
struct Flight {
    at: Duration,
    sequence: u64,
    packet: Arc<[u8]>,
}

/// An event of the heap.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    at: Duration,
    sequence: u64,
    place: Place,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// The event itself.
    Here(What),
    /// The first packet of a direction of the link above a node.
    Lane(usize, Side),
}

/// All that will happen, and is taken in the order of time; what has one time, in the order in
/// which it was put in.
///
/// Packets leave most links in the order in which they entered. So each direction of a link has a
/// lane, of which only the first packet takes part in the sorting: thousands of packets under way
/// cost no more than some.
#[derive(Debug, Default)]
pub(super) struct Queue {
    heap: BinaryHeap<Reverse<Entry>>,
    /// By node and side; not empty exactly where the heap has an entry for it.
    lanes: Vec<[VecDeque<Flight>; 2]>,
    /// Packets in lanes behind the first.
    waiting: usize,
    next_sequence: u64,
}

impl Queue {
    /// Returns how many events there are.
    pub(super) fn len(&self) -> usize {
        self.heap.len() + self.waiting
    }

    /// Returns when the next event is.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.heap.peek().map(|Reverse(entry)| entry.at)
    }

    pub(super) fn push(&mut self, at: Duration, what: What) {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let place = match what {
            What::Arrival(node, side, packet) => {
                let flight = Flight {
                    at,
                    sequence,
                    packet,
                };
                match self.enter_lane(node, side, flight) {
                    Some(place) => place,
                    None => return,
                }
            }
            what => Place::Here(what),
        };
        self.heap.push(Reverse(Entry {
            at,
            sequence,
            place,
        }));
    }

    /// Returns what the heap has to know of a packet that enters a link.
    fn enter_lane(&mut self, node: usize, side: Side, flight: Flight) -> Option<Place> {
        if self.lanes.len() <= node {
            self.lanes.resize_with(node + 1, Default::default);
        }
        let lane = &mut self.lanes[node][index(side)];
        match lane.back() {
            Some(last) if last.at > flight.at => {
                Some(Place::Here(What::Arrival(node, side, flight.packet)))
            }
            Some(_) => {
                self.waiting += 1;
                lane.push_back(flight);
                None
            }
            None => {
                lane.push_back(flight);
                Some(Place::Lane(node, side))
            }
        }
    }

    /// Takes the next event out.
    pub(super) fn pop(&mut self) -> Option<Event> {
        let Reverse(Entry {
            at,
            sequence,
            place,
        }) = self.heap.pop()?;
        let what = match place {
            Place::Here(what) => what,
            Place::Lane(node, side) => {
                let lane = &mut self.lanes[node][index(side)];
                let first = lane.pop_front()?;
                if let Some(next) = lane.front() {
                    self.waiting -= 1;
                    self.heap.push(Reverse(Entry {
                        at: next.at,
                        sequence: next.sequence,
                        place: Place::Lane(node, side),
                    }));
                }
                What::Arrival(node, side, first.packet)
            }
        };
        Some(Event { at, sequence, what })
    }
}

const fn index(side: Side) -> usize {
    match side {
        Side::Internal => 0,
        Side::External => 1,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever goes in, in whatever order of time, and with some taken out between.
        #[test]
        fn events_come_in_the_order_of_time_and_then_of_entry(
            steps in prop::collection::vec(
                (0u64..40, 0usize..3, any::<bool>(), 0u8..4, any::<bool>()),
                0..200,
            ),
        ) {
            let (mut queue, mut model) = (Queue::default(), Vec::new());
            for (number, (at, node, up, kind, takes)) in (0u64..).zip(steps) {
                let at = Duration::from_millis(at);
                let side = if up { Side::External } else { Side::Internal };
                let packet: Arc<[u8]> = Arc::from(number.to_be_bytes().as_slice());
                let what = || match kind {
                    0 => What::Timer(node),
                    _ => What::Arrival(node, side, Arc::clone(&packet)),
                };
                queue.push(at, what());
                model.push((at, number, what()));
                prop_assert_eq!(queue.len(), model.len());
                if takes {
                    take(&mut queue, &mut model)?;
                }
            }
            while !model.is_empty() {
                take(&mut queue, &mut model)?;
            }
            prop_assert_eq!(queue.pop(), None);
        }
    }

    fn take(
        queue: &mut Queue,
        model: &mut Vec<(Duration, u64, What)>,
    ) -> Result<(), TestCaseError> {
        model.sort();
        let (at, sequence, what) = model.remove(0);
        prop_assert_eq!(queue.next_due(), Some(at));
        prop_assert_eq!(queue.pop(), Some(Event { at, sequence, what }));
        Ok(())
    }
}
